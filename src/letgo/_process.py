"""All workers of the process: listed, closed together, at exit and through forks.

The registry is the engines that have a thread; there is none of handles, and a
core is reached only through the engine that serves it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from math import inf
from time import monotonic

from letgo import _check, _core, _engine, _report
from letgo._core import CLOSING, Core, Ticket
from letgo._engine import Engine, WorkerThread, left, running, would_wait_for_itself
from letgo._info import WorkerInfo

# How long exit waits for threads that have done all their work to end by themselves.
_GRACE = 0.5


def live() -> list[WorkerInfo]:
    """All workers of this process that run or are stopping.

    Threads: any; it takes no lock.
    """
    return [core.info() for core in _live_cores()]


def close_all(timeout: float | None = None) -> int:
    """Close every worker of this process, in parallel.

    Those with `exit_last` are told to stop when the others have ended. Nothing
    is raised by it: what an `on_close` raises is logged.

    Threads: any. Workers that the calling thread serves are only asked.

    Args:
        timeout: Seconds to wait for all; None waits for ever.

    Returns:
        How many have ended.

    Raises:
        TypeError, ValueError: `timeout` is no finite, non-negative number.
    """
    return stop_in_order(_live_cores, _check.optional_seconds("timeout", timeout))


def stop_in_order(cores: Callable[[], list[Core]], timeout: float | None) -> int:
    """Stop those that `cores` gives, `exit_last` ones last; how many ended in time."""
    end = inf if timeout is None else monotonic() + timeout
    ended = 0
    for last in (False, True):
        wanted = [core for core in cores() if core.settings.exit_last is last]
        ended += len(wanted) - len(_stop_and_wait([(core, end) for core in wanted]))
        _join({core.engine.thread for core in wanted if core.engine.dedicated}, end)
    return ended


def _live_cores() -> list[Core]:
    return [core for engine in running.copy() for core in list(engine.cores.values())]


def _stop_and_wait(cores: Iterable[tuple[Core, float]]) -> list[Core]:
    """Ask all, then wait for each until the time beside it; those that have not ended."""
    waits: list[tuple[Core, float, Ticket]] = []
    late: list[Core] = []
    for core, end in cores:
        if would_wait_for_itself(core):
            late.append(core)
        else:
            ticket = Ticket()
            if core.engine.enlist(core.engine.joiners, core, ticket):
                waits.append((core, end, ticket))
        core.stop()
    for core, end, ticket in waits:
        if not core.engine.wait(core.engine.joiners, core, ticket, left(end)):
            late.append(core)
    return late


def _join(threads: Iterable[threading.Thread | None], end: float) -> None:
    """Wait until `end` for the threads' own ends; not for one that has yet to start."""
    for thread in threads:
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(left(end))


# --- Exit ---


def _at_exit() -> None:
    """Stop all workers and wait for them, each up to its `exit_timeout`.

    Threads: the main thread, when all non-daemon threads have ended. Python may
    no longer be able to start threads (3.12 and later), so that this relies on
    those that are there.
    """
    if _engine.exited:
        return  # in children of multiprocessing both this and Python's own call come
    late: set[Core] = set()
    threads: set[threading.Thread | None] = set()
    for last in (False, True):
        begin = monotonic()
        # Again and again: final flushes may make new workers, while there is time.
        while cores := [
            c for c in _live_cores() if c not in late and (last or not c.settings.exit_last)
        ]:
            # From before: a thread that has all but ended is enumerated no longer.
            threads.update(core.engine.thread for core in cores)
            late.update(
                _stop_and_wait([(core, begin + core.settings.exit_timeout) for core in cores])
            )
    _engine.exited = True
    late = {core for core in late if not core.done}
    _report_late(late)
    for core in late:
        core.leash = None  # its handle goes when nothing can be relied on any more
    threads.update(thread for thread in threading.enumerate() if isinstance(thread, WorkerThread))
    _join(threads - {core.engine.thread for core in late}, monotonic() + _GRACE)


def _report_late(late: Iterable[Core]) -> None:
    """One warning for each thread that is abandoned, with the worker that keeps it busy."""
    waiting: dict[Engine, int] = {}
    for core in late:
        if core is core.engine.current or core.phase == CLOSING:
            message = "%s is abandoned at exit: still busy after %g seconds"
            _report.log(logging.WARNING, message, core.label, core.settings.exit_timeout)
        else:
            waiting[core.engine] = waiting.get(core.engine, 0) + 1
    for engine, count in waiting.items():
        message = "%d workers on thread %r are abandoned at exit: it is still busy"
        _report.log(logging.WARNING, message, count, engine.name)


# --- Children of multiprocessing ---
#
# Up to 3.12 they run no exit handlers but multiprocessing's own, and forked ones
# forget the parent's on all versions. They clear these first, and then call what
# was given to `register_after_fork`.

# Above that of multiprocessing's queues (10): final flushes may still put into them.
_EXIT_PRIORITY = 100

_after_fork_registered = False  # inherited by a fork, as multiprocessing's own list is
_exit_registered = False  # of this process


def watch_multiprocessing() -> None:
    """Have multiprocessing run our exit handler, if this process could need it."""
    global _after_fork_registered
    if "multiprocessing.util" not in sys.modules:
        return
    from multiprocessing import process, util

    if not _after_fork_registered:
        _after_fork_registered = True
        util.register_after_fork(_register_child_exit, _call)
    if not _exit_registered and process.parent_process() is not None:
        _register_child_exit()


def _call(function: Callable[[], None]) -> None:
    function()


def _register_child_exit() -> None:
    global _exit_registered
    from multiprocessing import util

    _exit_registered = True
    util.Finalize(None, _at_child_exit, exitpriority=_EXIT_PRIORITY)


def _at_child_exit() -> None:
    # Up to 3.12 this comes before the non-daemon threads end, whose work may need
    # the workers. Waiting for them twice is no fault: the second finds none.
    if sys.version_info < (3, 13):
        wait_for_threads = getattr(threading, "_shutdown", None)
        if wait_for_threads is not None:
            wait_for_threads()
    _at_exit()


# --- Fork ---

in_child: list[Callable[[], None]] = []
"""Run in a forked child before its workers go on: parts of this package add to it at import."""


def _after_fork_in_child() -> None:
    global _exit_registered
    _exit_registered = False
    _engine.exited = False
    _core.process = object()
    watch_multiprocessing()
    engines = running.union(_engine.holders)
    _engine.holders.clear()
    for engine in engines:
        engine.reset_after_fork()
    for function in in_child:
        function()
    for engine in engines:
        engine.run_after_fork()
    for engine in engines:
        engine.restart_after_fork()


# After `threading` and `logging`, which are imported above, have registered theirs:
# both are in order again when this starts threads and logs. Exit handlers run in
# reverse order, so logging's own shutdown comes after ours.
atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
