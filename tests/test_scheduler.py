"""`Scheduler`: one thread for many handles. What `Handle` promises is held for it elsewhere."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

import letgo
from helpers import PATIENCE, Call, Gate, Probe, letgo_threads, raises, wait_for, wait_until

HOUR = 3600.0


@pytest.fixture
def scheduler() -> Iterator[letgo.Scheduler]:
    """A scheduler, closed at the end."""
    with letgo.Scheduler() as scheduler:
        yield scheduler


# --- Its thread ---


def test_the_thread_starts_with_the_first_handle_and_ends_with_the_last(
    scheduler: letgo.Scheduler,
) -> None:
    """No handle, no thread; as many handles as wanted, one thread; again and again."""
    for _ in range(3):
        assert letgo_threads() == []
        handles = [letgo.Handle(Probe().poll, scheduler=scheduler) for _ in range(100)]
        assert len(letgo_threads()) == 1
        for handle in handles[1:]:
            handle.close()
        assert len(letgo_threads()) == 1
        handles[0].close()
        wait_until(lambda: not letgo_threads(), "the thread ends")


def test_a_handle_that_is_not_started_needs_no_thread(scheduler: letgo.Scheduler) -> None:
    """With `start=False` a scheduler does not know of the handle yet."""
    handle = letgo.Handle(Probe().poll, scheduler=scheduler, start=False)
    assert (len(scheduler), letgo_threads()) == (0, [])
    with handle:
        assert (len(scheduler), len(letgo_threads())) == (1, 1)


def test_all_polls_run_on_one_daemon_thread() -> None:
    """Handles of one scheduler share its thread, which has its name."""
    threads: list[threading.Thread] = []

    def poll() -> None:
        threads.append(threading.current_thread())

    with letgo.Scheduler("timers") as scheduler:
        for _ in range(5):
            letgo.Handle(poll, scheduler=scheduler).poll_now()
    assert {(thread.name, thread.daemon) for thread in threads} == {("timers", True)}


def test_schedulers_without_a_name_are_numbered() -> None:
    """Threads of different schedulers can be told apart."""
    with letgo.Scheduler() as one, letgo.Scheduler() as other:
        handles = [letgo.Handle(Probe().poll, scheduler=each) for each in (one, other)]
        names = {handle.info.thread for handle in handles}
    assert len(names) == 2
    assert all(str(name).startswith("letgo-scheduler-") for name in names)


def test_handles_come_and_go_from_many_threads(scheduler: letgo.Scheduler) -> None:
    """Threads that start and end the scheduler's thread all the time lose no worker."""
    probes = [Probe() for _ in range(4)]

    def churn(probe: Probe) -> None:
        for _ in range(100):
            with letgo.Handle(probe.poll, on_close=probe.close, scheduler=scheduler) as handle:
                handle.poll_now()

    for call in [Call(churn, probe) for probe in probes]:
        call.result()
    assert [(probe.polls, probe.closes) for probe in probes] == [(100, 100)] * 4
    wait_until(lambda: not letgo_threads(), "the thread ends")


def test_a_dropped_scheduler_goes_on_for_its_handles(no_collector: None) -> None:
    """The handles need the thread, not the object."""
    probe = Probe()
    scheduler = letgo.Scheduler()
    freed = weakref.ref(scheduler)
    handle = letgo.Handle(probe.poll, interval=0.001, scheduler=scheduler)
    del scheduler
    assert freed() is None
    polls = probe.polls
    wait_until(lambda: probe.polls > polls + 3, "more polls")
    handle.close()


# --- len, bool, repr ---


def test_len_counts_live_handles(scheduler: letgo.Scheduler) -> None:
    """Running and stopping handles are counted."""
    gate = Gate()
    assert len(scheduler) == 0
    running = letgo.Handle(Probe().poll, scheduler=scheduler)
    stopping = letgo.Handle(on_close=gate, scheduler=scheduler, close_in_thread=True)
    stopping.stop()
    wait_for(gate.entered)
    assert len(scheduler) == 2
    gate.opened.set()
    stopping.close()
    assert len(scheduler) == 1
    running.close()
    assert len(scheduler) == 0


def test_a_scheduler_is_always_true() -> None:
    """An empty scheduler is one, `scheduler or default` must not pass it over; a closed one too."""
    scheduler = letgo.Scheduler()
    assert scheduler
    scheduler.close()
    assert scheduler


def test_a_scheduler_says_what_it_is() -> None:
    """`repr` tells name, handles and whether it is closed."""
    scheduler = letgo.Scheduler("timers")
    handle = letgo.Handle(Probe().poll, scheduler=scheduler)
    assert repr(scheduler) == "<Scheduler 'timers': 1 handles>"
    handle.close()
    scheduler.close()
    assert repr(scheduler) == "<Scheduler 'timers': closed>"


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_scheduler_cannot_be_copied(
    scheduler: letgo.Scheduler, duplicate: Callable[[object], object]
) -> None:
    """There is one thread: a `TypeError` with the reason."""
    with pytest.raises(TypeError, match=r"Scheduler.*running thread"):
        duplicate(scheduler)


# --- close ---


def test_close_closes_all_its_handles_and_no_other() -> None:
    """Each is flushed; workers elsewhere go on; a second close has no effect."""
    probes = [Probe() for _ in range(10)]
    scheduler = letgo.Scheduler()
    handles = [letgo.Handle(on_close=probe.close, scheduler=scheduler) for probe in probes]
    with letgo.Handle(Probe().poll) as other:
        scheduler.close()
        scheduler.close()
        assert other.alive
    assert [probe.closes for probe in probes] == [1] * 10
    assert not any(handle.alive for handle in handles)


def test_with_closes_a_scheduler() -> None:
    """Leaving the block closes all handles."""
    with letgo.Scheduler() as scheduler:
        handle = letgo.Handle(Probe().poll, scheduler=scheduler)
    assert not handle.alive


@pytest.mark.parametrize("start", [True, False])
def test_a_closed_scheduler_takes_no_handles(start: bool) -> None:
    """A new handle on a closed scheduler is a `ClosedError`, whenever it is to start."""
    scheduler = letgo.Scheduler()
    scheduler.close()
    with pytest.raises(letgo.ClosedError):
        letgo.Handle(Probe().poll, scheduler=scheduler, start=start)
    assert (len(scheduler), letgo_threads()) == (0, [])


def test_a_handle_that_was_not_started_before_the_close() -> None:
    """It can no longer be started; an explicit close runs its `on_close` all the same."""
    probe = Probe()
    scheduler = letgo.Scheduler()
    handle = letgo.Handle(probe.poll, on_close=probe.close, scheduler=scheduler, start=False)
    scheduler.close()
    with pytest.raises(letgo.ClosedError):
        handle.start()
    handle.close()
    assert (probe.closes, handle.info.state) == (1, "closed")


def test_close_logs_what_on_close_raises(
    scheduler: letgo.Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad flush does not keep the others from ending."""
    probe = Probe()
    letgo_handles = [
        letgo.Handle(on_close=raises(OSError("flush")), scheduler=scheduler, name="mute"),
        letgo.Handle(on_close=probe.close, scheduler=scheduler),
    ]
    scheduler.close()
    assert (probe.closes, len(letgo_handles)) == (1, 2)
    assert "mute" in caplog.text


def test_close_times_out(scheduler: letgo.Scheduler) -> None:
    """`TimeoutError` while some are busy; they go on stopping, and close can wait again."""
    gate = Gate()
    handle = letgo.Handle(on_close=gate, scheduler=scheduler)
    with pytest.raises(TimeoutError):
        scheduler.close(timeout=0.001)
    gate.opened.set()
    scheduler.close(timeout=PATIENCE)
    assert not handle.alive


def test_close_from_its_own_thread_only_asks(scheduler: letgo.Scheduler) -> None:
    """A poll may close the scheduler that runs it: all end after it."""
    probe = Probe(scheduler.close)
    handles = [
        letgo.Handle(probe.poll, on_close=probe.close, scheduler=scheduler) for _ in range(3)
    ]
    handles[0].wake()
    assert all(handle.join(PATIENCE) for handle in handles)
    assert (probe.polls, probe.closes) == (1, 3)


def test_close_from_a_closers_thread_does_not_wait_for_itself(scheduler: letgo.Scheduler) -> None:
    """An `on_close` on a thread of its own may close the scheduler, and waits for the others."""
    probe = Probe()
    other = letgo.Handle(on_close=probe.close, scheduler=scheduler)
    handle = letgo.Handle(on_close=scheduler.close, close_in_thread=True, scheduler=scheduler)
    handle.close(timeout=PATIENCE)
    assert (probe.closes, other.alive) == (1, False)


@pytest.mark.parametrize("from_poll", [False, True])
def test_the_last_ones_are_told_last(scheduler: letgo.Scheduler, from_poll: bool) -> None:
    """`close` ends those with `exit_last` after the others, from a poll of its own too."""
    order: list[str] = []
    handles = [
        letgo.Handle(
            scheduler.close,
            on_close=lambda name=name: order.append(name),
            exit_last=name == "metrics",
            scheduler=scheduler,
        )
        for name in ("first", "metrics", "second", "third")
    ]
    if from_poll:
        handles[0].wake()
        assert all(handle.join(PATIENCE) for handle in handles)
    else:
        scheduler.close()
    assert order[-1] == "metrics"


# --- shared ---


def test_shared_is_one_scheduler() -> None:
    """Everybody gets the same, from any thread."""
    calls = [Call(letgo.shared) for _ in range(10)]
    assert {id(call.result()) for call in calls} == {id(letgo.shared())}


def test_shared_is_renewed_after_its_close() -> None:
    """Who closes the shared scheduler leaves a new one to the others."""
    first = letgo.shared()
    first.close()
    second = letgo.shared()
    assert second is not first
    with letgo.Handle(Probe().poll, scheduler=second) as handle:
        handle.poll_now()


# --- Together on one thread ---


def test_a_poll_may_close_another_handle_of_its_scheduler(scheduler: letgo.Scheduler) -> None:
    """It cannot wait for its own thread, so it only asks: no deadlock, and the end comes."""
    probe = Probe()
    other = letgo.Handle(on_close=probe.close, scheduler=scheduler)

    def poll() -> None:
        other.close()
        other.close(timeout=0)
        assert other.join() is False

    with letgo.Handle(poll, scheduler=scheduler) as handle:
        handle.poll_now(timeout=PATIENCE)
        assert other.join(PATIENCE)
    assert probe.closes == 1


def test_a_poll_may_not_poll_another_handle_of_its_scheduler(scheduler: letgo.Scheduler) -> None:
    """`poll_now` on the scheduler's own thread would wait for itself."""
    other = letgo.Handle(Probe().poll, scheduler=scheduler)
    handle = letgo.Handle(other.poll_now, scheduler=scheduler)
    with pytest.raises(RuntimeError, match="own thread"):
        handle.poll_now(timeout=PATIENCE)


def test_a_poll_may_make_and_drop_handles_of_its_scheduler(scheduler: letgo.Scheduler) -> None:
    """Handles that come and go inside a poll are served after it."""
    probe = Probe()

    def poll() -> None:
        letgo.Handle(probe.poll, on_close=probe.close, scheduler=scheduler)
        with letgo.Handle(probe.poll, on_close=probe.close, scheduler=scheduler):
            pass

    with letgo.Handle(poll, scheduler=scheduler) as handle:
        handle.poll_now(timeout=PATIENCE)
        wait_until(lambda: probe.closes == 2, "both have ended")
    assert probe.polls == 0


def test_handles_that_never_pause_let_the_others_poll(scheduler: letgo.Scheduler) -> None:
    """Polls take turns: one that is always due delays the others by one poll only."""
    probe = Probe()
    with letgo.Handle(lambda: letgo.again(), immediate=True, scheduler=scheduler) as greedy:
        with letgo.Handle(probe.poll, interval=0.001, scheduler=scheduler) as handle:
            wait_until(lambda: probe.polls >= 20, "twenty polls")
            handle.poll_now()
        assert greedy.info.polls > 20


def test_an_end_gets_through_a_storm_of_wakes(scheduler: letgo.Scheduler) -> None:
    """Threads that wake other handles without pause do not keep a handle from its end."""
    over = threading.Event()
    busy = [letgo.Handle(Probe().poll, scheduler=scheduler) for _ in range(3)]

    def storm(handle: letgo.Handle) -> None:
        while not over.is_set():
            handle.wake()

    calls = [Call(storm, handle) for handle in busy]
    try:
        for _ in range(20):
            letgo.Handle(Probe().poll, scheduler=scheduler).close(timeout=PATIENCE)
    finally:
        over.set()
    for call in calls:
        call.result()


def test_many_wakes_of_one_among_many_handles(scheduler: letgo.Scheduler) -> None:
    """Each handle is polled for its own wakes, never for another's."""
    probes = [Probe() for _ in range(200)]
    handles = [letgo.Handle(probe.poll, scheduler=scheduler) for probe in probes]
    for handle in handles[::2]:
        handle.wake()
    for handle in handles[::2]:
        handle.wake(HOUR)
    wait_until(lambda: all(probe.polls for probe in probes[::2]), "every other is polled")
    assert not any(probe.polls for probe in probes[1::2])


def test_delayed_wakes_come_in_order(scheduler: letgo.Scheduler) -> None:
    """Whatever the order of asking, polls come in the order of their times."""
    order: list[int] = []
    handles = [letgo.Handle(lambda n=n: order.append(n), scheduler=scheduler) for n in range(20)]
    scattered = sorted(range(20), key=lambda n: (n * 7) % 20)
    gate = Gate()
    blocker = letgo.Handle(gate, scheduler=scheduler)
    blocker.wake()
    wait_for(gate.entered)  # all are asked for before any is due
    for n in scattered:
        handles[n].wake(0.01 + n * 0.001)
    gate.opened.set()
    wait_until(lambda: len(order) == 20, "all have polled")
    assert order == sorted(order)


# --- slow_poll ---


def test_a_slow_poll_is_logged_once_for_each_handle(caplog: pytest.LogCaptureFixture) -> None:
    """It delays the others: a warning when it ends, the first time."""
    with letgo.Scheduler("timers", slow_poll=0.001) as scheduler:
        slow = letgo.Handle(lambda: letgo.sleep(0.005), scheduler=scheduler, name="slow")
        also = letgo.Handle(lambda: letgo.sleep(0.005), scheduler=scheduler, name="also")
        for handle in (slow, slow, slow, also):
            handle.poll_now()
    records = [(record.levelno, record.getMessage().split()[1]) for record in caplog.records]
    assert records == [(logging.WARNING, "'slow'"), (logging.WARNING, "'also'")]
    assert "timers" in caplog.text


def test_a_quick_poll_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Up to `slow_poll` seconds are fine; a dedicated worker may take as long as it likes."""
    with letgo.Scheduler(slow_poll=HOUR) as scheduler:
        letgo.Handle(lambda: letgo.sleep(0.005), scheduler=scheduler).poll_now()
    assert caplog.records == []


# --- close_in_thread ---


def test_a_blocking_on_close_delays_nobody(scheduler: letgo.Scheduler) -> None:
    """With `close_in_thread` other polls and other ends go on, and `close` waits as for any."""
    gate = Gate()
    threads: list[threading.Thread] = []
    probe = Probe()

    def flush() -> None:
        threads.append(threading.current_thread())
        gate()

    blocking = letgo.Handle(
        on_close=flush, close_in_thread=True, scheduler=scheduler, name="blocking"
    )
    call = Call(blocking.close)
    wait_for(gate.entered)
    other = letgo.Handle(probe.poll, on_close=probe.close, scheduler=scheduler)
    other.poll_now()
    other.close()
    assert (probe.closes, call.pending(), blocking.info.state) == (1, True, "stopping")
    gate.opened.set()
    call.result()
    assert [thread.name for thread in threads] == ["blocking"]


def test_two_blocking_closes_run_at_the_same_time(scheduler: letgo.Scheduler) -> None:
    """Each has a thread of its own: they wait for each other here."""
    barrier = threading.Barrier(5)
    handles = [
        letgo.Handle(
            on_close=lambda: barrier.wait(PATIENCE), close_in_thread=True, scheduler=scheduler
        )
        for _ in range(5)
    ]
    scheduler.close()
    assert not any(handle.alive for handle in handles)


def test_close_in_thread_raises_to_who_waits(
    scheduler: letgo.Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    """What such an `on_close` raises is raised by `close`, or logged when nobody waits."""
    first, second = (
        letgo.Handle(on_close=raises(OSError("flush")), close_in_thread=True, scheduler=scheduler)
        for _ in range(2)
    )
    with pytest.raises(OSError, match="flush"):
        first.close()
    assert caplog.records == []
    second.stop()
    second.join()
    assert "flush" in caplog.text


def test_close_in_thread_frees_on_that_thread(
    scheduler: letgo.Scheduler, no_collector: None
) -> None:
    """Destructors of what the worker held may block: they run on the closer's thread."""
    threads: list[threading.Thread] = []

    class Connection:
        def flush(self) -> None:
            """Nothing to flush."""

        def __del__(self) -> None:
            threads.append(threading.current_thread())

    # Made on a thread that ends, so that without the GIL too whoever is last frees it.
    handle = Call(
        lambda: letgo.Handle(
            on_close=Connection().flush, close_in_thread=True, scheduler=scheduler, name="closer"
        )
    ).result()
    assert isinstance(handle, letgo.Handle)
    handle.close()
    wait_until(lambda: threads, "the destructor")
    assert threads[0].name == "closer"
