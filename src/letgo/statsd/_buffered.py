"""The sender that gathers lines into packets, and loses none of them."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any

from letgo import Handle
from letgo import _check as check
from letgo.statsd import _check
from letgo.statsd._buffer import Buffer
from letgo.statsd._packets import count_lines, packets
from letgo.statsd._sender import MAX_PACKET, Sender

FLUSH_INTERVAL = 0.3
FLUSH_BYTES = 1432
MAX_PENDING = 262_144


class BufferedSender(Handle):
    """Gathers metrics into packets, which a worker sends through another sender.

    `send` never waits and never raises for the network: it appends, and the
    worker does the rest, `flush_interval` seconds after the first metric of a
    batch, or as soon as about one packet is full. Dropping it, closing it and the
    interpreter's exit send what is left. In a forked child it begins empty.

    What cannot be sent for want of a connection or an address, or since the
    socket is full, waits; above `max_pending` the newest are dropped. What the
    sender raises otherwise costs the packet. Either is counted, and an outage is
    logged once, to logger `letgo`.

    Threads: any, `send` at any time: signal handlers, `__del__`, weak reference
    callbacks and logging handlers included, while the same thread is inside it.

    Args:
        sender: What sends the packets; it is closed with this one.
        flush_interval: Seconds that a metric waits for others at most.
        flush_bytes: The size of a packet, unless one metric alone is longer.
        max_pending: How many metrics may wait.

    Raises:
        TypeError, ValueError: What cannot send, or is no such number.
    """

    __slots__ = ("_append", "_buffer", "_pending")

    def __init__(
        self,
        sender: Sender,
        *,
        flush_interval: float = FLUSH_INTERVAL,
        flush_bytes: int = FLUSH_BYTES,
        max_pending: int = MAX_PENDING,
    ) -> None:
        self._run(make_buffer(Buffer, sender, flush_interval, flush_bytes, max_pending))

    def _run(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._pending = buffer.pending
        self._append = buffer.pending.append
        super().__init__(
            buffer.poll,
            on_close=buffer.finish,
            after_fork=buffer.after_fork,
            name="letgo-statsd",
            exit_last=True,  # others' last flushes send metrics too
        )

    def send(self, data: bytes, /) -> None:
        """Accept one metric, or several lines that are to stay in one packet.

        Raises:
            TypeError: Not bytes.
            ClosedError: After `close`.
        """
        unit = _checked_bytes(data).strip(b"\n")
        if unit:
            self.put_unit(unit)

    def put(self, unit: object) -> None:
        """Accept what has been checked: a line, or an entry to aggregate."""
        self._append(unit)
        if len(self._pending) > self._buffer.limit:
            self._attend(unit)

    def put_unit(self, unit: bytes) -> None:
        """Accept lines that stay in one packet."""
        lines = count_lines(unit)
        if lines > 1:
            self._buffer.extra.add(lines - 1)
        self.put(unit)

    def put_all(self, units: Iterable[bytes]) -> None:
        """Accept units one by one: the worker joins them with what others send."""
        for unit in units:
            self.put_unit(unit)

    def _attend(self, unit: object) -> None:
        """Do what an append asks for: begin a batch, send it early, refuse, or fail.

        The worker sets `limit` to 0 before it takes anything. So either it takes
        what was appended before, or the comparison in `put` leads here.
        """
        buffer = self._buffer
        waiting = len(self._pending)
        if buffer.over or buffer.closed or not self.alive:
            buffer.refuse_late(unit)
        elif waiting > buffer.max_pending:
            buffer.refuse_newest()
        elif waiting > buffer.burst:
            self._arm(buffer.max_pending, 0.0)
        else:
            buffer.begun = monotonic()
            self._arm(buffer.burst, buffer.flush_interval)

    def _arm(self, limit: int, after: float) -> None:
        try:
            self._buffer.limit = limit
            self.wake(after)
        except BaseException:
            # A signal handler raised in between: the next metric is to arm it.
            self._buffer.limit = 0
            raise

    def flush(self, timeout: float | None = None) -> None:
        """Have what was sent before this call handed to the sender, and wait for it.

        What the sender cannot send at present stays, and is not waited for.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: It was not done in time.
            ClosedError: After `close`.
            RuntimeError: On the worker's own thread.
        """
        buffer = self._buffer
        if buffer.over and not buffer.closed:
            check.optional_seconds("timeout", timeout)
            return  # the interpreter exits, and the last flush has been
        buffer.hurry = True
        self.poll_now(timeout)

    def stop(self) -> None:
        """Ask for the last flush and the end, and return at once. See `Handle.stop`."""
        self._end_accepting()
        super().stop()

    def close(self, timeout: float | None = None) -> None:
        """Send what is left, and close the sender. See `Handle.close`."""
        check.optional_seconds("timeout", timeout)
        self._end_accepting()
        super().close(timeout)

    def _end_accepting(self) -> None:
        buffer = self._buffer
        buffer.closed = True
        buffer.limit = -1

    @property
    def sent(self) -> int:
        """Metrics accepted, those that were dropped later among them."""
        return self._buffer.sent

    @property
    def dropped(self) -> int:
        """Metrics that were not delivered, as far as this side can know."""
        return self._buffer.dropped


class QueuedSender(BufferedSender):
    """A `BufferedSender` that joins nothing: each metric is a packet, sent at once.

    For clients that do not buffer, over a sender that may block: connecting,
    looking up and waiting are the worker's all the same.
    """

    __slots__ = ("_packet_bytes",)

    def __init__(
        self, sender: Sender, *, packet_bytes: int, max_pending: int = MAX_PENDING
    ) -> None:
        super().__init__(sender, flush_interval=0.0, flush_bytes=1, max_pending=max_pending)
        self._packet_bytes = packet_bytes  # of a pipeline's packets

    def put_all(self, units: Iterable[bytes]) -> None:
        """Accept a pipeline's units in as few packets as their order allows."""
        for packet, _ in packets(list(units), self._packet_bytes):
            self.put_unit(packet)


def make_buffer(
    kind: type[Buffer],
    sender: Any,
    flush_interval: float,
    flush_bytes: int,
    max_pending: int,
) -> Buffer:
    """A buffer of checked arguments."""
    _check.sender("sender", sender)
    check.seconds("flush_interval", flush_interval)
    _check.count("flush_bytes", flush_bytes, MAX_PACKET)
    _check.count("max_pending", max_pending)
    return kind(sender, flush_interval, flush_bytes, max_pending)


def _checked_bytes(data: object) -> bytes:
    if not isinstance(data, (bytes, bytearray)):
        raise TypeError(f"data must be bytes, not {data!r}")
    return bytes(data)
