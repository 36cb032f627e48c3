"""The scheduler: any number of handles on one daemon thread."""

from __future__ import annotations

from types import TracebackType
from typing import NoReturn, Self

from letgo import _check, _process
from letgo._engine import Engine, Locked, would_wait_for_itself


class Scheduler:
    """One daemon thread that serves any number of handles.

    The thread starts with the first handle and ends with the last. A scheduler
    that is dropped goes on for its handles. Polls run one after another, so one
    that takes long delays the others; those that block want a thread of their own.

    Threads: every method may be called from any thread.

    Args:
        name: The thread's name. Default: numbered.
        slow_poll: Seconds; a longer poll is logged as a warning when it ends,
            once per handle.

    Raises:
        TypeError, ValueError: `name` is no str, or `slow_poll` no finite,
            non-negative number.
    """

    __slots__ = ("__weakref__", "_letgo_engine")

    def __init__(self, name: str | None = None, *, slow_poll: float = 1.0) -> None:
        _check.name("name", name)
        slow_poll = _check.seconds("slow_poll", slow_poll)
        self._letgo_engine = Engine(name, dedicated=False, slow_poll=slow_poll)

    def close(self, timeout: float | None = None) -> None:
        """Close all its handles, in parallel, and refuse new ones.

        Those with `exit_last` are told to stop when the others have ended. What
        their `on_close` raise is logged.

        Threads: any, any number of times. On the scheduler's own thread it only asks.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: Some are still busy. They go on stopping.
        """
        timeout = _check.optional_seconds("timeout", timeout)
        engine = self._letgo_engine
        with Locked(engine):
            engine.refusing = True
        _process.stop_in_order(lambda: list(engine.cores.values()), timeout)
        if not all(would_wait_for_itself(core) for core in list(engine.cores.values())):
            raise TimeoutError(f"{self!r} did not end within {timeout} seconds")

    def __len__(self) -> int:
        """The number of live handles: running and stopping ones."""
        return len(self._letgo_engine.cores)

    def __bool__(self) -> bool:
        """A scheduler is always true, an empty one too."""
        return True

    def __enter__(self) -> Self:
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
        """Copying and pickling are refused: there is one thread."""
        raise TypeError("cannot copy or pickle a letgo.Scheduler: it owns a running thread")

    def __repr__(self) -> str:
        name = self._letgo_engine.name
        state = "closed" if self._letgo_engine.refusing else f"{len(self)} handles"
        return f"<Scheduler {name!r}: {state}>" if name else f"<Scheduler: {state}>"


_shared: list[Scheduler] = []


def shared() -> Scheduler:
    """The process's default scheduler; a new one after it was closed.

    Threads: any; it takes no lock. Of two that make one at the same time, both
    return the one that came first into the list.
    """
    while True:
        for scheduler in _shared.copy():
            if not scheduler._letgo_engine.refusing:
                return scheduler
            try:
                _shared.remove(scheduler)
            except ValueError:
                pass  # somebody else saw that it is closed
        _shared.append(Scheduler("letgo-shared"))
