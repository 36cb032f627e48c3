"""Fixtures that every test file shares."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import letgo
from helpers import letgo_threads, wait_until


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the random programs of tests/chaos run for longer."""
    parser.addoption("--chaos-minutes", type=float, default=0.0, help="minutes for tests/chaos")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test ends without a worker and without a thread of ours: we are held to it too."""
    yield
    if letgo.live():
        gc.collect()  # of what a failing test's report holds, or a cycle that a test made
    wait_until(lambda: not letgo.live(), "no worker is left")
    wait_until(lambda: not letgo_threads(), "no thread is left")


@pytest.fixture(params=["dedicated", "scheduler"])
def scheduler(request: pytest.FixtureRequest) -> letgo.Scheduler | None:
    """What a handle of either kind is given: None for a thread of its own, or a scheduler."""
    return None if request.param == "dedicated" else letgo.Scheduler()


@pytest.fixture
def make(scheduler: letgo.Scheduler | None) -> Callable[..., letgo.Handle]:
    """Make a handle of either kind: on a thread of its own, or on a scheduler."""
    return partial(letgo.Handle, scheduler=scheduler)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the cycle collector: what is freed is freed by the last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
