"""What the worker of a guard holds: the object and its closer, and never the proxy.

Whatever ends a guard (a drop, the close method, `unguard`, exit, all at once) first
takes its `claim`; whoever gets it decides whether the closer is called.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from threading import Lock, RLock
from typing import Any

from letgo import _report
from letgo._core import STOP

Action = Callable[[Any], object]


class Guarded:
    """One object under guard. Its proxy and the core of its handle refer to it."""

    __slots__ = (
        "__weakref__",
        "claim",  # held from the end of the guard on, and never released
        "closer",
        "forker",
        "handle",  # a weak reference: the worker must not keep its handle
        "object",  # None once the closer of a dropped guard has run
        "poller",
        "polling",  # held by the worker during a poll; renewed after a fork
    )

    def __init__(
        self, wrapped: object, closer: Action | None, poller: Action | None, forker: Action | None
    ) -> None:
        self.object: Any = wrapped
        self.closer = closer
        self.poller = poller
        self.forker = forker
        self.claim = Lock()
        self.polling = RLock()
        self.handle: weakref.ref[object] | None = None
        entry = _Entry(self, _forget)
        entry.key = id(wrapped)
        # setdefault() is atomic: of two guards over one object, one gets in.
        if _entries.setdefault(entry.key, entry) is not entry:
            raise ValueError(f"obj is guarded already: {object.__repr__(wrapped)}")

    @property
    def _dropped(self) -> bool:
        return self.handle is not None and self.handle() is None

    def poll(self) -> object:
        """The worker's poll."""
        with self.polling:
            if self.poller is None or self.claim.locked():
                return STOP
            return self.poller(self.object)

    def close(self) -> None:
        """The worker's on_close: call the closer, unless the guard was disarmed.

        Of a dropped guard the object is let go here, since its destructor may block
        as its closer may. The proxy cannot be relied on to have let go before: the
        cycle collector clears a proxy after it has told of its handle's death.
        """
        if not self.claim.acquire(False):
            return
        try:
            if self.closer is not None:
                self.closer(self.object)
        except Exception as error:
            if not self._dropped:
                raise
            # Nobody waits for it, and its frames hold the object: report it here.
            message = "closing a dropped %s failed"
            _report.log(logging.ERROR, message, type(self.object).__qualname__, error=error)
        finally:
            del _entries[id(self.object)]
            if self._dropped:
                self.object = None

    def disarm(self) -> None:
        """End the guard without its closer, and wait for a poll that is running.

        Threads: any; a poll may disarm its own guard.
        """
        if self.claim.acquire(False):
            del _entries[id(self.object)]
        with self.polling:
            pass

    def after_fork(self) -> object:
        """The worker's after_fork, in the child."""
        if self.claim.locked():
            return STOP  # the parent was about to stop it
        self.polling = RLock()  # the parent's worker may have held it
        result = None if self.forker is None else self.forker(self.object)
        if result is STOP:
            self.disarm()
        return result


class _Entry(weakref.ref[Guarded]):
    """The registry's entry: it goes with its guard, should nobody end that."""

    __slots__ = ("key",)

    key: int


# By the object's id, which cannot be used again while a `Guarded` holds the object: it
# may be unhashable. An entry is deleted by whoever has the claim, or else by the death
# of its `Guarded` (one that a forked child gave up), so never twice.
_entries: dict[int, _Entry] = {}


def _forget(entry: weakref.ref[Guarded]) -> None:
    """Threads: finalizer-safe."""
    assert isinstance(entry, _Entry)
    if _entries.get(entry.key) is entry:
        del _entries[entry.key]
