"""The exceptions of this library."""

from __future__ import annotations


class ClosedError(RuntimeError):
    """What was used has been closed, or ended by itself."""


class LeakWarning(ResourceWarning):
    """A worker keeps its own handle alive: see `leak_paths`. Development mode only."""
