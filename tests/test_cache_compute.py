"""get_or_set and memoize: one computation for all who ask."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from cache_helpers import Clock
from helpers import Call, Gate, wait_for, wait_until
from letgo.cache import Cache


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Slow:
    """A factory that waits to be let through, and counts."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.gate = Gate()
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        self.gate()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


# --- get_or_set ---


def test_get_or_set_computes_what_is_absent_only(clock: Clock) -> None:
    """And keeps it for the ttl; None is a value like any other."""
    cache: Cache[str, int | None] = Cache(10)
    results = iter([None, 2, 3])
    assert cache.get_or_set("a", lambda: next(results)) is None
    assert cache.get_or_set("a", lambda: next(results)) is None
    clock.move(10)
    assert cache.get_or_set("a", lambda: next(results), 5) == 2
    assert cache.get_with_expiration("a") == (2, 5.0)
    with pytest.raises(TypeError, match="factory"):
        cache.get_or_set("b", 3)  # type: ignore[arg-type]


def test_many_threads_share_one_computation() -> None:
    """However many ask, one computes; all get its value."""
    cache: Cache[str, object] = Cache()
    slow = Slow(object())
    calls = [Call(cache.get_or_set, "a", slow) for _ in range(10)]
    wait_for(slow.gate.entered)
    slow.gate.opened.set()
    assert {call.result() for call in calls} == {slow.result}
    assert slow.calls == 1


def test_different_keys_are_computed_at_the_same_time() -> None:
    """One slow factory keeps nobody else waiting, writers included."""
    cache: Cache[str, int] = Cache()
    slow = Slow(1)
    call = Call(cache.get_or_set, "a", slow)
    wait_for(slow.gate.entered)
    assert Call(cache.get_or_set, "b", lambda: 2).result() == 2
    cache["c"] = 3
    assert call.pending()
    slow.gate.opened.set()
    assert call.result() == 1


def test_a_factory_that_raises_tells_its_own_caller_and_the_next_computes() -> None:
    """The others do not get the exception; nothing is stored for it."""
    cache: Cache[str, int] = Cache()
    failing = Slow(OSError("down"))
    first = Call(cache.get_or_set, "a", failing)
    wait_for(failing.gate.entered)
    others = [Call(cache.get_or_set, "a", lambda: 2) for _ in range(5)]
    failing.gate.opened.set()
    with pytest.raises(OSError, match="down"):
        first.result()
    assert [other.result() for other in others] == [2] * 5
    assert (failing.calls, cache["a"]) == (1, 2)


@pytest.mark.parametrize("newer", ["set", "delete", "clear"])
def test_what_is_newer_wins_over_a_computation(newer: str) -> None:
    """Those who asked before get the result; it is not stored, and the next one computes."""
    cache: Cache[str, int] = Cache()
    slow = Slow(1)
    call = Call(cache.get_or_set, "a", slow)
    wait_for(slow.gate.entered)
    {"set": lambda: cache.set("a", 2), "clear": cache.clear}.get(newer, lambda: cache.delete("a"))()
    assert cache.get_or_set("a", lambda: 2) == 2
    slow.gate.opened.set()
    assert call.result() == 1
    assert cache["a"] == 2


@pytest.mark.parametrize(
    "remove", [lambda c: c.delete("a"), lambda c: c.pop("a", None), Cache.clear]
)
def test_what_was_deleted_meanwhile_stays_deleted(remove: Callable[[Any], object]) -> None:
    """The result of a computation that began before is not stored."""
    cache: Cache[str, int] = Cache()
    slow = Slow(1)
    call = Call(cache.get_or_set, "a", slow)
    wait_for(slow.gate.entered)
    remove(cache)
    slow.gate.opened.set()
    assert call.result() == 1
    assert "a" not in cache


def test_a_factory_cannot_ask_for_its_own_key() -> None:
    """It would wait for itself; other keys it may ask for."""
    cache: Cache[str, int] = Cache()
    assert cache.get_or_set("a", lambda: cache.get_or_set("b", lambda: 1) + 1) == 2
    call = Call(cache.get_or_set, "c", lambda: cache.get_or_set("c", lambda: 1))
    with pytest.raises(RuntimeError, match="'c'"):
        call.result()
    assert cache.get_or_set("c", lambda: 3) == 3


# --- memoize ---


def test_memoize_keeps_results_by_arguments() -> None:
    """Positional and keyword ones; the function looks as before."""
    cache: Cache[Any, Any] = Cache()
    calls: list[tuple[Any, ...]] = []

    @cache.memoize(60)
    def add(a: int, b: int = 1) -> int:
        """Add."""
        calls.append((a, b))
        return a + b

    assert (add(1), add(1), add(1, 2), add(1, b=2), add(1, b=2)) == (2, 2, 3, 3, 3)
    assert calls == [(1, 1), (1, 2), (1, 2)]
    assert (add.__name__, add.__doc__, add.__wrapped__(5, 5)) == ("add", "Add.", 10)
    assert len(cache) == 3


def test_memoize_expires_and_clears(clock: Clock) -> None:
    """By its ttl, or the cache's; `cache_clear` forgets this function's results only."""
    cache: Cache[Any, Any] = Cache(10)
    calls: list[str] = []
    short = cache.memoize(5)(lambda: calls.append("short"))
    default = cache.memoize()(lambda: calls.append("default"))
    cache["mine"] = 1
    for _ in range(2):
        short()
        default()
    assert calls == ["short", "default"]
    clock.move(5)
    short()
    default()
    assert calls == ["short", "default", "short"]
    short.cache_clear()
    short()
    default()
    assert calls == ["short", "default", "short", "short"]
    assert cache["mine"] == 1


def test_two_functions_never_collide() -> None:
    """Not even two of one name, code and arguments."""
    cache: Cache[Any, Any] = Cache()
    functions = [cache.memoize()(lambda number=number: number) for number in range(10)]
    assert [function() for function in functions] == list(range(10))
    assert [function() for function in functions] == list(range(10))


def test_memoized_functions_are_computed_once_by_many_threads() -> None:
    """As get_or_set does it."""
    cache: Cache[Any, Any] = Cache()
    slow = Slow(7)
    function = cache.memoize()(lambda: slow())
    calls = [Call(function) for _ in range(5)]
    wait_for(slow.gate.entered)
    slow.gate.opened.set()
    assert [call.result() for call in calls] == [7] * 5
    assert slow.calls == 1


def test_only_plain_functions_can_be_memoized() -> None:
    """A coroutine can be awaited once, and the bare decorator was not called."""
    cache: Cache[Any, Any] = Cache()

    async def coroutine() -> None: ...

    async def generator() -> Any:
        yield

    for wrong in (coroutine, generator, 3):
        with pytest.raises(TypeError):
            cache.memoize()(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"@cache.memoize\(\)"):
        cache.memoize(coroutine)  # type: ignore[arg-type]


def workerless(maxsize: int | None = None) -> Cache[Any, Any]:
    """A cache that a class may keep for ever, as every class is kept without the GIL on 3.13."""
    return Cache(maxsize=maxsize, cleanup_interval=None)


def make_service(cache: Cache[Any, Any]) -> type[Any]:
    class Service:
        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> bool:
            return True  # equal, and unhashable: results go by identity all the same

        @cache.memoize()
        def greet(self, word: str, *, loud: bool = False) -> list[str]:
            return [word, self.name, str(loud)]

    return Service


def test_a_memoized_method_keeps_results_by_instance() -> None:
    """By identity; reached through the class too."""
    cache = workerless()
    service = make_service(cache)
    a, b = service("a"), service("b")
    assert a.greet("hi") == ["hi", "a", "False"]
    assert b.greet("hi") == ["hi", "b", "False"]
    assert a.greet("hi") is a.greet("hi") is service.greet(a, "hi")
    assert a.greet("hi", loud=True) == ["hi", "a", "True"]
    assert service.greet.__wrapped__(a, "hi") is not a.greet("hi")
    a.greet.cache_clear()
    assert len(cache) == 0


def test_results_go_with_their_instance() -> None:
    """At once, values included; the cache does not keep the instance."""
    gc.disable()
    try:
        cache = workerless()
        service = make_service(cache)
        a, b = service("a"), service("b")
        lists = {id(a.greet(str(number))) for number in range(100)}
        b.greet("hi")
        assert (len(lists), len(cache)) == (100, 101)
        instance = weakref.ref(a)
        del a
        assert instance() is None
        assert len(cache._letgo_store.entries) == 1
        assert b.greet("hi") == ["hi", "b", "False"]
    finally:
        gc.enable()


def test_a_reused_id_is_not_mistaken() -> None:
    """Ten thousand short-lived instances at few addresses: each gets its own result."""
    cache = workerless()
    service = make_service(cache)
    ids = set()
    for number in range(10_000):
        instance = service(str(number))
        ids.add(id(instance))
        assert instance.greet("hi")[1] == str(number)
        del instance
    assert len(ids) < 10_000
    wait_until(lambda: not cache)


def test_an_instance_that_dies_while_the_lock_is_held_is_seen_to_later() -> None:
    """Its finalizer waits for nobody: whoever has the lock removes the results."""
    cache = workerless()
    instance = make_service(cache)("a")
    instance.greet("hi")
    gate = Gate()

    class Key:
        def __hash__(self) -> int:
            if cache._letgo_store.depth:
                gate()
            return 1

    call = Call(cache.add, Key(), 1)
    wait_for(gate.entered)
    del instance
    gate.opened.set()
    call.result()
    assert len(cache._letgo_store.entries) == 1


def test_calls_that_have_expired_are_not_remembered_for_ever() -> None:
    """A long-lived instance that is asked for ever new things stays in bounded memory."""
    cache = workerless(maxsize=10)
    instance = make_service(cache)("a")
    for number in range(2000):
        instance.greet(str(number))
    (results,) = (cache._letgo_store.owned or {}).values()
    assert len(results.calls) < 100


def test_an_instance_must_be_weakly_referable() -> None:
    """One that is not is a TypeError, not kept for ever."""
    cache = workerless()

    class Slotted:
        __slots__ = ()

        @cache.memoize()
        def method(self) -> int:
            return 1

    with pytest.raises(TypeError, match="weak reference"):
        Slotted().method()


class Maker:
    """What makes things, and is not memoized before a test does it."""

    def make(self, word: str) -> threading.Event:
        return threading.Event()


def test_a_dropped_cache_frees_memoized_results() -> None:
    """At once, while the instance lives: no cycle runs through keys, owners and the store."""
    gc.disable()
    try:
        cache: Cache[Any, Any] = Cache()
        make, maker = cache.memoize()(Maker.make), Maker()
        result = weakref.ref(make.__get__(maker)("hi"))
        store = weakref.ref(cache._letgo_store)
        assert result() is not None
        del cache, make
        assert (store(), result()) == (None, None)
    finally:
        gc.enable()


def test_memoized_results_are_not_in_a_snapshot() -> None:
    """Their keys mean nothing elsewhere."""
    cache: Cache[Any, Any] = Cache(items={"a": 1})
    cache.memoize()(lambda: 2)()
    assert len(cache) == 2
    assert cache.snapshot() == {"a": (1, None)}
