"""Pipelines: several metrics, sent together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from letgo.statsd._packets import packets
from letgo.statsd._plain import PlainMetrics
from letgo.statsd._recorder import Recorder, Sink
from letgo.statsd._tagged import Metrics


class Collector:
    """The sink of a pipeline: it keeps units until they are sent."""

    __slots__ = ("_packet_bytes", "_sink", "_units")

    def __init__(self, sink: Sink, packet_bytes: int | None) -> None:
        self._sink = sink
        self._packet_bytes = packet_bytes  # of what a pipeline within this one sends
        self._units: deque[object] = deque()

    def put(self, unit: object) -> None:
        """Keep a line or an entry."""
        self._units.append(unit)

    def put_unit(self, unit: bytes) -> None:
        """Keep lines that stay in one packet."""
        self._units.append(unit)

    def put_all(self, units: Iterable[object]) -> None:
        """Keep what a pipeline within this one sends."""
        if self._packet_bytes is None:
            self._units.extend(units)
            return
        lines = [unit for unit in units if isinstance(unit, bytes)]
        self._units.extend(packet for packet, _ in packets(lines, self._packet_bytes))

    def send(self) -> None:
        """Send all, and be empty."""
        units = [self._units.popleft() for _ in range(len(self._units))]
        if units:
            self._sink.put_all(units)


class _Sending:
    __slots__ = ()

    _sink: Sink

    def send(self) -> None:
        """Send what was recorded since the last time."""
        assert isinstance(self._sink, Collector)
        self._sink.send()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.send()


class Pipeline(_Sending, Metrics):
    """Keeps metrics until `send`, or the end of a `with` block.

    Threads: one at a time.
    """

    __slots__ = ()

    def __init__(self, parent: Recorder) -> None:
        collector = Collector(parent._sink, None)
        super().__init__(collector, parent._names, parent._sampler, parent._aggregates)

    def pipeline(self) -> Pipeline:
        """A pipeline that sends into this one."""
        return Pipeline(self)


class PlainPipeline(_Sending, PlainMetrics):
    """As `Pipeline`, with the methods and the packets of Python's `statsd` package.

    Threads: one at a time.
    """

    __slots__ = ()

    def __init__(self, parent: PlainMetrics) -> None:
        self._packet_bytes = parent._packet_bytes
        collector = Collector(parent._sink, parent._packet_bytes)
        super().__init__(collector, parent._names, parent._sampler, parent._aggregates)

    def pipeline(self) -> PlainPipeline:
        """A pipeline that sends into this one."""
        return PlainPipeline(self)
