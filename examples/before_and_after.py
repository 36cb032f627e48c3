"""A library's class before and after: the same buffer, the same methods, one leak less.

Run it: `python examples/before_and_after.py`.
"""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Callable, Sequence

import letgo

Send = Callable[[Sequence[str]], object]


class Before:
    """As it is mostly written. The thread runs a bound method, and so keeps `self` alive."""

    def __init__(self, send: Send, interval: float = 0.5) -> None:
        self._send = send
        self._interval = interval
        self._lines: deque[str] = deque()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, line: str) -> None:
        self._lines.append(line)

    def _flush(self) -> None:
        batch = [self._lines.popleft() for _ in range(len(self._lines))]
        if batch:
            self._send(batch)

    def _run(self) -> None:
        while not self._closing.wait(self._interval):
            self._flush()
        self._flush()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


class _Buffer:
    """Step one: what the thread needs moves into an object of its own, as it was."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.lines: deque[str] = deque()

    def flush(self) -> None:
        batch = [self.lines.popleft() for _ in range(len(self.lines))]
        if batch:
            self._send(batch)


class After(letgo.Handle):
    """Step two: what the user holds is a handle on it. `close` and `with` come with it."""

    __slots__ = ("_buffer",)

    def __init__(self, send: Send, interval: float = 0.5) -> None:
        self._buffer = buffer = _Buffer(send)
        super().__init__(
            buffer.flush,
            interval=interval,
            on_close=buffer.flush,
            after_fork=buffer.lines.clear,  # step three: a forked child sends none of them again
        )

    def add(self, line: str) -> None:
        self._buffer.lines.append(line)


def drop_ten(kind: type[Before] | type[After]) -> None:
    """Make ten, add a line to each, forget them all; what is left half a second later."""
    threads = threading.active_count()
    sent: list[str] = []
    for number in range(10):
        kind(sent.extend, interval=60.0).add(f"line {number}")
    gc.collect()
    for _ in range(50):
        if threading.active_count() == threads:
            break
        letgo.sleep(0.01)
    left = threading.active_count() - threads
    print(f"{kind.__name__}: {left} threads left, {len(sent)} of 10 lines sent")


def main() -> None:
    drop_ten(Before)
    drop_ten(After)


if __name__ == "__main__":
    main()
