"""From a call to a line: what the methods of all clients and pipelines share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Protocol

from letgo.statsd import _format
from letgo.statsd._aggregate import Entry
from letgo.statsd._format import Number, Tags
from letgo.statsd._names import Names

Sampler = Callable[[float], bool]

# The default of every rate. Told by identity in `incr`, where it is the usual case;
# an equal object takes the longer way to the same line.
ALWAYS = 1


class Sink(Protocol):
    """Where a recorder's lines go."""

    def put(self, unit: object, /) -> None:
        """Accept a line, or an entry to aggregate."""

    def put_unit(self, unit: bytes, /) -> None:
        """Accept lines that stay in one packet."""

    def put_all(self, units: Iterable[Any], /) -> None:
        """Accept a pipeline's units, in order."""


class Outlet(Sink, Protocol):
    """Where a client's lines go: what `BufferedSender` and `DirectSink` are."""

    def flush(self, timeout: float | None = None) -> None:
        """Have what was accepted before handed over."""

    def close(self, timeout: float | None = None) -> None:
        """Send what is left, and accept no more."""

    @property
    def sent(self) -> int:
        """Lines accepted."""
        ...

    @property
    def dropped(self) -> int:
        """Lines that were not delivered."""
        ...


class Recorder:
    """Checks, samples and writes. Threads: any, at any time, as the sink allows."""

    __slots__ = (
        "__weakref__",
        "_aggregates",
        "_counters",
        "_names",
        "_ones",
        "_put",
        "_sampler",
        "_sink",
    )

    def __init__(self, sink: Sink, names: Names, sampler: Sampler | None, aggregates: bool) -> None:
        self._sink = sink
        self._put = sink.put
        self._sampler = sampler
        self._aggregates = aggregates
        self._use(names)

    def _use(self, names: Names) -> None:
        self._names = names
        # What the short way of `incr` knows: nothing where each call is sampled or
        # added up.
        short = self._sampler is None and not self._aggregates
        self._counters = names.counters if short else {}
        self._ones = names.ones if short else {}

    def _incr(
        self, stat: str, count: Number = 1, rate: float = ALWAYS, *, tags: Tags | None = None
    ) -> None:
        """Add to a counter."""
        if rate is ALWAYS and tags is None and type(count) is int:
            try:
                line = self._ones[stat] if count == 1 else self._counters[stat] % count
            except (KeyError, TypeError, ValueError):
                pass  # not met before, or not good: the long way tells
            else:
                self._put(line)
                return
        self._count(stat, count, rate, tags)

    def _wanted(self, rate: float) -> bool:
        """The one decision of a call, after all of it has been checked."""
        if self._sampler is not None:
            return rate > 0 and bool(self._sampler(rate))
        return rate >= 1 or (random.random() <= rate and rate > 0)

    def _record(self, stat: str, written: str, kind: str, rate: float, tags: Tags | None) -> None:
        suffix = _format.rate_suffix(rate)
        head, tail = self._names.parts(stat, tags)
        if self._wanted(rate):
            self._put(f"{head}{written}|{kind}{suffix}{tail}".encode())

    def _count(self, stat: str, count: Number, rate: float, tags: Tags | None) -> None:
        written = _format.number("count", count)
        suffix = _format.rate_suffix(rate)
        names = self._names
        head, tail = names.parts(stat, tags)
        if not self._wanted(rate):
            return
        end = f"|c{suffix}{tail}"
        if self._aggregates:
            self._put(Entry("counter", head, end, _format.plain("count", count)))
            return
        if tags is None and not suffix:
            names.remember_counter(stat, head)
        self._put(f"{head}{written}{end}".encode())

    def _gauge(self, stat: str, value: Number, rate: float, tags: Tags | None, delta: bool) -> None:
        _format.number("value", value)
        suffix = _format.rate_suffix(rate)
        head, tail = self._names.parts(stat, tags)
        if not self._wanted(rate):
            return
        if value < 0 and not delta:
            suffix = ""  # as Python's client has it: two lines, one decision, no rate
        end = f"|g{suffix}{tail}"
        if self._aggregates:
            self._put(Entry("gauge", head, end, _format.plain("value", value), delta))
        elif value < 0 and not delta:
            self._put_gauge_pair(_format.gauge_lines(head, value, end, delta=False))
        else:
            self._put(_format.gauge_lines(head, value, end, delta=delta))

    def _put_gauge_pair(self, lines: bytes) -> None:
        self._sink.put_unit(lines)

    def _timing(self, stat: str, delta: float | timedelta, rate: float, tags: Tags | None) -> None:
        self._record(stat, _format.milliseconds("delta", delta), "ms", rate, tags)

    def _set(self, stat: str, value: object, rate: float, tags: Tags | None) -> None:
        written = _format.set_value(value)
        if not self._aggregates:
            self._record(stat, written, "s", rate, tags)
            return
        suffix = _format.rate_suffix(rate)
        head, tail = self._names.parts(stat, tags)
        if self._wanted(rate):
            self._put(Entry("set", head, f"|s{suffix}{tail}", written))

    def _value(self, stat: str, value: Number, kind: str, rate: float, tags: Tags | None) -> None:
        self._record(stat, _format.number("value", value), kind, rate, tags)

    def _raw(self, stat: str, value: object, rate: float, tags: Tags | None) -> None:
        written = _format.raw_value(value)
        suffix = _format.rate_suffix(rate)
        head, tail = self._names.parts(stat, tags)
        if self._wanted(rate):
            self._put(f"{head}{written}{suffix}{tail}".encode())

    def _check(self, stat: str, rate: float, tags: Tags | None) -> None:
        """Refuse what a timer would be refused for, before the work that it times."""
        _format.rate_suffix(rate)
        self._names.parts(stat, tags)

    def _negative(self, count: Number) -> Number:
        return -_format.plain("count", count)
