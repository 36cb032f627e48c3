"""The engine: one loop, on one daemon thread, that serves one core or very many.

A dedicated worker is an engine with one core, a `Scheduler` an engine with any
number. The thread starts with the first core and ends with the last.

How the outside reaches the loop: a caller stores what it wants on the core, puts
the core into `mail` (a dict, so that a thousand wakes are one letter) and rings.
All of that is finalizer-safe. `lock` guards one thing only, whether there is a
thread; a finalizer may make a handle while its thread holds it, so it is
re-entrant, and whoever holds it waits for nobody but a thread that is starting.

What it costs: a wake, a poll, a stop or an end is O(log n) for n cores. Stale
entries of the heap are dropped when they surface, and all at once when they
outnumber the others, which is O(1) for each push that made one.
"""

from __future__ import annotations

import contextvars
import heapq
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable
from math import inf
from threading import TIMEOUT_MAX, get_ident
from time import monotonic

from letgo import _origin, _report
from letgo._bell import Bell
from letgo._core import CLOSED, CLOSING, DONE, OPEN, STOP, Callback, Core, Ticket
from letgo._errors import ClosedError

Book = dict[Core, list[Ticket]]

running: set[Engine] = set()
"""Engines that have a thread, and so live cores. Added to and copied by anyone: atomic."""


holders: list[Engine] = []
"""Engines whose lock is held, or about to be, once for each thread: where a fork may have cut
in, so that the child makes them anew. Added to, removed from and copied by anyone: atomic."""


class WorkerThread(threading.Thread):
    """A thread of ours: an engine's, or a closer's. Exit waits for their own end."""


# Below this an interval is no pause at all: the clock cannot tell its ticks apart.
_SHORTEST = 1e-9


def left(end: float) -> float | None:
    """Seconds until `end`, as locks and threads take them: None for ever, never too many."""
    return None if end == inf else min(max(0.0, end - monotonic()), TIMEOUT_MAX)


class _Current(threading.local):
    core: Core | None = None  # the one whose poll this thread is in
    closing: Core | None = None  # the one whose on_close this thread was made for


current = _Current()


def would_wait_for_itself(core: Core) -> bool:
    """Whether the end of `core` needs the calling thread."""
    return current.closing is core or core.engine.is_own_thread()


class Locked:
    """`with Locked(engine):` holds the engine's lock, where a fork can see it."""

    __slots__ = ("_engine", "_lock")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = engine.lock

    def __enter__(self) -> None:
        holders.append(self._engine)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        try:
            holders.remove(self._engine)
        except ValueError:
            pass  # a fork inside the block has emptied the list, in the child


class Engine:
    """The state of one loop. Unless told otherwise only the loop's thread writes it."""

    __slots__ = (
        "lock",  # guards whether there is a thread: `token`, `thread`, `refusing`
        "name",
        "dedicated",  # serves one core, which may block its thread as it likes
        "slow_poll",
        "refusing",  # no new cores; written under the lock
        "token",  # of the thread that is the loop; a thread with another one ends silently
        "thread",
        "bell",
        "mail",  # any thread adds
        "spent",  # any thread adds: tickets whose error has been raised
        "cores",  # added to under the lock; only the loop deletes
        "interrupts",  # added to under the lock; whoever pops one calls it
        "heap",
        "ready",
        "askers",  # any thread adds: poll_now
        "joiners",  # any thread adds: join, close
        "serving",  # askers whose poll is running
        "current",  # the core whose callable is running
    )

    def __init__(self, name: str | None, *, dedicated: bool, slow_poll: float = inf) -> None:
        self.name = name
        self.dedicated = dedicated
        self.slow_poll = slow_poll
        self.refusing = False
        self.thread: threading.Thread | None = None
        self.cores: dict[int, Core] = {}
        self.interrupts: dict[Core, Callback] = {}
        self.askers: Book = {}
        self.joiners: Book = {}
        self._reset()

    def _reset(self) -> None:
        """All that a fork may have left half done, or owned by a thread that is no more."""
        self.lock = threading.RLock()
        self.token: object | None = None
        self.bell = Bell()
        self.mail: dict[Core, None] = {}
        self.spent: list[Ticket] = []
        self.heap: list[tuple[float, int]] = []
        self.ready: deque[int] = deque()
        self.serving: list[Ticket] = []
        self.current: Core | None = None

    # --- What any thread may call ---

    def add(self, core: Core) -> None:
        """Serve `core`. Raises what starting a thread raises, and then nothing is left."""
        with Locked(self):
            if not core.stopping:  # one that starts for its on_close only is served still
                self.check_open()
            self.cores[core.key] = core
            if core.interrupt is not None:
                self.interrupts[core] = core.interrupt
            core.started = True
            self.mail[core] = None
            try:
                if self.token is None:
                    self._start_thread()
                else:
                    self.bell.ring()
            except BaseException:
                core.started = False
                del self.cores[core.key]
                self.interrupts.pop(core, None)
                self.mail.pop(core, None)
                raise

    def check_open(self) -> None:
        """Raise if it takes no new cores."""
        if self.refusing:
            raise ClosedError(f"{self.name or 'the scheduler'} is closed")

    def _start_thread(self) -> None:
        if exited:
            raise RuntimeError("cannot start a worker: the interpreter is exiting")
        token = object()
        try:
            thread = WorkerThread(
                target=_serve, args=(self, token), name=self._thread_name(), daemon=True
            )
            self.token, self.thread = token, thread
            running.add(self)
            # Where threads inherit their starter's context, a context variable could
            # hold the handle: start in an empty one.
            contextvars.Context().run(thread.start)
        except BaseException:
            self.token = self.thread = None
            running.discard(self)
            raise

    def _thread_name(self) -> str:
        if self.name is None:
            if self.dedicated:
                self.name = next(iter(self.cores.values())).name
            else:
                self.name = f"letgo-scheduler-{next(_numbers)}"
        return self.name

    def release_joiners(self, core: Core, error: BaseException | None = None) -> None:
        """Answer those who wait for the end of a core that did not start after all."""
        for ticket in _drain(self.joiners.pop(core, [])):
            ticket.release(error)

    def is_own_thread(self) -> bool:
        """Whether the caller is this engine's thread. Not meaningful when no core is live.

        The thread's ident, and not one that the loop stores: an ident is used again
        as soon as a thread has ended, and this one is set before `start` returns.
        """
        thread = self.thread
        return thread is not None and thread.ident == get_ident()

    def enlist(self, book: Book, core: Core, ticket: Ticket) -> bool:
        """Have `ticket` released; False when the worker has ended, and nobody would.

        Either this sees `done`, or the end, which sets it first, sees the ticket.
        """
        # The list stays in the book until the end: one that is appended to is never
        # one that was taken out.
        tickets = book.setdefault(core, [])
        tickets.append(ticket)
        if not core.done:
            return True
        try:
            tickets.remove(ticket)  # this one only: the end has yet to answer the others
        except ValueError:
            return True  # taken by the end, which answers it
        if not tickets:
            book.pop(core, None)  # what comes from here on sees `done` too
        return False

    def wait(self, book: Book, core: Core, ticket: Ticket, timeout: float | None) -> bool:
        """Whether the ticket was released in time. Later nobody will release it."""
        if ticket.wait(-1 if timeout is None else min(timeout, TIMEOUT_MAX)):
            return True
        if self.withdraw(book, core, ticket):
            return False
        # Taken, by the end, which answers at once, or by a poll, which can last.
        return (book is self.joiners or not ticket.claim()) and ticket.wait(-1)

    def withdraw(self, book: Book, core: Core, ticket: Ticket) -> bool:
        """Wait no more; False when the ticket has been taken, and is answered all the same."""
        try:
            book.get(core, []).remove(ticket)
        except ValueError:
            return False
        return True

    def raise_error(self, core: Core, ticket: Ticket) -> None:
        """Raise what a ticket was released with, if anything, and have nobody keep it."""
        error = ticket.error
        if error is None:
            return
        try:
            raise error
        finally:
            del error  # this frame is in its traceback: a cycle otherwise
            # The loop drops the reference that it made. Without the GIL the error, and
            # the handle in its frames, would otherwise stay until an idle loop runs.
            self.spent.append(ticket)
            self.bell.ring()
            if core.done:  # the loop may have ended, and would never come to it
                self._clear_spent()

    # --- The loop ---

    def open_mail(self, token: object) -> bool:
        """Look at each core that somebody wrote to; whether `token` is the loop's still."""
        if self.spent:
            self._clear_spent()
        # Those that are there now, in order: callers who never stop must starve neither
        # polls nor the letters of others. list() of a dict is atomic.
        for core in list(self.mail):
            self.mail.pop(core, None)
            if not core.stopping:
                self._arm(core)
            else:
                self._finish(core, token)
                if self.token is not token:
                    return False  # replaced in a fork that on_close made
        return True

    def _clear_spent(self) -> None:
        for ticket in _drain(self.spent):
            ticket.error = None

    def collect_due(self) -> float:
        """Queue the cores whose time has come; the seconds until the next one's."""
        if len(self.heap) > 2 * len(self.cores) + 64:
            self._compact()
        heap = self.heap
        if not heap:
            return inf
        now = monotonic()
        while heap:
            due, key = heap[0]
            core = self.cores.get(key)
            if core is None or (due != core.tick and due != core.alarm):
                heapq.heappop(heap)  # stale: it was polled, moved or ended meanwhile
            elif due <= now:
                heapq.heappop(heap)
                self._queue(core)
            else:
                return due - now
        return inf

    def serve_next(self, token: object) -> None:
        """Poll the core that has been due for longest."""
        core = self.cores.get(self.ready.popleft())
        if core is not None:
            core.queued = False
            if not core.stopping:
                self._poll(core, token)
            if self.token is not token:
                return  # replaced in a fork that the poll made: the core is no longer ours
            if core.stopping:
                self._finish(core, token)
            else:
                self._next_tick(core)

    def retire(self, token: object) -> bool:
        """Whether the loop is over: no core is left, and none came in the meantime."""
        with Locked(self):
            if self.token is not token:
                return True
            if self.cores:
                return False
            for core in list(self.mail):
                if core.phase == DONE:
                    self.mail.pop(core, None)  # posted at its end; nobody would come to it
            # A finalizer between any two of these may add a core: while `token` is
            # None it starts a thread for it, so that this one is to end all the same.
            self.token = None
            running.discard(self)
            if self.cores and self.token is None:
                self.token = token
                running.add(self)
                return False
            return True

    def _arm(self, core: Core) -> None:
        """Plan what was asked for: a new grid, a wake."""
        if core.grid is not core.adopted and core.grid is not None:
            core.adopted = core.grid
            core.tick = core.adopted
            self._push(core, core.tick)
        if core.dues and core.poll is not None:
            alarm = min(core.dues)
            if alarm < core.alarm:
                core.alarm = alarm
                self._push(core, alarm)

    def _push(self, core: Core, due: float) -> None:
        if due <= monotonic():
            self._queue(core)
        elif due < inf:
            heapq.heappush(self.heap, (due, core.key))

    def _compact(self) -> None:
        """Drop the stale entries: each was pushed once, so this costs each push O(1)."""
        self.heap = [
            (due, core.key)
            for core in list(self.cores.values())  # others add meanwhile
            for due in {core.tick, core.alarm}
            if due < inf
        ]
        heapq.heapify(self.heap)

    def _queue(self, core: Core) -> None:
        if not core.queued:
            core.queued = True
            self.ready.append(core.key)

    # --- One poll ---

    def _poll(self, core: Core, token: object) -> None:
        # In this order, see Core.wake: what is asked for from here on is another poll.
        core.alarm = inf
        core.dues.clear()
        self.serving = serving = _drain(self.askers.get(core, []))
        self.current = current.core = core
        core.polls += 1
        stop = False
        error = None
        started = monotonic()
        try:
            stop = core.poll is not None and core.poll() is STOP
        except BaseException as raised:
            # Without this frame: its locals are the core.
            error = raised.with_traceback(raised.__traceback__ and raised.__traceback__.tb_next)
        if self.token is not token:
            current.core = None
            return
        core.last_poll_seconds = seconds = monotonic() - started
        if error is None:
            core.failures = 0
        else:
            heard = [ticket.claim() for ticket in serving]  # not by those who gave up
            stop = self._failed(core, error, waited_for=any(heard))
        if after_first_poll is not None and core.polls == 1:
            after_first_poll(core)
        if stop:
            core.stopping = True
        current.core = self.current = None
        self.serving = []
        while serving:
            serving.pop().release(error)
        error = None  # its frames refer to this one: a cycle otherwise
        if seconds > self.slow_poll and not core.slow_reported:
            core.slow_reported = True
            message = "%s took %.3g seconds for a poll, and delayed the others on %s"
            _report.log(logging.WARNING, message, core.label, seconds, self.name)

    def _next_tick(self, core: Core) -> None:
        """Move on to the first tick of the grid that is yet to come."""
        now = monotonic()
        interval = core.interval
        if core.tick > now or interval is None:
            return
        if interval < _SHORTEST:
            core.tick = now
        else:
            missed = (now - core.tick) // interval
            core.tick += (missed + 1) * interval
        self._push(core, core.tick)

    def _failed(self, core: Core, error: BaseException, waited_for: bool) -> bool:
        """Count, and tell whoever is to know; whether the worker is to stop."""
        core.errors += 1
        core.failures += 1
        core.last_error = _report.text(error)
        if not isinstance(error, Exception):
            _report.thread_exception(error)
            return True
        if waited_for:
            return False  # poll_now raises it
        if core.on_error is None:
            times = core.failures
            if times & (times - 1) == 0:
                message = "poll of %s failed (%d in a row)"
                _report.log(logging.ERROR, message, core.label, times, error=error)
            return False
        try:
            core.on_error(error)
        except Exception as failure:
            message = "on_error of %s failed: the worker stops"
            _report.log(logging.ERROR, message, core.label, error=failure)
        except BaseException as failure:
            _report.thread_exception(failure)
        else:
            return False
        return True

    # --- The end of one core ---

    def _finish(self, core: Core, token: object) -> None:
        """Run on_close, here or on a thread of its own, and let go of the core."""
        if core.phase != OPEN:
            if core.phase == CLOSED:
                self._settle(core, core.outcome)
            return
        core.phase = CLOSING
        error = None
        if core.on_close is not None or core.settings.warn_unclosed:
            if core.settings.close_in_thread and not self.dedicated and self._close_apart(core):
                return
            self.current = core
            error = _run_on_close(core)
            if self.token is not token:
                return  # a fork in on_close has settled it already
            self.current = None
        self._settle(core, error)
        error = None  # its frames refer to this one: a cycle otherwise

    def _close_apart(self, core: Core) -> bool:
        try:
            thread = WorkerThread(
                target=_close_on_this_thread, args=(core,), name=core.name, daemon=True
            )
            contextvars.Context().run(thread.start)
        except Exception:
            return False  # too many threads, or exit on 3.12 and later: one after another then
        return True

    def _settle(self, core: Core, error: BaseException | None) -> None:
        """Let go of a core whose on_close has run, and of all that waited for its end."""
        core.release()
        core.leash = core.outcome = None
        del self.cores[core.key]
        core.phase = DONE
        # Whoever adds to one of these from here on takes it out again: see `enlist`
        # and Core._post. Before, it was there already, and this sees it, or the loop
        # comes to it in its mail.
        if self.interrupts:
            self.interrupts.pop(core, None)
        if self.askers:
            ended = ClosedError(f"worker {core.name!r} ended before the poll")
            for asker in _drain(self.askers.pop(core, [])):
                asker.release(ended)
        if self.joiners or error is not None:
            self._answer_joiners(core, error)

    def _answer_joiners(self, core: Core, error: BaseException | None) -> None:
        joiners = _drain(self.joiners.pop(core, []))
        heard = any(ticket.closing for ticket in joiners)
        if error is not None and not heard and not isinstance(error, SystemExit):
            message = "on_close of worker %r failed"
            _report.log(logging.ERROR, message, core.name, error=error)
        for joiner in joiners:
            joiner.release(error if joiner.closing else None)

    # --- Fork ---

    # Three steps, in the child and on the thread that forked, each for all engines
    # before the next: what an after_fork calls may belong to another engine.

    def reset_after_fork(self) -> None:
        """Make all state anew from `cores` alone, whatever it was doing when the fork came.

        The old thread is no more, or it is this one, inside the poll that forked:
        then that poll's core is the parent's business, and the loop ends when it
        finds another token.
        """
        forking = self.current if self.is_own_thread() else None
        serving, polled = self.serving, self.current
        old_bell = self.bell
        self._reset()
        old_bell.ring()  # where the old thread lives on, as gevent's does, it is to end
        # Until the new thread runs, this one stands for it: close() only asks, and
        # `add` starts none.
        self.thread = threading.current_thread()
        self.token = object()
        if serving and polled is not None:
            self.askers.setdefault(polled, []).extend(serving)
        for core in list(self.cores.values()):
            if core.stopping or core is forking:
                core.stopping = True
                self._settle(core, None)
            else:
                core.started = True  # if `add` was cut off, by now it would be
                core.queued = False
                core.alarm = inf
                if core.grid is core.adopted:
                    core.grid = core.tick
                core.adopted = None
                self.mail[core] = None

    def run_after_fork(self) -> None:
        """Call each core's after_fork; those that return `STOP` end here, without on_close."""
        for core in list(self.cores.values()):
            if not _survives(core):
                core.stopping = True
                self._settle(core, None)

    def restart_after_fork(self) -> None:
        """Start the new thread, if any core is left for it."""
        self.token = self.thread = None
        running.discard(self)
        if self.cores:
            try:
                self._start_thread()
            except Exception as error:
                message = "no thread for the workers of %s after a fork: they are closed"
                _report.log(logging.ERROR, message, self.name, error=error)
                for core in list(self.cores.values()):
                    core.stopping = True
                    self._settle(core, None)


_numbers = itertools.count(1)
exited = False
"""Whether exit has waited for the workers: one that starts now would be lost."""
after_first_poll: Callable[[Core], None] | None = None
"""Development mode's check of a worker, by that worker; it raises nothing."""


def _serve(engine: Engine, token: object) -> None:
    """The thread's target. No local here is a core, or anything that holds one."""
    while engine.token is token:
        if (engine.mail or engine.spent) and not engine.open_mail(token):
            return
        pause = engine.collect_due()
        if engine.ready:
            engine.serve_next(token)
        elif engine.cores:
            engine.bell.wait(pause)
        elif not engine.spent and engine.retire(token):
            return


def _drain(tickets: list[Ticket]) -> list[Ticket]:
    """Take all out, one by one: others append and remove meanwhile."""
    taken: list[Ticket] = []
    while tickets:
        try:
            taken.append(tickets.pop())
        except IndexError:
            break
    return taken


def _run_on_close(core: Core) -> BaseException | None:
    """Run on_close; what it raised, without this frame, whose locals are the core."""
    if core.dropped and core.settings.warn_unclosed:
        site = core.created_at or "?:0"
        message = f"letgo worker {core.name!r}, made at {site}, was dropped without close()"
        _origin.warn(message, ResourceWarning, site)
    try:
        if core.on_close is not None:
            core.on_close()
    except BaseException as error:
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    return None


def _close_on_this_thread(core: Core) -> None:
    """The target of a closer's thread. The user's objects are let go here: it may block."""
    current.closing = core
    core.outcome = _run_on_close(core)
    core.release()
    core.close_was_run()


def _survives(core: Core) -> bool:
    """Run after_fork in the child; whether the worker goes on there."""
    try:
        return core.after_fork is None or core.after_fork() is not STOP
    except BaseException as error:
        _report.log(logging.ERROR, "after_fork of %s failed", core.label, error=error)
        return True
