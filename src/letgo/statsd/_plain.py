"""The methods of Python's `statsd` package, with its names, positions and defaults."""

from __future__ import annotations

from datetime import timedelta

from letgo.statsd._format import Number
from letgo.statsd._packets import packets
from letgo.statsd._recorder import ALWAYS, Recorder
from letgo.statsd._timer import Timer


class PlainMetrics(Recorder):
    """What that package can record; its documentation holds, stricter about bad input.

    Threads, errors: as `Metrics`.
    """

    __slots__ = ("_packet_bytes",)

    _packet_bytes: int

    def incr(self, stat: str, count: Number = 1, rate: float = ALWAYS) -> None:
        """Add to a counter."""
        self._incr(stat, count, rate)

    def decr(self, stat: str, count: Number = 1, rate: float = ALWAYS) -> None:
        """Take from a counter."""
        self._count(stat, self._negative(count), rate, None)

    def gauge(self, stat: str, value: Number, rate: float = ALWAYS, delta: bool = False) -> None:
        """Set a gauge, or change it by `value` if `delta`."""
        self._gauge(stat, value, rate, None, delta)

    def set(self, stat: str, value: str | Number, rate: float = ALWAYS) -> None:
        """Add a member to a set."""
        self._set(stat, value, rate, None)

    def timing(self, stat: str, delta: float | timedelta, rate: float = ALWAYS) -> None:
        """Record a duration, in milliseconds or as a `timedelta`."""
        self._timing(stat, delta, rate, None)

    def timer(self, stat: str, rate: float = ALWAYS) -> Timer:
        """A context manager and decorator that records how long something takes."""
        self._check(stat, rate, None)
        return Timer(lambda delta: self.timing(stat, delta, rate))

    def _put_gauge_pair(self, lines: bytes) -> None:
        # Two packets where one would be too large, as in that package.
        for packet, _ in packets(lines.split(b"\n"), self._packet_bytes):
            self._sink.put_unit(packet)
