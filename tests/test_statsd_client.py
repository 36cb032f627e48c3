"""`Client`: prefixes, sub-clients, samplers, timers, pipelines, aggregation, its end."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
import random
import weakref
from typing import Any

import pytest

import letgo
from helpers import wait_until
from letgo.statsd import BufferedSender, Client, RecordingSender
from statsd_helpers import Receiver, lines_of


def make(**options: Any) -> tuple[Client, RecordingSender]:
    """A client, and what it has sent."""
    sender = RecordingSender()
    return Client(sender=sender, flush_interval=3600, **options), sender


def test_sub_clients_share_the_sender_and_outlive_their_parent(no_collector: None) -> None:
    """The worker ends with the last of them, and delivers."""
    client, recorder = make(prefix="shop")
    sub = client.sub("orders", tags={"k": "v"})
    deeper = sub.sub("eu", tags={"k": "w"})
    client.incr("a")
    del client
    sub.incr("b")
    del sub
    deeper.incr("c")
    assert not recorder.sent
    assert len(letgo.live()) == 1
    del deeper
    wait_until(lambda: recorder.closed, "the sender is closed")
    assert lines_of(recorder.sent) == [
        b"shop.a:1|c",
        b"shop.orders.b:1|c|#k:v",
        b"shop.orders.eu.c:1|c|#k:w",
    ]


def test_prefixes_of_sub_clients_have_one_dot_between() -> None:
    """However they are written."""
    for outer, inner, both in (
        ("a", "b", "a.b"),
        ("a.", "b", "a.b"),
        ("a", ".b", "a.b"),
        ("", "b", "b"),
        ("a", "", "a"),
    ):
        client, _ = make(prefix=outer)
        assert client.sub(inner).prefix == both
        client.close()


def test_a_sub_client_cannot_close() -> None:
    """Only the client does."""
    client, _ = make()
    sub = client.sub("x")
    assert not hasattr(sub, "close")
    assert not hasattr(sub, "__enter__")
    client.close()
    with pytest.raises(letgo.ClosedError):
        sub.incr("a")


def test_set_prefix_changes_this_client_only() -> None:
    """From then on, also for names that were met before."""
    client, recorder = make(prefix="old")
    sub = client.sub("x")
    for call in (client.incr, sub.incr, lambda name: client.incr(name, 2)):
        call("a")
    client.set_prefix("new")
    for call in (client.incr, sub.incr, lambda name: client.incr(name, 2)):
        call("a")
    client.set_prefix("")
    client.incr("a")
    client.close()
    assert lines_of(recorder.sent) == [
        b"old.a:1|c",
        b"old.x.a:1|c",
        b"old.a:2|c",
        b"new.a:1|c",
        b"old.x.a:1|c",
        b"new.a:2|c",
        b"a:1|c",
    ]


def test_rates_send_their_share() -> None:
    """By chance, as Python's client decides; nothing at 0, everything at 1."""
    client, recorder = make(sampler=None)
    random.seed(11)
    expected = sum(random.random() <= 0.25 for _ in range(1_000))
    random.seed(11)
    for _ in range(1_000):
        client.incr("a", rate=0.25)
    for _ in range(1_000):
        client.incr("never", rate=0)
    client.incr("always", rate=1.0)
    client.close()
    lines = lines_of(recorder.sent)
    assert lines.count(b"a:1|c|@0.25") == expected
    assert lines.count(b"always:1|c") == 1
    assert len(lines) == expected + 1 == client.sent


def test_a_sampler_decides_every_call() -> None:
    """It is given the rate, at 1 too, and asked once for two lines; never at 0."""
    rates: list[float] = []

    def sampler(rate: float) -> bool:
        rates.append(rate)
        return rate > 0.2

    client, recorder = make(sampler=sampler)
    client.incr("a")
    client.incr("a")
    client.incr("b", rate=0.1)
    client.gauge("c", -1, rate=0.5)
    client.incr("d", rate=0)
    assert rates == [1, 1, 0.1, 0.5]
    client.sampler = lambda rate: False
    client.incr("a")
    client.sampler = None
    client.incr("a")
    client.close()
    assert lines_of(recorder.sent) == [b"a:1|c", b"a:1|c", b"c:0|g", b"c:-1|g", b"a:1|c"]


def test_a_timer_times_a_block() -> None:
    """It records milliseconds, and keeps them."""
    client, recorder = make()
    with client.timer("t", tags={"k": "v"}) as timer:
        pass
    assert timer.ms is not None
    assert 0 <= timer.ms < 60_000
    client.close()
    assert recorder.sent == [b"t:%0.6f|ms|#k:v" % timer.ms]


def test_a_timer_times_functions_and_coroutines() -> None:
    """As a decorator, for what returns, raises, is a partial, or is awaited."""
    client, recorder = make()

    @client.timer("plain")
    def double(number: int) -> int:
        """Doc."""
        return 2 * number

    @client.timer("raises")
    def fail() -> None:
        raise KeyError("x")

    @client.timer("awaited")
    async def wait(number: int) -> int:
        await asyncio.sleep(0)
        return number

    assert (double(2), double.__name__, double.__doc__) == (4, "double", "Doc.")
    with pytest.raises(KeyError):
        fail()
    assert asyncio.run(wait(3)) == 3
    assert client.timer("partial")(functools.partial(double, 5))() == 10
    client.close()
    names = [line.partition(b":")[0] for line in lines_of(recorder.sent)]
    assert names == [b"plain", b"raises", b"awaited", b"plain", b"partial"]


def test_a_timer_by_hand_is_used_in_order() -> None:
    """Start, stop, send once; anything else is a `RuntimeError`."""
    client, recorder = make()
    timer = client.timer("t")
    with pytest.raises(RuntimeError, match="not started"):
        timer.stop()
    timer.start()
    with pytest.raises(RuntimeError, match="No data"):
        timer.send()
    timer.stop(send=False)
    timer.send()
    with pytest.raises(RuntimeError, match="Already sent"):
        timer.send()
    client.close()
    assert client.sent == 1
    assert len(recorder.sent) == 1


def test_a_pipeline_sends_when_it_is_told() -> None:
    """Nothing before `send` or the block's end; nested ones send into the outer."""
    client, recorder = make(prefix="p")
    with client.pipeline() as pipe:
        pipe.incr("a")
        with pipe.pipeline() as inner:
            inner.gauge("b", -1)
        pipe.timing("c", 1, tags=["k:v"])
        assert client.sent == 0
    client.close()
    assert recorder.sent == [b"p.a:1|c\np.b:0|g\np.b:-1|g\np.c:1.000000|ms|#k:v"]


def test_a_pipeline_of_a_client_that_does_not_buffer_fills_packets() -> None:
    """It joins what it has, up to `flush_bytes`."""
    recorder = RecordingSender()
    client = Client(sender=recorder, buffered=False, flush_bytes=11)
    with client.pipeline() as pipe:
        for name in "abcd":
            pipe.incr(name)
    assert recorder.sent == [b"a:1|c\nb:1|c", b"c:1|c\nd:1|c"]
    client.close()


def test_without_a_buffer_each_metric_is_a_packet() -> None:
    """Sent before the call returns, without a worker."""
    with Receiver() as receiver:
        client = Client(receiver.address, buffered=False)
        client.incr("a")
        client.gauge("b", -1)
        assert receiver.waiting() == [b"a:1|c", b"b:0|g\nb:-1|g"]
        assert not letgo.live()
        client.flush()
        client.close()
        for call in (lambda: client.incr("a"), client.flush):
            with pytest.raises(letgo.ClosedError):
                call()
        assert (client.sent, client.dropped) == (3, 0)


def test_aggregation_adds_counters_and_keeps_the_last_gauge() -> None:
    """One line for each name, kind, rate and set of tags between flushes."""
    client, recorder = make(aggregate=True, sampler=lambda rate: True)
    for number in range(1_000):
        client.incr("count")
        client.incr("count", 0.5, tags={"k": "v"})
        client.incr("sampled", rate=0.5)
        client.gauge("gauge", number)
        client.gauge_delta("delta", -2)
        client.set("set", number % 3)
    client.gauge("negative", -5)
    client.gauge("both", 10)
    client.gauge_delta("both", -20)
    client.timing("time", 1)
    client.timing("time", 2)
    client.flush()
    client.decr("count", 2)
    client.close()
    assert sorted(lines_of(recorder.sent)) == sorted(
        [
            b"count:1000|c",
            b"count:500.0|c|#k:v",
            b"sampled:1000|c|@0.5",
            b"gauge:999|g",
            b"delta:-2000|g",
            b"set:0|s",
            b"set:1|s",
            b"set:2|s",
            b"negative:0|g",
            b"negative:-5|g",
            b"both:0|g",
            b"both:-10|g",
            b"time:1.000000|ms",
            b"time:2.000000|ms",
            b"count:-2|c",
        ]
    )
    assert (client.sent, client.dropped) == (15, 0)


def test_aggregation_is_bounded_and_counts_what_it_drops() -> None:
    """Of more names than `max_pending`, what is not sent is counted."""
    client, recorder = make(aggregate=True, max_pending=10)
    for number in range(1_000):
        client.incr(f"a{number}")
    client.close()
    received = len(lines_of(recorder.sent))
    assert 10 <= received < 1_000
    assert received + client.dropped == client.sent == 1_000


def test_aggregation_sends_by_itself_after_the_interval() -> None:
    """However many calls there are meanwhile."""
    recorder = RecordingSender()
    with Client(sender=recorder, aggregate=True, flush_interval=0.02) as client:
        calls = 0
        while len(recorder.sent) < 3:
            client.incr("a")
            calls += 1
        client.flush()
        assert sum(int(line[2:-2]) for line in lines_of(recorder.sent)) == calls


def test_an_infinite_sum_is_dropped_and_counted() -> None:
    """No line can carry it."""
    client, recorder = make(aggregate=True)
    client.incr("a", 1e308)
    client.incr("a", 1e308)
    client.incr("b")
    client.close()
    assert recorder.sent == [b"b:1|c"]
    assert (client.sent, client.dropped) == (2, 1)


def test_pipelines_of_an_aggregating_client_are_added_up() -> None:
    """Like all other calls."""
    client, recorder = make(aggregate=True)
    with client.pipeline() as pipe:
        pipe.incr("a")
        pipe.incr("a")
        pipe.timing("t", 1)
    client.incr("a")
    client.close()
    assert sorted(lines_of(recorder.sent)) == [b"a:3|c", b"t:1.000000|ms"]


def test_a_buffered_sender_that_is_given_is_used_as_it_is() -> None:
    """It is not buffered twice, and closing the client closes it."""
    sender = BufferedSender(RecordingSender(), flush_interval=3600)
    with Client(sender=sender) as client:
        client.incr("a")
        assert len(letgo.live()) == 1
        assert client.sent == sender.sent == 1
    assert sender.closed


def test_close_is_idempotent_and_takes_a_timeout() -> None:
    """Any number of times."""
    client, recorder = make()
    client.close(5)
    client.close()
    assert recorder.closed
    with pytest.raises(ValueError, match="timeout"):
        client.close(-1)


def test_a_dropped_client_is_freed_at_once(no_collector: None) -> None:
    """There is no cycle in a client, with timers, pipelines and sub-clients too."""
    client, recorder = make()
    client.incr("a")
    with client.timer("t"), client.pipeline() as pipe:
        pipe.incr("b")
    client.sub("x").incr("c")
    seen = weakref.ref(client)
    del client, pipe
    assert seen() is None
    wait_until(lambda: recorder.closed, "the sender is closed")
    assert len(lines_of(recorder.sent)) == 4


def test_clients_cannot_be_copied() -> None:
    """`TypeError`, with the reason."""
    client, _ = make()
    for copier in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot copy or pickle"):
            copier(client)
    client.close()
