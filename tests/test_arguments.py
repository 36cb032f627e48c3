"""Every argument error of `Handle` and of what is beside it: type, argument and value named."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest

import letgo
from helpers import Probe, wait_until

CALLABLES = ["poll", "on_close", "on_error", "interrupt", "after_fork"]
FLAGS = ["start", "immediate", "exit_last", "warn_unclosed", "close_in_thread"]
NUMBERS = ["interval", "exit_timeout"]
WRONG_TYPES: list[object] = [True, False, "1", b"1", [1.0], 1j, Decimal(1), object]
WRONG_VALUES: list[float] = [-1, -1e-9, float("nan"), float("inf"), float("-inf"), 10**400]


def nothing() -> None:
    """A poll."""


async def coroutine() -> None:
    """What no worker can await."""


async def generator() -> AsyncIterator[None]:
    """What no worker can iterate."""
    yield


class Awaitable:
    """An object whose call is a coroutine."""

    async def __call__(self) -> None:
        """Never awaited."""

    async def method(self) -> None:
        """Never awaited."""


def refused(error: type[Exception], argument: str, value: object, **options: object) -> None:
    """Hold that `Handle` refuses an argument by name and value, and leaves nothing behind."""
    options = {"poll": nothing, **options, argument: value}
    pattern = f"(?s)^{argument}.*{re.escape(repr(value))}"
    with pytest.raises(error, match=pattern):
        letgo.Handle(**options)  # type: ignore[arg-type]
    assert letgo.live() == []


# --- Constructor ---


@pytest.mark.parametrize("value", WRONG_TYPES)
@pytest.mark.parametrize("argument", NUMBERS)
def test_numbers_of_the_wrong_type(argument: str, value: object) -> None:
    """Seconds are an int or a float, and no bool."""
    refused(TypeError, argument, value)


@pytest.mark.parametrize("value", WRONG_VALUES)
@pytest.mark.parametrize("argument", NUMBERS)
def test_numbers_of_the_wrong_value(argument: str, value: float) -> None:
    """Seconds are finite and not negative."""
    refused(ValueError, argument, value)


def test_exit_timeout_is_not_optional() -> None:
    """None is no number of seconds that exit could wait."""
    refused(TypeError, "exit_timeout", None)


@pytest.mark.parametrize("value", [1, 0, None, "yes"])
@pytest.mark.parametrize("argument", FLAGS)
def test_flags_are_bools(argument: str, value: object) -> None:
    """Anything but a bool is most likely an argument in the wrong place."""
    refused(TypeError, argument, value)


@pytest.mark.parametrize("value", [b"name", 1, object])
def test_a_name_is_a_str(value: object) -> None:
    """A name is a str or None."""
    refused(TypeError, "name", value)


@pytest.mark.parametrize("value", ["shared", letgo.Scheduler, letgo.shared])
def test_a_scheduler_is_a_scheduler(value: object) -> None:
    """A scheduler is an instance of `Scheduler`, or None."""
    refused(TypeError, "scheduler", value)


@pytest.mark.parametrize("value", ["flush", 1, [nothing]])
@pytest.mark.parametrize("argument", CALLABLES)
def test_callables_are_callable(argument: str, value: object) -> None:
    """What cannot be called is refused at once, not by the worker."""
    refused(TypeError, argument, value)


@pytest.mark.parametrize(
    "value",
    [
        coroutine,
        generator,
        Awaitable(),
        Awaitable().method,
        functools.partial(coroutine),
        functools.partial(functools.partial(Awaitable().method)),
    ],
)
@pytest.mark.parametrize("argument", CALLABLES)
def test_coroutine_functions_are_refused(argument: str, value: object) -> None:
    """A worker has no event loop: a coroutine would never run."""
    refused(TypeError, argument, value)


def test_a_worker_needs_something_to_do() -> None:
    """Neither `poll` nor `on_close` is a `ValueError` that names both."""
    with pytest.raises(ValueError, match=r"poll.*on_close"):
        letgo.Handle()
    with pytest.raises(ValueError, match=r"poll.*on_close"):
        letgo.Handle(interval=1.0)


def test_no_pause_on_a_scheduler() -> None:
    """`interval=0` on a scheduler would starve the others, given at once or later."""
    scheduler = letgo.Scheduler()
    for zero in (0, 0.0, -0.0):
        with pytest.raises(ValueError, match=r"interval=0"):
            letgo.Handle(nothing, interval=zero, scheduler=scheduler)
    with letgo.Handle(nothing, interval=1.0, scheduler=scheduler) as handle:
        with pytest.raises(ValueError, match=r"interval=0"):
            handle.interval = 0
        assert handle.interval == 1.0
    assert len(scheduler) == 0


def test_only_poll_is_positional() -> None:
    """Options are named."""
    with pytest.raises(TypeError):
        letgo.Handle(nothing, 1.0)  # type: ignore[misc]


@pytest.mark.parametrize("seconds", [0, 1, 0.5, 1e12, 10**300])
def test_good_numbers_are_kept_as_given(seconds: float) -> None:
    """Ints and floats, however large."""
    with letgo.Handle(nothing, interval=seconds, exit_timeout=seconds) as handle:
        assert handle.interval == seconds


# --- A callable that is bound to its own handle ---


class Bound(letgo.Handle):
    """Gives its constructor what `choose` makes of it."""

    def __init__(
        self,
        argument: str,
        choose: Callable[[Bound], object],
        scheduler: letgo.Scheduler | None = None,
    ) -> None:
        options = {"poll": nothing, argument: choose(self)}
        super().__init__(scheduler=scheduler, **options)  # type: ignore[arg-type]

    def work(self, *_: object, **__: object) -> None:
        """Anything."""

    def __call__(self) -> None:
        """A handle that is its own poll."""


SELF_BOUND: dict[str, Callable[[Bound], object]] = {
    "a method": lambda handle: handle.work,
    "an inherited method": lambda handle: handle.wake,
    "the handle": lambda handle: handle,
    "a special method": lambda handle: handle.__repr__,
    "a slot's method": lambda handle: handle.__hash__,
    "a partial of a method": lambda handle: functools.partial(handle.work),
    "a partial with the handle": lambda handle: functools.partial(Bound.work, handle),
    "a partial with the handle by name": lambda handle: functools.partial(print, end=handle),
    "a nested partial": lambda handle: functools.partial(functools.partial(handle.work, 1), 2),
    "a partial with a method": lambda handle: functools.partial(map, handle.work),
    "a partial with a partial": lambda handle: functools.partial(
        map, functools.partial(Bound.work, handle)
    ),
}


@pytest.mark.parametrize("choose", SELF_BOUND.values(), ids=SELF_BOUND)
@pytest.mark.parametrize("argument", CALLABLES)
def test_callables_bound_to_their_own_handle_are_refused(
    argument: str, choose: Callable[[Bound], object]
) -> None:
    """Such a worker would keep its handle alive: a `TypeError` that explains the pattern."""
    with pytest.raises(TypeError, match=rf"(?s)^{argument}=.*letgo\.weakly\("):
        Bound(argument, choose)
    assert letgo.live() == []


ALLOWED: dict[str, Callable[[Bound], object]] = {
    "another object's method": lambda _: Probe().close,
    "another handle's method": lambda _: letgo.Handle(nothing).wake,
    "weakly": lambda handle: letgo.weakly(handle.work),
    "a partial of weakly": lambda handle: functools.partial(letgo.weakly(handle.work), 1),
    "a class": lambda _: Probe,
    "a built-in": lambda _: [].copy,
    "a partial": lambda _: functools.partial(int, "7", base=8),
}


@pytest.mark.parametrize("choose", ALLOWED.values(), ids=ALLOWED)
@pytest.mark.parametrize("argument", CALLABLES)
def test_other_callables_are_taken(
    argument: str, choose: Callable[[Bound], object], scheduler: letgo.Scheduler | None
) -> None:
    """What does not refer to the very handle is taken, and a drop ends the worker."""
    handle = Bound(argument, choose, scheduler)
    assert handle.alive
    del handle
    wait_until(lambda: not letgo.live(), "the worker ends")


# --- Methods and functions ---

CALLS: dict[str, Callable[[letgo.Handle, object], object]] = {
    "after of wake": lambda handle, value: handle.wake(value),  # type: ignore[arg-type]
    "timeout of poll_now": lambda handle, value: handle.poll_now(value),  # type: ignore[arg-type]
    "timeout of join": lambda handle, value: handle.join(value),  # type: ignore[arg-type]
    "timeout of close": lambda handle, value: handle.close(value),  # type: ignore[arg-type]
    "timeout of close_all": lambda _, value: letgo.close_all(value),  # type: ignore[arg-type]
    "timeout of Scheduler.close": lambda _, value: letgo.Scheduler().close(value),  # type: ignore[arg-type]
    "interval, set": lambda handle, value: setattr(handle, "interval", value),
    "seconds of sleep": lambda _, value: letgo.sleep(value),  # type: ignore[arg-type]
    "slow_poll of Scheduler": lambda _, value: letgo.Scheduler(slow_poll=value),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", CALLS)
def test_bad_seconds_are_refused_everywhere(call: str, make: Callable[..., letgo.Handle]) -> None:
    """Each call names its argument and the value, and does nothing."""
    argument = call.split()[0].rstrip(",")
    with make(nothing, interval=60.0) as handle:
        for value in [*WRONG_TYPES, *WRONG_VALUES]:
            error = TypeError if value in WRONG_TYPES else ValueError
            with pytest.raises(error, match=f"{argument}.*{re.escape(repr(value))}"):
                CALLS[call](handle, value)
        assert (handle.closed, handle.interval, handle.info.polls) == (False, 60.0, 0)


@pytest.mark.parametrize("call", ["wake", "sleep", "Scheduler"])
def test_some_seconds_are_not_optional(call: str, make: Callable[..., letgo.Handle]) -> None:
    """None is taken where it means for ever, and nowhere else."""
    with make(nothing) as handle:
        calls: dict[str, Callable[[], object]] = {
            "wake": lambda: handle.wake(None),  # type: ignore[arg-type]
            "sleep": lambda: letgo.sleep(None),  # type: ignore[arg-type]
            "Scheduler": lambda: letgo.Scheduler(slow_poll=None),  # type: ignore[arg-type]
        }
        with pytest.raises(TypeError, match="None"):
            calls[call]()


def test_bad_seconds_of_again(make: Callable[..., letgo.Handle]) -> None:
    """Inside a poll, `again` refuses what `wake` refuses."""
    for value, error in [("1", TypeError), (-1, ValueError), (float("nan"), ValueError)]:
        handle = make(lambda value=value: letgo.again(value))
        with pytest.raises(error, match=f"after.*{value}"):
            handle.poll_now()
        handle.close()


def test_a_scheduler_is_named_by_a_str() -> None:
    """The name of a scheduler is a str or None."""
    with pytest.raises(TypeError, match=r"name.*7"):
        letgo.Scheduler(7)  # type: ignore[arg-type]
