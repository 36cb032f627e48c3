"""The handle: what the user holds, and what the worker never sees."""

from __future__ import annotations

from collections.abc import Callable
from threading import TIMEOUT_MAX
from time import monotonic
from types import TracebackType
from typing import Any, NoReturn, Self

from letgo import _check, _origin, _process
from letgo._core import DEFAULTS, Core, Settings, Ticket, tie
from letgo._engine import Engine, would_wait_for_itself
from letgo._errors import ClosedError
from letgo._info import WorkerInfo
from letgo._scheduler import Scheduler


class Handle:
    """A background worker that ends with its handle.

    The worker calls `poll` until `close`, the end of a `with` block, the drop of
    the last reference to the handle, or the interpreter's exit; then it calls
    `on_close` once. Nothing that is given here may refer to the handle: it would
    keep itself alive. See `weakly` for classes that cannot be split.

    Threads: every method may be called from any thread. `poll`, `on_close` and
    `on_error` run on the worker's thread, one at a time and under no lock.

    Args:
        poll: Called every `interval` seconds and after `wake`. Returning `STOP`
            ends the worker. What it raises is given to `on_error` or logged, and
            the worker goes on.
        interval: Seconds from one poll to the next, on a fixed grid as a Go
            ticker's: no drift, and ticks that a slow poll misses are dropped.
            0 polls without pause. None: only after `wake`.
        on_close: Called once, after the last poll: the final flush.
        on_error: Called with an `Exception` that `poll` raised, instead of the
            log. If it raises, the worker stops.
        interrupt: Called once when a stop is requested, so that a blocking poll
            returns. It may run inside the garbage collector, in any thread: it
            must be re-entrant and must not block.
        after_fork: Called in a forked child, in the thread that forked, before
            the worker goes on there: replace locks, drop inherited buffers.
            Returning `STOP` ends the worker in the child, without `on_close`.
        name: The thread's name, and the worker's in messages. Default: numbered.
        start: Whether to start now. Else `start` or `with` does.
        immediate: Poll at once, not after the first interval.
        exit_timeout: Seconds that the interpreter's exit waits for the worker.
        exit_last: Stopped at exit after all others, whose final flushes use it.
        warn_unclosed: Emit a `ResourceWarning` if dropped without `close`.
        close_in_thread: On a scheduler: `on_close` may block, so it gets a
            short-lived thread of its own.
        scheduler: Serve the worker on this scheduler's thread. None: on a daemon
            thread of its own.

    Raises:
        TypeError: An argument of the wrong type, a coroutine function, or a
            callable that is bound to this very handle.
        ValueError: A number that is negative, infinite or NaN; neither `poll` nor
            `on_close`; `interval=0` on a scheduler.
        ClosedError: The scheduler is closed.
        RuntimeError: A thread cannot be started. Nothing is left behind.
    """

    __slots__ = ("__weakref__", "_letgo_core")

    _letgo_core: Core

    def __init__(
        self,
        poll: Callable[[], object] | None = None,
        *,
        interval: float | None = None,
        on_close: Callable[[], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        interrupt: Callable[[], object] | None = None,
        after_fork: Callable[[], object] | None = None,
        name: str | None = None,
        start: bool = True,
        immediate: bool = False,
        exit_timeout: float = 5.0,
        exit_last: bool = False,
        warn_unclosed: bool = False,
        close_in_thread: bool = False,
        scheduler: Scheduler | None = None,
    ) -> None:
        if poll is None and on_close is None:
            raise ValueError("poll and on_close are both None: the worker would have nothing to do")
        if poll is not None:
            _check.worker_callable("poll", poll, self)
        if on_close is not None:
            _check.worker_callable("on_close", on_close, self)
        if on_error is not None:
            _check.worker_callable("on_error", on_error, self)
        if interrupt is not None:
            _check.worker_callable("interrupt", interrupt, self)
        if after_fork is not None:
            _check.worker_callable("after_fork", after_fork, self)
        if name is not None:
            _check.name("name", name)
        _check.flag("start", start)
        options = (immediate, exit_timeout, exit_last, warn_unclosed, close_in_thread)
        # `is`, since 0 == False: only what can be seen at once to be right goes unchecked.
        usual = immediate is exit_last is warn_unclosed is close_in_thread is False
        usual = usual and exit_timeout == DEFAULTS.exit_timeout
        settings = DEFAULTS if usual else _checked(Settings(*options))
        engine = _engine_of(scheduler)
        interval = _interval(interval, engine)
        core = Core(
            engine, poll, on_close, on_error, interrupt, after_fork, name, interval, settings
        )
        if warn_unclosed or _origin.recording:
            core.created_at = _origin.creation_site(self)
        self._letgo_core = core
        if start:
            _start(core, self)
        else:
            core.claim = {}

    def start(self) -> None:
        """Start the worker of a handle made with `start=False`; twice has no effect.

        Raises:
            ClosedError: It was stopped or closed before.
            RuntimeError: A thread cannot be started. It may be tried again.
        """
        core = self._letgo_core
        if core.stopping:
            raise ClosedError(f"worker {core.name!r} was stopped: make a new handle")
        if not core.claimed():
            _start(core, self)

    def wake(self, after: float = 0.0) -> None:
        """Poll no later than `after` seconds from now.

        The earliest wake wins, and any number of them before a poll begins make
        one poll, which satisfies later ones too. A wake during a poll makes
        another. The grid of `interval` stays. Before `start` it is remembered;
        after the end it does nothing.

        Threads: any, at any time: finalizers and signal handlers included.

        Raises:
            TypeError, ValueError: `after` is no finite, non-negative number.
        """
        self._letgo_core.wake(_check.seconds("after", after))

    def poll_now(self, timeout: float | None = None) -> None:
        """Have the worker poll, and return when a poll that began after this call ends.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: It has not ended in time.
            ClosedError: The worker ended before such a poll.
            RuntimeError: On the worker's own thread, before `start`, or without
                a `poll`.
            BaseException: What the poll raised. Every waiter gets it; `on_error`
                and the log then don't.
        """
        timeout = _check.optional_seconds("timeout", timeout)
        core = self._letgo_core
        has_poll = core.poll is not None  # asked first: the end takes it away
        if core.stopping:
            raise ClosedError(f"worker {core.name!r} has been stopped")
        if not core.started:
            raise RuntimeError(f"worker {core.name!r} has not been started")
        engine = core.engine
        if engine.is_own_thread():
            raise RuntimeError("poll_now() on the worker's own thread would wait for itself")
        if not has_poll:
            raise RuntimeError(f"worker {core.name!r} has no poll")
        ticket = Ticket()
        if not engine.enlist(engine.askers, core, ticket):
            raise ClosedError(f"worker {core.name!r} has ended")
        core.wake(0.0)
        if not engine.wait(engine.askers, core, ticket, timeout):
            raise TimeoutError(f"worker {core.name!r} did not poll within {timeout} seconds")
        engine.raise_error(core, ticket)

    def stop(self) -> None:
        """Ask the worker to end, and return at once.

        It polls no more and calls `on_close`. A handle that was never started
        just ends.

        Threads: any, at any time: finalizers and signal handlers included.
        """
        core = self._letgo_core
        if core.claimed():
            core.stop()
        else:
            core.end_unstarted()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the worker has ended; whether it has.

        Threads: any. On the worker's own thread it returns at once.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            RuntimeError: It was not started.
        """
        timeout = _check.optional_seconds("timeout", timeout)
        core = self._letgo_core
        if not core.started and not core.done:
            raise RuntimeError(f"worker {core.name!r} has not been started")
        if would_wait_for_itself(core):
            return core.done
        return _wait_for_end(core, _ticket(core, closing=False), timeout)

    def close(self, timeout: float | None = None) -> None:
        """Stop the worker, and wait until `on_close` is done.

        A handle that was never started gets a thread for its `on_close`.

        Threads: any, any number of times; all callers wait for the same end. On
        the worker's own thread (on a scheduler: its thread) it only asks. Two
        workers that close each other from their polls wait for each other, as
        threads that join each other do.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: Still busy. It goes on stopping; close again to wait again.
            BaseException: Whatever `on_close` raised.
        """
        timeout = _check.optional_seconds("timeout", timeout)
        core = self._letgo_core
        own = would_wait_for_itself(core)
        # Before it asks: the end may come at once, and raises to those who wait already.
        ticket = None if own else _ticket(core, closing=True)
        if core.claimed():
            core.stop()
        elif core.on_close is None:
            core.end_unstarted()
        else:
            core.stopping = True
            _start(core, self)
        if not own and not _wait_for_end(core, ticket, timeout):
            raise TimeoutError(f"worker {core.name!r} did not end within {timeout} seconds")

    @property
    def closed(self) -> bool:
        """Whether a stop was requested, or the worker ended by itself."""
        return self._letgo_core.stopping

    @property
    def alive(self) -> bool:
        """Whether the worker was started and has not finished."""
        core = self._letgo_core
        return core.started and not core.done

    @property
    def name(self) -> str:
        """The worker's name."""
        return self._letgo_core.name

    @property
    def interval(self) -> float | None:
        """Seconds between polls, or None. Setting it starts a new grid from now."""
        return self._letgo_core.interval

    @interval.setter
    def interval(self, value: float | None) -> None:
        core = self._letgo_core
        core.plan(_interval(value, core.engine))

    @property
    def info(self) -> WorkerInfo:
        """What the worker is doing, as plain data."""
        return self._letgo_core.info()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        """Copying and pickling are refused: there is one worker."""
        raise TypeError(
            f"cannot copy or pickle a {type(self).__name__}: it owns a running worker, "
            "and a copy would not"
        )

    def __repr__(self) -> str:
        core: Core | None = getattr(self, "_letgo_core", None)
        kind = type(self).__name__
        return f"<{kind}>" if core is None else f"<{kind} {core.name!r} {core.info().state}>"


def _checked(settings: Settings) -> Settings:
    _check.flag("immediate", settings.immediate)
    _check.seconds("exit_timeout", settings.exit_timeout)
    _check.flag("exit_last", settings.exit_last)
    _check.flag("warn_unclosed", settings.warn_unclosed)
    _check.flag("close_in_thread", settings.close_in_thread)
    return settings


def _engine_of(scheduler: Any) -> Engine:
    if isinstance(scheduler, Scheduler):
        scheduler._letgo_engine.check_open()
        return scheduler._letgo_engine
    if scheduler is not None:
        raise TypeError(f"scheduler must be a letgo.Scheduler or None, not {scheduler!r}")
    return Engine(None, dedicated=True)


def _interval(value: object, engine: Engine) -> float | None:
    if value is None:
        return None
    interval = _check.seconds("interval", value)
    if interval == 0 and not engine.dedicated:
        raise ValueError("interval=0 on a scheduler would never let the others poll")
    return interval


def _start(core: Core, handle: Handle) -> None:
    """Tie the core to its handle, and give it to its engine. Whoever claimed it calls this."""
    _process.watch_multiprocessing()
    if not core.settings.immediate:
        core.plan(core.interval)
    elif core.interval is None:
        core.wake(0.0)
        core.plan(None)
    else:
        core.plan(core.interval, first=monotonic())
    tie(core, handle)  # before it runs: a drop from here on ends it
    try:
        core.engine.add(core)
    except BaseException as error:
        core.leash = None
        if core.claim is None:
            core.end_unstarted()
        else:
            core.claim.clear()
            core.engine.release_joiners(core, error)
        raise


def _ticket(core: Core, *, closing: bool) -> Ticket | None:
    """A ticket for the end of a worker; None when it has ended."""
    ticket = Ticket(closing)
    return ticket if core.engine.enlist(core.engine.joiners, core, ticket) else None


def _wait_for_end(core: Core, ticket: Ticket | None, timeout: float | None) -> bool:
    """Wait for the end of a core, and of the thread that was its own; whether it came."""
    engine = core.engine
    thread = engine.thread
    try:
        if engine.dedicated and thread is not None and thread.is_alive():  # else it may yet start
            # Its own end, and that first: one wait instead of two, each a switch of threads.
            thread.join(None if timeout is None else min(timeout, TIMEOUT_MAX))
            timeout = None if timeout is None else 0.0
        if ticket is not None and not engine.wait(engine.joiners, core, ticket, timeout):
            return False
    except BaseException:
        # Ctrl-C: what on_close raises is to be logged, and not given to nobody.
        if ticket is not None:
            engine.withdraw(engine.joiners, core, ticket)
        raise
    if ticket is not None:
        engine.raise_error(core, ticket)
    return True
