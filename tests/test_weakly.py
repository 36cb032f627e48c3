"""`weakly`: a bound method whose object the worker does not keep alive."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable

import pytest

import letgo
from helpers import Gate, wait_for, wait_until


class Feed:
    """A class that cannot be split: it owns its worker, which polls its method."""

    def __init__(self, scheduler: letgo.Scheduler | None, **options: object) -> None:
        self.polls = 0
        self.closes: list[str] = []
        self.act: Callable[[], object] | None = None
        self.worker = letgo.Handle(
            letgo.weakly(self._refresh),
            scheduler=scheduler,
            **options,  # type: ignore[arg-type]
        )

    def _refresh(self) -> object:
        self.polls += 1
        return self.act() if self.act is not None else None


def test_a_method_polls_its_object(scheduler: letgo.Scheduler | None) -> None:
    """As long as the object lives, the worker calls its method."""
    feed = Feed(scheduler, interval=0.001)
    wait_until(lambda: feed.polls >= 3, "three polls")
    feed.worker.close()


def test_an_object_that_owns_its_worker_is_freed(
    scheduler: letgo.Scheduler | None, no_collector: None
) -> None:
    """The object is dropped, the handle with it, and the worker ends: no collection needed."""
    feed = Feed(scheduler)
    feed.worker.poll_now()
    freed = weakref.ref(feed)
    del feed
    wait_until(lambda: freed() is None, "the object is freed")
    wait_until(lambda: not letgo.live(), "the worker ends")


def test_an_object_is_freed_after_its_poll_raised(
    scheduler: letgo.Scheduler | None, no_collector: None
) -> None:
    """An exception's frames hold the object: they go with it."""
    # With an interval: without the GIL frames go when the thread that made them next runs.
    feed = Feed(scheduler, on_error=lambda _: None, interval=0.01)
    feed.act = lambda: int("no number")
    with pytest.raises(ValueError, match="no number"):
        feed.worker.poll_now()
    freed = weakref.ref(feed)
    del feed
    wait_until(lambda: freed() is None, "the object is freed")
    wait_until(lambda: not letgo.live(), "the worker ends")


def test_an_object_is_held_while_its_method_runs(
    scheduler: letgo.Scheduler | None, no_collector: None
) -> None:
    """A drop during a poll is seen when the poll is over."""
    feed = Feed(scheduler)
    gate = Gate()
    feed.act = gate
    feed.worker.wake()
    wait_for(gate.entered)
    freed = weakref.ref(feed)
    del feed
    assert freed() is not None
    gate.opened.set()
    wait_until(lambda: freed() is None, "the object is freed")
    wait_until(lambda: not letgo.live(), "the worker ends")


def test_a_worker_whose_object_is_gone_ends(scheduler: letgo.Scheduler | None) -> None:
    """When the handle outlives the object, the next poll is `STOP`."""
    feed = Feed(scheduler)
    handle = feed.worker
    del feed
    handle.poll_now()
    assert handle.join(20)


def test_a_call_after_the_object_is_gone_does_nothing() -> None:
    """Such a call returns `STOP`."""
    items = Items()
    call = letgo.weakly(items.append)
    assert call(1, twice=True) == [1, 1]
    del items
    assert call(1) is letgo.STOP


class Items(list[int]):
    """A list that can be weakly referred to."""

    def append(self, item: int, twice: bool = False) -> list[int]:  # type: ignore[override]
        """Arguments and results go through."""
        self.extend([item] * (1 + twice))
        return self


def test_on_close_runs_if_the_object_is_still_there(scheduler: letgo.Scheduler | None) -> None:
    """An explicit close flushes; once the object is gone there is nothing to flush from."""
    closes: list[str] = []

    class Buffer:
        def __init__(self) -> None:
            self.worker = letgo.Handle(on_close=letgo.weakly(self._flush), scheduler=scheduler)

        def _flush(self) -> None:
            closes.append("flushed")

    buffer = Buffer()
    buffer.worker.close()
    assert closes == ["flushed"]
    buffer = Buffer()
    handle = buffer.worker
    del buffer
    handle.close()
    assert closes == ["flushed"]


def test_weakly_says_what_it_calls() -> None:
    """The repr, and what messages name the worker by, is the method."""
    items = Items()
    assert repr(letgo.weakly(items.append)) == "<letgo.weakly(Items.append)>"


class Slotted:
    """An object that cannot be weakly referred to."""

    __slots__ = ()

    def method(self) -> None:
        """Anything."""


class Waiting:
    """An object with a coroutine method."""

    async def method(self) -> None:
        """Never awaited."""


def function() -> None:
    """Bound to nothing."""


@pytest.mark.parametrize(
    "value",
    [function, functools.partial(function), 7, Slotted().method, Waiting().method, Slotted.method],
)
def test_weakly_takes_bound_methods_only(value: Callable[[], object]) -> None:
    """Functions, coroutine methods and objects without weak references are a `TypeError`."""
    with pytest.raises(TypeError):
        letgo.weakly(value)
