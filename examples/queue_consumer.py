"""A queue consumer: a poll that blocks, and an `interrupt` that makes it return.

Run it: `python examples/queue_consumer.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

import letgo

Job = Callable[[], object]


class _Inbox:
    """What the worker needs: the jobs. `None` among them says nothing but "return"."""

    def __init__(self) -> None:
        # Not queue.Queue: `interrupt` may run inside the collector, in a thread that is
        # inside put() or get() itself, and only SimpleQueue.put is re-entrant.
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()

    def run_next(self) -> None:
        job = self.jobs.get()
        if job is not None:
            job()

    def interrupt(self) -> None:
        self.jobs.put(None)

    def run_rest(self) -> None:
        while not self.jobs.empty():
            self.run_next()

    def forget(self) -> None:
        """In a forked child: the jobs are the parent's, and one thread of it may be in get()."""
        self.jobs = SimpleQueue()


class Consumer(letgo.Handle):
    __slots__ = ("_inbox",)

    def __init__(self) -> None:
        self._inbox = inbox = _Inbox()
        super().__init__(
            inbox.run_next,
            interval=0,  # run_next waits by itself
            interrupt=inbox.interrupt,
            on_close=inbox.run_rest,
            after_fork=inbox.forget,
            name="consumer",
        )

    def submit(self, job: Job) -> None:
        if self.closed:
            raise letgo.ClosedError("the consumer is closed")
        self._inbox.jobs.put(job)


def main() -> None:
    consumer = Consumer()
    for number in range(3):
        consumer.submit(partial(print, "job", number))
    consumer.close(timeout=10)  # what was submitted is run
    print("closed:", consumer.closed)


if __name__ == "__main__":
    main()
