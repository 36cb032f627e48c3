"""Sending no faster than a receiver can read, where nobody would tell it.

A datagram's receiver has a socket buffer (208 KiB by default on Linux, which is
some ninety packets of 1,432 bytes), and what comes when it is full is gone. A
worker that flushes a backlog at full speed fills it in a millisecond: of 160,000
metrics sent so, the real StatsD daemon got a quarter. See benchmarks/bench_statsd.py.
"""

from __future__ import annotations

from time import monotonic

# Packets of that size which may leave at once, and in a second.
_BURST = 16
_RATE = 2500.0
# Bytes of the receiver's buffer that a packet takes beyond its own, and that such a
# packet takes in all.
_OVERHEAD = 768
_FULL = 1432 + _OVERHEAD
# Seconds that a backlog may take at most, however large: exit does not wait for ever.
_LONGEST = 2.0
# Seconds of one pause: the shortest that a clock tick does not make much longer.
PAUSE = 0.001


class Pace:
    """A token bucket. Threads: the worker."""

    __slots__ = ("_last", "_rate", "_tokens")

    def __init__(self) -> None:
        self._tokens = float(_BURST)
        self._last = monotonic()
        self._rate = _RATE

    def expect(self, packets: int) -> None:
        """Be as fast as so many packets need."""
        self._rate = max(_RATE, packets / _LONGEST)

    def must_pause(self, size: int) -> bool:
        """Take note of a packet of `size` bytes; whether to pause before the next."""
        self._tokens -= (size + _OVERHEAD) / _FULL
        if self._tokens >= 0:
            return False
        now = monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._last) * self._rate)
        self._last = now
        return self._tokens < 0
