"""Where a thread cannot be started, that is raised, and nothing is left behind."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import NoReturn

import pytest

import letgo
from helpers import Call, Probe, letgo_threads, wait_until

Make = Callable[..., letgo.Handle]

REASON = "can't start new thread"


@pytest.fixture(params=["Thread.start", "the system"])
def no_threads(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], None]:
    """Call it, and no thread starts any more: refused at once, or by the operating system."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(REASON)

    starters = ["_start_joinable_thread", "_start_new_thread"]  # from 3.13 on, before

    def refuse() -> None:
        if request.param == "Thread.start":
            monkeypatch.setattr(threading.Thread, "start", fail)
        else:
            starter = next(name for name in starters if hasattr(threading, name))
            monkeypatch.setattr(threading, starter, fail)

    return refuse


def test_the_constructor_raises_and_leaves_nothing(
    make: Make, no_threads: Callable[[], None], no_collector: None
) -> None:
    """No worker, no thread, and what was given is freed at once."""
    probe = Probe()
    freed = weakref.ref(probe)

    def construct(probe: Probe) -> str:
        try:
            make(probe.poll, on_close=probe.close, interrupt=probe.close, interval=0.001)
        except RuntimeError as error:
            return str(error)
        return "it did not raise"

    no_threads()
    assert construct(probe) == REASON
    assert (letgo.live(), letgo_threads(), probe.closes) == ([], [], 0)
    del probe
    wait_until(lambda: freed() is None, "what was given is freed")


def test_start_raises_and_can_be_tried_again(
    make: Make, no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handle stays as it was before `start`: a wake is remembered, a later start works."""
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close, start=False)
    handle.wake()
    no_threads()
    with pytest.raises(RuntimeError, match=REASON):
        handle.start()
    assert (handle.alive, handle.closed, handle.info.state) == (False, False, "new")
    assert letgo.live() == []
    monkeypatch.undo()
    with handle:
        wait_until(lambda: probe.polls == 1, "the poll")
    assert probe.closes == 1


def test_with_raises_too(make: Make, no_threads: Callable[[], None]) -> None:
    """Entering the block of a handle that cannot start raises; the body does not run."""
    handle = make(Probe().poll, start=False)
    no_threads()
    with pytest.raises(RuntimeError, match=REASON), handle:
        raise AssertionError("the body ran")
    handle.stop()


def test_a_drop_after_a_start_that_failed(
    make: Make, no_threads: Callable[[], None], no_collector: None
) -> None:
    """A handle that could not start is let go of as one that was never started."""
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close, start=False)
    no_threads()
    with pytest.raises(RuntimeError, match=REASON):
        handle.start()
    del handle
    assert (probe.polls, probe.closes, letgo.live()) == (0, 0, [])


def test_close_of_what_was_never_started_raises_and_can_be_tried_again(
    make: Make, no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its `on_close` wants a thread: without one it has not run, and a later close runs it."""
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close, start=False)
    no_threads()
    with pytest.raises(RuntimeError, match=REASON):
        handle.close()
    assert probe.closes == 0
    monkeypatch.undo()
    handle.close()
    assert (probe.polls, probe.closes, handle.info.state) == (0, 1, "closed")


def test_a_scheduler_that_runs_needs_no_thread(no_threads: Callable[[], None]) -> None:
    """Only the first handle starts a thread."""
    with letgo.Scheduler() as scheduler:
        first = letgo.Handle(Probe().poll, scheduler=scheduler)
        no_threads()
        second = letgo.Handle(Probe().poll, scheduler=scheduler)
        second.poll_now()
        assert first.alive


def test_a_scheduler_recovers(
    no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a start that failed the scheduler is empty, and works when threads start again."""
    with letgo.Scheduler() as scheduler:
        no_threads()
        with pytest.raises(RuntimeError, match=REASON):
            letgo.Handle(Probe().poll, scheduler=scheduler)
        assert (len(scheduler), letgo.live()) == (0, [])
        monkeypatch.undo()
        with letgo.Handle(Probe().poll, scheduler=scheduler) as handle:
            handle.poll_now()


def test_close_in_thread_without_a_thread(no_threads: Callable[[], None]) -> None:
    """Where no closer's thread starts, `on_close` runs on the scheduler's own."""
    threads: list[str] = []
    with letgo.Scheduler("timers") as scheduler:
        handle = letgo.Handle(
            on_close=lambda: threads.append(threading.current_thread().name),
            close_in_thread=True,
            scheduler=scheduler,
        )
        no_threads()
        handle.close()
    assert threads == ["timers"]


def test_many_threads_share_the_failure(make: Make, no_threads: Callable[[], None]) -> None:
    """Of several threads that close what cannot start, each is told; none waits for ever."""
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close, start=False)
    begin = threading.Event()

    def close() -> None:
        begin.wait(20)
        handle.close(timeout=5)

    calls = [Call(close) for _ in range(4)]
    no_threads()
    begin.set()
    for call in calls:
        with pytest.raises((RuntimeError, TimeoutError)):
            call.result()
    assert (probe.closes, letgo.live()) == (0, [])


@pytest.mark.skipif(
    not hasattr(threading, "_daemon_threads_allowed"),
    reason="this Python allows daemon threads everywhere",
)
def test_where_daemon_threads_are_not_allowed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in isolated subinterpreters: a `RuntimeError` that says so, and nothing is left."""
    monkeypatch.setattr(threading, "_daemon_threads_allowed", lambda: False)
    with pytest.raises(RuntimeError, match="daemon threads"):
        make(Probe().poll)
    handle = make(Probe().poll, start=False)
    with pytest.raises(RuntimeError, match="daemon threads"):
        handle.start()
    assert letgo.live() == []
