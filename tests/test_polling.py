"""When polls come: the grid of `interval`, `wake`, `poll_now`, `immediate`."""

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Callable

import pytest

import letgo
from helpers import Call, Gate, Probe, next_due, raises, wait_for, wait_until

Make = Callable[..., letgo.Handle]

HOUR = 3600.0


# --- The grid ---


def test_polls_repeat_at_the_interval(make: Make) -> None:
    """The worker polls again and again, and never before its tick."""
    times: list[float] = []
    begin = time.monotonic()
    with make(lambda: times.append(time.monotonic()), interval=0.01):
        wait_until(lambda: len(times) >= 5, "five polls")
    assert all(at >= begin + 0.01 * tick for tick, at in enumerate(times, 1))


def test_a_thousand_polls_end_on_the_grid(make: Make) -> None:
    """After 1,000 polls at 1 ms the ticks are where they were: no drift, and no burst."""
    interval = 0.001
    probe = Probe()
    with make(probe.poll, interval=HOUR) as handle:
        begin = end = 0.0
        while not 0 < end - begin < interval / 5:  # until no pause hides when the grid began
            handle.interval = HOUR
            begin = time.monotonic()
            handle.interval = interval
            end = time.monotonic()
        polls = probe.polls
        wait_until(lambda: probe.polls >= polls + 1000, "a thousand polls")
        assert probe.polls - polls <= (time.monotonic() - begin) / interval + 1
        for _ in range(20):
            ticks = (next_due(handle, within=interval / 10) - begin) / interval
            # At most a tenth early, by `next_due`, and a fifth late, by the start above.
            assert -0.11 < ticks - round(ticks) < 0.21


def test_a_slow_poll_drops_ticks_and_never_bursts(make: Make) -> None:
    """Ticks that pass during a poll are dropped: the next polls keep their distance."""
    gate = Gate()
    times: list[float] = []

    def poll() -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            gate()

    with make(poll, interval=0.02):
        wait_for(gate.entered)
        wait_until(lambda: time.monotonic() > times[0] + 0.1, "five ticks have passed")
        released = time.monotonic()
        gate.opened.set()
        wait_until(lambda: len(times) >= 4, "three more polls")
    # The second poll's tick came after the release, the fourth's two intervals later.
    assert times[3] >= released + 2 * 0.02


def test_a_new_interval_is_a_new_grid_from_now(make: Make) -> None:
    """Setting `interval` while the worker runs moves the next poll, nearer and further."""
    probe = Probe()
    with make(probe.poll, interval=HOUR) as handle:
        handle.interval = 0.001
        wait_until(lambda: probe.polls >= 3, "three polls of the new grid")
        now = time.monotonic()
        handle.interval = 2 * HOUR
        assert now + 2 * HOUR <= next_due(handle) + 0.001 < now + 2 * HOUR + 60
    assert handle.interval == 2 * HOUR


def test_an_interval_can_be_taken_away(make: Make) -> None:
    """With `interval` set to None the worker polls on `wake` only."""
    probe = Probe()
    with make(probe.poll, interval=0.001) as handle:
        wait_until(lambda: probe.polls, "a poll")
        handle.interval = None
        handle.poll_now()
        polls = probe.polls
        handle.poll_now()
        assert (probe.polls, handle.info.next_poll_in) == (polls + 1, None)


def test_an_interval_can_be_given_by_the_poll(make: Make) -> None:
    """A poll may set the interval of its own worker: the grid starts from there."""
    ticks: list[object] = []
    handles: list[letgo.Handle] = []

    def poll() -> None:
        ticks.append(handles[0].interval)
        handles[0].interval = 0.001

    handles.append(make(poll))
    handles[0].wake()
    wait_until(lambda: len(ticks) >= 3, "polls of the new grid")
    handles.pop().close()
    assert ticks[:2] == [None, 0.001]


def test_a_very_large_interval_works(make: Make) -> None:
    """An interval beyond what a lock can wait for is waited for in parts."""
    probe = Probe()
    with make(probe.poll, interval=1e12) as handle:
        handle.poll_now()
        assert handle.info.next_poll_in == pytest.approx(1e12)
        handle.interval = 10**300
        handle.poll_now()
    assert probe.polls == 2


def test_a_dedicated_worker_may_poll_without_pause() -> None:
    """With `interval=0` one poll follows another, and the worker can still be closed."""
    probe = Probe()
    with letgo.Handle(probe.poll, interval=0, on_close=probe.close):
        wait_until(lambda: probe.polls >= 1000, "a thousand polls")
    assert probe.closes == 1


@pytest.mark.parametrize("interval", [None, HOUR])
def test_immediate_polls_at_the_start(make: Make, interval: float | None) -> None:
    """With `immediate` the first poll comes at once, and the grid begins there."""
    probe = Probe()
    with make(probe.poll, interval=interval, immediate=True) as handle:
        wait_until(lambda: handle.info.last_poll_seconds is not None, "the first poll")
        if interval is not None:
            assert time.monotonic() + HOUR - 60 < next_due(handle)
        handle.poll_now()
    assert probe.polls == 2


def test_immediate_waits_for_the_start(make: Make) -> None:
    """With `start=False`, `immediate` means at once when started."""
    probe = Probe()
    handle = make(probe.poll, interval=HOUR, immediate=True, start=False)
    assert probe.polls == 0
    with handle:
        wait_until(lambda: probe.polls, "the first poll")


def test_a_worker_without_a_poll_waits_for_its_end(make: Make) -> None:
    """With `on_close` only there is nothing to plan: ticks and wakes do nothing."""
    probe = Probe()
    with make(on_close=probe.close, interval=0.001) as handle:
        handle.wake()
        assert handle.info.next_poll_in is None
    assert (handle.info.polls, probe.closes) == (0, 1)


# --- wake ---


def test_wake_polls_at_once(make: Make) -> None:
    """A wake makes the worker poll, with and without an interval."""
    probe = Probe()
    with make(probe.poll) as idle, make(probe.poll, interval=HOUR) as sleeping:
        idle.wake()
        sleeping.wake()
        wait_until(lambda: probe.polls == 2, "both have polled")


def test_the_earliest_wake_wins(make: Make) -> None:
    """Of several wakes the earliest is kept; its poll satisfies the later ones too."""
    probe = Probe()
    with make(probe.poll) as handle:
        handle.wake(HOUR)
        handle.wake(HOUR / 2)
        handle.wake(2 * HOUR)
        assert HOUR / 2 - 60 < (handle.info.next_poll_in or 0) <= HOUR / 2
        handle.wake(0.001)
        wait_until(lambda: handle.info.last_poll_seconds is not None, "a poll")
        assert (probe.polls, handle.info.next_poll_in) == (1, None)


def test_a_delayed_wake_waits(make: Make) -> None:
    """`wake(after)` polls after that time, not before."""
    times: list[float] = []
    with make(lambda: times.append(time.monotonic())) as handle:
        asked = time.monotonic()
        handle.wake(0.05)
        wait_until(lambda: times, "the poll")
    assert times[0] >= asked + 0.05


def test_a_delayed_wake_does_not_put_off_a_tick(make: Make) -> None:
    """A wake later than the next tick changes nothing."""
    probe = Probe()
    with make(probe.poll, interval=0.001) as handle:
        handle.wake(HOUR)
        wait_until(lambda: probe.polls >= 2, "two ticks")


def test_wakes_before_a_poll_make_one_poll(make: Make) -> None:
    """Any number of wakes during a poll make exactly one more."""
    gate = Gate()
    probe = Probe(gate)
    with make(probe.poll) as handle:
        handle.wake()
        wait_for(gate.entered)
        for _ in range(1000):
            handle.wake()
        gate.opened.set()
        wait_until(lambda: probe.polls == 2, "the second poll")
        handle.poll_now()
    assert probe.polls == 3


def test_a_wake_does_not_move_the_grid(make: Make) -> None:
    """Ticks stay where they were when a wake polls between them."""
    probe = Probe()
    with make(probe.poll, interval=HOUR) as handle:
        due = next_due(handle)
        wait_until(lambda: due + 0.02 < time.monotonic() + HOUR, "the clock has moved on")
        handle.wake()
        wait_until(lambda: handle.info.last_poll_seconds is not None, "the poll")
        assert abs(next_due(handle) - due) < 0.005


def test_a_wake_before_the_start_is_remembered(make: Make) -> None:
    """What was woken before `start` polls as soon as it runs."""
    probe = Probe()
    handle = make(probe.poll, start=False)
    handle.wake()
    handle.wake()
    with handle:
        wait_until(lambda: probe.polls, "the poll")
        handle.poll_now()
    assert probe.polls == 2


@pytest.mark.parametrize("start", [True, False])
def test_a_wake_after_the_end_does_nothing(make: Make, start: bool) -> None:
    """A worker that has ended takes no wakes, whether it ever ran or not."""
    probe = Probe()
    handle = make(probe.poll, start=start)
    handle.close()
    handle.wake()
    handle.wake(0.001)
    handle.interval = 0.001
    assert (probe.polls, handle.info.state, handle.info.next_poll_in) == (0, "closed", None)


def test_wake_works_in_a_finalizer(make: Make) -> None:
    """An object's finalizer may wake a worker."""
    probe = Probe()
    with make(probe.poll) as handle:
        owner = Probe()
        weakref.finalize(owner, handle.wake)
        del owner
        wait_until(lambda: probe.polls == 1, "the poll")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform has no user signals")
def test_wake_works_in_a_signal_handler(make: Make) -> None:
    """A signal handler may wake a worker."""
    probe = Probe()
    with make(probe.poll) as handle:
        before = signal.signal(signal.SIGUSR1, lambda *_: handle.wake())
        try:
            signal.raise_signal(signal.SIGUSR1)
            wait_until(lambda: probe.polls == 1, "the poll")
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_no_wake_is_lost_between_polls(make: Make) -> None:
    """Each wake that comes after a poll has begun makes another: none falls between two."""
    probe = Probe()
    with make(probe.poll) as handle:
        for _ in range(2000):
            polls = probe.polls
            handle.wake()
            wait_until(lambda polls=polls: probe.polls > polls, "the poll of this wake")


# --- poll_now ---


def test_poll_now_waits_for_a_poll(make: Make) -> None:
    """`poll_now` returns when its poll has ended, each time."""
    probe = Probe()
    with make(probe.poll, interval=HOUR) as handle:
        for count in range(1, 6):
            handle.poll_now()
            assert probe.polls == count


def test_poll_now_wants_a_poll_that_began_after_the_call(make: Make) -> None:
    """A poll that runs already does not count: its data may be older than the call."""
    gate = Gate()
    probe = Probe(gate)
    with make(probe.poll) as handle:
        handle.wake()
        wait_for(gate.entered)
        call = Call(handle.poll_now)
        wait_until(lambda: handle.info.next_poll_in == 0, "another poll is asked for")
        assert call.pending()
        gate.opened.set()
        call.result()
    assert probe.polls == 2


def test_poll_now_raises_what_the_poll_raised_to_every_waiter(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten waiters get the poll's exception; `on_error` and the log don't, the counts do."""
    gate = Gate()
    handled: list[Exception] = []
    probe = Probe(gate)
    with make(probe.poll, on_error=handled.append) as handle:
        handle.wake()
        wait_for(gate.entered)
        probe.act = raises(ValueError("no data"))
        calls = [Call(handle.poll_now) for _ in range(10)]
        wait_until(lambda: handle.info.next_poll_in == 0, "another poll is asked for")
        gate.opened.set()
        for call in calls:
            with pytest.raises(ValueError, match="no data"):
                call.result()
        info = handle.info
    assert (handled, caplog.records) == ([], [])
    assert info.errors == info.polls - 1 >= 1


def test_poll_now_raises_other_base_exceptions_too(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends the worker is raised to its waiter as well."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    handle = make(raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        handle.poll_now()
    assert handle.join(20)


def test_poll_now_ends_with_its_own_poll_when_it_returns_stop(make: Make) -> None:
    """A poll that returns `STOP` is a poll all the same."""
    handle = make(lambda: letgo.STOP)
    handle.poll_now()
    assert handle.closed
    assert handle.join(20)


def test_poll_now_times_out(make: Make) -> None:
    """`TimeoutError` names the worker; the poll that it asked for comes all the same."""
    gate = Gate()
    probe = Probe(gate)
    with make(probe.poll, name="slow") as handle:
        handle.wake()
        wait_for(gate.entered)
        with pytest.raises(TimeoutError, match="slow"):
            handle.poll_now(timeout=0.001)
        gate.opened.set()
        wait_until(lambda: probe.polls == 2, "the poll that was asked for")


def test_an_error_that_no_waiter_takes_is_handled_as_any_other(make: Make) -> None:
    """When the only `poll_now` has given up, its poll's exception goes to `on_error`."""
    gate = Gate()
    handled: list[Exception] = []

    def poll() -> None:
        gate()
        raise ValueError("late")

    with make(poll, on_error=handled.append) as handle:
        call = Call(handle.poll_now, 0.05)
        wait_for(gate.entered)
        with pytest.raises(TimeoutError):
            call.result()
        gate.opened.set()
        wait_until(lambda: handled, "on_error is called")


def test_poll_now_is_told_when_the_worker_ends_first(make: Make) -> None:
    """`ClosedError` when the end comes before a poll that began after the call."""
    gate = Gate()
    handle = make(gate)
    handle.wake()
    wait_for(gate.entered)
    call = Call(handle.poll_now)
    wait_until(lambda: handle.info.next_poll_in == 0, "another poll is asked for")
    handle.stop()
    gate.opened.set()
    with pytest.raises(letgo.ClosedError):
        call.result()


@pytest.mark.parametrize("start", [True, False])
def test_poll_now_after_the_end(make: Make, start: bool) -> None:
    """A worker that has ended polls no more: `ClosedError`."""
    handle = make(Probe().poll, start=start)
    handle.close()
    with pytest.raises(letgo.ClosedError):
        handle.poll_now()


def test_poll_now_on_the_workers_own_thread(make: Make) -> None:
    """A poll that waited for a poll of its own worker would wait for itself."""
    handles: list[letgo.Handle] = []
    handles.append(make(lambda: handles[0].poll_now()))
    with pytest.raises(RuntimeError, match="own thread"):
        handles[0].poll_now()
    handles.pop().close()


def test_poll_now_before_the_start(make: Make) -> None:
    """Nobody polls before `start`."""
    handle = make(Probe().poll, start=False)
    with pytest.raises(RuntimeError, match="not been started"):
        handle.poll_now()


def test_poll_now_without_a_poll(make: Make) -> None:
    """A worker with `on_close` only has nothing to poll."""
    with make(on_close=Probe().close) as handle, pytest.raises(RuntimeError, match="no poll"):
        handle.poll_now()


def test_polls_never_overlap(make: Make) -> None:
    """Waked, ticking and asked for by many threads, a worker polls one at a time."""
    inside = threading.Lock()
    overlaps: list[int] = []

    def poll() -> None:
        if not inside.acquire(False):
            overlaps.append(1)
        else:
            inside.release()

    with make(poll, interval=0.001) as handle:

        def ask() -> None:
            for _ in range(200):
                handle.wake()
                handle.poll_now()

        for call in [Call(ask) for _ in range(4)]:
            call.result()
    assert overlaps == []
