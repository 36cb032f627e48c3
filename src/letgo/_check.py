"""Argument checks: each names the argument and the value that it refuses."""

from __future__ import annotations

import inspect
from functools import partial
from math import isfinite
from types import BuiltinFunctionType, FunctionType, MethodType, MethodWrapperType
from typing import Any

_PLAIN = 1e300  # any number below is finite, and so is a time so many seconds from now
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def seconds(argument: str, value: object) -> float:
    """A finite, non-negative number of seconds, as it was given."""
    if (type(value) is float or type(value) is int) and 0 <= value < _PLAIN:
        return value  # the usual case, and making a handle is to be cheap
    # bool is an int, but interval=True is a mistake and not one second.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument} must be a number of seconds, not {value!r}")
    try:
        good = isfinite(value) and value >= 0
    except OverflowError:  # an int beyond what a float can hold
        good = False
    if not good:
        raise ValueError(f"{argument} must be finite and not negative, not {value!r}")
    return value


def optional_seconds(argument: str, value: object) -> float | None:
    """As `seconds`, or None."""
    return None if value is None else seconds(argument, value)


def name(argument: str, value: object) -> None:
    """A str or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{argument} must be a str or None, not {value!r}")


def flag(argument: str, value: object) -> None:
    """A bool: anything else is most likely an argument in the wrong place."""
    if value is not True and value is not False:
        raise TypeError(f"{argument} must be a bool, not {value!r}")


def count(argument: str, value: object) -> int:
    """An int that is at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{argument} must be at least 1, not {value!r}")
    return value


def worker_callable(argument: str, value: object, handle: object) -> None:
    """A plain callable that does not reach the handle which is being made."""
    if type(value) is FunctionType and not is_async(value):
        return  # the usual case; a plain function is bound to nothing
    if not callable(value):
        raise TypeError(f"{argument} must be callable or None, not {value!r}")
    if is_async(value):
        raise TypeError(
            f"{argument} must be a plain callable: a worker thread has no event loop "
            f"to await {value!r}"
        )
    if _reaches(value, handle):
        raise TypeError(
            f"{argument}={_describe(value)} refers to the very handle that is being made: "
            "the worker would keep the handle alive, and a handle that is alive is never "
            "collected. Move what the worker needs into an object of its own and give a "
            "method of that object, or give letgo.weakly(self.method)"
        )


def is_async(value: Any) -> bool:
    """Whether calling `value` returns a coroutine or an async generator, never run."""
    if type(value) is FunctionType:
        return bool(value.__code__.co_flags & _ASYNC)
    if isinstance(value, partial):
        return is_async(value.func)
    if isinstance(value, MethodType):
        return is_async(value.__func__)
    call: object = type(value).__call__
    return any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for function in (value, call)
    )


def _reaches(value: object, handle: object) -> bool:
    if type(value) is FunctionType:
        return False
    if value is handle:
        return True
    if isinstance(value, (MethodType, BuiltinFunctionType, MethodWrapperType)):
        return value.__self__ is handle or (
            isinstance(value, MethodType) and _reaches(value.__func__, handle)
        )
    if isinstance(value, partial):
        parts = (value.func, *value.args, *value.keywords.values())
        return any(_reaches(part, handle) for part in parts)
    return False


def _describe(value: object) -> str:
    # Not repr(): it would call the repr of a handle that is half made.
    while isinstance(value, partial):
        value = value.func
    return str(getattr(value, "__qualname__", type(value).__qualname__))
