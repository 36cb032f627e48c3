"""`BufferedSender`: packets, order, bounds, counts, and calls from anywhere."""

from __future__ import annotations

import gc
import logging
import random
import signal
import threading
import weakref
from collections.abc import Callable

import pytest

import letgo
from helpers import wait_for, wait_until
from letgo.statsd import BufferedSender, Client, RecordingSender, UnsentError
from statsd_helpers import BlockedSender, FailingSender, lines_of


def test_metrics_leave_joined_in_order() -> None:
    """One flush joins lines by newlines into packets that are as full as they may be."""
    recorder = RecordingSender()
    sender = BufferedSender(recorder, flush_bytes=20, flush_interval=60)
    lines = [b"name%d:%d|c" % (number, number) for number in range(10)]
    for line in lines:
        sender.send(line)
    sender.close()
    assert recorder.sent == [b"\n".join(lines[at : at + 2]) for at in range(0, 10, 2)]
    assert recorder.closed


def test_packets_of_random_lines_are_never_too_long() -> None:
    """Whatever the lengths: no packet above the limit but a line alone, nothing reordered."""
    chance = random.Random(7)
    for size in (1, 10, 100, 1432):
        recorder = RecordingSender()
        lines = [b"x" * chance.randint(1, 200) for _ in range(2_000)]
        with BufferedSender(recorder, flush_bytes=size) as sender:
            for line in lines:
                sender.send(line)
        assert lines_of(recorder.sent) == lines
        assert all(len(packet) <= size or b"\n" not in packet for packet in recorder.sent)
        full = zip(recorder.sent, recorder.sent[1:], strict=False)
        if size == 1432:  # sent in several flushes, each of them greedy
            assert sum(len(a) + 1 + len(b) <= size for a, b in full) < len(recorder.sent) / 2


def test_lines_sent_together_stay_together() -> None:
    """A unit of several lines is in one packet, and counts as several."""
    recorder = RecordingSender()
    with BufferedSender(recorder, flush_bytes=12, flush_interval=60) as sender:
        sender.send(b"aaaaaaaa")
        sender.send(b"a:0|g\na:-5|g\n")
        sender.send(b"")
        assert sender.sent == 3
    assert recorder.sent == [b"aaaaaaaa", b"a:0|g\na:-5|g"]


def test_a_full_packet_does_not_wait_for_the_interval() -> None:
    """About a packet's worth of metrics is sent at once."""
    recorder = RecordingSender()
    with BufferedSender(recorder, flush_interval=3600) as sender:
        for _ in range(1_000):
            sender.send(b"name:1|c")
        wait_until(lambda: recorder.sent, "a packet is sent")


def test_the_first_metric_of_each_batch_starts_the_interval() -> None:
    """Metrics are sent without a flush, again and again."""
    recorder = RecordingSender()
    with BufferedSender(recorder, flush_interval=0.01) as sender:
        for number in range(5):
            sender.send(b"%d" % number)
            wait_until(lambda number=number: len(lines_of(recorder.sent)) == number + 1)


def test_flush_returns_when_everything_is_sent() -> None:
    """What was sent before `flush` has left when it returns."""
    recorder = RecordingSender()
    with BufferedSender(recorder, flush_interval=3600) as sender:
        for number in range(10):
            sender.send(b"%d" % number)
            sender.flush()
            assert len(lines_of(recorder.sent)) == number + 1


def test_a_dropped_sender_delivers_and_ends(no_collector: None) -> None:
    """Without `close`, and without the collector, everything arrives and the worker ends."""
    recorder = RecordingSender()
    sender = BufferedSender(recorder, flush_interval=3600)
    freed = weakref.ref(recorder)
    sent = recorder.sent
    del recorder
    sender.send(b"a:1|c")
    del sender
    wait_until(lambda: freed() is None, "the sender underneath is freed")
    assert sent == [b"a:1|c"]


def test_the_newest_are_dropped_above_max_pending() -> None:
    """The bound holds while the sender blocks; every metric is either sent or counted."""
    blocked = BlockedSender()
    sender = BufferedSender(blocked, flush_interval=0, max_pending=10)
    sender.send(b"first")
    wait_for(blocked.entered)
    for number in range(25):
        sender.send(b"%d" % number)
    assert (sender.sent, sender.dropped) == (26, 15)
    blocked.go.set()
    sender.close()
    assert lines_of(blocked.sent) == [b"first", *(b"%d" % number for number in range(10))]


def test_received_and_dropped_are_sent_with_many_threads() -> None:
    """Eight threads against a small buffer: no metric is lost uncounted."""
    recorder = RecordingSender()
    client = Client(sender=recorder, max_pending=500, flush_interval=0.001)

    def work(number: int) -> None:
        for _ in range(5_000):
            client.incr(f"thread{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    received = lines_of(recorder.sent)
    assert set(received) <= {b"thread%d:1|c" % number for number in range(8)}
    assert client.sent == 40_000
    assert len(received) + client.dropped == client.sent


def test_sent_is_exact_while_the_worker_sends() -> None:
    """The one thread that sends sees its own count, whatever the worker is doing."""
    with BufferedSender(RecordingSender(), flush_interval=0, flush_bytes=1) as sender:
        for number in range(3_000):
            sender.send(b"x")
            assert sender.sent == number + 1


def test_a_line_that_no_datagram_holds_is_dropped() -> None:
    """It is counted, and the others are sent."""
    recorder = RecordingSender()
    with Client(sender=recorder) as client:
        client.incr("a")
        client.set("b", "x" * 65_507)
        client.incr("c")
    assert lines_of(recorder.sent) == [b"a:1|c", b"c:1|c"]
    assert (client.sent, client.dropped) == (3, 1)


def test_what_a_sender_raises_costs_its_packet_only(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, logged once an outage, and raised to nobody."""
    failing = FailingSender(OSError("no way"))
    with BufferedSender(failing, flush_interval=3600) as sender:
        for _ in range(3):
            sender.send(b"lost")
            sender.flush()
        failing.error = None
        sender.send(b"good")
        sender.flush()
        failing.error = OSError("again")
        sender.send(b"lost too")
        sender.flush()
    assert (sender.sent, sender.dropped, failing.sent) == (5, 4, [b"good"])
    assert [record.getMessage().split(": ")[-1] for record in caplog.records] == ["no way", "again"]
    assert {record.name for record in caplog.records} == {"letgo"}


@pytest.mark.parametrize("error", [BlockingIOError(), UnsentError(b"kept", "no server")])
def test_what_cannot_be_sent_yet_is_kept(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A full socket or a missing server loses nothing: it is tried again, less and less often."""
    failing = FailingSender(error)
    with BufferedSender(failing, flush_interval=0) as sender:
        sender.send(b"kept")
        wait_until(lambda: failing.attempts >= 5, "it is tried again")
        sender.send(b"later")
        failing.error = None
        wait_until(lambda: lines_of(failing.sent) == [b"kept", b"later"], "all is sent in order")
        assert sender.dropped == 0
    assert len(caplog.records) <= 1


def test_what_still_cannot_be_sent_at_the_end_is_counted() -> None:
    """Closing does not wait for a server that is not there."""
    failing = FailingSender(UnsentError(b"a\nb", "no server"))
    sender = BufferedSender(failing, flush_interval=3600)
    sender.send(b"a")
    sender.send(b"b")
    sender.close()
    assert (sender.sent, sender.dropped) == (2, 2)


def test_part_of_a_packet_can_be_left() -> None:
    """`UnsentError` keeps what it names, and the rest counts as sent."""
    failing = FailingSender(UnsentError(b"c", "broke"))
    with BufferedSender(failing, flush_interval=3600) as sender:
        for line in (b"a", b"b", b"c"):
            sender.send(line)
        sender.flush()
        failing.error = None
        sender.send(b"d")
        sender.flush()
        assert failing.sent == [b"c\nd"]
        assert (sender.sent, sender.dropped) == (4, 0)


def test_after_close_everything_is_refused() -> None:
    """`ClosedError`, and the metric is not counted."""
    sender = BufferedSender(RecordingSender())
    client = Client(sender=sender)
    sub = client.sub("x")
    client.close()
    for call in (
        lambda: sender.send(b"a"),
        lambda: client.incr("a"),
        lambda: client.gauge("a", -1),
        lambda: sub.incr("a"),
        lambda: client.flush(),
    ):
        with pytest.raises(letgo.ClosedError):
            call()
    assert (client.sent, client.dropped) == (0, 0)


def test_after_the_worker_was_ended_by_others_metrics_are_counted() -> None:
    """`close_all`, as exit, ends the worker: what comes later is dropped, and no error."""
    client = Client(sender=RecordingSender())
    client.incr("a")
    letgo.close_all()
    client.incr("b")
    client.gauge("c", -1)
    client.flush()
    assert (client.sent, client.dropped) == (4, 3)


def test_a_flush_that_takes_too_long_is_a_timeout() -> None:
    """It says so, and what was to be flushed is sent later."""
    blocked = BlockedSender()
    with BufferedSender(blocked) as sender:
        sender.send(b"a")
        with pytest.raises(TimeoutError):
            sender.flush(0.05)
        blocked.go.set()
        sender.flush()
        assert blocked.sent == [b"a"]


class _SendsWhenFreed:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.me = self  # freed by the collector only

    def __del__(self) -> None:
        self.client.incr("deleted")


def test_finalizers_may_send_inside_a_send() -> None:
    """Cycles freed wherever the collector happens to run: no deadlock, none lost."""
    recorder = RecordingSender()
    client = Client(sender=recorder, flush_interval=0.001)
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(2_000):
            weak = _SendsWhenFreed(client)
            weakref.finalize(weak, client.incr, "finalized")
            del weak
            client.timing("t", 1)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    client.close()
    assert client.sent == 6_000
    assert len(lines_of(recorder.sent)) + client.dropped == 6_000


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs Unix interval timers")
def test_signal_handlers_may_send_inside_a_send() -> None:
    """A storm of signals, each of which sends, in the thread that sends."""
    recorder = RecordingSender()
    client = Client(sender=recorder, flush_interval=0.001)
    handled = 0

    def handle(number: int, frame: object) -> None:
        nonlocal handled
        handled += 1
        client.incr("signal")

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    calls = 0
    try:
        while handled < 200:
            client.incr("main")
            calls += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.close()
    assert client.sent == calls + handled
    assert len(lines_of(recorder.sent)) + client.dropped == client.sent


def test_a_logging_handler_may_send() -> None:
    """The log of an outage, on the worker, may itself be counted as a metric."""
    failing = FailingSender(OSError("no way"))
    client = Client(sender=failing, flush_interval=0.001)
    seen: list[str] = []

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            client.incr("logged")

    handler = Counting()
    logging.getLogger("letgo").addHandler(handler)
    try:
        client.incr("a")
        wait_until(lambda: client.dropped == 2, "both are counted")
    finally:
        logging.getLogger("letgo").removeHandler(handler)
        client.close()
    assert len(seen) == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs Unix interval timers")
def test_a_signal_handler_that_raises_loses_no_metric() -> None:
    """An exception out of the middle of `incr` leaves a client that still sends."""
    recorder = RecordingSender()
    client = Client(sender=recorder, flush_interval=0.001)

    class InterruptionError(Exception):
        pass

    def handle(number: int, frame: object) -> None:
        raise InterruptionError

    before = signal.signal(signal.SIGALRM, handle)
    interrupted = 0
    try:
        while interrupted < 100:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                while True:
                    client.incr("a")
            except InterruptionError:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.incr("last")
    wait_until(lambda: recorder.sent and recorder.sent[-1].endswith(b"last:1|c"), "it still sends")
    client.close()
    assert len(lines_of(recorder.sent)) + client.dropped == client.sent


def test_a_wake_that_is_interrupted_is_made_up_for() -> None:
    """The next metric takes the one before along."""
    recorder = RecordingSender()

    class Interrupted(BufferedSender):
        def wake(self, after: float = 0.0) -> None:
            if not recorder.closed:
                recorder.closed = True
                raise KeyboardInterrupt
            super().wake(after)

    sender = Interrupted(recorder, flush_interval=0.001)
    with pytest.raises(KeyboardInterrupt):
        sender.send(b"a")
    sender.send(b"b")
    wait_until(lambda: recorder.sent == [b"a\nb"], "both are sent")
    sender.close()


def test_a_sender_that_ends_the_worker_leaves_nothing_uncounted() -> None:
    """`SystemExit` out of it costs what it was given; the last flush tries the rest."""

    class Ending(RecordingSender):
        def send(self, data: bytes, /) -> None:
            super().send(data)
            raise SystemExit

    recorder = Ending()
    sender = BufferedSender(recorder, flush_bytes=1, flush_interval=3600)
    for _ in range(5):
        sender.send(b"a")
    sender.wake()
    assert sender.join(10)
    assert len(recorder.sent) == 2
    assert (sender.sent, sender.dropped) == (5, 5)
    sender.send(b"late")
    assert (sender.sent, sender.dropped) == (6, 6)


def test_ever_new_names_leave_memory_bounded() -> None:
    """What is remembered of 20,000 names is what is remembered of 5,000."""
    client = Client(sender=RecordingSender(), buffered=False, sampler=None)
    for number in range(20_000):
        client.incr(f"name.{number}")
        client.incr(f"name.{number}", 2)
    names = client._names
    client.close()
    assert max(map(len, (names._heads, names.ones, names.counters))) <= 4096


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: BufferedSender(RecordingSender()).send("a"), TypeError),
        (lambda: BufferedSender(RecordingSender()).flush(-1), ValueError),
        (lambda: BufferedSender(None), TypeError),
        (lambda: BufferedSender(RecordingSender(), flush_bytes="1"), TypeError),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], object], error: type[Exception]) -> None:
    """At the call that made them."""
    with pytest.raises(error):
        make()
