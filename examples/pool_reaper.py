"""A connection pool whose reaper closes what was idle for too long, and in the end all.

Any number of pools share one thread, `letgo.shared()`. Run it:
`python examples/pool_reaper.py`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import letgo

Connect = Callable[[], sqlite3.Connection]


class _Idle:
    """What the worker needs: the idle connections, oldest first, and since when."""

    def __init__(self, max_idle: float) -> None:
        self._max_idle = max_idle
        self._lock = threading.Lock()  # held for single steps, never while one closes
        self._connections: deque[tuple[float, sqlite3.Connection]] = deque()

    def __len__(self) -> int:
        return len(self._connections)

    def take(self) -> sqlite3.Connection | None:
        """The one that was used last: the others may then grow old enough to be closed."""
        with self._lock:
            return self._connections.pop()[1] if self._connections else None

    def put(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            self._connections.append((monotonic(), connection))

    def close_old(self) -> None:
        self._close_since(monotonic() - self._max_idle)

    def close_all(self) -> None:
        self._close_since(float("inf"))

    def _close_since(self, latest: float) -> None:
        while True:
            with self._lock:
                if not self._connections or self._connections[0][0] > latest:
                    return
                _, connection = self._connections.popleft()
            connection.close()

    def forget(self) -> None:
        """In a forked child: the connections are the parent's, and who knows who held the lock."""
        self._lock = threading.Lock()
        self._connections = deque()


class Pool(letgo.Handle):
    __slots__ = ("_connect", "_idle")

    def __init__(self, connect: Connect, *, max_idle: float = 60.0) -> None:
        self._connect = connect
        self._idle = idle = _Idle(max_idle)
        super().__init__(
            idle.close_old,
            interval=max_idle / 2,
            on_close=idle.close_all,
            close_in_thread=True,  # closing may block: not on the thread that others share
            after_fork=idle.forget,
            scheduler=letgo.shared(),
            name="pool-reaper",
        )

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection, back in the pool after the block; the block keeps the pool alive."""
        connection = self._idle.take() or self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()  # in what state, nobody knows
            raise
        self._idle.put(connection)
        if self.closed:
            self._idle.close_all()

    @property
    def idle(self) -> int:
        return len(self._idle)


def main() -> None:
    pool = Pool(lambda: sqlite3.connect(":memory:", check_same_thread=False), max_idle=0.05)
    with pool.connection() as one, pool.connection() as two:
        print("answers:", *one.execute("select 1").fetchone(), *two.execute("select 2").fetchone())
    print("idle:", pool.idle)
    while pool.idle:
        letgo.sleep(0.01)
    print("idle, a little later:", pool.idle)

    with pool.connection() as kept:
        pass
    del pool  # closes `kept`, on a thread of its own
    while letgo.live():
        letgo.sleep(0.001)
    try:
        kept.execute("select 3")
    except sqlite3.ProgrammingError as error:
        print("after the drop:", error)


if __name__ == "__main__":
    main()
