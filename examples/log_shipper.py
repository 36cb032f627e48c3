"""A logging handler that ships records in batches, and costs nothing while nobody logs.

The first record of a batch sets a timer, `wake(0.3)`; there is no interval. Run
it: `python examples/log_shipper.py`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

import letgo

DELAY = 0.3  # seconds from the first record of a batch to its sending
BATCH = 100  # records that leave together; a full batch leaves at once
RETRY = 1.0  # seconds after a failure
LIMIT = 10_000  # records that wait while the server is away; then the oldest are lost

Send = Callable[[Sequence[str]], object]


class _Outbox:
    """What the worker needs: the lines that wait, and where they go."""

    def __init__(self, send: Send) -> None:
        self._send = send
        # Each end is atomic: no lock for a fork, a signal or a finalizer to find held.
        self.lines: deque[str] = deque(maxlen=LIMIT)
        self._batch: list[str] = []  # taken from the lines, not sent yet

    def ship(self) -> None:
        while self.lines or self._batch:
            while self.lines and len(self._batch) < BATCH:
                self._batch.append(self.lines.popleft())
            self._send(self._batch)
            self._batch = []

    def ship_or_retry(self) -> None:
        try:
            self.ship()
        except Exception:
            letgo.again(after=RETRY)
            raise

    def forget(self) -> None:
        """In a forked child: they are the parent's, which ships them."""
        self.lines.clear()
        self._batch = []


class LogShipper(logging.Handler):
    def __init__(self, send: Send) -> None:
        super().__init__()
        self._outbox = outbox = _Outbox(send)
        # A member, since this class has a base of its own. The worker refers to the
        # outbox, and not to `self`: that is all that matters.
        self._worker = letgo.Handle(
            outbox.ship_or_retry,
            on_close=outbox.ship,
            after_fork=outbox.forget,
            exit_last=True,  # what others log while they close is shipped too
            name="log-shipper",
        )

    def emit(self, record: logging.LogRecord) -> None:
        lines = self._outbox.lines
        lines.append(self.format(record))
        # The earliest wake wins: only the first of a batch sets the timer.
        self._worker.wake(DELAY if len(lines) < BATCH else 0.0)

    def flush(self) -> None:
        try:
            self._worker.poll_now(timeout=10)
        except letgo.ClosedError:
            pass  # the final flush has shipped them

    def close(self) -> None:
        self._worker.close()
        super().close()


def main() -> None:
    log = logging.getLogger("shop")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(LogShipper(lambda batch: print(f"shipped {len(batch)}:", *batch)))
    log.info("order 1")
    log.info("order 2")
    log.handlers[0].flush()
    log.info("order 3")
    # No close() and no shutdown: exit delivers the third.


if __name__ == "__main__":
    main()
