"""`leak_paths` names the ways in which a worker keeps its own handle alive."""

from __future__ import annotations

import logging
import sys
import threading
import tracemalloc
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import pytest

import letgo
from helpers import wait_until


class Owner:
    """What a user writes: it owns a handle, and may be reached by its worker."""

    handle: letgo.Handle
    registry: ClassVar[list[letgo.Handle]] = []

    def poll(self) -> None: ...


class Mapping(dict[object, object]): ...


class Slotted:
    __slots__ = ("handle",)


def nothing(*_: object, **__: object) -> None: ...


@pytest.fixture
def handles() -> Iterator[list[letgo.Handle]]:
    """Handles to close, since nothing else ends those that are kept alive."""
    made: list[letgo.Handle] = []
    yield made
    for handle in made:
        handle.close()


@pytest.fixture
def keep(handles: list[letgo.Handle]) -> Callable[..., letgo.Handle]:
    """Make a handle that polls once an hour, and that the test's end closes."""

    def make(poll: Callable[..., object] | None, **options: object) -> letgo.Handle:
        handle = letgo.Handle(poll, interval=3600, **options)  # type: ignore[arg-type]
        handles.append(handle)
        return handle

    return make


def closure(owner: object) -> Callable[[], object]:
    return lambda: owner


def default(owner: object) -> Callable[..., object]:
    def poll(owner: object = owner) -> None: ...

    return poll


def keyword_default(owner: object) -> Callable[..., object]:
    def poll(*, owner: object = owner) -> None: ...

    return poll


def function_attribute(owner: object) -> Callable[..., object]:
    def poll() -> None: ...

    poll.owner = owner  # type: ignore[attr-defined]
    return poll


def generator(owner: object) -> Iterator[object]:
    yield owner
    yield owner


def next_of_generator(owner: object) -> Callable[..., object]:
    started = generator(owner)
    next(started)
    return started.__next__


OWNER = "<test_leaks.Owner> -> .handle -> this Handle"
STATE = "<types.SimpleNamespace>"


def state(**attributes: object) -> Callable[..., object]:
    return partial(nothing, SimpleNamespace(**attributes))


@pytest.mark.parametrize(
    ("poll", "path"),
    [
        (lambda owner: owner.poll, f".__self__ -> {OWNER}"),
        (closure, f"closure variable 'owner' -> {OWNER}"),
        (default, f"default argument 'owner' -> {OWNER}"),
        (keyword_default, f"default argument 'owner' -> {OWNER}"),
        (function_attribute, f".owner -> {OWNER}"),
        (next_of_generator, f".__self__ -> <generator> -> .gi_frame.f_locals['owner'] -> {OWNER}"),
        (lambda owner: partial(nothing, 1, owner), f"functools.partial.args[1] -> {OWNER}"),
        (lambda owner: partial(nothing, it=owner), f"functools.partial.keywords['it'] -> {OWNER}"),
        (
            lambda owner: partial(partial(nothing), partial(owner.poll)),
            f"functools.partial.args[0] -> functools.partial.func -> .__self__ -> {OWNER}",
        ),
        (lambda owner: closure(closure(owner)), "closure variable 'owner' -> " * 2 + OWNER),
    ],
)
def test_callable_is_told_by_what_it_holds(
    poll: Callable[[Owner], Callable[..., object]], path: str, keep: Callable[..., letgo.Handle]
) -> None:
    """Methods, closures, defaults and partials are named as Python would write them."""
    owner = Owner()
    owner.handle = keep(poll(owner))
    assert letgo.leak_paths(owner.handle) == [f"poll -> {path}"]


@pytest.mark.parametrize(
    ("hold", "path"),
    [
        (lambda owner: [0, owner], f"[1] -> {OWNER}"),
        (lambda owner: (owner,), f"[0] -> {OWNER}"),
        (lambda owner: deque([owner]), f"[0] -> {OWNER}"),
        (lambda owner: {"key": owner}, f"['key'] -> {OWNER}"),
        (lambda owner: {("a", 1): owner}, f"[('a', 1)] -> {OWNER}"),
        (lambda owner: {Slotted(): owner}, f"[<test_leaks.Slotted>] -> {OWNER}"),
        (lambda owner: {owner: 1}, f"(a key) -> {OWNER}"),
        (lambda owner: {owner}, f"(an element) -> {OWNER}"),
        (lambda owner: Mapping(key=owner), f"<test_leaks.Mapping> -> ['key'] -> {OWNER}"),
        (lambda owner: {"x" * 99: owner}, f"['{'x' * 58}…] -> {OWNER}"),
        (
            lambda owner: weakref.ref(Owner, lambda _: owner),
            f"<weakref.ReferenceType> -> .__callback__ -> closure variable 'owner' -> {OWNER}",
        ),
        (lambda owner: iter([owner]), f"<list_iterator> -> (internal) -> [0] -> {OWNER}"),
        (
            lambda owner: property(lambda _: owner),
            f"<property> -> .fget -> closure variable 'owner' -> {OWNER}",
        ),
    ],
)
def test_container_is_told_by_where_it_holds_it(
    hold: Callable[[Owner], object], path: str, keep: Callable[..., letgo.Handle]
) -> None:
    """Keys, indexes and attributes are named, and classes where these say nothing."""
    owner = Owner()
    owner.handle = keep(state(it=hold(owner)))
    [found] = letgo.leak_paths(owner.handle)
    assert found == f"poll -> functools.partial.args[0] -> {STATE} -> .it -> {path}"


def test_example_of_the_design(keep: Callable[..., letgo.Handle]) -> None:
    """A cache that is a dict, given to its own worker by a partial."""
    cache = Mapping()
    cache["_worker"] = handle = keep(partial(nothing, cache))
    assert letgo.leak_paths(handle) == [
        "poll -> functools.partial.args[0] -> <test_leaks.Mapping> -> ['_worker'] -> this Handle"
    ]


def test_slots(keep: Callable[..., letgo.Handle]) -> None:
    """An attribute is one with `__slots__` as with a `__dict__`."""
    owner = Slotted()
    owner.handle = keep(closure(owner))
    [path] = letgo.leak_paths(owner.handle)
    assert path.endswith("<test_leaks.Slotted> -> .handle -> this Handle")


def test_exception_with_its_traceback(keep: Callable[..., letgo.Handle]) -> None:
    """An exception that is kept holds the frames it went through, with their variables."""

    def fail(caller: Owner) -> None:
        raise ValueError(caller.handle.name)

    kept = SimpleNamespace()
    owner = Owner()
    owner.handle = keep(partial(nothing, kept))
    try:
        fail(owner)
    except ValueError as error:
        kept.error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    [path] = letgo.leak_paths(owner.handle)
    assert path.endswith(
        f"{STATE} -> .error -> <ValueError> -> .__traceback__ -> .tb_frame -> <frame of "
        f"test_exception_with_its_traceback.<locals>.fail> -> .f_locals['caller'] -> {OWNER}"
    )


def test_method_of_the_handle(keep: Callable[..., letgo.Handle]) -> None:
    """A worker that is given a way to wake itself is given the handle."""
    kept = SimpleNamespace()
    handle = keep(partial(nothing, kept))
    kept.wake = handle.wake
    [path] = letgo.leak_paths(handle)
    assert path.endswith(f"{STATE} -> .wake -> .__self__ -> this Handle")


def test_through_another_worker(keep: Callable[..., letgo.Handle]) -> None:
    """Two workers that hold each other's handles keep both."""
    kept = SimpleNamespace()
    first = keep(partial(nothing, kept))
    kept.second = keep(None, on_close=partial(nothing, first))
    [path] = letgo.leak_paths(first)
    assert path.endswith(
        ".second -> <letgo._handle.Handle> -> .on_close -> functools.partial.args[0] -> this Handle"
    )


def test_subclass(handles: list[letgo.Handle]) -> None:
    """A subclass's own attributes are followed to the handle that it is."""

    class Sender(letgo.Handle):
        def __init__(self) -> None:
            super().__init__(lambda: self.name, interval=3600)

    handles.append(sender := Sender())
    assert letgo.leak_paths(sender) == ["poll -> closure variable 'self' -> this Handle"]


@pytest.mark.parametrize("argument", ["on_close", "on_error", "interrupt", "after_fork"])
def test_every_callable_counts(argument: str, keep: Callable[..., letgo.Handle]) -> None:
    """Not only `poll` can keep the handle."""
    owner = Owner()
    owner.handle = keep(nothing, **{argument: lambda *_: owner})
    assert letgo.leak_paths(owner.handle) == [f"{argument} -> closure variable 'owner' -> {OWNER}"]


def test_one_chain_for_each_callable_shortest_first(keep: Callable[..., letgo.Handle]) -> None:
    """Whoever has mended one callable is not to find the next only then."""
    owner = Owner()
    owner.handle = keep(state(its=[owner]), on_close=owner.poll)
    on_close, poll = letgo.leak_paths(owner.handle)
    assert on_close == f"on_close -> .__self__ -> {OWNER}"
    assert poll.startswith("poll -> ")
    assert letgo.leak_paths(owner.handle, limit=1) == [on_close]


def test_limit(keep: Callable[..., letgo.Handle]) -> None:
    """The shortest chains, and no more than were asked for."""
    kept: list[object] = []
    handle = keep(partial(nothing, kept))
    kept += [[[handle]], [handle], handle, (handle,), {1: handle}]
    lengths = [path.count(" -> [") for path in letgo.leak_paths(handle)]
    assert lengths == [1, 2, 2]
    lengths = [path.count(" -> [") for path in letgo.leak_paths(handle, limit=9)]
    assert lengths == [1, 2, 2, 2, 3]


GLOBAL: list[letgo.Handle] = []


def uses_a_global() -> object:
    return GLOBAL


class UsesItsClass:
    def poll(self) -> object:
        return Owner.registry


def test_globals_classes_modules_and_loggers_do_not_count(
    keep: Callable[..., letgo.Handle],
) -> None:
    """Those bindings can be deleted while the worker goes on."""
    logger = logging.getLogger("test_leaks")
    held = (uses_a_global, UsesItsClass(), Owner, sys.modules[__name__], logger, vars())
    handle = keep(partial(nothing, *held[:-1], globals()), on_close=UsesItsClass().poll)
    logger.handle = handle  # type: ignore[attr-defined]
    GLOBAL.append(handle)
    Owner.registry.append(handle)
    try:
        assert letgo.leak_paths(handle) == []
    finally:
        GLOBAL.clear()
        Owner.registry.clear()
        del logger.handle  # type: ignore[attr-defined]


def test_weak_references_do_not_count(keep: Callable[..., letgo.Handle]) -> None:
    """Nor do weak dictionaries, weak methods and `weakly`."""
    owner = Owner()
    kept = SimpleNamespace(
        reference=weakref.ref(owner),
        values=weakref.WeakValueDictionary(owner=owner),
        keys=weakref.WeakKeyDictionary({owner: 1}),
        members=weakref.WeakSet([owner]),
        method=weakref.WeakMethod(owner.poll),
        finalizer=weakref.finalize(owner, nothing),
    )
    owner.handle = keep(letgo.weakly(owner.poll), on_close=partial(nothing, kept))
    assert letgo.leak_paths(owner.handle) == []


def test_neighbours_on_a_scheduler_do_not_count(keep: Callable[..., letgo.Handle]) -> None:
    """A scheduler holds its workers as long as they run, and those are not the question."""
    scheduler = letgo.Scheduler()
    handle = keep(partial(nothing, scheduler), scheduler=scheduler)
    keep(partial(nothing, handle), scheduler=scheduler)
    assert letgo.leak_paths(handle) == []


def test_before_the_start_and_after_the_end(keep: Callable[..., letgo.Handle]) -> None:
    """It can be asked before the worker starts; afterwards nothing is held any more."""
    owner = Owner()
    owner.handle = keep(owner.poll, start=False)
    assert letgo.leak_paths(owner.handle) == [f"poll -> .__self__ -> {OWNER}"]
    owner.handle.close()
    assert letgo.leak_paths(owner.handle) == []


def test_big_container_is_searched_in_part(keep: Callable[..., letgo.Handle]) -> None:
    """What is found is told, and that there may be more."""
    kept: list[object] = list(range(200_000))
    handle = keep(partial(nothing, kept))
    kept[0] = handle
    path, caveat = letgo.leak_paths(handle)
    assert path.endswith("[0] -> this Handle")
    assert caveat == "(of very big containers only a part was searched: there may be more)"


@pytest.mark.parametrize("kind", [set, frozenset, tuple, deque, dict.fromkeys])
def test_big_containers_of_every_kind(
    kind: Callable[[range], object], keep: Callable[..., letgo.Handle]
) -> None:
    """No kind of container is taken whole."""
    [caveat] = letgo.leak_paths(keep(partial(nothing, kind(range(200_000)))))
    assert "only a part was searched" in caveat


def test_search_ends(keep: Callable[..., letgo.Handle]) -> None:
    """However much the worker holds, the search is bounded, and says so."""
    row: list[object] = [[]]
    rows = [row * 1000 for _ in range(1100)]
    [caveat] = letgo.leak_paths(keep(partial(nothing, rows)))
    assert caveat.startswith("(the search gave up after ")
    assert caveat.endswith(" references: there may be more)")


@pytest.mark.usefixtures("no_collector")
def test_keeps_nothing(keep: Callable[..., letgo.Handle], handles: list[letgo.Handle]) -> None:
    """When the chain is broken, the handle goes, although it was searched for."""
    kept = SimpleNamespace()
    owner = Owner()
    owner.handle = keep(partial(nothing, kept))
    handles.clear()
    kept.owner = owner
    assert letgo.leak_paths(owner.handle) != []
    del kept.owner
    dropped = weakref.ref(owner)
    del owner
    assert dropped() is None
    wait_until(lambda: not letgo.live(), "the worker of the dropped handle ended")


@pytest.mark.usefixtures("no_collector")
def test_leaves_frames_as_they_were(handles: list[letgo.Handle]) -> None:
    """Naming a variable of a frame makes no copy of it that outlives the frame's own."""

    def fail() -> None:
        owner = Owner()
        owner.handle = letgo.Handle(partial(nothing, kept))
        handles.append(owner.handle)
        dropped.append(weakref.ref(owner))
        raise ValueError

    kept = SimpleNamespace()
    dropped: list[weakref.ref[Owner]] = []
    try:
        fail()
    except ValueError as error:
        kept.error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    assert ".f_locals['owner']" in letgo.leak_paths(handles[0])[0]
    kept.error.__traceback__.tb_frame.clear()
    assert dropped[0]() is None


def test_takes_no_copy_of_what_is_big(keep: Callable[..., letgo.Handle]) -> None:
    """A search of a container with a million members needs no memory for a million."""
    big = [None] * 1_000_000
    handle = keep(partial(nothing, big))
    tracemalloc.start()
    try:
        letgo.leak_paths(handle)
        assert tracemalloc.get_traced_memory()[1] < sys.getsizeof(big) / 2
    finally:
        tracemalloc.stop()


class Touchy:
    """Everything that Python could be made to run here, fails."""

    def __fail(self, *_: object) -> object:
        raise AssertionError("the search ran my code")

    __getattr__ = __eq__ = __hash__ = __repr__ = __len__ = __iter__ = __bool__ = __fail  # type: ignore[assignment]
    __dict__ = __class__ = property(__fail)  # type: ignore[assignment]


class TouchyDict(dict[object, object]):
    items = keys = values = __iter__ = __len__ = __getitem__ = __eq__ = Touchy.__eq__  # type: ignore[assignment]
    __repr__ = Touchy.__repr__


def test_runs_no_code_of_the_users(keep: Callable[..., letgo.Handle]) -> None:
    """Objects are looked at without their help: theirs may block, or not expect it."""
    touchy = Touchy()
    inner = TouchyDict()
    handle = keep(lambda: (touchy, inner))
    dict.__setitem__(inner, "touchy", [touchy, handle])
    [path] = letgo.leak_paths(handle)
    assert path.endswith("<test_leaks.TouchyDict> -> ['touchy'] -> [1] -> this Handle")


def test_while_others_change_what_is_searched(keep: Callable[..., letgo.Handle]) -> None:
    """A container that changes all the time is no reason to fail."""
    changing: dict[int, object] = {}
    ended = threading.Event()

    def change() -> None:
        number = 0
        while not ended.is_set():
            changing[number % 1000] = [number]
            changing.pop((number * 7) % 1000, None)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        owner = Owner()
        owner.handle = keep(partial(nothing, changing, owner))
        for _ in range(10):
            assert letgo.leak_paths(owner.handle)[0].endswith(OWNER)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_limit_is_a_positive_int(limit: object, error: type[Exception]) -> None:
    """What makes no sense as a limit is refused."""
    with letgo.Handle(nothing) as handle, pytest.raises(error, match=f"limit.*{limit!r}"):
        letgo.leak_paths(handle, limit=limit)  # type: ignore[arg-type]


def test_only_handles_have_leaks() -> None:
    """Anything else is refused."""
    with pytest.raises(TypeError, match=r"must be a letgo\.Handle, not 'x'"):
        letgo.leak_paths("x")  # type: ignore[arg-type]
