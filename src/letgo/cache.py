"""An in-memory cache whose cleaner ends with it."""

from __future__ import annotations

from collections.abc import (
    Callable,
    ItemsView,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from math import inf
from time import monotonic
from time import time as wall_clock
from typing import Any, Self, TypeVar, overload

from letgo import _check
from letgo._expiry import State, pairs, peek
from letgo._flight import get_or_compute
from letgo._handle import Handle
from letgo._memoize import Call, Memoizer
from letgo._scheduler import Scheduler, shared
from letgo._store import Store
from letgo._ttl import DEFAULT, Omitted, Ttl, lifetime
from letgo._weakly import weakly

__all__ = ["Cache"]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

_MISSING: Any = object()


class Cache(Handle, MutableMapping[K, V]):
    """A mapping whose items expire, and are cleaned away by a worker until it is dropped.

    An item that has expired is absent at once, and is removed by the next cleaning;
    an item with the same key before that replaces it. The worker does not keep the
    cache alive, nor what is in it.

    Threads: every method may be called from any thread, and each is atomic. `get`,
    `in`, `cache[key]` and iteration take no lock. `on_evicted` and the factory of
    `get_or_set` are called under none.

    Args:
        default_ttl: Seconds, or a `timedelta`, that an item lives unless its own `ttl`
            says otherwise. None: for ever. All lifetimes are on the monotonic clock.
        cleanup_interval: Seconds, or a `timedelta`, between two cleanings. None: no
            worker; `delete_expired` cleans.
        maxsize: The number of items, at most. To make room, an item goes that has
            expired, or else the one that expires soonest; among those that expire at
            the same time, or never, the one that was set first. None: no bound.
        on_evicted: See the attribute.
        items: What to begin with, for `default_ttl`.
        scheduler: Whose thread cleans. None: `letgo.shared()`.

    Raises:
        TypeError, ValueError: An argument of the wrong type; a time that is not above
            zero and finite; a `maxsize` below 1.
        ClosedError: The scheduler is closed.
        RuntimeError: A thread cannot be started.

    The model is Patrick Mylund Nielsen's go-cache; docs/cache.md has a table of names.
    """

    __slots__ = ("_letgo_find", "_letgo_store")

    _letgo_store: Store[K, V]

    def __init__(
        self,
        default_ttl: Ttl = None,
        *,
        cleanup_interval: Ttl = 60.0,
        maxsize: int | None = None,
        on_evicted: Callable[[K, V], object] | None = None,
        items: Mapping[K, V] | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        interval = lifetime("cleanup_interval", cleanup_interval)
        store: Store[K, V] = Store(lifetime("default_ttl", default_ttl), _checked_size(maxsize))
        self._letgo_store = store
        # Bound once: it is what a `get` does most of. The dict is the same for ever.
        self._letgo_find = store.entries.get
        self.on_evicted = on_evicted
        if items is not None:
            _check_mapping("items", items)
            self.update(items)
        super().__init__(
            weakly(store.clean),
            interval=None if interval == inf else interval,
            start=interval != inf,
            scheduler=shared() if scheduler is None else scheduler,
        )

    @classmethod
    def from_snapshot(
        cls,
        snapshot: Mapping[K, tuple[V, float | None]],
        default_ttl: Ttl = None,
        *,
        cleanup_interval: Ttl = 60.0,
        maxsize: int | None = None,
        on_evicted: Callable[[K, V], object] | None = None,
        scheduler: Scheduler | None = None,
    ) -> Self:
        """A cache with the items of a `snapshot`, without those that have expired since.

        The time since the snapshot counts, by the wall clock. The other arguments are
        the constructor's.
        """
        _check_mapping("snapshot", snapshot)
        cache = cls(
            default_ttl,
            cleanup_interval=cleanup_interval,
            maxsize=maxsize,
            on_evicted=on_evicted,
            scheduler=scheduler,
        )
        now = wall_clock()
        for key, (value, expiry) in snapshot.items():
            if expiry is None:
                cache.set(key, value, None)
            elif expiry > now:
                cache.set(key, value, expiry - now)
        return cache

    def start(self) -> None:
        """Start cleaning. Without a `cleanup_interval` there is nothing to start."""
        if self.interval is not None:
            super().start()

    # --- Reading ---

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | T) -> V | T: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value of a living item, or `default`. It removes nothing.

        Threads: any; it takes no lock.
        """
        cell = self._letgo_find(key)
        if cell is None:
            return default
        try:
            value, expiry, _ = cell[0]
        except IndexError:  # in somebody's hands: they have the lock
            state = self._letgo_look(key)
            return default if state is None else state[0]
        if monotonic() < expiry:
            return value
        return default

    def get_with_expiration(self, key: K) -> tuple[V, float | None]:
        """The value of a living item, and the seconds that it has left; None: for ever.

        Raises:
            KeyError: There is none.
        """
        state = self._letgo_living(key)
        now = monotonic()
        if state is None or state[1] <= now:
            raise KeyError(key)
        return state[0], None if state[1] == inf else state[1] - now

    def __getitem__(self, key: K) -> V:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: Any) -> bool:
        return self.get(key, _MISSING) is not _MISSING

    def __iter__(self) -> Iterator[K]:
        """Iterate over the keys that are there now; what changes meanwhile is not seen."""
        return iter([key for key, _ in self._letgo_items()])

    def __len__(self) -> int:
        """The number of living items. It takes the lock."""
        store = self._letgo_store
        while (count := store.locked(store.count)) is None:
            pass
        return count

    def items(self) -> ItemsView[K, V]:
        """A view of the items; iterating over it never fails for a concurrent change."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """A view of the values; iterating over it never fails for a concurrent change."""
        return _Values(self)

    def snapshot(self) -> dict[K, tuple[V, float | None]]:
        """The living items as a plain dict: key to value and wall-clock expiry.

        The expiry is in seconds since the epoch; None: never. Results of memoized
        functions are left out, since no other process could find them.
        """
        offset = wall_clock() - monotonic()
        return {
            key: (value, None if expiry == inf else expiry + offset)
            for key, (value, expiry, _) in self._letgo_items()
            if not isinstance(key, Call)
        }

    def _letgo_look(self, key: K) -> State[V] | None:
        """The state of a living item, asked for under the lock."""
        return self._letgo_store.locked(self._letgo_store.find, key)

    def _letgo_living(self, key: K) -> State[V] | None:
        cell = self._letgo_find(key)
        if cell is None:
            return None
        return peek(cell) or self._letgo_look(key)

    def _letgo_items(self) -> list[tuple[K, State[V]]]:
        now = monotonic()
        cells = pairs(self._letgo_store.entries)
        items = [(key, peek(cell) or self._letgo_look(key)) for key, cell in cells]
        return [(key, state) for key, state in items if state is not None and now < state[1]]

    # --- Writing ---

    def set(self, key: K, value: V, ttl: Ttl | Omitted = DEFAULT) -> None:
        """Store an item, whatever was there.

        Threads: any. It takes no lock for a new key (without `maxsize`), nor over a
        living item that expires no later.

        Args:
            key: Hashable, as a dict's.
            value: Anything.
            ttl: Seconds, or a `timedelta`. Omitted: the cache's default. None: for ever.

        Raises:
            TypeError, ValueError: `ttl` is of another type, or not above zero and finite.
        """
        store = self._letgo_store
        seconds = store.default if ttl is DEFAULT else lifetime("ttl", ttl)
        if store.maxsize is None:
            moves = store.moves
            cell = self._letgo_find(key)
            now = monotonic()
            expiry = now + seconds
            if cell is not None:
                try:
                    if now < cell[0][1] <= expiry:
                        cell[0] = (value, expiry, 0)
                        # The item's record was not after the old expiry. If records
                        # moved meanwhile, it may be after the new one.
                        if store.moves is not moves:
                            store.locked(store.cover, key)
                        return
                except IndexError:
                    pass  # in the hands of somebody who has the lock
            elif store.add_fresh(key, [(value, expiry, 0)]):
                return
        store.locked(store.put, key, value, seconds)

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    def add(self, key: K, value: V, ttl: Ttl | Omitted = DEFAULT) -> bool:
        """Store an item only if its key is absent or expired; whether it was stored."""
        seconds = self._letgo_lifetime(ttl)
        store = self._letgo_store
        return store.locked(store.put, key, value, seconds, present=False) is None

    def replace(self, key: K, value: V, ttl: Ttl | Omitted = DEFAULT) -> bool:
        """Store an item only over a living one; whether it was stored."""
        seconds = self._letgo_lifetime(ttl)
        store = self._letgo_store
        return store.locked(store.put, key, value, seconds, present=True) is not None

    @overload
    def setdefault(self: Cache[K, T | None], key: K, default: None = None, /) -> T | None: ...
    @overload
    def setdefault(self, key: K, default: V, /) -> V: ...
    def setdefault(self, key: K, default: Any = None) -> Any:
        """The value of a living item, or else `default`, which is stored."""
        store = self._letgo_store
        found = store.locked(store.put, key, default, store.default, present=False)
        return default if found is None else found[0]

    def touch(self, key: K, ttl: Ttl | Omitted = DEFAULT) -> bool:
        """Give a living item a new lifetime from now; whether there was one."""
        expiry = monotonic() + self._letgo_lifetime(ttl)
        store = self._letgo_store
        return store.locked(store.revise, key, lambda state: (state[0], expiry)) is not None

    def increment(self, key: K, n: float = 1) -> V:
        """Add `n` to a number; the new value. The item's lifetime stays.

        Raises:
            KeyError: There is no living item.
            TypeError: Its value or `n` is not an int or a float; a bool is none.
        """
        return self._letgo_add(key, _number("n", n))

    def decrement(self, key: K, n: float = 1) -> V:
        """Subtract `n` from a number; as `increment`."""
        return self._letgo_add(key, -_number("n", n))

    def _letgo_add(self, key: K, n: float) -> V:
        store = self._letgo_store
        state = store.locked(
            store.revise, key, lambda state: (_number("the value", state[0]) + n, state[1])
        )
        if state is None:
            raise KeyError(key)
        return state[0]

    def _letgo_lifetime(self, ttl: Ttl | Omitted) -> float:
        return self._letgo_store.default if ttl is DEFAULT else lifetime("ttl", ttl)

    # --- Computing ---

    def get_or_set(self, key: K, factory: Callable[[], V], ttl: Ttl | Omitted = DEFAULT) -> V:
        """The value of a living item, or else what `factory()` returns, which is stored.

        However many threads ask for one key, one calls its factory and the others wait
        for the value. A `set` or `delete` meanwhile wins: the value is returned to those
        who asked before it, and not stored.

        Threads: any. The factory is called under no lock, in the caller's thread. Two
        factories that ask for each other's keys in two threads wait for each other.

        Raises:
            RuntimeError: It was called by the factory of the same key.
            BaseException: What the factory raised; the next thread that waits calls its own.
        """
        value = self.get(key, _MISSING)
        if value is not _MISSING:
            return value
        if not callable(factory):
            raise TypeError(f"factory must be callable, not {factory!r}")
        return get_or_compute(self._letgo_store, key, factory, self._letgo_lifetime(ttl))

    def memoize(self, ttl: Ttl | Omitted = DEFAULT) -> Memoizer:
        """Decorate a function or method: its results are kept here, by its arguments.

        `@cache.memoize(ttl=60)`. The arguments must be hashable. One call computes
        however many threads make it, as in `get_or_set`. The instance of a method is
        held weakly, and its results are removed with it. The function decorated has
        `__wrapped__` and `cache_clear()`.

        Raises:
            TypeError: A coroutine function; an instance that cannot be weakly referred to.
        """
        if callable(ttl):
            raise TypeError("memoize is called to make a decorator: @cache.memoize()")
        if ttl is not DEFAULT:
            lifetime("ttl", ttl)
        return Memoizer(self, ttl)

    # --- Removing ---

    def delete(self, key: K) -> bool:
        """Remove an item; whether there was a living one. `on_evicted` is told."""
        store = self._letgo_store
        return store.locked(store.delete, key)

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise KeyError(key)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, /, default: V | T) -> V | T: ...
    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Remove a living item and return its value; without one, `default` or a `KeyError`."""
        store = self._letgo_store
        state = store.locked(store.pop, key)
        if state is not None:
            return state[0]
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Remove the living item whose key came last, and return both.

        Raises:
            KeyError: The cache is empty.
        """
        store = self._letgo_store
        return store.locked(store.popitem)

    def clear(self) -> None:
        """Remove all items; `on_evicted` is not told."""
        store = self._letgo_store
        store.locked(store.clear)

    def delete_expired(self) -> int:
        """Remove all items that have expired, in this thread; how many.

        It is what the worker does, for those who want it now or have none.
        """
        return self._letgo_store.delete_expired()

    @property
    def on_evicted(self) -> Callable[[K, V], object] | None:
        """Called with key and value, once for each item that is removed and not handed out.

        That is by `delete`, `del`, expiry, `maxsize` or by overwriting one that had
        expired; not by overwriting a living one, `pop`, `popitem`, `clear`, or with the
        cache. What it raises is logged. It may be set at any time.

        Threads: the worker's for what it cleans, else the caller's; under no lock.
        """
        return self._letgo_store.on_evicted

    @on_evicted.setter
    def on_evicted(self, value: Callable[[K, V], object] | None) -> None:
        if value is not None and (not callable(value) or _check.is_async(value)):
            raise TypeError(f"on_evicted must be a plain callable or None, not {value!r}")
        self._letgo_store.on_evicted = value

    # --- As any handle ---

    def __eq__(self, other: object) -> bool:
        """Equal to itself only, as any handle and unlike other mappings."""
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def __repr__(self) -> str:
        store: Store[K, V] | None = getattr(self, "_letgo_store", None)
        count = 0 if store is None else len(self)
        return f"<{type(self).__name__} of {count} items>"


class _Items(ItemsView[K, V]):
    _mapping: Cache[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return ((key, state[0]) for key, state in self._mapping._letgo_items())


class _Values(ValuesView[V]):
    _mapping: Cache[Any, V]

    def __iter__(self) -> Iterator[V]:
        return (state[0] for _, state in self._mapping._letgo_items())


def _check_mapping(argument: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument} must be a mapping, not {value!r}")


def _checked_size(maxsize: object) -> int | None:
    if maxsize is None:
        return None
    if isinstance(maxsize, bool) or not isinstance(maxsize, int):
        raise TypeError(f"maxsize must be an int or None, not {maxsize!r}")
    if maxsize < 1:
        raise ValueError(f"maxsize must be above zero, not {maxsize!r}")
    return maxsize


def _number(argument: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        # Not the value itself: its repr is user code.
        raise TypeError(f"{argument} must be an int or a float, not a {type(value).__name__}")
    return value
