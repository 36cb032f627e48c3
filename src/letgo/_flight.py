"""One computation of a value that several threads want at once."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from letgo._store import Store

V = TypeVar("V")


class Flight(Generic[V]):
    """A computation in progress, as its waiters see it."""

    __slots__ = ("thread", "landed", "value", "_lock")

    value: V  # written before `landed`

    def __init__(self) -> None:
        self.thread = get_ident()
        self.landed = False  # whether there is a value; written before the release
        self._lock = Lock()
        # Held by the thread that computes, until `end`. In a forked child without
        # that thread, `end` is called by the one that forked.
        self._lock.acquire()

    def land(self, value: V) -> None:
        """Have a value for the waiters; `end` lets them go."""
        self.value = value
        self.landed = True

    def end(self) -> None:
        """Let all waiters go."""
        self._lock.release()

    def wait(self) -> None:
        """Wait for the end. Each waiter lets the next one through."""
        with self._lock:
            pass


def get_or_compute(
    store: Store[Any, V], key: object, factory: Callable[[], V], lifetime: float
) -> V:
    """The value of a living item, or else of one computation for all who ask."""
    while True:
        flight: Flight[V] = Flight()
        found = store.locked(store.board, key, flight)
        if found is flight:
            return _compute(store, key, factory, lifetime, flight)
        if not isinstance(found, Flight):
            return found[0]
        if found.thread == get_ident():
            raise RuntimeError(f"the factory of {key!r} asks for its own result")
        found.wait()
        if found.landed:
            return found.value


def _compute(
    store: Store[Any, V],
    key: object,
    factory: Callable[[], V],
    lifetime: float,
    flight: Flight[V],
) -> V:
    try:
        value = factory()
        flight.land(value)
        store.locked(store.land, key, flight, value, lifetime)
        return value
    finally:
        try:
            # Before its end: a waiter that found it there again would not wait.
            store.locked(store.cancel, key, flight)
        finally:
            flight.end()
