"""The exceptions of this library."""

from __future__ import annotations


class ClosedError(RuntimeError):
    """What was used has been closed, or ended by itself."""
