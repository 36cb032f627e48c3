"""`info`, `live` and `close_all`."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import weakref
from collections.abc import Callable

import pytest

import letgo
from helpers import PATIENCE, Call, Gate, Probe, raises, wait_for, wait_until

Make = Callable[..., letgo.Handle]


# --- info ---


def test_info_of_each_state(make: Make) -> None:
    """A worker is new, running, stopping and closed."""
    gate = Gate()
    handle = make(Probe().poll, on_close=gate, start=False)
    states = [handle.info.state]
    handle.start()
    states.append(handle.info.state)
    handle.stop()
    wait_for(gate.entered)
    states.append(handle.info.state)
    gate.opened.set()
    handle.join()
    assert [*states, handle.info.state] == ["new", "running", "stopping", "closed"]


def test_info_counts_polls_and_errors(make: Make) -> None:
    """Counts go up with each poll; the last error is kept as text, a success does not clear it."""
    probe = Probe()
    with make(probe.poll, on_error=lambda _: None) as handle:
        assert (handle.info.polls, handle.info.errors) == (0, 0)
        assert (handle.info.last_error, handle.info.last_poll_seconds) == (None, None)
        probe.act = raises(KeyError("token"))
        with pytest.raises(KeyError):
            handle.poll_now()
        probe.act = None
        handle.poll_now()
        info = handle.info
    assert (info.polls, info.errors, info.last_error) == (2, 1, "KeyError: 'token'")
    assert info.last_poll_seconds is not None
    assert 0 <= info.last_poll_seconds < PATIENCE


def test_info_keeps_no_exception(make: Make, no_collector: None) -> None:
    """What an error referred to goes while its text stays."""
    probe = Probe()
    freed = weakref.ref(probe)

    def fail(probe: Probe) -> None:
        raise ValueError("kept as text", probe)

    handle = make(lambda: fail(probes.pop()), on_error=lambda _: None)
    probes = [probe]
    del probe
    handle.wake()
    wait_until(lambda: freed() is None, "the error's objects are freed")
    assert "kept as text" in (handle.info.last_error or "")
    handle.close()


def test_info_tells_how_long_the_last_poll_took(make: Make) -> None:
    """Seconds from the poll's begin to its end."""
    with make(lambda: letgo.sleep(0.02)) as handle:
        handle.poll_now()
        assert 0.02 <= (handle.info.last_poll_seconds or 0) < PATIENCE


def test_info_tells_the_next_poll(make: Make) -> None:
    """Seconds until the earlier of tick and wake; None without either, or after the end."""
    with make(Probe().poll) as idle:
        assert idle.info.next_poll_in is None
        idle.wake(100)
        assert 50 < (idle.info.next_poll_in or 0) <= 100
    with make(Probe().poll, interval=1000) as handle:
        assert 900 < (handle.info.next_poll_in or 0) <= 1000
        handle.wake(100)
        assert 50 < (handle.info.next_poll_in or 0) <= 100
    assert (idle.info.next_poll_in, handle.info.next_poll_in) == (None, None)


def test_info_tells_age_and_thread(make: Make) -> None:
    """The age counts from the constructor; the thread is named while there is one."""
    names: list[str] = []
    handle = make(lambda: names.append(threading.current_thread().name), start=False)
    assert handle.info.thread is None
    begin = time.monotonic()
    handle.start()
    handle.poll_now()
    assert handle.info.thread == names[0]
    wait_until(lambda: time.monotonic() > begin + 0.005, "the clock moves on")
    assert 0.005 < handle.info.age < PATIENCE
    handle.close()
    assert handle.info.thread is None


def test_info_tells_the_line_only_when_asked(make: Make) -> None:
    """Without development mode and `warn_unclosed`, finding the line is not paid for."""
    with make(Probe().poll) as plain, make(Probe().poll, warn_unclosed=True) as warned:
        if plain.info.created_at is not None:
            pytest.skip("the tests run in development mode")
        assert (warned.info.created_at or "").startswith(f"{__file__}:")


def test_info_is_a_frozen_dataclass(make: Make) -> None:
    """Plain data, equal by value, that nobody can change."""
    with make(Probe().poll) as handle:
        info = handle.info
    assert {field.name for field in dataclasses.fields(letgo.WorkerInfo)} == {
        "name", "state", "polls", "errors", "last_error", "last_poll_seconds",
        "next_poll_in", "age", "thread", "created_at",
    }  # fmt: skip
    assert dataclasses.replace(info) == info
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.polls = 7  # type: ignore[misc]


# --- live ---


def test_live_lists_running_and_stopping_workers(make: Make) -> None:
    """Workers are listed from their start to their end, not before and not after."""
    gate = Gate()
    new = make(Probe().poll, start=False)
    running = make(Probe().poll)
    stopping = make(on_close=gate)
    stopping.stop()
    wait_for(gate.entered)
    assert {info.name: info.state for info in letgo.live()} == {
        running.name: "running",
        stopping.name: "stopping",
    }
    gate.opened.set()
    running.close()
    stopping.close()
    assert (letgo.live(), new.info.state) == ([], "new")


def test_live_keeps_nothing_alive(make: Make, no_collector: None) -> None:
    """A list of workers is plain data."""
    handle = make(Probe().poll)
    infos = letgo.live()
    del handle
    wait_until(lambda: not letgo.live(), "the worker ends")
    assert infos[0].state == "running"


# --- close_all ---


def test_close_all_closes_every_worker(make: Make) -> None:
    """All end, with their final flush, and are counted."""
    probes = [Probe() for _ in range(5)]
    handles = [make(probe.poll, on_close=probe.close) for probe in probes]
    dedicated = letgo.Handle(Probe().poll)
    assert letgo.close_all() == 6
    assert [probe.closes for probe in probes] == [1] * 5
    assert not any(handle.alive for handle in [*handles, dedicated])
    assert letgo.close_all() == 0


def test_close_all_raises_nothing(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What an `on_close` raises is logged, and the worker has ended all the same."""
    handle = make(on_close=raises(OSError("flush")), name="mute")
    assert letgo.close_all() == 1
    assert not handle.alive
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "mute" in caplog.text


def test_close_all_is_parallel() -> None:
    """Final flushes of dedicated workers run at the same time: each waits for the others."""
    barrier = threading.Barrier(5)
    handles = [letgo.Handle(on_close=lambda: barrier.wait(PATIENCE)) for _ in range(5)]
    assert letgo.close_all() == len(handles)


def test_close_all_times_out(make: Make) -> None:
    """Those that are still busy are not counted, and go on stopping."""
    gate = Gate()
    slow = letgo.Handle(on_close=gate)
    fast = make(Probe().poll)
    assert letgo.close_all(timeout=0.2) == 1
    assert (slow.info.state, fast.info.state) == ("stopping", "closed")
    gate.opened.set()
    slow.close()


def test_close_all_tells_the_last_ones_last(make: Make) -> None:
    """Workers with `exit_last` are told to stop when the others have ended."""
    order: list[str] = []
    handles = [
        make(on_close=lambda name=name: order.append(name), exit_last=name == "metrics")
        for name in ("first", "metrics", "second")
    ]
    assert letgo.close_all() == len(handles)
    assert order[2] == "metrics"


def test_close_all_from_a_poll_does_not_wait_for_itself(make: Make) -> None:
    """A worker that closes all is asked too, and ends after its poll; it is not counted."""
    counts: list[int] = []
    probe = Probe()
    other = letgo.Handle(probe.poll, on_close=probe.close)
    handle = make(lambda: counts.append(letgo.close_all()), on_close=probe.close)
    handle.wake()
    assert handle.join(PATIENCE)
    assert (counts, probe.closes, other.alive) == ([1], 2, False)


@pytest.mark.parametrize("in_thread", [False, True])
def test_close_all_from_on_close_does_not_wait_for_itself(make: Make, in_thread: bool) -> None:
    """A final flush that closes all is not made to wait for its own end."""
    handle = make(on_close=letgo.close_all, close_in_thread=in_thread)
    other = letgo.Handle(Probe().poll)
    handle.close(timeout=PATIENCE)
    assert not other.alive


def test_two_threads_may_close_all(make: Make) -> None:
    """Whoever calls while others do waits for the same ends."""
    probes = [Probe() for _ in range(20)]
    handles = [make(probe.poll, on_close=probe.close, interval=0.001) for probe in probes]
    for call in [Call(letgo.close_all) for _ in range(4)]:
        call.result()
    assert [probe.closes for probe in probes] == [1] * len(handles)
