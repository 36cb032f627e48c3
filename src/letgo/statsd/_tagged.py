"""The methods of `Client`, its sub-clients and its pipelines."""

from __future__ import annotations

from datetime import timedelta

from letgo.statsd._format import Number, Tags
from letgo.statsd._recorder import ALWAYS, Recorder
from letgo.statsd._timer import Timer


class Metrics(Recorder):
    """All that can be recorded.

    Each method takes a `rate` from 0 to 1, the share of calls that is sent, which
    the server makes up for; and `tags`: a mapping, pairs, or `"key:value"` strings.
    They go before a constant tag of the same key.

    Threads: any, at any time: signal handlers, `__del__`, weak reference callbacks
    and logging handlers included, while the same thread is inside a call.

    Raises, each of them:
        TypeError: A name or tag that is no str, a value that is no number.
        ValueError: A name or tag with a separator or control character, a number
            that is not finite, a rate outside 0 to 1.
        ClosedError: After `close`.
    """

    __slots__ = ()

    incr = Recorder._incr

    def decr(
        self, stat: str, count: Number = 1, rate: float = ALWAYS, *, tags: Tags | None = None
    ) -> None:
        """Take from a counter."""
        self._count(stat, self._negative(count), rate, tags)

    def gauge(
        self,
        stat: str,
        value: Number,
        rate: float = ALWAYS,
        delta: bool = False,
        *,
        tags: Tags | None = None,
    ) -> None:
        """Set a gauge, or change it by `value` if `delta`.

        A negative value is two lines in one packet: a sign alone means a change.
        """
        self._gauge(stat, value, rate, tags, delta)

    def gauge_delta(
        self, stat: str, delta: Number, rate: float = ALWAYS, *, tags: Tags | None = None
    ) -> None:
        """Change a gauge by `delta`."""
        self._gauge(stat, delta, rate, tags, True)

    def set(
        self, stat: str, value: str | Number, rate: float = ALWAYS, *, tags: Tags | None = None
    ) -> None:
        """Add a member to a set: the server counts the distinct ones."""
        self._set(stat, value, rate, tags)

    def timing(
        self,
        stat: str,
        delta: float | timedelta,
        rate: float = ALWAYS,
        *,
        tags: Tags | None = None,
    ) -> None:
        """Record a duration, in milliseconds or as a `timedelta`."""
        self._timing(stat, delta, rate, tags)

    def timer(self, stat: str, rate: float = ALWAYS, *, tags: Tags | None = None) -> Timer:
        """A context manager and decorator that records how long something takes."""
        self._check(stat, rate, tags)
        return Timer(lambda delta: self.timing(stat, delta, rate, tags=tags))

    def histogram(
        self, stat: str, value: Number, rate: float = ALWAYS, *, tags: Tags | None = None
    ) -> None:
        """Record a value of a histogram (a Datadog type)."""
        self._value(stat, value, "h", rate, tags)

    def distribution(
        self, stat: str, value: Number, rate: float = ALWAYS, *, tags: Tags | None = None
    ) -> None:
        """Record a value of a distribution (a Datadog type)."""
        self._value(stat, value, "d", rate, tags)

    def raw(self, stat: str, value: str, rate: float = ALWAYS, *, tags: Tags | None = None) -> None:
        """Send `value` as it is behind the colon: `raw("x", "3|c")`."""
        self._raw(stat, value, rate, tags)
