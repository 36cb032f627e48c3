"""Sending at once, in the calling thread."""

from __future__ import annotations

from collections.abc import Iterable

from letgo import ClosedError
from letgo import _check as check
from letgo.statsd._outage import Outage
from letgo.statsd._packets import count_lines, packets
from letgo.statsd._sender import MAX_PACKET, Sender
from letgo.statsd._tally import Tally


class DirectSink:
    """Each metric a packet of its own, and no worker: for senders that do not block.

    Threads: any, at any time, as far as the sender allows it.
    """

    __slots__ = ("_closed", "_dropped", "_outage", "_packet_bytes", "_sender", "_sent")

    def __init__(self, sender: Sender, packet_bytes: int) -> None:
        self._sender = sender
        self._packet_bytes = packet_bytes  # of a pipeline's packets
        self._closed = False
        self._sent = Tally()
        self._dropped = Tally()
        self._outage = Outage(f"statsd {type(sender).__name__} cannot send")

    def put_unit(self, unit: bytes) -> None:
        """Send one packet; what the sender raises is counted, and logged once."""
        if self._closed:
            raise ClosedError("the StatsD client is closed")
        lines = count_lines(unit)
        self._sent.add(lines)
        if len(unit) > MAX_PACKET:
            self._dropped.add(lines)
            return
        try:
            self._sender.send(unit)
        except Exception as error:
            self._dropped.add(lines)
            self._outage.began(error)
        else:
            self._outage.ended()

    def put(self, unit: object) -> None:
        """Send one line."""
        assert isinstance(unit, bytes)
        self.put_unit(unit)

    def put_all(self, units: Iterable[bytes]) -> None:
        """Send a pipeline's units in as few packets as their order allows."""
        for packet, _ in packets(list(units), self._packet_bytes):
            self.put_unit(packet)

    def flush(self, timeout: float | None = None) -> None:
        """Nothing waits here."""
        check.optional_seconds("timeout", timeout)
        if self._closed:
            raise ClosedError("the StatsD client is closed")

    def close(self, timeout: float | None = None) -> None:
        """Close the sender, once."""
        check.optional_seconds("timeout", timeout)
        if not self._closed:
            self._closed = True
            self._sender.close()

    @property
    def sent(self) -> int:
        """Metrics sent, those that were dropped among them."""
        return self._sent.value

    @property
    def dropped(self) -> int:
        """Metrics that the sender could not send."""
        return self._dropped.value
