"""The core: what the worker knows of a handle, and all that it knows.

Who refers to a core: its handle; its engine, from the start to the end; nobody
else for longer than a call. It refers to its handle through a weak reference
only. Every method here that another thread may call is finalizer-safe: it takes
no lock that somebody could hold, waits for nobody, and what it stores is one
atomic operation on a dict or list whose keys hash by identity.
"""

from __future__ import annotations

import enum
import itertools
import weakref
from collections.abc import Callable
from math import inf
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from letgo import _report
from letgo._info import State, WorkerInfo

if TYPE_CHECKING:
    from letgo._engine import Engine

Callback = Callable[[], object]


class Stop(enum.Enum):
    """The type of `STOP`, an enum so that type checkers can tell it from other values."""

    STOP = "letgo.STOP"

    def __repr__(self) -> str:
        return self.value


STOP: Final[Literal[Stop.STOP]] = Stop.STOP
"""Returned by a poll: the worker ends as if closed; by `after_fork`: in the child."""


class Ticket:
    """One thread's wait: for the end of a poll, or of the worker."""

    __slots__ = ("_lock", "_unclaimed", "closing", "error")

    def __init__(self, closing: bool = False) -> None:
        self.closing = closing  # close() takes what on_close raised, join() does not
        self.error: BaseException | None = None  # written before the release
        self._unclaimed = [True]
        self._lock = Lock()
        self._lock.acquire()

    def claim(self) -> bool:
        """Whether this call is the first: the waiter's, which gives up, or the poll's end's."""
        try:
            return self._unclaimed.pop()  # atomic
        except IndexError:
            return False

    def release(self, error: BaseException | None = None) -> None:
        """Let the waiter go. Threads: whoever took the ticket out of its book, once."""
        self.error = error
        self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Whether it was released within `timeout` seconds; -1 waits for ever."""
        return self._lock.acquire(True, timeout)


# How far the end of a worker has come: `Core.phase`. Plain numbers, since looking up
# an enum's members is a tenth of what ending a worker costs.
OPEN = 0  # polls, or is to be closed when `stopping`
CLOSING = 1  # on_close runs
CLOSED = 2  # on_close has run on a thread of its own; the engine has yet to settle it
DONE = 3  # nothing of it is left but numbers


class Settings(NamedTuple):
    """What seldom differs from one worker to the next: most share one object."""

    immediate: bool = False
    exit_timeout: float = 5.0
    exit_last: bool = False
    warn_unclosed: bool = False
    close_in_thread: bool = False


DEFAULTS = Settings()


process = object()
"""Stands for this process: a fork's child replaces it, so that each can tell its own claims."""

_keys = itertools.count(1)
_names = itertools.count(1)


class Core:
    """The state of one worker. See each attribute's comment for who writes it."""

    __slots__ = (
        "key",  # its number in the engine: queues hold numbers, so they keep no core alive
        "engine",
        # The user's callables. Let go by the worker thread at the end.
        "poll",
        "on_close",
        "on_error",
        "after_fork",
        "interrupt",  # let go by whoever takes it out of the engine's `interrupts`
        # Written once, but for `interval` (any thread).
        "_name",
        "interval",
        "settings",
        "created_at",
        "born",
        # Requests: written by any thread, finalizers included; never unset.
        "stopping",
        "dropped",
        "dues",  # times by which wake() wants a poll; cleared by the engine when one begins
        "grid",  # the first tick of the grid that is wanted; a new float for each request
        # Who starts, who ends: see `claimed`.
        "claim",
        "started",  # by Engine.add, under the engine's lock
        "leash",  # set by start, unset at the end: it and the core refer to each other
        # Engine's thread only; others may read.
        "adopted",  # the `grid` that ticks follow
        "tick",  # the next tick; infinity without one
        "alarm",  # the earliest wake that is planned; infinity without one
        "queued",  # is in the engine's `ready`
        "phase",
        "outcome",  # from a closer's thread to the engine's: what on_close raised
        "polls",
        "errors",
        "failures",  # consecutive ones
        "last_error",
        "last_poll_seconds",
        "slow_reported",
    )

    def __init__(
        self,
        engine: Engine,
        poll: Callback | None,
        on_close: Callback | None,
        on_error: Callable[[Exception], object] | None,
        interrupt: Callback | None,
        after_fork: Callback | None,
        name: str | None,
        interval: float | None,
        settings: Settings,
    ) -> None:
        self.key = next(_keys)
        self.engine = engine
        self.poll = poll
        self.on_close = on_close
        self.on_error = on_error
        self.interrupt = interrupt
        self.after_fork = after_fork
        self._name = name
        self.interval = interval
        self.settings = settings
        self.created_at: str | None = None
        self.born = monotonic()
        self.stopping = self.dropped = self.started = self.queued = self.slow_reported = False
        self.dues: list[float] = []
        self.grid: float | None = None
        self.claim: dict[object, object] | None = None
        self.leash: Leash | None = None
        self.adopted: float | None = None
        self.tick = self.alarm = inf
        self.phase = OPEN
        self.outcome: BaseException | None = None
        self.polls = self.errors = self.failures = 0
        self.last_error: str | None = None
        self.last_poll_seconds: float | None = None

    @property
    def name(self) -> str:
        """The handle's name; one is made up when it is first asked for."""
        if self._name is None:
            self._name = f"letgo-{next(_names)}"
        return self._name

    @property
    def done(self) -> bool:
        """Whether the worker has ended, or can never start."""
        # The second half alone: a fork came between two lines of Engine._settle.
        return self.phase == DONE or (self.started and self.key not in self.engine.cores)

    def claimed(self) -> bool:
        """Whether this call is not the first: start, stop and close race for it once.

        Threads: finalizer-safe; setdefault() is atomic. A handle that is started by
        its constructor has no claims. One by a thread that a fork cut off is void in
        the child, where its process is not the claim's: nobody would fulfil it.
        """
        if self.claim is None or self.started or self.done:
            return True
        mine = object()
        return self.claim.setdefault(process, mine) is not mine

    def plan(self, interval: float | None, first: float | None = None) -> None:
        """Ask for a new grid: its first tick at `first`, or an interval from now."""
        self.interval = interval
        if interval is None or self.poll is None:
            self.grid = inf
        else:
            # A new float each time, which the engine tells by identity: a request
            # made while it adopts the one before is not missed.
            self.grid = monotonic() + interval if first is None else first
        self._post()

    def wake(self, after: float) -> None:
        """Ask for a poll no later than `after` seconds from now.

        Threads: finalizer-safe. A poll takes `alarm`, then `dues`, then begins;
        so what is skipped here is satisfied by a poll that has yet to begin.
        """
        due = monotonic() + after
        if self.alarm <= due:
            return
        try:
            earlier = self.dues[-1] <= due
        except IndexError:
            earlier = False
        if not earlier:
            self.dues.append(due)
        self._post()

    def stop(self) -> None:
        """Ask for the end.

        Threads: finalizer-safe, the user's `interrupt` (whose contract this is)
        included.
        """
        # pop() is atomic: one of any number of callers gets it. Taken before the worker
        # can see `stopping`, which drops it at its end; after, for one that just started.
        interrupts = self.engine.interrupts
        interrupt = interrupts.pop(self, None) if interrupts else None
        self.stopping = True
        if interrupts and interrupt is None:
            interrupt = interrupts.pop(self, None)
        self._post()
        if interrupt is not None:
            try:
                interrupt()
            except BaseException as error:
                _report.unraisable(error, "Exception ignored in interrupt of letgo worker")

    def _post(self) -> None:
        """Have the engine look at this core. Before the start, there is nobody to look."""
        if self.started:
            engine = self.engine
            engine.mail[self] = None
            engine.bell.ring()
            if self.phase == DONE:
                # The engine has let go for good and reads no mail: leave none.
                engine.mail.pop(self, None)

    def close_was_run(self) -> None:
        """Give a core back to its engine. Threads: the closer's, once."""
        if self.phase == CLOSING:  # else a fork has ended it
            self.phase = CLOSED
            self._post()

    def release(self) -> None:
        """Let go of what the user gave. Its destructors run in this thread."""
        self.poll = self.on_close = self.on_error = self.after_fork = self.interrupt = None

    def end_unstarted(self) -> None:
        """End a worker that never was: no on_close, by contract. Whoever claimed calls it."""
        self.stopping = True
        self.phase = DONE
        self.release()
        self.engine.release_joiners(self)

    @property
    def label(self) -> str:
        """The worker in a log message: its name, and what it runs."""
        function: Any = self.poll or self.on_close
        function = getattr(function, "__wrapped__", function)
        what = getattr(function, "__qualname__", None) or type(function).__qualname__
        return f"worker {self.name!r} ({what})"

    def info(self) -> WorkerInfo:
        """Threads: any. Numbers are read one by one while the worker goes on."""
        now = monotonic()
        running = self.started and not self.done
        thread = self.engine.thread if running else None
        tick = self.tick if self.grid is self.adopted else self.grid or inf
        due = min(tick, self.alarm, min(self.dues.copy(), default=inf))
        planned = running and not self.stopping and self.poll is not None and due < inf
        return WorkerInfo(
            name=self.name,
            state=self._state(),
            polls=self.polls,
            errors=self.errors,
            last_error=self.last_error,
            last_poll_seconds=self.last_poll_seconds,
            next_poll_in=max(0.0, due - now) if planned else None,
            age=now - self.born,
            thread=thread.name if thread is not None else None,
            created_at=self.created_at,
        )

    def _state(self) -> State:
        if self.done:
            return "closed"
        if not self.started:
            return "new"
        return "stopping" if self.stopping else "running"


class Leash(weakref.ref[Any]):
    """The finalizer of a handle: the weak reference whose death stops the worker.

    Not `weakref.finalize`, which the pattern is usually told with: that one goes
    silent once its own exit hook has run, and costs four times the memory (385 bytes to 88,
    tracemalloc, 3.11).
    """

    __slots__ = ("core",)

    core: Core


def _let_go(leash: Any) -> None:
    core: Core = leash.core
    if not core.stopping:
        core.dropped = True
    core.stop()


def tie(core: Core, handle: object) -> None:
    """Stop the worker when `handle` is gone. The core keeps the leash until its end."""
    core.leash = leash = Leash(handle, _let_go)
    leash.core = core
