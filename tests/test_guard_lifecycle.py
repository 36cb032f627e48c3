"""The life of a guard: held by calls, closed apart, let go on our thread, exit and fork."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import letgo
from guard_helpers import Service
from helpers import PATIENCE, Call, Gate, raises, run_quietly, wait_for, wait_until

# --- A method holds the proxy ---


@pytest.mark.parametrize(
    "call",
    [
        lambda service: letgo.guard(service).flush(),
        lambda service: letgo.guard(service, close="shutdown").flush(),
        lambda service: letgo.guard(service).kept(),
        lambda service: letgo.guard(service)(),
    ],
    ids=["method", "other closer", "attribute", "special method"],
)
def test_a_call_on_a_temporary_ends_before_the_close(call: Callable[[Any], object]) -> None:
    """`guard(x).flush()` holds the proxy until `flush` returns."""

    class Callable_(Service):  # noqa: N801
        def __call__(self) -> None:
            self.flush()

        shutdown = Service.close

    gate = Gate()
    service = Callable_()
    service.kept = service.flush  # type: ignore[attr-defined]
    service.act = lambda: gate() if not gate.entered.is_set() else None
    flushing = Call(call, service)
    wait_for(gate.entered)
    gc.collect()
    assert [info.state for info in letgo.live()] == ["running"]
    gate.opened.set()
    flushing.result()
    service.journal.wait_for("flush", "close")


def test_a_method_that_was_taken_holds_the_proxy() -> None:
    """A callback made of the proxy's method keeps the guard."""
    service = Service()
    flush = letgo.guard(service).flush
    assert letgo.live()
    assert flush() == "flushed"
    del flush
    service.journal.wait_for("flush", "close")


# --- Letting go ---


def test_a_dropped_guard_is_freed_without_the_collector() -> None:
    """Proxy, handle and object go by reference counts alone."""
    service = Service()
    alive = weakref.ref(service)
    proxy = letgo.guard(service)
    proxies = weakref.ref(proxy)
    del service
    gc.disable()
    try:
        del proxy
        wait_until(lambda: alive() is None, "the object is freed")
        assert proxies() is None
    finally:
        gc.enable()


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL an object is freed by the thread that made it",
)
@pytest.mark.parametrize("cycle", [False, True], ids=["reference counts", "collector"])
@pytest.mark.parametrize("fails", [False, True], ids=["closer works", "closer fails"])
def test_the_destructor_runs_on_the_closers_thread(
    cycle: bool, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object's last references are let go where it may block, whoever dropped the proxy."""
    # A log record holds the error, and so the object: pytest keeps records.
    monkeypatch.setattr(logging.getLogger("letgo"), "disabled", True)
    calls: list[tuple[str, threading.Thread]] = []
    ended = threading.Event()

    class Slow:
        def close(self) -> None:
            calls.append(("close", threading.current_thread()))
            if fails:
                raise OSError("broken")

        def __del__(self) -> None:
            calls.append(("del", threading.current_thread()))
            ended.set()

    class Holder:
        proxy: Slow
        cycle: object

    proxy = letgo.guard(Slow())
    holder = Holder()  # younger than the proxy
    holder.proxy, holder.cycle = proxy, holder if cycle else None
    del proxy
    # The collector calls this after the guard's finalizer, and clears the proxy afterwards.
    late = weakref.ref(holder, lambda _: wait_until(lambda: not letgo.live()) if cycle else None)
    del holder
    gc.collect()
    wait_for(ended)
    assert late() is None
    assert [name for name, _ in calls] == ["close", "del"]
    assert calls[0][1] is calls[1][1] is not threading.current_thread()


def test_a_closer_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Of a dropped guard, where nobody can be told."""
    service = Service(raises(OSError("broken")))
    letgo.guard(service)
    wait_until(lambda: not letgo.live(), "the guard has ended")
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("letgo", logging.ERROR)
    ]
    assert "OSError: broken" in caplog.text
    letgo.unguard(letgo.guard(service))


def test_a_closer_that_fails_is_raised_by_close() -> None:
    """Whoever closes the handle gets the error."""
    proxy = letgo.guard(Service(raises(OSError("broken"))))
    with pytest.raises(OSError, match="broken"):
        letgo.handle_of(proxy).close()


def test_a_blocking_closer_delays_nobody() -> None:
    """Neither the closers of other guards nor the polls on the same scheduler."""
    gate = Gate()
    polled = threading.Event()
    stuck, service = Service(gate), Service()
    polling = letgo.guard(Service(), close=None, poll=lambda _: polled.set())
    proxy, other = letgo.guard(stuck), letgo.guard(service)
    del proxy
    wait_for(gate.entered)
    del other
    service.journal.wait_for("close")
    polled.clear()
    letgo.handle_of(polling).wake()
    wait_for(polled)
    assert stuck.journal.calls == []
    gate.opened.set()
    stuck.journal.wait_for("close")


@pytest.mark.parametrize("run", range(20))
def test_racing_ends_close_once(run: int) -> None:
    """A drop, `handle.close`, `close_all` and `stop` from several threads: one close."""
    service = Service()
    proxies = [letgo.guard(service)]
    handle = letgo.handle_of(proxies[0])
    start = threading.Barrier(4)
    calls = [
        Call(lambda act=act: (start.wait(PATIENCE), act()))  # type: ignore[misc]
        for act in (proxies.clear, handle.close, letgo.close_all, handle.stop)
    ]
    for call in calls:
        call.result()
    assert handle.join(PATIENCE)
    assert service.journal.calls == ["close"]


@pytest.mark.parametrize("run", range(20))
def test_disarming_races_with_the_drop_of_all(run: int) -> None:
    """`unguard` against `close_all`: the object is closed once or not at all, and is free."""
    service = Service()
    proxy = letgo.guard(service)
    start = threading.Barrier(2)
    closing = Call(lambda: (start.wait(PATIENCE), letgo.close_all()))
    start.wait(PATIENCE)
    assert letgo.unguard(proxy) is service
    closing.result()
    assert letgo.handle_of(proxy).join()
    assert service.journal.calls in ([], ["close"])
    letgo.unguard(letgo.guard(service))


def test_many_guards_leave_nothing() -> None:
    """Neither registry entries, nor classes, nor threads."""
    before = threading.active_count()
    for _ in range(300):
        letgo.guard(Service(), close=None)
    wait_until(lambda: not letgo.live(), "all have ended")
    wait_until(lambda: threading.active_count() == before, "their threads have ended")
    from letgo import _guarded

    assert not _guarded._entries


# --- Exit ---


def test_at_exit_all_guards_are_closed() -> None:
    """Those that are alive, in a module or in a cycle, deliver their last data."""
    out = run_quietly("""
        import letgo
        class Exporter:
            def __init__(self, name): self.name = name
            def close(self): print(f"closed {self.name}\\n", end="", flush=True)
        first = letgo.guard(Exporter("first"))
        cycle = [letgo.guard(Exporter("second"))]
        cycle.append(cycle)
        del cycle
        """)
    assert sorted(out.splitlines()) == ["closed first", "closed second"]


def test_at_exit_each_guard_has_its_time() -> None:
    """A closer that hangs is abandoned after its `exit_timeout`, and named; others end."""
    out = run_quietly("""
        import letgo, logging, sys, threading
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        class Exporter:
            def __init__(self, event): self.event = event
            def close(self):
                self.event.wait(30)
                print("closed", flush=True)
        stuck, free = threading.Event(), threading.Event()
        free.set()
        apart = letgo.Scheduler()
        proxies = [
            letgo.guard(Exporter(free)),
            letgo.guard(Exporter(stuck), exit_timeout=0.05, name="stuck", scheduler=apart),
        ]
        """)
    closed, abandoned = out.splitlines()
    assert closed == "closed"
    assert "'stuck'" in abandoned


# --- Fork ---

# From 3.12 on Python warns of a fork beside threads.
QUIET = ("-W", "ignore::DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")


@needs_fork
def test_a_guard_goes_on_in_a_forked_child() -> None:
    """`after_fork` is called there, and the child's drop closes the child's object."""
    out = run_quietly(
        """
        import letgo, os, sys
        class Service:
            def renew(self): print("renewed", flush=True)
            def close(self): print("closed", flush=True)
        proxy = letgo.guard(Service(), after_fork="renew")
        if pid := os.fork():
            assert os.waitpid(pid, 0)[1] == 0
            letgo.unguard(proxy)
        else:
            letgo.handle_of(proxy).close()
            os._exit(0)
        """,
        *QUIET,
    )
    assert out.splitlines() == ["renewed", "closed"]


@needs_fork
def test_a_fork_during_a_poll_leaves_no_lock_held() -> None:
    """The child can disarm a guard whose poll the parent was in."""
    out = run_quietly(
        """
        import letgo, os, threading
        entered, leave, parent = threading.Event(), threading.Event(), os.getpid()
        def poll(_):
            entered.set()
            if os.getpid() == parent:
                leave.wait(30)
        class Service:
            def close(self): print("closed", flush=True)
        proxy = letgo.guard(Service(), poll=poll, interval=0.001)
        assert entered.wait(30)
        if pid := os.fork():
            assert os.waitpid(pid, 0)[1] == 0
            leave.set()
            letgo.unguard(proxy)
        else:
            proxy.close()
            os._exit(0)
        """,
        *QUIET,
    )
    assert out.splitlines() == ["closed"]


@needs_fork
def test_after_fork_can_give_the_object_up() -> None:
    """`STOP` from `after_fork`: the child does not close the parent's object, and can guard it."""
    out = run_quietly(
        """
        import letgo, os
        class Service:
            def close(self): print("closed", flush=True)
        proxy = letgo.guard(Service(), after_fork=lambda _: letgo.STOP)
        if pid := os.fork():
            assert os.waitpid(pid, 0)[1] == 0
            letgo.unguard(proxy)
        else:
            assert not letgo.live()
            letgo.unguard(letgo.guard(proxy.__wrapped__))
            os._exit(0)
        """,
        *QUIET,
    )
    assert out == ""
