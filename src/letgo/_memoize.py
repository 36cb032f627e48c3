"""Functions and methods whose results a cache keeps.

The key of a result is a `Call`: the function, the instance in the case of a
method, and the arguments. The instance is in it as an `Owner`, a weak reference
that is compared by identity, so that neither its equality nor a reused id can
give one instance another's results.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from letgo import _check
from letgo._ttl import Omitted, Ttl

if TYPE_CHECKING:
    from letgo._expiry import Gone
    from letgo._store import Store
    from letgo.cache import Cache

P = ParamSpec("P")
R = TypeVar("R")
Q = ParamSpec("Q")
T = TypeVar("T")

_MISSING: Any = object()


class Call(tuple[Any, ...]):
    """The key of a result: function, owner or None, arguments, keyword arguments."""

    __slots__ = ()


class Owner(weakref.ref[Any]):
    """An instance with memoized methods."""

    __slots__ = ("id", "store")

    id: int
    store: weakref.ref[Store[Any, Any]]

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Results:
    """The calls that may have a result for one owner. Written under the store's lock."""

    __slots__ = ("owner", "calls", "limit")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.calls: dict[Call, None] = {}
        self.limit = 16  # calls, before those without a result are dropped

    def note(self, gone: Gone, store: Store[Any, Any], call: Call) -> None:
        """Remember a call. Run by `locked`."""
        if len(self.calls) >= self.limit:
            self.calls = {call: None for call in list(self.calls) if call in store.entries}
            self.limit = 2 * len(self.calls) + 16
        self.calls[call] = None


def _results(gone: Gone, store: Store[Any, Any], instance: object) -> Results:
    """What stands for `instance` in the store. Run by `locked`."""
    if store.owned is None:
        store.owned = {}
        store.posted = []
    results = store.owned.get(id(instance))
    if results is not None and results.owner() is not instance:
        store.discard(gone, results.calls)  # the id's last bearer, whose end is in the post
        results = None
    if results is None:
        owner = Owner(instance, _gone)
        owner.id = id(instance)
        owner.store = weakref.ref(store)
        results = store.owned[owner.id] = Results(owner)
    return results


def _gone(owner: weakref.ref[Any]) -> None:
    """Remove the results of an instance that is gone. Threads: finalizer-safe."""
    assert isinstance(owner, Owner)
    store = owner.store()
    if store is not None:
        store.post(functools.partial(_bury, store=store, owner=owner))


def _bury(gone: Gone, store: Store[Any, Any], owner: Owner) -> None:
    results = (store.owned or {}).get(owner.id)
    if results is not None and results.owner is owner and store.owned is not None:
        del store.owned[owner.id]
        store.discard(gone, results.calls)


def _clear(gone: Gone, store: Store[Any, Any], function: object) -> None:
    """Remove all results of one function. Run by `locked`."""
    keys = [*store.entries, *(store.flights or ())]
    store.discard(gone, [key for key in keys if isinstance(key, Call) and key[0] is function])


class Memoizer:
    """A decorator. Not a nested function, which only the collector frees where there is no GIL."""

    __slots__ = ("_cache", "_ttl")

    def __init__(self, cache: Cache[Any, Any], ttl: Ttl | Omitted) -> None:
        self._cache = cache
        self._ttl = ttl

    def __call__(self, function: Callable[P, R]) -> Memoized[P, R]:
        if not callable(function):
            raise TypeError(f"memoize decorates a function, not {function!r}")
        if _check.is_async(function):
            raise TypeError(f"cannot memoize {function!r}: a coroutine can be awaited once")
        return Memoized(self._cache, function, self._ttl)


class Memoized(Generic[P, R]):
    """A function whose results a cache keeps.

    Threads: any.

    Attributes:
        __wrapped__: The function itself.
    """

    __wrapped__: Callable[P, R]

    def __init__(
        self, cache: Cache[Any, Any], function: Callable[P, R], ttl: Ttl | Omitted
    ) -> None:
        functools.update_wrapper(self, function)
        self._cache = cache
        self._ttl = ttl
        # Stands for the function in keys. Not the function: it may refer to the cache.
        self._token = object()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        call = Call((self._token, None, args, tuple(kwargs.items())))
        result: R = self._cache.get(call, _MISSING)
        if result is _MISSING:
            compute = functools.partial(self.__wrapped__, *args, **kwargs)
            result = self._cache.get_or_set(call, compute, self._ttl)
        return result

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Memoized[P, R]: ...
    @overload
    def __get__(
        self: Memoized[Concatenate[T, Q], R], instance: T, owner: type | None = None
    ) -> Memoized[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        method: _MemoizedMethod[..., R] = _MemoizedMethod(self)
        return method if instance is None else MethodType(method, instance)

    def cache_clear(self) -> None:
        """Forget all results: of a method, those of all instances."""
        store = self._cache._letgo_store
        store.locked(_clear, store, self._token)


class _MemoizedMethod(Memoized[P, R]):
    """A memoized function as it is reached through a class: its first argument is held weakly."""

    def __init__(self, function: Memoized[P, R]) -> None:
        self.__dict__.update(function.__dict__)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        instance = args[0]
        store = self._cache._letgo_store
        results = store.locked(_results, store, instance)
        call = Call((self._token, results.owner, args[1:], tuple(kwargs.items())))
        result: R = self._cache.get(call, _MISSING)
        if result is _MISSING:
            store.locked(results.note, store, call)
            compute = functools.partial(self.__wrapped__, *args, **kwargs)
            result = self._cache.get_or_set(call, compute, self._ttl)
        return result
