"""Timing a block or a function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from inspect import iscoroutinefunction
from time import perf_counter
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


class Timer:
    """A context manager and decorator that sends how long something took.

    Also by hand: `start`, `stop`, `send`. It can be started again.

    Threads: one at a time; as a decorator, any number at once, coroutines too.
    """

    __slots__ = ("__weakref__", "_record", "_sent", "_started", "ms")

    def __init__(self, record: Callable[[float], object]) -> None:
        self._record = record
        self._started: float | None = None
        self._sent = False
        self.ms: float | None = None
        """Milliseconds between the last start and stop."""

    def start(self) -> Self:
        """Begin to time."""
        self.ms = None
        self._sent = False
        self._started = perf_counter()
        return self

    def stop(self, send: bool = True) -> Self:
        """Stop timing, and send the time unless told otherwise.

        Raises:
            RuntimeError: It was not started.
        """
        if self._started is None:
            raise RuntimeError("Timer has not started.")
        self.ms = _since(self._started)
        if send:
            self.send()
        return self

    def send(self) -> None:
        """Send the time that was taken.

        Raises:
            RuntimeError: It was not stopped, or has been sent.
        """
        if self.ms is None:
            raise RuntimeError("No data recorded.")
        if self._sent:
            raise RuntimeError("Already sent data.")
        self._sent = True
        self._record(self.ms)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.stop()

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Time each call of a function; of a coroutine function, until it returns."""
        record = self._record
        timed: Callable[..., Any]
        if iscoroutinefunction(function):

            async def timed_coroutine(*args: P.args, **kwargs: P.kwargs) -> object:
                started = perf_counter()
                try:
                    return await function(*args, **kwargs)
                finally:
                    record(_since(started))

            timed = timed_coroutine
        else:

            def timed_call(*args: P.args, **kwargs: P.kwargs) -> R:
                started = perf_counter()
                try:
                    return function(*args, **kwargs)
                finally:
                    record(_since(started))

            timed = timed_call
        return cast("Callable[P, R]", functools.wraps(_innermost(function))(timed))


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a partial calls: it has no name of its own."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _since(started: float) -> float:
    return 1000.0 * (perf_counter() - started)
