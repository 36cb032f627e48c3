"""A count that can be added to from anywhere."""

from __future__ import annotations

from collections import deque

_MANY = 256


class Tally:
    """A sum of parts, of which none is lost however calls interleave.

    Threads: any, at any time, finalizers and signal handlers included. A plain
    `n += 1` loses what a handler adds between its load and its store, and a lock
    could be held by the very frame that the handler interrupts. Every step here
    is one atomic operation on a deque. While another thread folds, `value` may be
    behind by the parts in its hands.
    """

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: deque[int] = deque()

    def add(self, number: int = 1) -> None:
        """Add `number`."""
        parts = self._parts
        parts.append(number)
        if len(parts) > _MANY:
            total = 0
            try:
                for _ in range(_MANY):
                    total += parts.popleft()
            except IndexError:
                pass  # somebody else folds too
            parts.append(total)

    @property
    def value(self) -> int:
        """The sum."""
        while True:
            try:
                return sum(self._parts)
            except RuntimeError:
                pass  # changed while it was read: without the GIL only
