"""The demonstration: one buffered UDP sender, written twice, made and dropped.

Both kinds share their `Outbox`; they differ in what their thread refers to, and
in nothing else.
"""

from __future__ import annotations

import gc
import socket
import threading
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter, sleep
from typing import Protocol, TextIO, TypeVar

from letgo._handle import Handle

T = TypeVar("T")

LINES = 100  # that each sender sends
_DATAGRAM = 1432  # bytes: what fits one Ethernet frame
_FLUSH_INTERVAL = 1.0  # seconds

# Datagrams on their way at a time. UDP loses what the receiver's buffer cannot
# hold, and the smallest that systems give holds about 90 of ours.
_WINDOW = 64

# Seconds to wait for threads to end. The leaky ones never do, so that two of their
# intervals are enough to tell; the others take this long when something is wrong.
_LEAKY_PATIENCE = 2 * _FLUSH_INTERVAL
_PATIENCE = 30.0


class Inbox:
    """A local UDP socket that counts the lines which arrive, by the part before the dot."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.received: Counter[str] = Counter()  # written by the receiving thread
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(_WINDOW):
            self._room.put(None)

    def wait_for_room(self) -> None:
        """Wait until one more datagram is sure to fit. Threads: any; `receive` wakes it."""
        try:
            self._room.get(timeout=5)
        except Empty:
            pass  # One was lost, and its room with it: the table will tell.

    def receive(self) -> None:
        """Wait for one datagram, and count its lines."""
        data = self._socket.recv(2 * _DATAGRAM)
        if data:
            self._room.put(None)
            self.received.update(line.partition(".")[0] for line in data.decode().split("\n"))

    def interrupt(self) -> None:
        """End a `receive` that waits."""
        self._socket.sendto(b"", self.address)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Outbox:
    """Lines that wait for a full datagram or a flush, and the socket they leave by."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._lock = threading.Lock()  # held for one datagram, by the user or the worker
        self._lines: list[bytes] = []
        self._size = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(inbox.address)

    def add(self, line: bytes) -> None:
        """Take one line; send those before it if they fill a datagram."""
        with self._lock:
            if self._size + len(line) + 1 > _DATAGRAM:
                self._send()
            self._lines.append(line)
            self._size += len(line) + 1

    def flush(self) -> None:
        """Send what there is."""
        with self._lock:
            self._send()

    def close(self) -> None:
        """Send what there is, and close the socket."""
        self.flush()
        self._socket.close()

    def _send(self) -> None:
        if self._lines:
            self._inbox.wait_for_room()
            self._socket.send(b"\n".join(self._lines))
            self._lines.clear()
            self._size = 0


class Sender(Protocol):
    """What both kinds can do."""

    def send(self, line: bytes) -> None:
        """Send one line, soon."""
        ...

    def close(self) -> None:
        """Send what is left, and end the thread."""
        ...


class LeakySender:
    """A sender as most are written. Its thread is bound to `self`: only `close` ends it."""

    def __init__(self, inbox: Inbox) -> None:
        self._outbox = Outbox(inbox)
        self._closing = threading.Event()  # no finalizer sets it: nothing does but `close`
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(_FLUSH_INTERVAL):
            self._outbox.flush()
        self._outbox.close()

    def send(self, line: bytes) -> None:
        """Send one line, soon."""
        self._outbox.add(line)

    def close(self) -> None:
        """Send what is left, and end the thread: the call that is forgotten."""
        self._closing.set()
        self._thread.join()


class GuardedSender(Handle):
    """The same sender as a handle. Its thread knows the outbox only: a drop ends it."""

    __slots__ = ("_outbox",)

    def __init__(self, inbox: Inbox) -> None:
        self._outbox = outbox = Outbox(inbox)
        super().__init__(outbox.flush, interval=_FLUSH_INTERVAL, on_close=outbox.close)

    def send(self, line: bytes) -> None:
        """Send one line, soon."""
        self._outbox.add(line)


@dataclass(frozen=True, slots=True)
class Moment:
    """The process at one time: its threads, and bytes that Python's allocator gave out."""

    threads: int
    memory: int

    @classmethod
    def now(cls) -> Moment:
        """Look at the process, after a full collection."""
        gc.collect()
        return cls(threading.active_count(), tracemalloc.get_traced_memory()[0])


@dataclass(frozen=True, slots=True)
class Result:
    """What was seen of one kind of sender."""

    before: Moment
    made: Moment
    dropped: Moment
    seconds: float | None  # from the drop to the last thread's end; None: some never ended
    sent: int
    received: int


class Progress:
    """Tells what is going on: in one place of a terminal, line by line elsewhere."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._rewrites = stream is not None and stream.isatty()

    def each(self, what: str, items: Sequence[T]) -> Iterator[T]:
        """Go through `items`, and tell how far it has come."""
        self.say(what)
        for done, item in enumerate(items, 1):
            yield item
            if self._rewrites and (done % 25 == 0 or done == len(items)):
                self.say(f"{what} {done}/{len(items)}")

    def say(self, what: str) -> None:
        """Show `what`, in the place of what was shown before if there is one place."""
        if self._stream is not None:
            print(
                f"\r{what:<60}" if self._rewrites else what,
                end="" if self._rewrites else "\n",
                file=self._stream,
                flush=True,
            )

    def clear(self) -> None:
        """Leave the terminal's line empty."""
        if self._rewrites:
            self.say("")
            print(end="\r", file=self._stream, flush=True)


def run(workers: int, progress: Progress) -> tuple[Result, Result]:
    """Measure the leaky senders, then the guarded ones, `workers` of each.

    Raises:
        OSError, RuntimeError: So many sockets or threads cannot be had.
    """
    inbox = Inbox()
    with Handle(inbox.receive, interval=0, interrupt=inbox.interrupt, on_close=inbox.close):
        for make in (LeakySender, GuardedSender):
            make(inbox).close()  # what the first of its kind allocates for good is no leak
        leaky = _measure("leaky", LeakySender, inbox, workers, _LEAKY_PATIENCE, progress)
        guarded = _measure("letgo", GuardedSender, inbox, workers, _PATIENCE, progress)
    return leaky, guarded


def _measure(
    kind: str,
    make: Callable[[Inbox], Sender],
    inbox: Inbox,
    workers: int,
    patience: float,
    progress: Progress,
) -> Result:
    senders: list[Sender] = []
    alive: list[weakref.ref[Sender]] = []
    others = set(threading.enumerate())
    before = Moment.now()
    try:
        for _ in progress.each(f"{kind}: making senders", range(workers)):
            senders.append(make(inbox))
            alive.append(weakref.ref(senders[-1]))
        made = Moment.now()
        sent = _send_all(kind, senders, progress)
        progress.say(f"{kind}: dropping them all")
        seconds = _drop(senders, set(threading.enumerate()) - others, patience)
        dropped = Moment.now()
        progress.say(f"{kind}: waiting for the last lines")
        _wait_until(lambda: inbox.received[kind] >= sent)
        return Result(before, made, dropped, seconds, sent, inbox.received[kind])
    finally:
        _close_all(alive)


def _send_all(kind: str, senders: Sequence[Sender], progress: Progress) -> int:
    for number, sender in enumerate(progress.each(f"{kind}: sending", senders)):
        for _ in range(LINES):
            sender.send(f"{kind}.{number}:1|c".encode())
    return len(senders) * LINES


def _drop(senders: list[Sender], threads: set[threading.Thread], patience: float) -> float | None:
    """Forget the senders; seconds until the last thread's end, None if some go on.

    The first half of the wait is without the collector, the second with its help:
    neither ends a leaky sender.
    """
    began = perf_counter()
    gc.disable()
    try:
        senders.clear()
        ended = _join(threads, patience / 2)
        if ended is None:
            gc.collect()
            ended = _join(threads, patience / 2)
    finally:
        gc.enable()
    return None if ended is None else ended - began


def _join(threads: Iterable[threading.Thread], seconds: float) -> float | None:
    """When the last of them was seen to have ended; None if that took longer than `seconds`."""
    end = monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - monotonic()))
    return None if any(thread.is_alive() for thread in threads) else perf_counter()


def _wait_until(arrived: Callable[[], bool]) -> None:
    end = monotonic() + _PATIENCE
    while not arrived() and monotonic() < end:
        sleep(0.001)


def _close_all(alive: Iterable[weakref.ref[Sender]]) -> None:
    """End the senders that are left, so that each measurement starts from nothing."""
    for reference in alive:
        sender = reference()
        if sender is not None:
            sender.close()
