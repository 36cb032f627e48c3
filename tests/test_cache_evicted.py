"""What is removed, in which order, and who is told of it."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import letgo
from cache_helpers import Clock, Evicted
from helpers import Call, Gate, raises, wait_for, wait_until
from letgo.cache import Cache


class Thing:
    """A value that can be weakly referred to."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# --- on_evicted ---


@pytest.mark.parametrize(
    "remove", [lambda c: c.delete("a"), lambda c: c.__delitem__("a"), lambda c: c.set("b", 2)]
)
def test_what_the_caller_removes_is_reported_in_the_caller(
    remove: Callable[[Cache[str, int]], object],
) -> None:
    """By delete, `del` and maxsize: once, with key and value, in this thread."""
    evicted = Evicted()
    cache = Cache(maxsize=1, on_evicted=evicted, items={"a": 1})
    remove(cache)
    assert evicted.items == [("a", 1)]
    assert evicted.threads == [threading.current_thread().name]


@pytest.mark.parametrize(
    "remove",
    [
        lambda c: c.set("a", 2),
        lambda c: c.set("a", 2, 1),
        lambda c: c.replace("a", 2),
        lambda c: c.increment("a"),
        lambda c: c.touch("a", 1),
        lambda c: c.pop("a"),
        lambda c: c.popitem(),
        lambda c: c.clear(),
        lambda c: c.close(),
    ],
)
def test_what_is_handed_out_or_replaced_is_not_reported(
    remove: Callable[[Cache[str, int]], object],
) -> None:
    """Nor is what goes with all others, or with the cache."""
    evicted = Evicted()
    cache = Cache(10, on_evicted=evicted, items={"a": 1})
    remove(cache)
    del cache
    gc.collect()
    assert evicted.items == []


@pytest.mark.parametrize("store", ["set", "add", "setdefault", "get_or_set"])
def test_overwriting_an_expired_item_reports_it(clock: Clock, store: str) -> None:
    """Once, in the caller: the cleaning does not find it any more."""
    evicted = Evicted()
    cache = Cache(10, cleanup_interval=None, on_evicted=evicted, items={"a": 1})
    clock.move(10)
    getattr(cache, store)("a", (lambda: 2) if store == "get_or_set" else 2)
    assert cache["a"] == 2
    assert cache.delete_expired() == 0
    assert evicted.items == [("a", 1)]


def test_on_evicted_can_be_set_and_unset_later() -> None:
    """It is an attribute, and checked as the argument is."""
    evicted = Evicted()
    cache = Cache(items={"a": 1, "b": 2})
    cache.delete("a")
    cache.on_evicted = evicted
    assert cache.on_evicted is evicted
    cache.delete("b")
    cache.on_evicted = None
    cache["c"] = 3
    cache.delete("c")
    assert evicted.items == [("b", 2)]

    async def wrong(key: str, value: int) -> None: ...

    with pytest.raises(TypeError, match="on_evicted"):
        cache.on_evicted = wrong


def test_what_on_evicted_raises_is_logged_and_loses_nothing(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are reported and removed all the same, and the caller sees no error."""
    evicted = Evicted()

    def callback(key: int, value: int) -> None:
        evicted(key, value)
        if key % 2:
            raise ValueError(f"odd: {key}")

    cache = Cache(10, cleanup_interval=None, on_evicted=callback, items={1: 1, 2: 2, 3: 3})
    clock.move(10)
    with caplog.at_level(logging.ERROR, "letgo"):
        assert cache.delete_expired() == 3
    assert sorted(evicted.items) == [(1, 1), (2, 2), (3, 3)]
    assert len(caplog.records) == 2
    assert "odd: 1" in caplog.text


def test_on_evicted_may_use_the_cache_from_any_thread() -> None:
    """It runs outside every lock: another thread gets through while it waits."""
    gate = Gate()
    cache: Cache[str, int] = Cache(on_evicted=lambda key, value: gate(), items={"a": 1})
    call = Call(cache.delete, "a")
    wait_for(gate.entered)
    assert Call(cache.add, "a", 2).result() is True
    assert cache["a"] == 2
    assert call.pending()
    gate.opened.set()
    assert call.result() is True


def test_on_evicted_of_an_inner_call_waits_for_the_outermost_lock() -> None:
    """A key's `__eq__` deletes inside `set`: the reports come once that has let go."""
    evicted = Evicted()
    victims = iter(range(100))

    class Key:
        def __hash__(self) -> int:
            return -1

        def __eq__(self, other: object) -> bool:
            cache.delete(next(victims))
            return False

    def callback(key: int, value: int) -> None:
        Call(cache.add, ("by another thread", key), key).result()
        evicted(key, value)

    items = {number: number for number in range(100)}
    # A class is kept for ever without the GIL on 3.13, and this one keeps the cache.
    cache: Cache[Any, int] = Cache(items=items, cleanup_interval=None)
    cache[Key()] = -1
    cache.on_evicted = callback
    cache[Key()] = -1
    deleted = next(victims)
    assert deleted > 1
    assert sorted(evicted.items) == [(number, number) for number in range(deleted)]


# --- maxsize ---


def test_the_bound_holds_and_what_expires_soonest_goes(clock: Clock) -> None:
    """Expired first, then soonest, then what never expires."""
    evicted = Evicted()
    cache: Cache[str, int] = Cache(maxsize=4, cleanup_interval=None, on_evicted=evicted)
    cache.set("never", 0, None)
    cache.set("late", 0, 30)
    cache.set("soon", 0, 20)
    cache.set("gone", 0, 10)
    clock.move(10)
    for key in ("1", "2", "3", "4"):
        cache.set(key, 0, None)
        assert len(cache._letgo_store.entries) == 4
    assert [key for key, _ in evicted.items] == ["gone", "soon", "late", "never"]
    assert list(cache) == ["1", "2", "3", "4"]


def test_among_equals_the_first_set_goes_and_overwriting_sets_anew() -> None:
    """Items that never expire leave in the order of their sets; reading changes nothing."""
    cache = Cache(maxsize=3, items={"a": 1, "b": 2, "c": 3})
    cache["a"] = 4
    assert cache["b"] == 2
    cache["d"] = 5
    assert set(cache) == {"a", "c", "d"}
    cache["e"] = 6
    assert set(cache) == {"a", "d", "e"}


def test_overwriting_needs_no_room(clock: Clock) -> None:
    """A full cache overwrites without removing anything."""
    evicted = Evicted()
    cache = Cache(10, maxsize=2, on_evicted=evicted, items={"a": 1, "b": 2})
    for ttl in (5, 50, None):
        cache.set("a", 3, ttl)
    assert (len(cache), evicted.items) == (2, [])


# --- Memory ---


@pytest.mark.parametrize(
    "remove",
    [
        lambda c: c.set("a", 1),
        lambda c: c.set("a", 1, 5),
        lambda c: c.replace("a", 1),
        lambda c: c.delete("a"),
        lambda c: c.pop("a") and None,
        lambda c: c.clear(),
    ],
)
def test_a_value_is_freed_when_it_leaves(remove: Callable[[Cache[str, Any]], object]) -> None:
    """At once and without the collector: no index keeps it."""
    gc.disable()
    try:
        cache: Cache[str, Any] = Cache(10)
        cache.set("a", Thing())
        value = weakref.ref(cache["a"])
        remove(cache)
        assert value() is None
    finally:
        gc.enable()


def test_a_dropped_cache_and_its_items_are_freed_at_once() -> None:
    """Without the collector; the worker is told, and does not hold them."""
    gc.disable()
    try:
        cache: Cache[int, Thing] = Cache(10, maxsize=5)
        for number in range(20):
            cache[number] = Thing()
        len(cache)
        cache.get_or_set(30, Thing)
        parts = [weakref.ref(cache), weakref.ref(cache._letgo_store), weakref.ref(cache[30])]
        del cache
        assert [part() for part in parts] == [None, None, None]
        wait_until(lambda: not letgo.live())
    finally:
        gc.enable()


def referring_back(where: str) -> weakref.ref[Thing]:
    """Something that only a cache refers to, and that refers to the cache."""
    cache: Cache[Any, Any] = Cache(0.01, cleanup_interval=0.01)
    thing = Thing()
    thing.cache = cache  # type: ignore[attr-defined]
    if where == "value":
        cache.set("a", thing, None)
    elif where == "key":
        cache.set(thing, 1, None)
    else:
        cache.on_evicted = lambda key, value: thing
    wait_until(lambda: cache.info.polls > 2, "the worker has cleaned")
    return weakref.ref(thing)


@pytest.mark.parametrize("where", ["value", "key", "on_evicted"])
def test_what_refers_back_to_the_cache_is_a_plain_cycle(where: str) -> None:
    """The collector frees it: the worker keeps neither alive."""
    thing = referring_back(where)
    wait_until(lambda: (gc.collect(), thing() is None)[1], "the cycle is freed")


def test_a_million_sets_of_one_key_stay_in_bounded_memory() -> None:
    """Between two cleanings, whichever way they are made."""
    cache: Cache[str, int] = Cache(1000, cleanup_interval=None)
    for number in range(1_000_000):
        cache.set("a", number)
    for number in range(20_000):
        cache.set("b", number, 2000 - number / 1000)  # ever sooner
        cache.set("c", number)
        cache.delete("c")
    assert len(cache._letgo_store.heap) < 100


def test_new_items_are_not_all_left_to_the_first_cleaning() -> None:
    """They are indexed as they come, some thousand at a time, so that it costs what it cleans."""
    cache: Cache[int, int] = Cache(1000, cleanup_interval=None)
    for number in range(10_000):
        cache[number] = number
    assert len(cache._letgo_store.fresh or ()) <= 1000


def test_cleaning_does_not_look_at_what_lives(clock: Clock) -> None:
    """It hashes the keys that have expired, and no others."""
    hashed: list[int] = []

    class Key(int):
        def __hash__(self) -> int:
            hashed.append(int(self))
            return int(self)

    cache: Cache[Key, int] = Cache(1000, cleanup_interval=None)
    for number in range(10_000):
        cache.set(Key(number), 0, 10 if number % 1000 == 0 else None)
    clock.move(10)
    hashed.clear()
    assert cache.delete_expired() == 10
    assert set(hashed) == set(range(0, 10_000, 1000))


def test_the_worker_lets_others_in_between_slices() -> None:
    """With much to clean, another handle on the scheduler is polled before it is done."""
    evicted = Evicted()
    scheduler = letgo.Scheduler()
    gate = Gate()
    cache: Cache[int, int] = Cache(0.001, cleanup_interval=3600, scheduler=scheduler)
    for number in range(50_000):
        cache[number] = number
    left: list[int] = []

    def poll() -> None:
        left.append(50_000 - len(evicted.items))

    def callback(key: int, value: int) -> None:
        if not evicted.items:
            gate()
        evicted(key, value)

    cache.on_evicted = callback
    cache.wake()
    wait_for(gate.entered)
    other = letgo.Handle(poll, immediate=True, interval=3600, scheduler=scheduler)
    gate.opened.set()
    wait_until(lambda: len(evicted.items) == 50_000, "all are cleaned")
    wait_until(lambda: left, "the other was polled")
    assert left[0] > 0
    other.close()


def test_what_is_set_while_the_worker_cleans_survives() -> None:
    """A key that is set anew from within the report of another is not cleaned."""
    cache: Cache[int, int] = Cache(0.001, cleanup_interval=None)
    for number in range(1000):
        cache[number] = 0

    def callback(key: int, value: int) -> None:
        if value == 0:
            cache.set(key, 1, None)
            cache.set((key + 500) % 1000, 1, None)

    cache.on_evicted = callback
    wait_until(lambda: not len(cache))
    cache.delete_expired()
    assert dict(cache) == dict.fromkeys(range(1000), 1)


def test_ten_thousand_caches_made_and_dropped_leave_nothing() -> None:
    """No thread, no worker, no store, no registered reference."""
    from letgo import _store

    gc.collect()
    before = len(_store._stores)
    for number in range(10_000):
        Cache(10, items={number: number})
    wait_until(lambda: not letgo.live(), "all workers have ended")
    assert len(_store._stores) == before


def test_an_error_in_a_handler_of_the_report_ends_nothing() -> None:
    """A worker whose callback always fails goes on cleaning."""
    cache: Cache[str, int] = Cache(0.001, cleanup_interval=0.01, on_evicted=raises(OSError("no")))
    logging.getLogger("letgo").disabled = True
    try:
        for _ in range(3):
            cache["a"] = 1
            wait_until(lambda: not cache._letgo_store.entries, "it is cleaned")
        assert cache.alive
    finally:
        logging.getLogger("letgo").disabled = False
