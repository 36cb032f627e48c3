"""What the tests of the cache share: a clock that they move, and an ear for evictions."""

from __future__ import annotations

import threading
from typing import Any

import pytest


class Clock:
    """Both clocks of the cache, moved by hand. Workers keep their own: they do not clean by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.wall = 1_700_000_000.0
        for module in ("cache", "_store", "_expiry"):
            monkeypatch.setattr(f"letgo.{module}.monotonic", lambda: self.now)
        monkeypatch.setattr("letgo.cache.wall_clock", lambda: self.wall)

    def move(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


class Evicted:
    """An `on_evicted` that remembers."""

    def __init__(self) -> None:
        self.items: list[tuple[Any, Any]] = []
        self.threads: list[str] = []

    def __call__(self, key: object, value: object) -> None:
        self.items.append((key, value))
        self.threads.append(threading.current_thread().name)
