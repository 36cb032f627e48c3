"""The drop: the finalizer rings from anywhere, and nothing of the worker is left."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

import letgo
from helpers import run_python, run_quietly, wait_for, wait_until
from letgo._core import Core

Make = Callable[..., letgo.Handle]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed in this test is freed by reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Held:
    """Something that only a worker's callables hold."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def poll(self) -> None:
        pass

    def close(self) -> None:
        self.closed.set()


class Owner:
    """A user's object that holds a handle and is part of a reference cycle."""

    def __init__(self, handle: letgo.Handle) -> None:
        self.handle = handle
        self.cycle = self


first_key = 0  # of the cores that the running test makes


@pytest.fixture(autouse=True)
def _begin() -> None:
    """Look at this test's cores only: without the GIL, 3.13 keeps some of other tests for ever.

    (Classes made in a test are immortal there, and so is what they refer to.)
    """
    global first_key
    first_key = letgo.Handle(int, start=False)._letgo_core.key


def cores() -> list[Core]:
    # Untracked ones would be missed: a core refers to others, so that it is tracked.
    found = [thing for thing in gc.get_objects() if type(thing) is Core]
    return [core for core in found if core.key > first_key]


@pytest.mark.usefixtures("no_collector")
def test_a_drop_runs_the_final_flush_and_ends_the_thread(make: Make) -> None:
    """Without any collection: on_close runs, on a worker thread, and the thread ends."""
    threads: list[threading.Thread] = []
    done = threading.Event()

    def on_close() -> None:
        threads.append(threading.current_thread())
        done.set()

    handle = make(lambda: None, interval=60, on_close=on_close)
    del handle
    wait_for(done, "on_close runs")
    wait_until(lambda: not threads[0].is_alive(), "the thread has ended")
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

# Its frames, through its traceback, hold the handle.
FAILED_FOR_A_WAITER = pytest.param(
    "failed for a waiter",
    marks=pytest.mark.skipif(
        not GIL,
        reason="without the GIL an exception is freed by the thread that made it, "
        "when that runs next: here, an idle worker's",
    ),
)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("before", ["idle", "woken", "polled", "failed", FAILED_FOR_A_WAITER])
def test_a_drop_frees_the_core_and_all_that_it_held(make: Make, before: str) -> None:
    """Without any collection the core, the callables and what they hold are freed."""
    held = Held()
    closed, reference = held.closed, weakref.ref(held)
    polled = threading.Event()

    def poll(held: Held = held) -> None:
        polled.set()
        if before.startswith("failed"):
            raise OSError(held)

    handle = make(poll, interval=60, on_close=held.close, on_error=lambda error: None)
    references = [reference, weakref.ref(poll)]
    del held, poll
    if before == "failed for a waiter":
        with pytest.raises(OSError, match="Held"):
            handle.poll_now()
    elif before != "idle":
        handle.wake(60 if before == "woken" else 0)
    if before in ("polled", "failed"):
        wait_for(polled)
    del handle
    wait_for(closed, "on_close runs")
    wait_until(lambda: [ref() for ref in references] == [None, None], "what it held is freed")
    wait_until(lambda: not cores(), "the core is freed")


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", ["close", "stop", "STOP", "with", "raise"])
def test_every_other_end_frees_as_much(make: Make, end: str) -> None:
    """However a worker ends, its core and what it held are freed while the handle lives on."""
    held = Held()
    reference = weakref.ref(held)

    def poll(held: Held = held) -> object:
        if end == "raise":
            raise SystemExit
        return letgo.STOP

    handle = make(poll, on_close=held.close)
    del held, poll
    if end == "with":
        with handle:
            pass
    elif end in ("close", "stop"):
        getattr(handle, end)()
    else:
        handle.wake()
    assert handle.join()
    wait_until(lambda: reference() is None, "what it held is freed")
    del handle
    wait_until(lambda: not cores(), "the core is freed")


@pytest.mark.usefixtures("no_collector")
def test_a_drop_in_the_middle_of_a_poll(make: Make) -> None:
    """The poll ends in peace, on_close runs once, and all is freed."""
    entered, leave = threading.Event(), threading.Event()
    closed: list[bool] = []

    def poll() -> None:
        entered.set()
        wait_for(leave)
        closed.append(letgo.stopping())

    handle = make(poll, on_close=lambda: closed.append(True))
    handle.wake()
    wait_for(entered)
    del handle
    leave.set()
    wait_until(lambda: not cores(), "the core is freed")
    assert closed == [True, True]


@pytest.mark.usefixtures("no_collector")
def test_a_subclass_and_what_it_holds_are_freed(make: Make) -> None:
    """A subclass's own attributes go at once: the worker has never seen the handle."""

    class Sender(letgo.Handle):
        def __init__(self) -> None:
            super().__init__(lambda: None, interval=0.001)
            self.held = Held()

    sender = Sender()
    reference = weakref.ref(sender.held)
    del sender
    wait_until(lambda: reference() is None, "what the subclass held is freed")
    wait_until(lambda: not cores(), "the core is freed")


def test_the_collector_stops_a_handle_in_a_cycle(make: Make) -> None:
    """A dropped handle that is part of a reference cycle goes on until a collection, no longer."""
    closed = threading.Event()
    owner = Owner(make(lambda: None, interval=60, on_close=closed.set))
    assert not closed.is_set()
    del owner
    gc.collect()
    wait_for(closed, "on_close runs")


@pytest.mark.parametrize("collecting", ["a new thread", "another worker", "the worker itself"])
@pytest.mark.usefixtures("no_collector")
def test_whichever_thread_collects(make: Make, collecting: str) -> None:
    """The handle is stopped by a collection in any thread, the worker's own included."""
    closed = threading.Event()
    collected: list[str] = []
    dropped = threading.Event()

    def collect() -> None:
        wait_for(dropped)
        gc.collect()
        collected.append(threading.current_thread().name)

    own = collect if collecting == "the worker itself" else lambda: None
    owner = Owner(make(own, interval=None, on_close=closed.set, name="itself"))
    if collecting == "the worker itself":
        owner.handle.wake()
    del owner
    dropped.set()
    if collecting == "a new thread":
        thread = threading.Thread(target=collect)
        thread.start()
        thread.join()
    elif collecting == "another worker":
        with make(collect) as other:
            other.poll_now()
    wait_for(closed, "on_close runs")
    assert len(collected) == 1
    assert collected != [threading.main_thread().name]


# Before each bytecode that a thread is the first to run in this package (or in whatever
# the doorbell is made of), a dropped handle's finalizer runs in that very thread.
DROP_ANYWHERE = """
    import faulthandler, gc, os, sys, threading, time
    import letgo, letgo._engine

    def watch(patience):
        '''End the process when for `patience` seconds nothing has happened.'''
        before = -1
        while before != len(seen) + len(ended):
            before = len(seen) + len(ended)
            time.sleep(patience)
        faulthandler.dump_traceback()
        os._exit(3)

    class EventBell:
        def __init__(self):
            self.event = threading.Event()
        def ring(self):
            self.event.set()
        def wait(self, seconds):
            self.event.wait(None if seconds == float("inf") else seconds)
            self.event.clear()

    if sys.argv[1] == "event":
        letgo._engine.Bell = EventBell

    class Owner:
        pass

    ended, owners, seen = [], [], set()

    def ours(frame):
        caller = frame.f_back
        return frame.f_globals.get("__name__", "").startswith("letgo.") or caller is not None and (
            caller.f_code in (EventBell.ring.__code__, EventBell.wait.__code__)
            or caller.f_globals is frame.f_globals is vars(threading) and caller.f_trace is not None
        )

    def trace(frame, event, argument):
        if not ours(frame):
            return None
        frame.f_trace_opcodes = True
        place = frame.f_code, frame.f_lasti
        if event != "call" and place not in seen and owners:
            seen.add(place)
            owners.pop()
            gc.collect()
        return trace

    gc.disable()
    gc.freeze()
    threading.Thread(target=watch, args=(float(sys.argv[2]),), daemon=True).start()
    threading.settrace(trace)
    scheduler = letgo.Scheduler()
    for _ in range(2500):
        owner = Owner()
        owner.cycle, owner.handle = owner, letgo.Handle(
            on_close=lambda: ended.append(None), scheduler=scheduler
        )
        owners.append(owner)
    del owner
    sys.settrace(trace)
    for where in (None, scheduler):
        handle = letgo.Handle(lambda: None, interval=0.01, scheduler=where)
        handle.wake(0.001)
        handle.poll_now()
        handle.interval = 60
        handle.wake()
        handle.info
        handle.stop()
        handle.close()
    sys.settrace(None)
    assert 500 < len(seen) < 2500, len(seen)
    owners.clear()
    gc.collect()
    scheduler.close()
    print(len(ended))
"""


def test_a_finalizer_rings_between_any_two_bytecodes() -> None:
    """Forced, not hoped for: drops before each bytecode of the loop and of calls on handles."""
    assert run_quietly(DROP_ANYWHERE, arguments=("bell", "20")) == "2500\n"


@pytest.mark.skipif(
    not GIL, reason="without the GIL a collection does nothing while another thread's is running"
)
def test_a_doorbell_made_of_an_event_would_not() -> None:
    """The same hangs with a threading.Event for a doorbell: its lock is held by Python code."""
    result = run_python(DROP_ANYWHERE, arguments=("event", "1"))
    assert result.returncode == 3
    assert "in ring" in result.stderr
