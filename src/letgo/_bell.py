"""The doorbell: how anybody wakes the one thread that waits here.

Ringing is re-entrant by construction: a finalizer may ring in any thread,
between any two bytecodes, while that very thread is ringing or waiting. A ring
is remembered until the next wait, and any number of rings are one.
"""

from __future__ import annotations

from threading import TIMEOUT_MAX, Lock


class Bell:
    """A raw lock that is held except between a ring and the wait that it ends."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the waiter, or let its next wait return at once.

        Threads: finalizer-safe. `threading.Event.set` would read better, but it
        takes a lock in Python code: a finalizer that interrupts the worker
        inside `wait` blocks on it for ever. See tests/test_finalizer.py.
        """
        if self._lock.locked():
            try:
                self._lock.release()
            except RuntimeError:
                pass  # Somebody rang in between: the waiter has yet to wake.

    def wait(self, seconds: float) -> None:
        """Wait for a ring, at most `seconds`; it may return early.

        Threads: one waiter only. Nobody needs to ring if `seconds` is finite;
        with infinity, every change that the waiter must see ends in a ring.
        """
        if seconds > 0:
            self._lock.acquire(True, min(seconds, TIMEOUT_MAX))
        else:
            self._lock.acquire(False)
