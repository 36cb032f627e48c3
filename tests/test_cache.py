"""The cache as go-cache's users know it, and as a mapping."""

from __future__ import annotations

import copy
import math
import pickle
import time
from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any

import pytest

import letgo
from cache_helpers import Clock, Evicted
from helpers import wait_until
from letgo.cache import Cache


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


# --- What go-cache's own tests check ---


def test_get_returns_what_was_set_and_the_default_for_what_was_not() -> None:
    """A value comes back as it is, None and falsy ones included; nothing else does."""
    cache: Cache[str, object] = Cache()
    assert cache.get("a") is None
    assert cache.get("a", 7) == 7
    for value in (1, "b", 3.5, None, 0, ""):
        cache.set("a", value)
        assert cache.get("a", "default") is value


def test_lifetimes_are_the_default_their_own_or_none(clock: Clock) -> None:
    """An omitted ttl is the default; one that is given wins; None never ends."""
    cache: Cache[str, int] = Cache(50)
    cache.set("default", 1)
    cache.set("own", 2, 20)
    cache.set("longer", 3, timedelta(seconds=70))
    cache.set("never", 4, None)
    clock.move(19.99)
    assert list(cache) == ["default", "own", "longer", "never"]
    clock.move(0.01)  # to the very instant
    assert list(cache) == ["default", "longer", "never"]
    clock.move(30)
    assert list(cache) == ["longer", "never"]
    clock.move(20)
    assert list(cache) == ["never"]
    clock.move(1e9)
    assert cache["never"] == 4


def test_items_to_begin_with_live_for_the_default(clock: Clock) -> None:
    """`items` are copied in, as `NewFrom` does, and expire like what is set."""
    items = {"a": 1, "b": 2}
    cache = Cache(10, items=items)
    assert (cache["a"], cache["b"], len(cache)) == (1, 2, 2)
    cache["c"] = 3
    assert items == {"a": 1, "b": 2}
    clock.move(10)
    assert len(cache) == 0


def test_a_mutable_value_is_kept_itself() -> None:
    """The cache holds the object, not a copy: a change to it is seen by all."""
    cache: Cache[str, list[int]] = Cache()
    cache.set("list", [1])
    cache["list"].append(2)
    assert cache["list"] == [1, 2]


@pytest.mark.parametrize(
    ("start", "n", "after"),
    [(1, 2, 3), (1, 0.5, 1.5), (1.5, 2, 3.5), (5, -7, -2), (2**70, 1, 2**70 + 1)],
)
def test_increment_and_decrement_add_and_subtract(start: float, n: float, after: float) -> None:
    """Ints and floats of any size, mixed; the new value is returned and stored."""
    cache: Cache[str, float] = Cache()
    cache["n"] = start
    assert cache.increment("n", n) == after == cache["n"]
    assert cache.decrement("n", n) == start == cache["n"]
    assert (cache.increment("n"), cache.decrement("n")) == (start + 1, start)


def test_increment_keeps_the_lifetime(clock: Clock) -> None:
    """Counting does not prolong an item's life."""
    cache: Cache[str, int] = Cache()
    cache.set("n", 1, 10)
    clock.move(9)
    cache.increment("n")
    assert cache.get_with_expiration("n") == (2, 1.0)
    clock.move(1)
    with pytest.raises(KeyError, match="n"):
        cache.increment("n")
    with pytest.raises(KeyError, match="gone"):
        cache.decrement("gone")


@pytest.mark.parametrize("value", ["1", None, True, 1j, [1]])
def test_only_numbers_can_be_incremented(value: Any) -> None:
    """A non-number on either side is a TypeError, a bool too, and changes nothing."""
    cache: Cache[str, Any] = Cache(items={"value": value, "number": 1})
    with pytest.raises(TypeError, match=type(value).__name__):
        cache.increment("value")
    with pytest.raises(TypeError, match="n must be"):
        cache.increment("number", value)
    with pytest.raises(TypeError, match="n must be"):
        cache.decrement("number", value)
    assert cache["value"] is value
    assert cache["number"] == 1


def test_add_stores_only_where_nothing_lives(clock: Clock) -> None:
    """`add` is for absent and expired keys, and says whether it stored."""
    cache: Cache[str, int] = Cache(10)
    assert cache.add("a", 1)
    assert not cache.add("a", 2)
    assert cache["a"] == 1
    clock.move(10)
    assert cache.add("a", 3, 5)
    assert cache.get_with_expiration("a") == (3, 5.0)


def test_replace_stores_only_over_a_living_item(clock: Clock) -> None:
    """`replace` is for keys that are present, and says whether it stored."""
    cache: Cache[str, int] = Cache(10)
    assert not cache.replace("a", 1)
    assert "a" not in cache
    cache["a"] = 1
    assert cache.replace("a", 2, 5)
    assert cache.get_with_expiration("a") == (2, 5.0)
    clock.move(5)
    assert not cache.replace("a", 3)


def test_delete_says_whether_something_was_there(clock: Clock) -> None:
    """Absent and expired keys count as not there."""
    cache: Cache[str, int] = Cache(10)
    cache["a"] = 1
    assert cache.delete("a")
    assert not cache.delete("a")
    assert cache.get("a") is None
    cache["a"] = 1
    clock.move(10)
    assert not cache.delete("a")


def test_clear_removes_all() -> None:
    """`clear` is go-cache's Flush."""
    cache = Cache(items={"a": 1, "b": 2})
    cache.clear()
    assert (len(cache), list(cache), cache.get("a")) == (0, [], None)
    cache["a"] = 3
    assert dict(cache) == {"a": 3}


def test_get_with_expiration_tells_what_is_left(clock: Clock) -> None:
    """Value and remaining seconds, None for ever; KeyError for absent and expired."""
    cache: Cache[str, int] = Cache(10)
    cache["a"] = 1
    cache.set("b", 2, None)
    clock.move(4)
    assert cache.get_with_expiration("a") == (1, 6.0)
    assert cache.get_with_expiration("b") == (2, None)
    clock.move(6)
    for key in ("a", "gone"):
        with pytest.raises(KeyError, match=key):
            cache.get_with_expiration(key)


def test_a_snapshot_brings_a_cache_back(clock: Clock) -> None:
    """Plain, picklable, by the wall clock: what expired in the downtime is left out."""
    cache: Cache[str, int] = Cache(10)
    cache["a"] = 1
    cache.set("b", 2, 100)
    cache.set("c", 3, None)
    cache.set("gone", 4, 1)
    clock.move(1)
    snapshot = pickle.loads(pickle.dumps(cache.snapshot()))
    assert snapshot == {"a": (1, clock.wall + 9), "b": (2, clock.wall + 99), "c": (3, None)}
    clock.wall += 9  # the process is down; the next one's monotonic clock is another
    clock.now = 5.0
    again = Cache.from_snapshot(snapshot, 7, maxsize=5)
    assert dict(again) == {"b": 2, "c": 3}
    assert again.get_with_expiration("b") == (2, 90.0)
    again["d"] = 4
    assert again.get_with_expiration("d") == (4, 7.0)


def test_delete_expired_removes_and_counts_what_has_expired(clock: Clock) -> None:
    """What `DeleteExpired` does, with how many; what lives stays."""
    evicted = Evicted()
    cache: Cache[int, int] = Cache(10, cleanup_interval=None, on_evicted=evicted)
    for number in range(1000):
        cache.set(number, number, 10 if number % 2 else 20)
    clock.move(10)
    assert cache.delete_expired() == 500
    assert cache.delete_expired() == 0
    assert [key for key, _ in evicted.items] == list(range(1, 1000, 2))
    assert len(cache) == 500


def test_the_worker_cleans_by_itself() -> None:
    """Expired items are removed within the interval, on the worker, without a call."""
    evicted = Evicted()
    scheduler = letgo.Scheduler("cleaner")
    cache = Cache(0.01, cleanup_interval=0.02, on_evicted=evicted, scheduler=scheduler)
    cache["a"] = 1
    wait_until(lambda: evicted.items, "the item is cleaned")
    assert (evicted.items, evicted.threads) == ([("a", 1)], ["cleaner"])


def test_get_never_returns_what_has_expired_though_it_is_not_cleaned() -> None:
    """Expiry is strict on the real clock, whatever the cleaning does."""
    cache: Cache[str, int] = Cache(0.02, cleanup_interval=3600)
    cache["a"] = 1
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass
    assert cache.get("a") is None
    assert "a" not in cache


# --- As a mapping ---


def test_it_is_a_mutable_mapping_and_a_handle() -> None:
    """`isinstance` says so, and equality and hash are by identity."""
    cache, twin = Cache(items={"a": 1}), Cache(items={"a": 1})
    assert isinstance(cache, MutableMapping)
    assert isinstance(cache, letgo.Handle)
    assert cache != twin
    assert cache != {"a": 1}
    assert len({cache, twin, cache}) == 2
    assert not hasattr(cache, "__dict__")


def test_an_expired_key_is_absent_everywhere(clock: Clock) -> None:
    """Every way of looking agrees, before any cleaning."""
    cache = Cache(10, cleanup_interval=None, items={"a": 1, "b": 2})
    cache.set("c", 3, None)
    clock.move(10)
    assert len(cache) == 1
    assert (list(cache), list(cache.keys())) == (["c"], ["c"])
    assert (list(cache.items()), list(cache.values())) == ([("c", 3)], [3])
    assert ("a" in cache, 1 in cache.values()) == (False, False)
    assert (("a", 1) in cache.items(), ("c", 3) in cache.items()) == (False, True)
    assert (cache.touch("a"), cache.replace("a", 1), cache.pop("a", None)) == (False, False, None)
    for failing in (cache.__getitem__, cache.__delitem__, cache.pop):
        with pytest.raises(KeyError, match="a"):
            failing("a")
    assert cache.setdefault("b", 5) == 5
    assert cache.snapshot() == {"c": (3, None), "b": (5, clock.wall + 10)}
    assert (cache.popitem(), cache.popitem()) == (("b", 5), ("c", 3))
    with pytest.raises(KeyError):
        cache.popitem()
    assert not cache


def test_the_mapping_methods_do_what_a_dict_s_do() -> None:
    """setdefault, pop, popitem and update, on living items."""
    cache: Cache[str, Any] = Cache(items={"a": 1})
    assert cache.setdefault("a", 2) == 1
    assert cache.setdefault("b") is None
    cache.update({"c": 3}, d=4)
    cache.update([("e", 5)])
    assert dict(cache) == {"a": 1, "b": None, "c": 3, "d": 4, "e": 5}
    assert (cache.pop("a"), cache.pop("a", "none")) == (1, "none")
    assert cache.popitem() == ("e", 5)
    del cache["b"]
    assert (len(cache), cache == cache, repr(cache)) == (2, True, "<Cache of 2 items>")


def test_iteration_runs_over_a_snapshot() -> None:
    """Changes meanwhile raise nothing, in keys, items and values alike."""
    for view in (Cache.__iter__, Cache.keys, Cache.items, Cache.values):
        cache: Cache[int, int] = Cache(items={number: number for number in range(10)})
        seen = 0
        for _ in view(cache):
            seen += 1
            cache.pop(seen, None)
            cache[seen + 100] = 0
        assert seen >= 5


def test_touch_gives_a_new_lifetime(clock: Clock) -> None:
    """The default, an own one or none; the value stays, and what is absent is not made."""
    cache: Cache[str, int] = Cache(10, items={"a": 1})
    clock.move(5)
    assert cache.touch("a")
    assert cache.get_with_expiration("a") == (1, 10.0)
    assert cache.touch("a", 3)
    assert cache.get_with_expiration("a") == (1, 3.0)
    assert cache.touch("a", None)
    assert cache.get_with_expiration("a") == (1, None)
    assert cache.touch("a", timedelta(minutes=1))
    clock.move(60)
    assert not cache.touch("a")
    assert not cache.touch("b")


# --- Arguments ---


@pytest.mark.parametrize(
    "ttl", [0, -1, 0.0, math.nan, math.inf, timedelta(0), timedelta(-1), 10**400]
)
def test_a_time_that_is_no_time_is_a_value_error(ttl: Any) -> None:
    """In every argument that is a time, and nothing is stored."""
    cache: Cache[str, int] = Cache(items={"a": 1})
    for call in (cache.set, cache.add, cache.replace):
        with pytest.raises(ValueError, match="ttl must be finite and above zero"):
            call("a", 2, ttl)
    for other in (lambda: cache.touch("a", ttl), lambda: cache.get_or_set("b", int, ttl)):
        with pytest.raises(ValueError, match="ttl"):
            other()
    with pytest.raises(ValueError, match="ttl"):
        cache.memoize(ttl)
    with pytest.raises(ValueError, match="default_ttl"):
        Cache(ttl)
    with pytest.raises(ValueError, match="cleanup_interval"):
        Cache(cleanup_interval=ttl)
    assert dict(cache) == {"a": 1}


@pytest.mark.parametrize("ttl", [True, "60", [1], 1j])
def test_a_time_of_another_type_is_a_type_error(ttl: Any) -> None:
    """A bool is no second, and a str no number."""
    cache: Cache[str, int] = Cache()
    for call in (
        lambda: cache.set("a", 1, ttl),
        lambda: cache.touch("a", ttl),
        lambda: cache.memoize(ttl),
        lambda: Cache(ttl),
        lambda: Cache(cleanup_interval=ttl),
    ):
        with pytest.raises(TypeError, match="must be seconds, a timedelta or None"):
            call()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"maxsize": 0}, ValueError),
        ({"maxsize": -1}, ValueError),
        ({"maxsize": True}, TypeError),
        ({"maxsize": 1.0}, TypeError),
        ({"on_evicted": 1}, TypeError),
        ({"items": [("a", 1)]}, TypeError),
        ({"scheduler": "main"}, TypeError),
    ],
)
def test_bad_arguments_are_refused_by_name(options: dict[str, Any], error: type[Exception]) -> None:
    """The message names the argument, and no worker is left."""
    with pytest.raises(error, match=next(iter(options))):
        Cache(**options)


def test_a_cache_cannot_be_copied_or_pickled() -> None:
    """It has a worker, as any handle; a snapshot can."""
    cache: Cache[str, int] = Cache()
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="Cache"):
            call(cache)


# --- As a handle ---


def test_without_an_interval_there_is_no_worker() -> None:
    """`cleanup_interval=None`: nothing runs, `with` starts nothing, all the rest works."""
    with Cache(0.001, cleanup_interval=None, items={"a": 1}) as cache:
        assert not cache.alive
        assert letgo.live() == []
        wait_until(lambda: not cache, "the item expires")
        assert cache.delete_expired() == 1


def test_a_closed_cache_works_but_is_not_cleaned(clock: Clock) -> None:
    """`close` ends the worker only; expiry stays strict."""
    evicted = Evicted()
    cache: Cache[str, int] = Cache(10, on_evicted=evicted, items={"a": 1})
    cache.close()
    assert (cache.closed, cache["a"], evicted.items) == (True, 1, [])
    cache["b"] = 2
    clock.move(10)
    assert (cache.get("b"), len(cache)) == (None, 0)
    assert cache.delete_expired() == 2


def test_a_hundred_caches_share_one_thread() -> None:
    """By default they are served by the shared scheduler."""
    caches = [Cache[str, int](10) for _ in range(100)]
    assert {info.thread for info in letgo.live()} == {"letgo-shared"}
    assert len(letgo.live()) == 100
    del caches


def test_a_closed_scheduler_is_refused() -> None:
    """As for any handle."""
    scheduler = letgo.Scheduler()
    scheduler.close()
    with pytest.raises(letgo.ClosedError):
        Cache(scheduler=scheduler)
