"""A bound method whose object is held weakly."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar

from letgo import _check
from letgo._core import STOP, Stop

P = ParamSpec("P")
R = TypeVar("R")


class _Weakly(Generic[P, R]):
    # `__wrapped__` is what messages name the worker by.
    __slots__ = ("__weakref__", "__wrapped__", "_object")

    def __init__(self, method: MethodType) -> None:
        self._object: weakref.ref[Any] = weakref.ref(method.__self__)
        self.__wrapped__ = method.__func__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R | Stop:
        target = self._object()
        if target is None:
            return STOP
        result: R = self.__wrapped__(target, *args, **kwargs)
        return result

    def __repr__(self) -> str:
        return f"<letgo.weakly({self.__wrapped__.__qualname__})>"


def weakly(method: Callable[P, R]) -> Callable[P, R | Stop]:
    """A bound method whose object is held only while the method runs.

    For a class that cannot be split into a handle and what the worker needs:
    `self._worker = letgo.Handle(letgo.weakly(self._refresh), interval=30)`. Once
    the object is gone, a call returns `STOP` and does nothing: there can be no
    final flush, since there is nothing left to flush from. An `on_close` given
    as `weakly(…)` runs if the object is still there, as in an explicit `close`.

    Threads: the object can be freed by the worker's thread, if that held it last.

    Raises:
        TypeError: Not a bound method of an object that can be weakly referred
            to, or a coroutine method.
    """
    if not isinstance(method, MethodType):
        raise TypeError(f"letgo.weakly() takes a bound method, not {method!r}")
    if _check.is_async(method):
        raise TypeError(f"letgo.weakly() takes a plain method, not the coroutine method {method!r}")
    guarded: _Weakly[P, R] = _Weakly(method)
    return guarded
