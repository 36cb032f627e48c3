"""What a sender is, and how it says that a packet has not left."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

MAX_PACKET = 65_507
"""Bytes: what one UDP datagram can carry over IPv4 (65,535 less both headers)."""


@runtime_checkable
class Sender(Protocol):
    """Anything with `send(data)` and `close()`.

    `send` gets one packet: lines joined by newlines, without one at the end. What
    it raises costs that packet, which is counted as dropped, with two exceptions:
    `BlockingIOError` and `UnsentError` say that it is to be tried again later.
    """

    def send(self, data: bytes, /) -> object:
        """Send one packet."""

    def close(self) -> object:
        """Let go of what it holds."""


class UnsentError(OSError):
    """There is no connection or address yet: `rest`, whole lines, has not left."""

    def __init__(self, rest: bytes, reason: object) -> None:
        super().__init__(str(reason))
        self.rest = rest


class RecordingSender:
    """Keeps what it is given, for the tests of code that sends metrics.

    Threads: any.
    """

    __slots__ = ("__weakref__", "closed", "sent")

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        """The packets, in order."""
        self.closed = False
        """Whether `close` was called."""

    def send(self, data: bytes, /) -> None:
        """Keep a packet."""
        self.sent.append(bytes(data))

    def close(self) -> None:
        """Take note; what was sent stays."""
        self.closed = True
