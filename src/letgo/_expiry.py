"""Items in the order in which they expire, and their removal in that order.

An item is a *cell*: a list with one *state* in it. Taking the state out, with
`list.pop`, is atomic, and whoever has taken it decides alone what becomes of the
item. So an empty cell is dead, or in the hands of somebody who holds the lock, and a cell
that leaves the dict is emptied.
That is what lets `get` and most of `set` do without the lock: they read or replace
the state of a full cell, or add one where there is none, and ask again under the
lock where the cell turns out to be empty.

All else happens under `lock`. A thread can come back while it holds it, through
a key's `__hash__` or `__eq__`, a destructor or a signal handler. So the lock is
re-entrant, and nothing that was read before user code may have run is relied on
after it: only what was taken. Callbacks, logging and the destructors of values
wait until the outermost of such calls has released the lock.

`heap` has a record for each item that can expire (in a bounded store: for each
item), which is not after the item's own time; or `fresh` has it, or the item is in
`expired`.
Overwriting with a later time needs no new record: the old one is moved when it
surfaces. Records hold keys and never values.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from threading import RLock
from time import monotonic, sleep
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from letgo import _report
from letgo._context import again, stopping

K = TypeVar("K")
V = TypeVar("V")
P = ParamSpec("P")
R = TypeVar("R")

State = tuple[V, float, int]  # value, expiry on the monotonic clock, number of the set
Cell = list[State[V]]
Record = tuple[float, int, int, K]  # expiry, number of the set, tie-breaker, key
Gone = list[tuple[Any, Any]]  # key and value of what was removed

# Instead of the key in a `Gone`: only to be freed, or an error to be logged.
FREED: Final = object()
FAULT: Final = object()

# Items that are cleaned under one hold of the lock.
_SLICE = 200
# Records in `fresh` that make a `set` move them into the heap.
FRESH = 1000
# Seconds that one poll cleans before others on its scheduler have their turn.
_TURN = 0.02
# Seconds until an item is tried again whose key could not be looked up.
_RETRY = 60.0


# Of sets and of records: used once, so that keys are never compared.
numbers = itertools.count(1)


def peek(cell: Cell[V] | None) -> State[V] | None:
    """The state of a cell; None when there is none."""
    try:
        return cell[0] if cell else None
    except IndexError:
        return None  # taken in between


def take(cell: Cell[V] | None) -> State[V] | None:
    """Take the state out, so that nobody else can; None when somebody has."""
    try:
        return cell.pop() if cell else None
    except IndexError:
        return None


def give_back(cell: Cell[V] | None, state: State[V] | None) -> None:
    """Undo `take`."""
    if cell is not None and state is not None:
        cell.append(state)


def pairs(entries: dict[K, Cell[V]]) -> list[tuple[K, Cell[V]]]:
    """All keys and cells, as they are at one moment, without a look at any key.

    Not `entries.copy()`, which can compare keys.
    """
    while True:
        try:
            return list(entries.items())
        except RuntimeError:
            pass  # 3.11: the collector came in between, and a destructor changed the dict


class Expiry(Generic[K, V]):
    """The items, their lock and their index."""

    __slots__ = (
        "lock",
        "entries",  # `set` adds cells and replaces states without the lock; all else is under it
        # Written under the lock. Those that few stores need are None at first.
        "heap",
        "fresh",  # records that are yet to come into the heap; `set` appends without the lock
        "moves",  # counts the records that were taken out of the heap
        "expired",  # cells that are known to have expired, by id
        "depth",  # calls that hold the lock, one inside the other
        "deferred",  # what inner calls leave to the outermost one
        "posted",  # what finalizers leave to whoever has the lock; they append without it
        "maxsize",  # constant
        "on_evicted",  # written by any thread
    )

    def __init__(self, maxsize: int | None) -> None:
        self.lock = RLock()
        self.entries: dict[K, Cell[V]] = {}
        self.heap: list[Record[K]] = []
        self.fresh: list[Record[K]] | None = None
        self.moves = 0
        self.expired: OrderedDict[int, tuple[K, Cell[V]]] | None = None
        self.depth = 0
        self.deferred: Gone | None = None
        self.posted: list[Callable[[Gone], object]] | None = None
        self.maxsize = maxsize
        self.on_evicted: Callable[[K, V], object] | None = None

    # --- The lock ---

    def locked(
        self, operation: Callable[Concatenate[Gone, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `operation` under the lock; see to what it removed when that is released."""
        gone: Gone = []
        try:
            with self.lock:
                self.depth += 1
                try:
                    result = operation(gone, *args, **kwargs)
                    if self.maxsize is not None:
                        # The operation made room, but user code within it can store too.
                        self.shrink(gone, self.maxsize)
                    return result
                finally:
                    self.depth -= 1
                    if self.depth or self.deferred:
                        gone = self._collect(gone)
        finally:
            if gone:
                self._tell(gone)
            if self.posted:
                self._open_post()

    def post(self, operation: Callable[[Gone], object]) -> None:
        """Have `operation` run under the lock: now, if it is free, else by whoever has it.

        Threads: finalizer-safe. Whoever has the lock looks here when it has let go.
        """
        if self.posted is not None:
            self.posted.append(operation)
            self._open_post()

    def _open_post(self) -> None:
        while self.posted and self.lock.acquire(blocking=False):
            gone: Gone = []
            self.depth += 1
            try:
                while self.posted:
                    self.posted.pop()(gone)
            except IndexError:
                pass  # an inner call was faster
            finally:
                self.depth -= 1
                gone = self._collect(gone)
                self.lock.release()
            self._tell(gone)

    def _collect(self, gone: Gone) -> Gone:
        """What this call is to see to: an inner one leaves it to the outermost."""
        if self.deferred is not None:
            gone = self.deferred + gone
            self.deferred = None
        if self.depth and gone:
            self.deferred = gone
            return []
        return gone

    def _tell(self, gone: Gone) -> None:
        """Report what was removed. Threads: the one that removed it, under no lock of ours."""
        for key, value in gone:
            callback = self.on_evicted
            if key is FAULT:
                message = "letgo.cache: an item could not be removed, since its key failed"
                _report.log(logging.ERROR, message, error=value)
            elif key is not FREED and callback is not None:
                try:
                    callback(key, value)
                except Exception as error:
                    _report.log(logging.ERROR, "letgo.cache: on_evicted failed", error=error)

    # --- The index. From here on, all is run by `locked` ---

    def index(self, key: K, state: State[V], number: int) -> None:
        """Add a record for an item; `number` is one that no other record has."""
        if state[1] < inf or self.maxsize is not None:
            heapq.heappush(self.heap, (state[1], state[2], number, key))
            self._trim()

    def _trim(self) -> None:
        """Drop stale records when they outnumber the others: O(1) for each that was left."""
        if len(self.heap) + len(self.fresh or ()) > 2 * len(self.entries) + 64:
            self.reindex()

    def reindex(self) -> None:
        """Make the index anew. Where user code comes in between, an item may get two records."""
        heap: list[Record[K]] = []
        self.heap = heap
        if self.fresh:
            self.fresh.clear()
        # After that and before the look at the items: a `set` without the lock whose
        # record or item this misses sees that it has to make sure of a record.
        self.moves += 1
        heap += [
            (state[1], state[2], next(numbers), key)
            for key, cell in pairs(self.entries)
            if (state := peek(cell)) and (state[1] < inf or self.maxsize is not None)
        ]
        heapq.heapify(heap)

    def forget(self, cell: Cell[V] | None) -> None:
        """To be called for each cell that has left the dict: its id can be used again."""
        if self.expired:
            self.expired.pop(id(cell), None)
        self._trim()

    def _settle(self, gone: Gone, now: float, limit: float) -> bool:
        """Look at up to `limit` records that are due; whether those were all.

        Each item that has expired is in `expired` then.
        """
        self.take_in_fresh()
        while record := self._pop_record(now if limit > 0 else -inf):
            limit -= 1
            try:
                cell = self.entries.get(record[3])
            except Exception as error:
                gone.append((FAULT, error))
                self._retry(record[3], now)
                continue
            state = peek(cell)
            if cell is None or state is None:
                continue  # stale
            if state[1:] > record[:2]:
                self.index(record[3], state, next(numbers))  # where it belongs by now
            else:
                expired = self.expired
                if expired is None:
                    expired = self.expired = OrderedDict()
                expired[id(cell)] = (record[3], cell)
                if not cell:
                    expired.pop(id(cell), None)  # a destructor has just removed it
        return limit > 0

    def take_in_fresh(self) -> None:
        """Move what is in `fresh` into the heap."""
        if self.fresh:
            count = len(self.fresh)
            batch = self.fresh[:count]
            del self.fresh[:count]  # others append meanwhile
            for record in batch:
                heapq.heappush(self.heap, record)

    def _pop_record(self, now: float) -> Record[K] | None:
        """The first record, if it is due."""
        # Before the state is looked at: a `set` without the lock that comes after
        # the look sees this, and makes sure of a record.
        self.moves += 1
        try:
            return heapq.heappop(self.heap) if self.heap[0][0] <= now else None
        except IndexError:
            return None

    def _retry(self, key: K, now: float) -> None:
        number = next(numbers)
        heapq.heappush(self.heap, (now + _RETRY, number, number, key))

    # --- Removal ---

    def unlink(self, key: K, cell: Cell[V], old: State[V]) -> None:
        """Take a cell out of the dict whose state has been taken; give it back on failure."""
        try:
            found = self.entries.pop(key, None)
        except BaseException:
            cell.append(old)
            raise
        self.forget(cell)
        if found is not None and found is not cell:
            self._put_back(key, found)

    def _put_back(self, key: K, cell: Cell[V]) -> None:
        """Undo the removal of an item that the key's `__eq__` has set anew meanwhile."""
        if self.entries.setdefault(key, cell) is not cell:
            self.forget(cell)
        elif state := peek(cell):
            self.index(key, state, next(numbers))  # its record may have passed for stale
        else:
            # ... and that was removed again, when it was not in its place.
            self.entries.pop(key, None)
            self.forget(cell)

    def _remove(self, gone: Gone, key: K, cell: Cell[V], bound: tuple[float, float]) -> bool:
        """Remove and report an item, unless it was set to be after `bound` meanwhile."""
        old = take(cell)
        if old is None:
            return False
        if old[1:] > bound:
            cell.append(old)
            self.index(key, old, next(numbers))
            return False
        try:
            self.unlink(key, cell, old)
        except Exception as error:
            gone.append((FAULT, error))
            self._retry(key, monotonic())
            return False
        gone.append((key, old[0]))
        return True

    def _remove_expired(self, gone: Gone, now: float) -> bool:
        """Remove the first of `expired`; whether it was still to be removed."""
        try:
            _, (key, cell) = (self.expired or OrderedDict()).popitem(last=False)
        except KeyError:
            return False
        return self._remove(gone, key, cell, (now, inf))

    def shrink(self, gone: Gone, size: int) -> None:
        """Remove items until there are `size`: expired ones, then what expires soonest."""
        if len(self.entries) <= size:
            return
        now = monotonic()
        failed: list[Record[K]] = []
        self._settle(gone, now, inf)
        while len(self.entries) > size:
            if self.expired:
                self._remove_expired(gone, now)
            elif record := self._pop_record(inf):
                self._remove_soonest(gone, record, failed)
            else:
                self._remove_last(gone)  # only keys that fail are left: this looks none up
        for record in failed:
            heapq.heappush(self.heap, record)

    def _remove_last(self, gone: Gone) -> None:
        """Remove and report the item that is last in the dict."""
        try:
            key, cell = self.entries.popitem()
        except KeyError:
            return
        self.forget(cell)
        if old := take(cell):
            gone.append((key, old[0]))

    def _remove_soonest(self, gone: Gone, record: Record[K], failed: list[Record[K]]) -> None:
        """Remove the item of the first record, if that is where it belongs."""
        try:
            cell = self.entries.get(record[3])
        except Exception as error:
            gone.append((FAULT, error))
            failed.append(record)
            return
        state = peek(cell)
        if cell is None or state is None:
            return  # stale
        if state[1:] > record[:2]:
            self.index(record[3], state, next(numbers))
        else:
            self._remove(gone, record[3], cell, record[:2])

    # --- Counting and cleaning ---

    def count(self, gone: Gone) -> int | None:
        """The number of living items; None when there is more to do first: call again."""
        now = monotonic()
        if self.depth > 1:
            # Called by user code inside another operation, which may be between the dict
            # and its index: look at each.
            states = [peek(cell) for _, cell in pairs(self.entries)]
            return sum(state is not None and now < state[1] for state in states)
        if not self._settle(gone, now, _SLICE):
            return None
        return len(self.entries) - len(self.expired or ())

    def _clean_slice(self, gone: Gone, now: float) -> tuple[int, bool]:
        """Remove some of what had expired at `now`; how many, and whether that was all."""
        settled = self._settle(gone, now, _SLICE)
        removed = 0
        for _ in range(min(_SLICE, len(self.expired or ()))):
            removed += self._remove_expired(gone, now)
        return removed, settled and not self.expired

    def clean(self) -> None:
        """The worker's poll. Holds the lock for a slice at a time, and lets others in."""
        now = monotonic()
        while not self.locked(self._clean_slice, now)[1]:
            if stopping():
                return
            if monotonic() > now + _TURN:
                again()
                return
            sleep(0)

    def delete_expired(self) -> int:
        """Remove all that had expired when this began; how many."""
        now = monotonic()
        total = 0
        while True:
            removed, done = self.locked(self._clean_slice, now)
            total += removed
            if done:
                return total
            sleep(0)
