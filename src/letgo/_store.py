"""The store of a cache: what can be done with one item, or with all."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from math import inf
from threading import RLock, get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from letgo import _process
from letgo._expiry import (
    FAULT,
    FREED,
    FRESH,
    Cell,
    Expiry,
    Gone,
    State,
    give_back,
    numbers,
    pairs,
    peek,
    take,
)
from letgo._flight import Flight

if TYPE_CHECKING:
    from letgo._memoize import Results

K = TypeVar("K")
V = TypeVar("V")


class Store(Expiry[K, V]):
    """What a cache owns, and its worker refers to weakly.

    Those methods that take a `Gone` are run by `locked`.
    """

    __slots__ = (
        "__weakref__",
        "default",  # lifetime in seconds
        "flights",  # computations whose result is to be stored; under the lock
        "owned",  # results of memoized methods, by the instance's id; see _memoize
    )

    def __init__(self, default: float, maxsize: int | None) -> None:
        super().__init__(maxsize)
        self.default = default
        self.flights: dict[K, Flight[V]] | None = None
        self.owned: dict[int, Results] | None = None
        _stores.add(weakref.ref(self, _stores.discard))

    def find(self, gone: Gone, key: K) -> State[V] | None:
        """The state of a living item."""
        state = peek(self.entries.get(key))
        return state if state is not None and monotonic() < state[1] else None

    def put(
        self, gone: Gone, key: K, value: V, lifetime: float, present: bool | None = None
    ) -> State[V] | None:
        """Store an item; if `present` is given, only over a living one or where none is.

        Returns:
            The living item that was there; it is freed when the lock is released.
        """
        cell = self.entries.get(key)
        old = take(cell)
        now = monotonic()
        alive = old is not None and now < old[1]
        if present is not None and present is not alive:
            give_back(cell, old)
            return old if alive else None
        if cell is not None and old is not None and not alive:
            self.unlink(key, cell, old)  # so that the new item comes last, as in a dict
            gone.append((key, old[0]))
            cell = old = None
        number = next(numbers)
        state = (value, now + lifetime, number)
        if not self._store(gone, key, cell, old, [state]):
            return self.put(gone, key, value, lifetime, present)
        self.forget(cell)
        if self.fresh is None and self.maxsize is None:
            self.fresh = []  # from here on, `set` needs no lock for new keys
        self.index(key, state, number)
        return old

    def _store(
        self, gone: Gone, key: K, cell: Cell[V] | None, old: State[V] | None, new: Cell[V]
    ) -> bool:
        """Put a cell in the place of one that was taken, or where none was.

        Returns:
            Whether there still was none: a `set` without the lock can have come first.
        """
        try:
            self._detach_flight(key)
            if cell is None:
                if self.maxsize is not None:
                    self.shrink(gone, self.maxsize - 1)
                return self.entries.setdefault(key, new) is new
            self.entries[key] = new
            return True
        except BaseException:
            give_back(cell, old)
            raise

    def revise(
        self, gone: Gone, key: K, change: Callable[[State[V]], tuple[V, float]]
    ) -> State[V] | None:
        """Give a living item another value and expiry; its new state."""
        while True:
            cell = self.entries.get(key)
            old = peek(cell)
            if cell is None or old is None or monotonic() >= old[1]:
                return None
            value, expiry = change(old)
            state = (value, expiry, old[2])
            taken = take(cell)
            if taken is not old:
                give_back(cell, taken)  # it was set meanwhile: change that
                continue
            cell.append(state)
            gone.append((FREED, old))
            if expiry < old[1]:
                self.index(key, state, next(numbers))
            return state

    def add_fresh(self, key: K, cell: Cell[V]) -> bool:
        """Add an item without the lock, if its key is absent; whether it was."""
        fresh = self.fresh
        if fresh is None:
            return False
        moves = self.moves
        expiry = cell[0][1]
        if expiry < inf:
            # First: an item without a record would never be cleaned. A record
            # without an item does no harm.
            fresh.append((expiry, 0, next(numbers), key))
        if self.entries.setdefault(key, cell) is not cell:
            return False
        if self.moves is not moves or self.flights or len(fresh) >= FRESH:
            self.locked(self.cover, key)
        return True

    def cover(self, gone: Gone, key: K) -> None:
        """See to what `set` without the lock cannot: flights, and records."""
        self.take_in_fresh()
        self._detach_flight(key)
        cell = self.entries.get(key)
        state = peek(cell)
        if state is not None:
            self.forget(cell)
            self.index(key, state, next(numbers))

    def delete(self, gone: Gone, key: K) -> bool:
        """Remove and report an item; whether it was alive."""
        self._detach_flight(key)
        cell = self.entries.pop(key, None)
        self.forget(cell)
        old = take(cell)
        if old is None:
            return False
        gone.append((key, old[0]))
        return monotonic() < old[1]

    def pop(self, gone: Gone, key: K) -> State[V] | None:
        """Remove a living item, without a report."""
        self._detach_flight(key)
        cell = self.entries.get(key)
        old = take(cell)
        if cell is None or old is None or monotonic() >= old[1]:
            give_back(cell, old)
            return None
        self.unlink(key, cell, old)
        return old

    def popitem(self, gone: Gone) -> tuple[K, V]:
        """Remove the living item that is last in the dict; report expired ones behind it."""
        while True:
            key, cell = self.entries.popitem()
            self.forget(cell)
            old = take(cell)
            if old is not None:
                if monotonic() < old[1]:
                    return key, old[0]
                gone.append((key, old[0]))

    def clear(self, gone: Gone) -> None:
        """Remove all items, without a report."""
        cells = pairs(self.entries)
        self.entries.clear()
        gone.append((FREED, (cells, self.heap, [take(cell) for _, cell in cells])))
        self.reindex()
        self.expired = None
        self.flights = None

    def discard(self, gone: Gone, keys: Iterable[K]) -> None:
        """Remove these items, without a report."""
        for key in keys:
            try:
                self._detach_flight(key)
                cell = self.entries.pop(key, None)
            except Exception as error:
                gone.append((FAULT, error))
            else:
                self.forget(cell)
                gone.append((FREED, take(cell)))

    # --- Computations ---

    def board(self, gone: Gone, key: K, flight: Flight[V]) -> State[V] | Flight[V]:
        """A living item, or the computation to wait for: `flight`, if there is none yet."""
        state = self.find(gone, key)
        if state is not None:
            return state
        if self.flights is None:
            self.flights = {}
        return self.flights.setdefault(key, flight)

    def land(self, gone: Gone, key: K, flight: Flight[V], value: V, lifetime: float) -> None:
        """Store the result of a computation, unless something newer has come."""
        if self.flights and self.flights.get(key) is flight:
            self.put(gone, key, value, lifetime, present=False)

    def cancel(self, gone: Gone, key: K, flight: Flight[V]) -> None:
        """Forget a computation that has ended."""
        if self.flights and self.flights.get(key) is flight:
            del self.flights[key]

    def _detach_flight(self, key: K) -> None:
        """Something newer has come: the result of a computation is not to be stored."""
        if self.flights:
            self.flights.pop(key, None)

    # --- Fork ---

    def after_fork(self) -> None:
        """Put in order what threads that are no more have left, in the child."""
        if self.lock.acquire(blocking=False):
            self.lock.release()
        else:
            # Somebody else held it, and had perhaps taken a state or a record.
            self.lock = RLock()
            self.depth = 0
            self.deferred = self.expired = None
            for key, cell in pairs(self.entries):
                if not cell:
                    del self.entries[key]
            self.reindex()
        flights = self.flights or {}
        self.flights = None
        for key, flight in flights.items():
            if flight.thread == get_ident():
                self.flights = {**(self.flights or {}), key: flight}
            else:
                flight.end()


_stores: set[weakref.ref[Store[Any, Any]]] = set()
"""All that there are. Added to, removed from and copied by anyone: atomic."""


def _after_fork_in_child() -> None:
    for reference in _stores.copy():
        store = reference()
        if store is not None:
            store.after_fork()


# Not the workers' after_fork: not every cache has a worker, and what a worker runs
# may use any cache.
_process.in_child.append(_after_fork_in_child)
