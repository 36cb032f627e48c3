"""What a poll can ask: `stopping`, `again`, `sleep`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

import letgo
from helpers import PATIENCE, Call, Gate, Probe, wait_for, wait_until

Make = Callable[..., letgo.Handle]


# --- stopping ---


def test_stopping_tells_a_poll_of_the_stop(make: Make) -> None:
    """A long poll asks between two steps, and ends early when a stop was requested."""
    began = threading.Event()

    def poll() -> None:
        began.set()
        wait_until(letgo.stopping, "the stop")

    handle = make(poll)
    handle.wake()
    wait_for(began)
    handle.close(timeout=PATIENCE)


def test_stopping_is_false_while_nobody_asked(make: Make) -> None:
    """Inside a poll of a worker that goes on, the answer is False."""
    answers: list[bool] = []
    with make(lambda: answers.append(letgo.stopping())) as handle:
        handle.poll_now()
    assert answers == [False]


def test_stopping_is_of_the_worker_whose_poll_asks(scheduler: letgo.Scheduler | None) -> None:
    """Another worker's stop, on the same scheduler too, is none of this poll's."""
    answers: list[bool] = []
    other = letgo.Handle(Probe().poll, scheduler=scheduler)

    def poll() -> None:
        other.stop()
        answers.append(letgo.stopping())

    with letgo.Handle(poll, scheduler=scheduler) as handle:
        handle.poll_now()
    other.close()
    assert answers == [False]


def test_stopping_elsewhere_is_false(make: Make) -> None:
    """Outside a poll nobody is asked to stop: on_close, other threads, the main thread."""
    answers: list[bool] = []

    def poll() -> None:
        answers.append(bool(Call(letgo.stopping).result()))

    handle = make(poll, on_close=lambda: answers.append(letgo.stopping()))
    handle.poll_now()
    handle.close()
    assert [*answers, letgo.stopping()] == [False, False, False]


def test_stopping_sees_a_drop(make: Make) -> None:
    """A poll that lets go of its own handle is asked to stop from then on."""
    ended = threading.Event()
    handles: list[letgo.Handle] = []

    def poll() -> None:
        assert not letgo.stopping()
        handles.clear()
        wait_until(letgo.stopping, "the drop is seen")
        ended.set()

    handles.append(make(poll))
    handles[0].wake()
    wait_until(ended.is_set, "the poll")  # not in a lock: without the GIL it is seen here


# --- again ---


def test_again_polls_once_more(make: Make) -> None:
    """A poll that has more to do asks for another."""
    probe = Probe(lambda: letgo.again() if probe.polls < 5 else None)
    with make(probe.poll) as handle:
        handle.wake()
        wait_until(lambda: probe.polls == 5, "five polls")
        handle.poll_now()
    assert probe.polls == 6


def test_again_waits(make: Make) -> None:
    """`again(after)` is a delay that the poll sets itself."""
    times: list[float] = []

    def poll() -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            letgo.again(0.05)

    with make(poll) as handle:
        handle.wake()
        wait_until(lambda: len(times) == 2, "the second poll")
    assert times[1] >= times[0] + 0.05


def test_again_keeps_the_earliest(make: Make) -> None:
    """Of several, the earliest is taken, as with `wake`; the grid stays."""

    def poll() -> None:
        letgo.again(1000)
        letgo.again(500)
        letgo.again(2000)

    with make(poll, interval=3600) as handle:
        handle.poll_now()
        assert 400 < (handle.info.next_poll_in or 0) <= 500


def test_again_in_a_failing_poll_is_kept(make: Make) -> None:
    """A back-off is asked for before the exception leaves the poll."""

    def poll() -> None:
        letgo.again(500)
        raise OSError("no route")

    with make(poll, on_error=lambda _: None) as handle:
        handle.wake()
        wait_until(lambda: handle.info.errors, "the failure")
        wait_until(lambda: handle.info.next_poll_in is not None, "a plan")
        assert 400 < (handle.info.next_poll_in or 0) <= 500


def test_again_elsewhere(make: Make) -> None:
    """Outside a poll there is nothing to do again: on_close, other threads, the main thread."""
    with pytest.raises(RuntimeError, match="inside a poll"):
        letgo.again()
    with make(lambda: Call(letgo.again).result()) as handle, pytest.raises(RuntimeError):
        handle.poll_now()
    handle = make(on_close=letgo.again)
    with pytest.raises(RuntimeError):
        handle.close()


# --- sleep ---


def test_sleep_sleeps(make: Make) -> None:
    """Undisturbed, `sleep` lasts as long as asked, and says that it was not cut short."""
    results: list[object] = []

    def poll() -> None:
        begin = time.monotonic()
        results.append(letgo.sleep(0.02))
        results.append(time.monotonic() - begin >= 0.02)

    with make(poll) as handle:
        handle.poll_now()
    assert results == [False, True]


@pytest.mark.parametrize("seconds", [3600, 1e12])
def test_a_stop_cuts_sleep_short(make: Make, seconds: float) -> None:
    """`close` need not wait for a poll that sleeps."""
    results: list[bool] = []
    gate = Gate()
    gate.opened.set()

    def poll() -> None:
        gate()
        results.append(letgo.sleep(seconds))

    handle = make(poll)
    handle.wake()
    wait_for(gate.entered)
    handle.close(timeout=PATIENCE)
    assert results == [True]


def test_sleep_after_the_stop_returns_at_once(make: Make) -> None:
    """A stop that was requested before cuts every later sleep of that poll short."""
    results: list[bool] = []
    handles: list[letgo.Handle] = []

    def poll() -> None:
        handles[0].stop()
        results.append(letgo.sleep(3600))
        results.append(letgo.sleep(0))

    handles.append(make(poll))
    handles[0].wake()
    assert handles[0].join(PATIENCE)
    assert results == [True, True]


def test_sleep_loses_no_wake(make: Make) -> None:
    """Wakes that come during a sleep neither cut it short nor are forgotten."""
    gate = Gate()
    gate.opened.set()
    results: list[bool] = []

    def poll() -> None:
        if not results:
            gate()
            results.append(letgo.sleep(0.05))
        else:
            results.append(False)

    with make(poll) as handle:
        handle.wake()
        wait_for(gate.entered)
        for _ in range(100):
            handle.wake()
        wait_until(lambda: len(results) == 2, "the poll that was woken")
    assert results == [False, False]


def test_sleep_elsewhere_is_a_plain_sleep(make: Make) -> None:
    """Outside a poll nothing cuts it short, and the answer is False."""
    results: list[bool] = []
    make(on_close=lambda: results.append(letgo.sleep(0.001))).close()
    begin = time.monotonic()
    results.append(letgo.sleep(0.01))
    assert time.monotonic() - begin >= 0.01
    assert results == [False, False]
