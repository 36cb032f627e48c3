"""A proxy answers as the object does: attributes, special methods, operators, checks."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import gc
import inspect
import operator
import pickle
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache, partialmethod, total_ordering
from typing import Any
from unittest import mock

import pytest

import letgo
from helpers import wait_until


def guard(obj: Any) -> Any:
    """A proxy as no type checker sees it: these tests do what they must not."""
    return letgo.guard(obj, close=None)


class Sample:
    """An ordinary class."""

    shared = "of the class"

    def __init__(self) -> None:
        self.value = 1
        self._doubled = 0

    def method(self, a: int, b: int = 2, *rest: int, key: int = 4) -> tuple[object, ...]:
        """What it got."""
        return (a, b, *rest, key)

    def me(self) -> Sample:
        return self

    @property
    def doubled(self) -> int:
        return 2 * self._doubled

    @doubled.setter
    def doubled(self, value: int) -> None:
        self._doubled = value

    @classmethod
    def of_class(cls) -> type:
        return cls

    @staticmethod
    def static(a: int) -> int:
        return a

    partial = partialmethod(method, 1, key=5)

    @lru_cache(maxsize=1)  # noqa: B019
    def cached(self) -> int:
        return 7

    async def coroutine(self) -> int:
        return 8

    def generator(self) -> Iterator[int]:
        yield self.value


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1


class Ordered:
    """total_ordering makes three of its four comparisons."""

    def __init__(self, key: int) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ordered) and self.key == other.key

    def __lt__(self, other: Ordered) -> bool:
        return self.key < other.key

    __hash__ = None  # type: ignore[assignment]


total_ordering(Ordered)


@dataclass(frozen=True)
class Point:
    x: int
    y: list[int] = field(default_factory=list, compare=False)


class Number:
    """Strict about its operands, as classes of numbers are."""

    def __init__(self, value: int) -> None:
        self.value = value


def _arithmetic(name: str) -> None:
    operate = divmod if name == "divmod" else pow if name == "pow" else getattr(operator, name)

    def forward(self: Number, other: Any, *modulus: int) -> Any:
        assert isinstance(other, (Number, int)), other
        return operate(self.value, getattr(other, "value", other), *modulus)

    def backward(self: Number, other: Any) -> Any:
        assert type(other) is int, other
        return operate(other, self.value)

    bare = name.strip("_")
    setattr(Number, f"__{bare}__", forward)
    setattr(Number, f"__r{bare}__", backward)


ARITHMETIC = [
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow"),
    *("lshift", "rshift", "and_", "or_", "xor"),
]
for _name in ARITHMETIC:
    _arithmetic(_name)


# --- Attributes ---


def test_attributes_are_read_written_and_deleted() -> None:
    """On the object, whoever looks."""
    sample = Sample()
    proxy = guard(sample)
    proxy.value = 2
    proxy.extra = 3
    del proxy.value
    assert vars(sample) == vars(proxy) == {"_doubled": 0, "extra": 3}
    assert (proxy.shared, hasattr(proxy, "value")) == ("of the class", False)


def test_a_missing_attribute_is_the_objects_error() -> None:
    """The message names the object's type, not the proxy's."""
    with pytest.raises(AttributeError, match="'Sample' object has no attribute 'nope'"):
        _ = guard(Sample()).nope


def test_properties_are_forwarded() -> None:
    """Read and write."""
    proxy = guard(Sample())
    proxy.doubled = 4
    assert proxy.doubled == 8


def test_slots_are_forwarded() -> None:
    """A class with `__slots__` takes no others, through the proxy as without."""
    proxy = guard(Slotted())
    proxy.value = 5
    assert (proxy.value, proxy.__slots__, hasattr(proxy, "__dict__")) == (5, ("value",), False)
    with pytest.raises(AttributeError):
        proxy.other = 1


def test_getattr_of_the_object_is_asked() -> None:
    """Attributes that the object makes up are there."""

    class Dynamic:
        def __getattr__(self, name: str) -> str:
            if name.startswith("made_"):
                return name
            raise AttributeError(name)

    proxy = guard(Dynamic())
    assert (proxy.made_up, hasattr(proxy, "other")) == ("made_up", False)


def test_getattribute_of_the_object_is_asked() -> None:
    """Methods too, of a type that looks them up in its own way."""

    class Loud:
        def method(self) -> str:
            return "method"

        def __getattribute__(self, name: str) -> object:
            found = object.__getattribute__(self, name)
            return (lambda: found() + "!") if name == "method" else found

    proxy = guard(Loud())
    assert (proxy.method(), proxy.method.__name__) == ("method!", "<lambda>")


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (lambda s: s.method(1), (1, 2, 4)),
        (lambda s: s.method(1, 3), (1, 3, 4)),
        (lambda s: s.method(1, 3, 5), (1, 3, 5, 4)),
        (lambda s: s.method(b=3, a=1), (1, 3, 4)),
        (lambda s: s.method(1, key=5), (1, 2, 5)),
        (lambda s: s.method(1, 3, key=5), (1, 3, 5)),
        (lambda s: s.method(1, 3, 6, key=5), (1, 3, 6, 5)),
        (lambda s: s.partial(), (1, 2, 5)),
        (lambda s: s.of_class(), Sample),
        (lambda s: s.static(9), 9),
        (lambda s: (s.cached(), s.cached.cache_info().hits), (7, 0)),
        (lambda s: list(s.generator()), [1]),
        (lambda s: asyncio.run(s.coroutine()), 8),
    ],
)
def test_calls_arrive_as_they_were_made(call: Callable[[Any], Any], result: object) -> None:
    """Methods of all kinds, with all kinds of arguments."""
    assert call(guard(Sample())) == result
    Sample.cached.cache_clear()


def test_wrong_arguments_are_the_objects_error() -> None:
    """The message is that of the method itself."""
    with pytest.raises(TypeError, match=r"method\(\) missing 1 required positional"):
        guard(Sample()).method()


def test_a_method_looks_like_one() -> None:
    """Its name, documentation, signature and kind are those of the object's."""
    sample = Sample()
    proxy = guard(sample)
    assert (proxy.method.__name__, proxy.method.__doc__) == ("method", "What it got.")
    assert inspect.signature(proxy.method) == inspect.signature(sample.method)
    assert (proxy.method.__self__ is proxy, proxy.method == proxy.method) == (True, True)
    assert inspect.iscoroutinefunction(proxy.coroutine)


def test_what_returns_the_object_returns_the_proxy() -> None:
    """Chained calls stay guarded."""
    proxy = guard(Sample())
    assert proxy.me() is proxy
    proxy.itself = proxy.__wrapped__
    assert proxy.itself is proxy


def test_a_method_can_be_replaced_on_the_object() -> None:
    """Before the guard, and through the proxy: the attribute is what was set."""
    sample = Sample()
    sample.me = before = mock.Mock(return_value=1)  # type: ignore[method-assign]
    proxy = guard(sample)
    proxy.method = after = mock.Mock(return_value=2)
    assert (proxy.me, proxy.method) == (before, after)
    assert (proxy.me(), proxy.method(5)) == (1, 2)
    del proxy.method
    assert proxy.method(1) == (1, 2, 4)


def test_a_method_replaced_behind_the_proxy_is_called() -> None:
    """The method is looked up when it is called, on the object and on its class."""
    sample = Sample()
    proxy = guard(sample)
    sample.method = lambda *a, **k: (a, k)  # type: ignore[assignment, method-assign]
    with mock.patch.object(Sample, "me", return_value=1):
        assert (proxy.method(1, 2, x=3), proxy.me()) == (((1, 2), {"x": 3}), 1)


def test_a_replaced_bound_method_holds_the_proxy() -> None:
    """A method that the object keeps as an attribute is called with the proxy alive."""
    sample = Sample()
    sample.fast = sample.me  # type: ignore[attr-defined]
    proxy = guard(sample)
    assert proxy.fast() is proxy
    assert (proxy.fast.__self__ is proxy, proxy.fast == proxy.fast) == (True, True)
    assert proxy.fast.__name__ == "me"


def test_the_class_can_be_assigned() -> None:
    """The proxy follows its object into another class."""

    class Other(Sample):
        def more(self) -> str:
            return "more"

        def __len__(self) -> int:
            return 6

    proxy = guard(Sample())
    proxy.__class__ = Other
    assert (len(proxy), proxy.more(), type(proxy.__wrapped__)) == (6, "more", Other)


# --- What it is taken for ---


def test_isinstance_and_class() -> None:
    """The proxy passes for an instance of the object's class."""
    proxy = guard(Sample())
    assert isinstance(proxy, Sample)
    assert proxy.__class__ is Sample
    assert type(proxy) is not Sample


@pytest.mark.parametrize("make", [Sample, Slotted, lambda: [3, 1], lambda: {"a": 1}, lambda: 5])
def test_repr_str_format_dir_doc_module(make: Callable[[], Any]) -> None:
    """What describes an object describes its proxy."""
    obj = make()
    proxy = guard(obj)
    for describe in (repr, str, format, dir, bool, inspect.getdoc):
        assert describe(proxy) == describe(obj)  # type: ignore[operator]
    assert proxy.__module__ == type(obj).__module__ or "builtins"
    letgo.unguard(proxy)


def test_hash_and_equality() -> None:
    """Proxy and object are found under each other, in either order."""
    point = Point(1)
    proxy, other = guard(point), guard(Point(1))
    assert hash(proxy) == hash(point)
    assert {point: "found"}[proxy] == "found"
    assert proxy == point == proxy == other
    assert (proxy != other) is False
    with pytest.raises(TypeError, match="unhashable"):
        hash(guard([]))


@pytest.mark.parametrize(
    "make",
    [
        list,
        dict,
        set,
        int,
        str,
        bytearray,
        object,
        Sample,
        Slotted,
        Fraction,
        lambda: Ordered(1),
        lambda: Number(1),
        lambda: (i for i in ()),
        lambda: iter([]),
        lambda: len,
        lambda: lambda: None,
    ],
)
def test_just_the_special_methods_that_the_object_has(make: Callable[[], Any]) -> None:
    """`hasattr`, `callable` and the checks of `collections.abc` answer as for the object."""
    obj = make()
    proxy = guard(obj)
    for table in (list, dict, set, int, str, Fraction, type(iter([])), type(lambda: None)):
        for name in vars(table).keys() - {"__module__"}:  # every class of ours has that
            assert hasattr(proxy, name) == hasattr(obj, name), name
    assert callable(proxy) == callable(obj)
    for name in set(collections.abc.__all__) - {"ByteString"}:  # deprecated
        abstract = getattr(collections.abc, name)
        assert isinstance(proxy, abstract) == isinstance(obj, abstract), name
    letgo.unguard(proxy)


def test_one_class_for_each_type() -> None:
    """Two proxies of one type share a class, as their objects do."""
    first, second = guard(Sample()), guard(Sample())
    assert type(first) is type(second)


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL, 3.13 makes classes immortal once a thread has been started",
)
def test_a_type_that_is_gone_leaves_nothing() -> None:
    """The proxy classes of types made at run time go with them."""

    class Passing:
        def method(self) -> type:
            return __class__  # type: ignore[name-defined]

    alive = weakref.ref(Passing)
    letgo.handle_of(guard(Passing())).close()
    del Passing
    wait_until(lambda: gc.collect() >= 0 and alive() is None, "the type is gone")


@pytest.mark.parametrize(
    "attempt", [copy.copy, copy.deepcopy, pickle.dumps, lambda proxy: proxy.__reduce__()]
)
def test_copies_are_refused(attempt: Callable[[Any], object]) -> None:
    """One object must not get two guards, though it could be copied itself."""

    class Copyable(Sample):
        def __copy__(self) -> Sample:
            return self

        def __deepcopy__(self, memo: object) -> Sample:
            return self

    for proxy in (guard([1]), guard(Copyable()), guard(Point(1))):
        with pytest.raises(TypeError, match="cannot copy or pickle"):
            attempt(proxy)


# --- Containers ---


def test_a_list() -> None:
    """All that a list does, in place on the list itself."""
    items = [3, 1, 2]
    proxy = guard(items)
    proxy.append(4)
    proxy[0] = 5
    del proxy[1]
    proxy.sort()
    assert items == [2, 4, 5] == proxy
    assert (len(proxy), proxy[1], proxy[::-1], 4 in proxy) == (3, 4, [5, 4, 2], True)
    assert ([*proxy], [*reversed(proxy)]) == ([2, 4, 5], [5, 4, 2])
    assert (operator.add(proxy, [1]), proxy * 2, 2 * proxy) == ([*items, 1], items * 2, items * 2)
    assert (proxy < [3], operator.gt([3], proxy), proxy + proxy) == (True, True, items + items)
    same = proxy
    proxy += [6]
    assert proxy is same
    assert items[-1] == 6


def test_a_dict() -> None:
    """All that a dict does, unpacking and `|` on either side included."""
    table = {"a": 1}
    proxy = guard(table)
    proxy["b"] = 2
    proxy.update(c=3)
    del proxy["a"]
    assert table == {"b": 2, "c": 3}
    assert (proxy["b"], proxy.get("x"), "b" in proxy, len(proxy)) == (2, None, True, 2)
    assert (list(proxy), {**proxy}, dict(proxy)) == (["b", "c"], table, table)
    assert (proxy | {"d": 4}, {"d": 4} | proxy) == ({**table, "d": 4}, {"d": 4, **table})
    match proxy:
        case {"b": found}:
            assert found == 2
        case _:
            pytest.fail("a mapping pattern does not match")


def test_a_set() -> None:
    """All that a set does, with a proxy on either side and on both."""
    proxy, other = guard({1, 2}), guard({2, 3})
    proxy.add(4)
    assert (proxy & {2}, {2, 5} & proxy, proxy - other) == ({2}, {2}, {1, 4})
    assert (proxy | other, proxy ^ other) == ({1, 2, 3, 4}, {1, 3, 4})
    assert ({1} <= proxy, proxy >= {1}, 1 in proxy) == (True, True, True)
    proxy |= {9}
    assert 9 in proxy.__wrapped__


def test_a_bytearray() -> None:
    """The buffer protocol, where Python code can take part in it (3.12 and newer)."""
    proxy = guard(bytearray(b"abc"))
    assert bytes(proxy) == b"abc"
    assert proxy.upper() == b"ABC"


def test_legacy_iteration() -> None:
    """An object with `__getitem__` alone is iterated by index."""

    class Squares:
        def __getitem__(self, index: int) -> int:
            if index > 2:
                raise IndexError
            return index * index

    assert list(guard(Squares())) == [0, 1, 4]


# --- Iterators, calls, contexts, awaiting ---


def test_a_generator() -> None:
    """`next`, `send`, `throw` and `close` reach the generator; it is its own iterator."""

    def count() -> Generator[int, int, None]:
        got = 0
        while True:
            got = yield got

    proxy = guard(count())
    assert iter(proxy) is proxy
    assert (next(proxy), proxy.send(5)) == (0, 5)
    with pytest.raises(KeyError):
        proxy.throw(KeyError())


def test_a_class_whose_iter_is_a_generator() -> None:
    """Each iteration begins anew."""

    class Pair:
        def __iter__(self) -> Iterator[int]:
            yield 1
            yield 2

    proxy = guard(Pair())
    assert (list(proxy), list(proxy), 2 in proxy) == ([1, 2], [1, 2], True)


def test_a_callable() -> None:
    """It is called with its arguments."""

    class Adder:
        def __call__(self, a: int, *rest: int, **more: int) -> int:
            return a + sum(rest) + sum(more.values())

    assert guard(Adder())(1, 2, b=3) == 6


def test_async_protocols() -> None:
    """`await`, `async for` and `async with` work on a proxy."""
    calls: list[str] = []

    class Connection:
        def __await__(self) -> Generator[Any, None, str]:
            return self.name().__await__()

        async def name(self) -> str:
            await asyncio.sleep(0)
            return "name"

        async def __aenter__(self) -> Connection:
            calls.append("enter")
            return self

        async def __aexit__(self, *error: object) -> None:
            calls.append("exit")

        async def __aiter__(self) -> AsyncIterator[int]:
            yield 1

    async def use(proxy: Any) -> object:
        async with proxy:
            return await proxy, await proxy.name(), [item async for item in proxy]

    assert asyncio.run(use(guard(Connection()))) == ("name", "name", [1])
    assert calls == ["enter", "exit"]


def test_a_descriptor() -> None:
    """A guarded descriptor in a class does its work, told its name."""
    seen: list[object] = []

    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            seen.append(name)

        def __get__(self, instance: object, owner: type) -> str:
            return "got"

        def __set__(self, instance: object, value: object) -> None:
            seen.append(value)

    class Owner:
        attribute = proxy = guard(Field())

    owner = Owner()
    owner.attribute = 3
    assert (owner.attribute, seen) == ("got", ["attribute", "proxy", 3])
    letgo.unguard(vars(Owner)["proxy"])


# --- Operators ---


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_on_either_side(name: str) -> None:
    """Left, right and both, beside built-in numbers and the object's own kind."""
    operate: Any = divmod if name == "divmod" else pow if name == "pow" else getattr(operator, name)
    seven, three = guard(Number(7)), guard(Number(3))
    expected = operate(7, 3)
    assert operate(seven, 3) == operate(7, three) == operate(seven, three) == expected
    assert operate(Number(7), three) == expected


def test_arithmetic_of_built_in_numbers() -> None:
    """Conversions and functions of `math` included."""
    proxy = guard(Fraction(7, 2))
    assert (int(proxy), float(proxy), round(proxy), abs(-proxy)) == (3, 3.5, 4, Fraction(7, 2))
    assert (proxy + 1, 1 + proxy, proxy / proxy, 2.0 * proxy) == (4.5, 4.5, 1, 7.0)
    index = guard(1)
    assert (["a", "b"][index], range(3)[index], index + 2.5, 2.5 + index) == ("b", 1, 3.5, 3.5)
    assert (str(guard("text")), pow(index, 3, 5), complex(index)) == ("text", 1, 1 + 0j)


def test_an_operator_that_is_not_there() -> None:
    """It is not there on the proxy either."""
    with pytest.raises(TypeError, match=r"'guard\(Sample\)' and 'int'"):
        guard(Sample()) + 1


@pytest.mark.parametrize("in_place", [True, False])
def test_in_place_operators(in_place: bool) -> None:
    """What returns the object leaves the name bound to the proxy."""

    class Total:
        value = 0

        def __iadd__(self, other: int) -> Any:
            self.value += other
            return self if in_place else self.value

    proxy = guard(Total())
    before = proxy
    proxy += 3
    assert before.value == 3
    assert proxy == (before if in_place else 3)


def test_an_ordered_class() -> None:
    """All six comparisons, and sorting, proxies and objects mixed."""
    one, two = guard(Ordered(1)), guard(Ordered(2))
    assert one < two <= Ordered(2) > one
    assert Ordered(1) < two >= one
    assert one != two
    assert [item.key for item in sorted([two, Ordered(3), one])] == [1, 2, 3]
