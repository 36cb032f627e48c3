"""What an object refers to, and how Python would write it.

Two questions, since the first is asked of a great many objects and the second of
a few: `referents` asks the garbage collector, `name` looks at the object's parts.
Neither runs code of the user's: types are asked with `type`, attributes are read
through the interpreter's own descriptors, and no key is hashed, compared or shown
that is not Python's own. Neither keeps what it has seen.

Threads: any, while others change the objects: each answer was true at some moment.
"""

from __future__ import annotations

import builtins
import gc
import inspect
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    NoneType,
    TracebackType,
)
from typing import Any, cast

from letgo._core import Core, Leash
from letgo._engine import Engine

WIDEST = 100_000
"""How much of one container is looked at. All of a bigger one would take its size again."""

CALLABLES = ("poll", "on_close", "on_error", "after_fork", "interrupt")
"""What a core holds of the user's. Its other attributes lead to its engine, or back to it."""

# Bindings that can be deleted while the worker goes on (and loggers, which logging
# keeps by name, are as global as modules); and what holds a worker's core as long
# as it runs, which is what the question is about.
_NOT_FOLLOWED = (type, ModuleType, CodeType, logging.Logger, Engine, Leash)

_CONTAINERS: tuple[type[Any], ...] = (dict, list, tuple, set, frozenset, deque)

_COLLECTED = 1 << 14
"""Py_TPFLAGS_HAVE_GC, from CPython's object.h: without it a type's objects hold no others."""


def referents(owner: Any) -> list[Any]:
    """The objects that `owner` holds, past its own parts: `__dict__`, closure, arguments."""
    found: list[Any] = []
    parts: list[Any] = [owner]
    for part in parts:  # which grows: cells in a closure
        for value in _direct(part):
            if _is_followed(value):
                (parts if _is_part(owner, part, value) else found).append(value)
    return found


def is_wide(owner: Any) -> bool:
    """Whether `owner` holds more than is looked at."""
    base = _container(owner)
    return base is not None and base.__len__(owner) > WIDEST


def name(owner: Any, value: object) -> str:
    """How Python would write the reference from `owner` to `value`."""
    try:
        return next(text for text, held in _named(owner) if held is value)
    except (StopIteration, RuntimeError):  # RuntimeError: it changed while it was read
        return "(internal)"


def describe(owner: object) -> str | None:
    """`<module.Class>`; None where the names of references say enough."""
    kind = type(owner)
    if any(kind is plain for plain in _PLAIN) or issubclass(kind, partial):
        return None
    if kind is FrameType:
        return f"<frame of {cast(FrameType, owner).f_code.co_qualname}>"
    return _type_name(kind)


_PLAIN: tuple[type, ...] = (
    *_CONTAINERS,
    FunctionType,
    MethodType,
    BuiltinFunctionType,
    MethodWrapperType,
    TracebackType,
)


def _type_name(kind: type) -> str:
    name = kind.__qualname__.rpartition("<locals>.")[2]
    return f"<{name}>" if kind.__module__ == "builtins" else f"<{kind.__module__}.{name}>"


# --- Which objects ---


def _direct(owner: Any) -> Iterable[Any]:
    if type(owner) is Core:
        return [getattr(owner, attribute) for attribute in CALLABLES]
    if is_wide(owner):
        return _first(owner)
    if type(owner) is FunctionType:
        return [value for value in gc.get_referents(owner) if value is not owner.__globals__]
    return gc.get_referents(owner)


def _first(owner: Any) -> Iterable[Any]:
    base = _container(owner)
    try:
        if base is dict:
            return list(chain.from_iterable(_pairs(owner)))
        return list(islice(base.__iter__(owner), WIDEST))
    except RuntimeError:
        return []  # somebody changed it meanwhile


def _container(owner: object) -> Any:
    kind = type(owner)
    if issubclass(kind, _CONTAINERS):
        return next(base for base in _CONTAINERS if issubclass(kind, base))
    return None


def _is_followed(value: object) -> bool:
    kind = type(value)
    if not kind.__flags__ & _COLLECTED or issubclass(kind, _NOT_FOLLOWED):
        return False
    # Else a namespace that code was run in: the globals of a module, or of exec().
    if kind is not dict or value is vars(builtins):
        return kind is not dict
    return "__builtins__" not in cast(dict[object, object], value)


def _is_part(owner: Any, part: object, value: object) -> bool:
    kind = type(value)
    if kind is CellType or kind is Core:
        return True
    if part is not owner or (kind is not tuple and kind is not dict):
        return False
    if type(owner) is FunctionType or issubclass(type(owner), partial):
        return True  # closure, defaults, arguments, attributes
    return kind is dict and value is _attributes(owner)


def _attributes(owner: Any) -> dict[str, Any] | None:
    """The object's `__dict__`; not one that its class computes, as proxies do."""
    for base in type(owner).__mro__:
        found = base.__dict__.get("__dict__")
        if found is not None:
            ours = type(found) is GetSetDescriptorType or type(found) is MemberDescriptorType
            return found.__get__(owner) if ours else None
    return None


# --- How they are written ---


def _named(owner: object) -> Iterator[tuple[str, object]]:
    """All references of `owner` with their names."""
    kind = type(owner)
    if kind is FunctionType:
        yield from _of_function(cast(FunctionType, owner))
    elif issubclass(kind, partial):
        yield from _of_partial(owner)
    elif kind is FrameType:
        yield from _of_frame(cast(FrameType, owner), "")
    elif issubclass(kind, (GeneratorType, CoroutineType, AsyncGeneratorType)):
        yield from _of_generator(owner)
    elif issubclass(kind, _CONTAINERS):
        yield from _of_container(owner)
    yield from _of_object(owner)


def _of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        for value in gc.get_referents(cell):  # an empty cell has none
            yield f"closure variable {name!r}", value
    defaults = function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    for name, value in chain(zip(names, defaults, strict=True), _pairs(function.__kwdefaults__)):
        yield f"default argument {name!r}", value
    for name, value in _pairs(function.__annotations__):
        yield f".__annotations__[{name!r}]", value


def _of_partial(owner: Any) -> Iterator[tuple[str, object]]:
    yield "functools.partial.func", owner.func
    for index, value in enumerate(owner.args):
        yield f"functools.partial.args[{index}]", value
    for name, value in _pairs(owner.keywords):
        yield f"functools.partial.keywords[{name!r}]", value


def _of_frame(frame: FrameType, prefix: str) -> Iterator[tuple[str, object]]:
    values = frame.f_locals
    found = [(f"{prefix}.f_locals[{name!r}]", value) for name, value in list(values.items())]
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        # A copy that the frame keeps, and with it what it holds, beyond frame.clear().
        values.clear()
    yield from found


def _of_generator(owner: Any) -> Iterator[tuple[str, object]]:
    for kind in ("gi", "cr", "ag"):
        frame = getattr(owner, f"{kind}_frame", None)
        if frame is not None:
            yield from _of_frame(frame, f".{kind}_frame")
    for attribute in ("gi_yieldfrom", "cr_await", "ag_await"):
        yield f".{attribute}", getattr(owner, attribute, None)


def _of_container(owner: Any) -> Iterator[tuple[str, object]]:
    kind = _container(owner)
    if kind is dict:
        for key, value in _pairs(owner):
            yield f"[{_key(key)}]", value
            yield "(a key)", key
    else:
        ordered = kind is not set and kind is not frozenset
        for index, value in enumerate(_first(owner)):
            yield f"[{index}]" if ordered else "(an element)", value


def _of_object(owner: Any) -> Iterator[tuple[str, object]]:
    for name, value in _pairs(_attributes(owner)):
        yield f".{name}", value
    for base in type(owner).__mro__:
        for name, descriptor in list(base.__dict__.items()):
            if type(descriptor) is MemberDescriptorType or (
                type(descriptor) is GetSetDescriptorType and name in _COMPUTED
            ):
                value = _read(descriptor, owner)
                if type(value) is Core:
                    for attribute in CALLABLES:
                        yield f".{attribute}", getattr(value, attribute)
                else:
                    yield f".{name}", value


# References that CPython's own types show as computed attributes.
_COMPUTED = frozenset(
    ("__self__", "__traceback__", "__context__", "__cause__", "args", "tb_next", "f_back")
)


def _read(descriptor: Any, owner: object) -> object:
    try:
        return descriptor.__get__(owner)
    except AttributeError:
        return None  # a slot that is not set


# A subclass's own would be the user's code.
_items: Callable[[Any], Iterable[tuple[Any, Any]]] = dict[Any, Any].items


def _pairs(values: dict[Any, Any] | None) -> list[tuple[Any, Any]]:
    return [] if values is None else list(islice(_items(values), WIDEST))


_SHOWN = (str, bytes, int, float, bool, NoneType)
_LONGEST_KEY = 60


def _key(key: object) -> str:
    """The key as Python would write it; its class where that would run its own code."""
    kind = type(key)
    parts = cast(tuple[object, ...], key) if kind is tuple else (key,)
    shown = all(any(type(part) is kind for kind in _SHOWN) for part in parts)
    text = repr(key) if shown else _type_name(kind)
    return text if len(text) <= _LONGEST_KEY else f"{text[: _LONGEST_KEY - 1]}…"
