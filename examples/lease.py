"""A lease that renews itself until its holder lets go of it, and is then given back.

So is a heartbeat: whoever holds the `Lease` is alive, as far as the others can
tell. Run it: `python examples/lease.py`.
"""

from __future__ import annotations

import threading
import uuid
from time import monotonic

import letgo


class LeaseTable:
    """Stands in for the store that all processes share: for each key an owner and a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[str, float]] = {}

    def take(self, key: str, owner: str, seconds: float) -> bool:
        """Take or renew; False while it is somebody else's."""
        with self._lock:
            holder, until = self._rows.get(key, (owner, 0.0))
            if holder != owner and until > monotonic():
                return False
            self._rows[key] = (owner, monotonic() + seconds)
            return True

    def give_back(self, key: str, owner: str) -> None:
        with self._lock:
            if self._rows.get(key, ("", 0.0))[0] == owner:
                del self._rows[key]


class LeaseTakenError(RuntimeError):
    pass


class _Claim:
    """What the worker needs: whose lease it is, and until when."""

    def __init__(self, table: LeaseTable, key: str, seconds: float) -> None:
        self._table = table
        self._key = key
        self._owner = uuid.uuid4().hex
        self._seconds = seconds
        self.until = 0.0

    def renew(self) -> object:
        # Before the call: a slow store must not make the lease look longer than it is.
        asked = monotonic()
        if not self._table.take(self._key, self._owner, self._seconds):
            self.until = 0.0
            return letgo.STOP
        self.until = asked + self._seconds
        return None

    def give_back(self) -> None:
        self.until = 0.0
        self._table.give_back(self._key, self._owner)

    def disown(self) -> object:
        """In a forked child: the lease is the parent's, which goes on renewing it."""
        self.until = 0.0
        return letgo.STOP


class Lease(letgo.Handle):
    """Held from its making to its drop, `close()` or the process's exit."""

    __slots__ = ("_claim",)

    def __init__(self, table: LeaseTable, key: str, *, seconds: float = 30.0) -> None:
        self._claim = claim = _Claim(table, key, seconds)
        if claim.renew() is letgo.STOP:
            raise LeaseTakenError(key)
        super().__init__(
            claim.renew,
            interval=seconds / 3,  # two renewals may fail, and it is still held
            on_close=claim.give_back,
            after_fork=claim.disown,
            name=f"lease-{key}",
        )

    @property
    def held(self) -> bool:
        """Whether it is held now, by this side's own clock: true only if that is certain."""
        return monotonic() < self._claim.until


def main() -> None:
    table = LeaseTable()
    lease = Lease(table, "nightly-report", seconds=0.3)
    print("held:", lease.held)
    try:
        Lease(table, "nightly-report")
    except LeaseTakenError as error:
        print("taken:", error)

    letgo.sleep(0.6)  # twice as long as it lasts
    print("held after 0.6 s:", lease.held)

    del lease  # given back at once, not when it has run out
    while letgo.live():
        letgo.sleep(0.001)
    with Lease(table, "nightly-report") as mine:
        print("held by another:", mine.held)


if __name__ == "__main__":
    main()
