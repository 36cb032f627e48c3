"""Proxy classes: one for each wrapped type, with just the special methods that it has.

Three ways lead through a proxy. Methods of the wrapped type have a forwarding
function each in the proxy class, since anything later in the attribute lookup costs
several times as much (see benchmarks/bench_guard.py). Special methods, which Python
looks up on the class, come from the table in `_special`. All other attributes, and
methods that the object itself has in place of its type's, go through `__getattr__`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partialmethod, singledispatchmethod, update_wrapper
from types import (
    BuiltinMethodType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Any, NoReturn
from weakref import WeakValueDictionary

from letgo import _special
from letgo._guarded import Guarded
from letgo._handle import Handle

_Function = Callable[..., Any]


class Proxy:
    """The base of all proxy classes. Its own attributes start with `_letgo_`."""

    # In this order the object goes before the handle does, and so before its closer runs.
    __slots__ = ("__weakref__", "_letgo_guarded", "_letgo_handle")

    _letgo_guarded: Guarded
    _letgo_handle: Handle
    _letgo_type: type  # of the object, kept alive for its id
    _letgo_closer: str | None

    def __getattr__(self, name: str, /) -> Any:
        if name in _REFUSED:
            raise AttributeError(f"a proxy of letgo.guard() has no {name!r}")
        wrapped = self._letgo_guarded.object
        value = getattr(wrapped, name)
        if value is wrapped:
            return self
        if type(value) in _BOUND and value.__self__ is wrapped and not _is_lazy(value):
            return MethodType(_Holding(value), self)
        return value

    def __setattr__(self, name: str, value: Any, /) -> None:
        setattr(self._letgo_guarded.object, name, value)
        _fit(self, name)

    def __delattr__(self, name: str, /) -> None:
        delattr(self._letgo_guarded.object, name)
        _fit(self, name)

    @property
    def __wrapped__(self) -> Any:
        """The object itself; the guard goes on."""
        return self._letgo_guarded.object

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        raise TypeError(
            f"cannot copy or pickle a {type(self).__qualname__}: one object would get two "
            "guards; letgo.unguard(proxy) or proxy.__wrapped__ is the object itself"
        )

    def __reduce__(self, memo: object = None) -> NoReturn:
        self.__reduce_ex__(0)


# What `copy` looks for before it comes to `__reduce_ex__`.
_COPYING = frozenset({"__copy__", "__deepcopy__"})
# An object with a `__getattr__` may make these up; a proxy that the collector has
# cleared has its own no more.
_REFUSED = _COPYING.union(Proxy.__slots__)
_BOUND = frozenset({MethodType, BuiltinMethodType, MethodWrapperType})
_METHODS = (
    FunctionType,
    MethodDescriptorType,
    WrapperDescriptorType,
    partialmethod,
    singledispatchmethod,
)
_LAZY = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

# Set by Python on every class, or meant for the class alone: never forwarded as methods.
_UNTOUCHED = frozenset(
    {
        "__class__",
        "__del__",  # the object's destructor is the object's business
        "__delattr__",
        "__getattr__",
        "__getattribute__",
        "__init_subclass__",
        "__new__",
        "__reduce__",
        "__reduce_ex__",
        "__setattr__",
        "__subclasshook__",
    }
)
# Python looks these up on the class as well; see `_special` for the others.
_IMPLICIT = frozenset(
    {
        "__aenter__",
        "__aexit__",
        "__await__",
        "__delete__",
        "__enter__",
        "__exit__",
        "__get__",
        "__set__",
        "__set_name__",
    }
)
# The `match` statement tells sequences and mappings by a flag of the class, which only
# inheriting or registering sets.
_PATTERNS: tuple[tuple[int, Any], ...] = ((1 << 5, Sequence), (1 << 6, Mapping))
# A class statement leaves these in a class, or we want them there: the object's count.
_SHOWN = (
    "__annotations__",
    "__class__",
    "__doc__",
    "__firstlineno__",
    "__slots__",
    "__static_attributes__",
)


class _Holding:
    """A method found on the object, called with the proxy, which is alive so long."""

    __slots__ = ("__wrapped__",)

    def __init__(self, method: _Function) -> None:
        self.__wrapped__ = method

    def __call__(self, proxy: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        result = self.__wrapped__(*args, **kwargs)
        return proxy if result is proxy._letgo_guarded.object else result

    def __getattr__(self, name: str, /) -> Any:
        return getattr(self.__wrapped__, name)

    def __eq__(self, other: object, /) -> bool:
        return isinstance(other, _Holding) and self.__wrapped__ == other.__wrapped__

    def __hash__(self) -> int:
        return hash(self.__wrapped__)


def plain(value: Any) -> Any:
    """The object itself, of a proxy; anything else as it is."""
    return value._letgo_guarded.object if isinstance(value, Proxy) else value


def disarm(proxy: Proxy) -> None:
    """End the guard, and have the worker go. Threads: any."""
    proxy._letgo_guarded.disarm()
    proxy._letgo_handle.stop()


# --- What forwards ---


_ABSENT: Any = object()


def _forward(
    self: Any, first: Any = _ABSENT, second: Any = _ABSENT, /, *args: Any, **kwargs: Any
) -> Any:
    """The template of a forwarding method: NAME stands for the method's name.

    Calls with up to two arguments and no keywords are spelled out: with `*args` and
    `**kwargs` alone, a call costs up to one and a half times as much.
    """
    wrapped = self._letgo_guarded.object
    if args or kwargs:
        if first is _ABSENT:
            result = wrapped.NAME(**kwargs)
        elif second is _ABSENT:
            result = wrapped.NAME(first, **kwargs)
        else:
            result = wrapped.NAME(first, second, *args, **kwargs)
    elif first is _ABSENT:
        result = wrapped.NAME()
    elif second is _ABSENT:
        result = wrapped.NAME(first)
    else:
        result = wrapped.NAME(first, second)
    return self if result is wrapped else result


def _forward_end(self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """The template of a method that ends the guard: the close method, the object's exits."""
    disarm(self)
    wrapped = self._letgo_guarded.object
    result = wrapped.NAME(*args, **kwargs)
    return self if result is wrapped else result


def _named(template: Any, name: str) -> FunctionType:
    """The template for one name, with code of its own, which Python specialises."""
    code = template.__code__
    names = tuple(name if used == "NAME" else used for used in code.co_names)
    code = code.replace(co_names=names, co_name=name, co_qualname=name)
    return FunctionType(code, template.__globals__, name, template.__defaults__)


def _conversion(operation: _Function) -> _Function:
    def forward(self: Proxy, /, *args: Any) -> Any:
        return operation(self._letgo_guarded.object, *args)

    return forward


def _operation(operation: _Function) -> _Function:
    def forward(self: Proxy, /, *args: Any, **kwargs: Any) -> Any:
        wrapped = self._letgo_guarded.object
        result = operation(wrapped, *args, **kwargs)
        return self if result is wrapped else result

    return forward


def _comparison(operation: _Function) -> _Function:
    def forward(self: Proxy, other: Any, /) -> Any:
        return operation(self._letgo_guarded.object, plain(other))

    return forward


def _binary(operation: _Function) -> _Function:
    def forward(self: Proxy, other: Any, /, *modulus: Any) -> Any:
        wrapped = self._letgo_guarded.object
        result = operation(wrapped, plain(other), *modulus)
        return self if result is wrapped else result

    return forward


def _special_methods() -> dict[str, _Function]:
    made: dict[str, _Function] = {}
    for make, table in (
        (_conversion, _special.CONVERSIONS),
        (_operation, _special.OPERATIONS),
        (_comparison, _special.COMPARISONS),
        (_binary, _special.BINARY),
    ):
        for name, operation in table.items():
            made[name] = function = make(operation)
            function.__name__ = function.__qualname__ = name
    return made


_SPECIAL = _special_methods()


def _enter(self: Proxy) -> Proxy:
    return self


def _exit_closes(self: Proxy, *error: object) -> None:
    self._letgo_handle.close()


# --- The classes ---

# By the type's id: a metaclass can make a type unhashable. A proxy class keeps its type
# alive, and nothing here keeps the proxy class: types that come and go are no leak.
_classes: WeakValueDictionary[tuple[int, str | None, frozenset[str]], type[Proxy]] = (
    WeakValueDictionary()
)


def proxy_class(wrapped: object, closer: str | None) -> type[Proxy]:
    """The proxy class for an object whose close method is named `closer`.

    Threads: any. Two that need the same new class at the same time may make one each.
    """
    kind = type(wrapped)
    key = (id(kind), closer, _methods_of_its_own(wrapped))
    found = _classes.get(key)
    if found is None:
        found = _classes.setdefault(key, _make_class(kind, *key[1:]))
    return found


def _make_class(kind: type, closer: str | None, own: frozenset[str]) -> type[Proxy]:
    """The proxy class of a type, for objects that have `own` in place of its methods."""
    namespace: dict[str, Any] = {name: property(_getter(name)) for name in _SHOWN}
    namespace.update(_forwarding(kind, own))
    if hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
        namespace["__exit__"] = _named(_forward_end, "__exit__")
    else:
        namespace.update(__enter__=_enter, __exit__=_exit_closes)
    if hasattr(kind, "__aexit__"):
        namespace["__aexit__"] = _named(_forward_end, "__aexit__")
    if closer is not None:
        namespace[closer] = _like(_named(_forward_end, closer), _in_class(kind, closer))
    namespace.update(__module__=kind.__module__, _letgo_type=kind, _letgo_closer=closer)
    # Python wants the slots while it makes the class; the object's are shown afterwards.
    slots, namespace["__slots__"] = namespace["__slots__"], ()
    made: type[Proxy] = type(f"guard({kind.__qualname__})", (Proxy,), namespace)
    type.__setattr__(made, "__slots__", slots)
    for flag, abstract in _PATTERNS:
        if kind.__flags__ & flag:
            abstract.register(made)
    return made


def _forwarding(kind: type, own: frozenset[str]) -> dict[str, Any]:
    """What forwards each method of a type, by the method's name."""
    made: dict[str, Any] = {}
    plain_lookup = _has_plain_lookup(kind)
    for name in {name for parent in kind.__mro__ for name in vars(parent)} - _UNTOUCHED:
        value = _in_class(kind, name)
        special = name.startswith("__") and name.endswith("__")
        if name in _COPYING:
            made[name] = Proxy.__reduce__
        elif special and value is None:
            made[name] = None  # as in `__hash__ = None`: it has not got one
        elif name in _SPECIAL:
            made[name] = _SPECIAL[name]
        elif name in _IMPLICIT or (special and isinstance(value, _METHODS)):
            made[name] = _like(_named(_forward, name), value)
        elif plain_lookup and name not in own and isinstance(value, _METHODS):
            if not _is_lazy(value):
                made[name] = _like(_named(_forward, name), value)
    return made


def _getter(name: str) -> _Function:
    def get(proxy: Proxy) -> Any:
        return getattr(proxy._letgo_guarded.object, name)

    return get


def _like(function: FunctionType, original: Any) -> _Function:
    """The forwarding function, with the name, documentation and signature of the original."""
    return update_wrapper(function, original) if callable(original) else function


def _in_class(kind: type, name: str) -> Any:
    """A type's attribute as it is stored; None without one."""
    for parent in kind.__mro__:
        if name in vars(parent):
            return vars(parent)[name]
    return None


def _is_lazy(method: Any) -> bool:
    """Whether a call runs nothing yet: frameworks tell such methods by their type.

    To hold the proxy while it is called would help nobody.
    """
    code = getattr(getattr(method, "__func__", method), "__code__", None)
    return code is not None and bool(code.co_flags & _LAZY)


def _has_plain_lookup(kind: type) -> bool:
    return _in_class(kind, "__getattribute__") is vars(object)["__getattribute__"]


def _methods_of_its_own(wrapped: object) -> frozenset[str]:
    """The names under which an object has something in place of its type's method."""
    kind: type[object] = type(wrapped)
    if not _has_plain_lookup(kind):
        return frozenset()  # nothing is forwarded by its type's methods anyway
    # list() is atomic: other threads may set attributes meanwhile.
    names: list[str] = list(getattr(wrapped, "__dict__", ()))
    return frozenset(name for name in names if isinstance(_in_class(kind, name), _METHODS))


_set_class: Callable[[Proxy, type[Proxy]], None] = vars(object)["__class__"].__set__


def _fit(proxy: Proxy, name: str) -> None:
    """Change the proxy's class where an attribute that was set or deleted asks for it."""
    wrapped: object = proxy._letgo_guarded.object
    if name == "__class__" or isinstance(_in_class(type(wrapped), name), _METHODS):
        _set_class(proxy, proxy_class(wrapped, proxy._letgo_closer))


def make_proxy(kind: type[Proxy], guarded: Guarded, handle: Handle) -> Proxy:
    """A proxy for the object under guard. There is to be only one."""
    proxy = object.__new__(kind)
    object.__setattr__(proxy, "_letgo_guarded", guarded)
    object.__setattr__(proxy, "_letgo_handle", handle)
    return proxy
