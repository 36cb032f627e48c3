"""Random operations on a cache and on a plain dict: they agree at every step."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from cache_helpers import Clock, Evicted
from letgo.cache import Cache

KEYS = "abcdefgh"
CHANGES = ["set", "set", "set", "add", "replace", "delete", "touch", "increment", "setdefault"]
OPERATIONS = [*CHANGES, "get", "pop", "popitem", "delete_expired", "get_or_set", "clear", "len"]


class Model:
    """What a cache is to do, in the plainest way: a dict in which everything is looked at."""

    def __init__(self, clock: Clock, default: float, maxsize: int | None) -> None:
        self.clock = clock
        self.default = default
        self.maxsize = maxsize
        self.items: dict[str, tuple[Any, float, int]] = {}  # value, expiry, number of the set
        self.sets = 0
        self.evicted: list[tuple[str, Any]] = []

    def living(self) -> dict[str, Any]:
        return {k: v for k, (v, expiry, _) in self.items.items() if self.clock.now < expiry}

    def set(self, key: str, value: Any, ttl: float) -> None:
        if key in self.items and key not in self.living():
            self.evict(key)
        elif key not in self.items and len(self.items) == self.maxsize:
            self.evict(min(self.items, key=lambda k: self.items[k][1:]))
        self.sets += 1
        self.items[key] = (value, self.clock.now + ttl, self.sets)

    def evict(self, key: str) -> None:
        self.evicted.append((key, self.items.pop(key)[0]))

    def add(self, key: str, value: Any, ttl: float) -> bool:
        if key in self.living():
            return False
        self.set(key, value, ttl)
        return True

    def replace(self, key: str, value: Any, ttl: float) -> bool:
        if key not in self.living():
            return False
        self.set(key, value, ttl)
        return True

    def delete(self, key: str) -> bool:
        alive = key in self.living()
        if key in self.items:
            self.evict(key)
        return alive

    def revise(self, key: str, value: Any, expiry: float) -> None:
        self.items[key] = (value, expiry, self.items[key][2])

    def touch(self, key: str, ttl: float) -> bool:
        if key not in self.living():
            return False
        self.revise(key, self.items[key][0], self.clock.now + ttl)
        return True

    def increment(self, key: str, n: float) -> Any:
        if key not in self.living():
            return "KeyError"
        value, expiry, _ = self.items[key]
        self.revise(key, value + n, expiry)
        return value + n

    def delete_expired(self) -> int:
        expired = [key for key in self.items if key not in self.living()]
        for key in sorted(expired, key=lambda k: self.items[k][1:]):
            self.evict(key)
        return len(expired)

    def pop(self, key: str) -> Any:
        return self.items.pop(key)[0] if key in self.living() else None

    def popitem(self) -> Any:
        while self.items:
            key = next(reversed(self.items))
            if key in self.living():
                return key, self.items.pop(key)[0]
            self.evict(key)
        return "KeyError"


def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except KeyError:
        return "KeyError"


def step(choose: random.Random, cache: Cache[str, Any], model: Model) -> tuple[Any, Any]:
    """One operation on both; what they returned."""
    key = choose.choice(KEYS)
    value = choose.randrange(100)
    given = choose.choice([..., None, 1, 2, 3, 5])
    ttl = model.default if given is ... else inf if given is None else given
    own = () if given is ... else (given,)
    operation = choose.choice(OPERATIONS)
    match operation:
        case "set" | "add" | "replace":
            mine = getattr(model, operation)(key, value, ttl)
            return getattr(cache, operation)(key, value, *own), mine
        case "touch":
            return cache.touch(key, *own), model.touch(key, ttl)
        case "increment":
            return attempt(cache.increment, key, value), model.increment(key, value)
        case "get":
            return cache.get(key), model.living().get(key)
        case "setdefault":
            model.add(key, value, model.default)
            return cache.setdefault(key, value), model.living()[key]
        case "get_or_set":
            model.add(key, value, ttl)
            return cache.get_or_set(key, lambda: value, *own), model.living()[key]
        case "pop":
            return cache.pop(key, None), model.pop(key)
        case "clear" if choose.random() < 0.1:
            return cache.clear(), model.items.clear()
        case "delete":
            return cache.delete(key), model.delete(key)
        case "popitem" | "delete_expired":
            return attempt(getattr(cache, operation)), getattr(model, operation)()
        case _:
            return len(cache), len(model.living())


@pytest.mark.parametrize("maxsize", [None, 1, 3, 6])
@pytest.mark.parametrize("default", [None, 3])
def test_a_cache_does_what_a_plain_dict_would(
    monkeypatch: pytest.MonkeyPatch, default: int | None, maxsize: int | None
) -> None:
    """Results, contents, their order, and what `on_evicted` is told, over 400 sequences."""
    clock = Clock(monkeypatch)
    # Without a bound, what expires at the same instant may go in any order.
    in_order = sorted if maxsize is None else list
    for seed in range(400):
        choose = random.Random(f"{seed} {default} {maxsize}")
        evicted = Evicted()
        cache: Cache[str, Any] = Cache(
            default, cleanup_interval=None, maxsize=maxsize, on_evicted=evicted
        )
        model = Model(clock, inf if default is None else default, maxsize)
        for number in range(40):
            theirs, mine = step(choose, cache, model)
            assert theirs == mine, (seed, number)
            if choose.random() < 0.3:
                clock.move(choose.choice([0, 1, 1, 2]))
            assert in_order(evicted.items) == in_order(model.evicted), (seed, number)
            assert list(cache.items()) == list(model.living().items()), (seed, number)
        assert len(cache) == len(model.living())
