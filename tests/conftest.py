"""Fixtures that every test file shares."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

import letgo
from helpers import letgo_threads, wait_until


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test ends without a worker and without a thread of ours: we are held to it too."""
    yield
    gc.collect()
    wait_until(lambda: not letgo.live(), "no worker is left")
    wait_until(lambda: not letgo_threads(), "no thread is left")


@pytest.fixture(params=["dedicated", "scheduler"])
def make(request: pytest.FixtureRequest) -> Callable[..., letgo.Handle]:
    """Make a handle of either kind: on a thread of its own, or on a scheduler."""
    if request.param == "dedicated":
        return letgo.Handle
    scheduler = letgo.Scheduler()

    def make_on_scheduler(*arguments: object, **options: object) -> letgo.Handle:
        return letgo.Handle(*arguments, scheduler=scheduler, **options)  # type: ignore[arg-type]

    return make_on_scheduler
