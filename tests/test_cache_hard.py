"""Keys that raise or come back, destructors that use the cache, and threads at once."""

from __future__ import annotations

import gc
import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cache_helpers import Clock, Evicted
from helpers import Call, Gate, raises, wait_for, wait_until
from letgo.cache import Cache


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def check(cache: Cache[Any, Any]) -> None:
    """All that the cache says of itself fits together, and everything in it can be removed."""
    for key in cache:
        cache.touch(key, 1000)  # what has not expired by now shall not until the end
    keys = list(cache)
    assert len(cache) == len(keys)
    for key in keys:
        del cache[key]
    assert len(cache) == 0
    cache.delete_expired()
    assert cache._letgo_store.entries == {}


class Key:
    """A key that raises when it is told to, and else compares by number."""

    def __init__(self, number: int, group: int = 0) -> None:
        self.number = number
        self.group = group
        self.fails = False
        self.act: Callable[[], object] = int

    def __hash__(self) -> int:
        self.act()
        if self.fails:
            raise ValueError(f"no hash: {self.number}")
        return self.group

    def __eq__(self, other: object) -> bool:
        self.act()
        return isinstance(other, Key) and other.number == self.number


# --- Keys ---


def test_a_key_that_cannot_be_looked_up_raises_and_changes_nothing() -> None:
    """In every method; the cache works on."""
    cache: Cache[Any, int] = Cache(10, maxsize=2)
    key = Key(1)
    cache[key] = 1
    key.fails = True
    for method, *rest in (("get",), ("set", 2), ("add", 2), ("delete",), ("touch",), ("pop",)):
        with pytest.raises(ValueError, match="no hash"):
            getattr(cache, method)(key, *rest)
    key.fails = False
    assert cache[key] == 1
    check(cache)


def test_cleaning_survives_a_key_that_raises(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and tried again later; the others are cleaned."""
    evicted = Evicted()
    cache: Cache[Any, int] = Cache(10, cleanup_interval=None, on_evicted=evicted)
    keys = [Key(number, number) for number in range(5)]
    for key in keys:
        cache[key] = key.number
    clock.move(10)
    keys[2].fails = True
    with caplog.at_level(logging.ERROR, "letgo"):
        assert cache.delete_expired() == 4
        assert cache.delete_expired() == 0
    assert "no hash: 2" in caplog.text
    keys[2].fails = False
    clock.move(60)
    assert cache.delete_expired() == 1
    assert sorted(value for _, value in evicted.items) == [0, 1, 2, 3, 4]


def test_a_key_that_raises_only_at_the_removal_is_kept(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It was found, and then not: it is not reported, and removed later."""
    evicted = Evicted()
    cache: Cache[Any, int] = Cache(10, cleanup_interval=None, on_evicted=evicted)
    key = Key(1)
    cache[key] = 1
    clock.move(10)
    key.act = lambda: setattr(key, "act", raises(ValueError("the second time")))
    with caplog.at_level(logging.ERROR, "letgo"):
        assert cache.delete_expired() == 0
    assert "the second time" in caplog.text
    key.act = int
    clock.move(60)
    assert cache.delete_expired() == 1
    assert evicted.items == [(key, 1)]


def test_the_bound_holds_when_keys_raise() -> None:
    """Another item goes instead, and the caller's own set succeeds."""
    logging.getLogger("letgo").disabled = True
    try:
        cache: Cache[Any, int] = Cache(maxsize=3)
        keys = [Key(number, number) for number in range(3)]
        for key in keys:
            cache[key] = 0
        keys[0].fails = True
        cache["a"] = 1
        assert len(cache) == 3
        for key in keys:
            key.fails = True
        cache["b"] = 2
        cache["c"] = 3
        assert (cache["c"], len(cache)) == (3, 3)
    finally:
        logging.getLogger("letgo").disabled = False


@pytest.mark.parametrize("seed", range(20))
def test_keys_that_use_the_cache_do_no_harm(clock: Clock, seed: int) -> None:
    """`__hash__` and `__eq__` that set, delete, count and clean, with all keys in one bucket.

    (None adds the key that is being added: by that, a dict can come to hold it twice.)
    """
    choose = random.Random(seed)
    maxsize = choose.choice([None, 5])
    cache: Cache[Any, int] = Cache(10, maxsize=maxsize, cleanup_interval=None)
    depth = 0

    def act() -> None:
        nonlocal depth
        if depth < 2 and choose.random() < 0.2:
            depth += 1
            try:
                operate()
            finally:
                depth -= 1

    def operate() -> None:
        clock.move(choose.choice([0, 0, 0.1, 1]))
        key, own = Key(choose.randrange(12)), Key(choose.randrange(4) + 4 * depth)
        key.act = own.act = act
        operations: list[Callable[[], object]] = [
            lambda: cache.set(own, 1),
            lambda: cache.set(own, 1, choose.choice([0.1, 1, 5, 20, None])),
            lambda: cache.add(own, 1),
            lambda: cache.delete(key),
            lambda: cache.touch(key),
            lambda: len(cache),
            lambda: cache.pop(key, None),
            cache.delete_expired,
        ]
        choose.choice(operations)()

    for _ in range(300):
        operate()
        assert maxsize is None or len(cache._letgo_store.entries) <= maxsize
    depth = 2  # from here on keys are plain
    check(cache)


def test_what_is_set_between_the_decision_and_the_removal_survives(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `set` that read the clock just before the expiry stores just after it was seen."""
    evicted = Evicted()
    cache: Cache[Any, int] = Cache(10, cleanup_interval=None, on_evicted=evicted)
    cache["a"] = 1
    later = Key(2)
    cache[later] = 2

    def act() -> None:  # while the worker looks at the second, having seen the first expire
        with monkeypatch.context() as patch:
            patch.setattr("letgo.cache.monotonic", lambda: clock.now - 1)
            later.act = int
            cache["a"] = 3

    clock.move(10)
    later.act = act
    assert cache.delete_expired() == 1
    assert evicted.items == [(later, 2)]
    assert cache.get_with_expiration("a") == (3, 9.0)
    clock.move(9)
    assert cache.delete_expired() == 1


# --- Destructors ---


class Value:
    """A value whose destructor uses the cache; in a cycle, that is in the collector."""

    def __init__(self, cache: Cache[Any, Any], choose: random.Random, in_cycle: bool) -> None:
        self.cache = cache
        self.choose = choose
        if in_cycle:
            self.cycle = self

    def __del__(self) -> None:
        key = self.choose.randrange(10)
        if self.choose.random() < 0.5:
            self.cache.set(key, None, self.choose.choice([None, 1e-9, 10]))
        else:
            self.cache.delete(key)
            len(self.cache)


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """The collector runs at almost every allocation."""
    threshold = gc.get_threshold()
    gc.set_threshold(3, 2, 2)
    yield
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("eager_collector")
@pytest.mark.parametrize("maxsize", [None, 5])
@pytest.mark.parametrize("in_cycle", [False, True])
def test_destructors_may_use_the_cache(in_cycle: bool, maxsize: int | None) -> None:
    """Inside `set` and all the others, on the same thread: no deadlock, no corruption."""
    choose = random.Random(1)
    cache: Cache[Any, Any] = Cache(10, maxsize=maxsize, cleanup_interval=None)

    def churn() -> None:
        for _ in range(1500):
            key = choose.randrange(10)
            cache.set(key, Value(cache, choose, in_cycle), choose.choice([None, 1e-9, 10]))
            cache.pop(choose.randrange(10), None)
            cache.replace(choose.randrange(10), Value(cache, choose, in_cycle))
            if maxsize is not None:
                assert len(cache) <= maxsize
        cache.clear()

    Call(churn).result()
    gc.collect()
    check(cache)


def test_a_removed_value_is_destroyed_under_no_lock() -> None:
    """Its destructor may wait for another thread that uses the cache."""
    # A class is kept for ever without the GIL on 3.13, and this one keeps the cache.
    cache: Cache[str, Any] = Cache(10, maxsize=1, cleanup_interval=None)

    class Waiting:
        def __del__(self) -> None:
            Call(cache.touch, "other").result()

            destroyed.append(1)

    destroyed: list[int] = []
    removals: list[Callable[[], object]] = [
        lambda: cache.set("a", 1),
        lambda: cache.set("a", 1, 5),
        lambda: cache.delete("a"),
        lambda: cache.pop("a"),
        lambda: cache.set("b", 1),
        cache.clear,
    ]
    for number, remove in enumerate(removals, 1):
        cache.set("a", Waiting())
        remove()
        assert len(destroyed) == number


# --- Threads ---


def test_readers_and_writers_go_on_while_it_cleans() -> None:
    """A report that takes long keeps neither `get` nor `set` waiting."""
    gate = Gate()
    cache: Cache[str, int] = Cache(0.001, cleanup_interval=None, on_evicted=lambda k, v: gate())
    cache["a"] = 1
    cache.set("b", 2, None)
    wait_until(lambda: "a" not in cache)
    call = Call(cache.delete_expired)
    wait_for(gate.entered)
    assert Call(cache.get, "b").result() == 2
    Call(cache.set, "a", 3, None).result()
    gate.opened.set()
    assert call.result() == 1
    assert cache["a"] == 3


def test_increments_of_many_threads_all_count() -> None:
    """Against a janitor, and against touches that take the same item."""
    cache: Cache[str, int] = Cache(100, items={"n": 0})

    def count() -> None:
        for _ in range(2000):
            cache.increment("n")
            cache.touch("n")
            cache.delete_expired()

    calls = [Call(count) for _ in range(4)]
    for call in calls:
        call.result()
    assert cache["n"] == 8000


def test_of_many_adds_one_stores() -> None:
    """For each key, whatever else happens to its neighbours."""
    cache: Cache[int, int] = Cache(100)
    stored: list[int] = []

    def add() -> None:
        for key in range(1000):
            if cache.add(key, key):
                stored.append(key)

    calls = [Call(add) for _ in range(4)]
    for call in calls:
        call.result()
    assert sorted(stored) == list(range(1000))


def test_a_set_is_seen_at_once_by_its_own_thread() -> None:
    """Whatever janitor, evictions of others and short lives go on: a living item stays."""
    cache: Cache[Any, Any] = Cache(1e-6, cleanup_interval=None)
    done = threading.Event()

    def clean() -> None:
        while not done.is_set():
            cache.delete_expired()

    def write(name: str) -> None:
        for number in range(3000):
            cache.set(name, number, 1e-6 if number % 3 else 100)
            if number % 3 == 0:
                assert cache.get(name) == number

    cleaner = Call(clean)
    writers = [Call(write, name) for name in "abc"]
    for writer in writers:
        writer.result()
    done.set()
    cleaner.result()


@pytest.mark.parametrize("maxsize", [None, 20])
def test_threads_at_one_cache_do_no_harm(maxsize: int | None) -> None:
    """Every operation, on few keys, with short lives: nothing raises, and all fits together."""
    evicted = Evicted()
    cache: Cache[int, Any] = Cache(0.001, maxsize=maxsize, cleanup_interval=0.01)
    cache.on_evicted = evicted
    too_many: list[int] = []

    def hammer(seed: int) -> None:
        choose = random.Random(seed)
        for number in range(1500):
            key = choose.randrange(40)
            match choose.randrange(12):
                case 0 | 1 | 2:
                    cache.set(key, number, choose.choice([None, 1e-5, 1e-3, 10]))
                case 3:
                    cache.add(key, number)
                case 4:
                    cache.get_or_set(key, lambda: choose.random())
                case 5:
                    cache.delete(key)
                case 6:
                    cache.pop(key, None)
                case 7:
                    cache.touch(key, choose.choice([1e-5, 10]))
                case 8:
                    list(cache.items())
                case 9:
                    cache.setdefault(key, number)
                case 10:
                    cache.replace(key, number)
                case _:
                    if maxsize is not None and len(cache._letgo_store.entries) > maxsize:
                        too_many.append(len(cache))

    calls = [Call(hammer, seed) for seed in range(4)]
    for call in calls:
        call.result()
    cache.close()
    assert too_many == []
    check(cache)
