"""Adding up between flushes: one line for a thousand increments.

Callers append what they record, as they do with lines; the worker adds it up. So
no sum is ever changed by two threads, and no caller needs a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any, Literal, NamedTuple

from letgo import again
from letgo.statsd._buffer import Buffer
from letgo.statsd._buffered import BufferedSender, make_buffer
from letgo.statsd._format import gauge_lines, number
from letgo.statsd._packets import count_lines
from letgo.statsd._sender import Sender

# Entries that wait before they are added up early, to bound the memory they take.
_BURST = 4096


class Entry(NamedTuple):
    """One call, to be added up with others that go to the same line."""

    kind: Literal["counter", "gauge", "set"]
    head: str  # the line up to its value
    tail: str  # the line after its value
    value: Any
    delta: bool = False  # of a gauge


class AggregatingBuffer(Buffer):
    """A buffer whose worker adds entries up, and sends the sums when they are due."""

    __slots__ = ("due", "sums")

    def __init__(
        self, sender: Sender, flush_interval: float, flush_bytes: int, max_pending: int
    ) -> None:
        super().__init__(sender, flush_interval, flush_bytes, max_pending)
        self.burst = min(_BURST, max_pending)
        self.source = deque()
        self.sums: dict[tuple[object, ...], Entry] = {}
        self.due: float | None = None

    def after_fork(self) -> None:
        """In the child: the sums are the parent's too."""
        self.source.clear()
        self.sums.clear()
        self.due = None
        super().after_fork()

    def _gather(self, now: bool) -> bool:
        """Add up what is pending; when it is time, turn the sums into lines."""
        popleft = self.pending.popleft
        for _ in range(len(self.pending)):
            try:
                entry = popleft()
            except IndexError:
                break  # refused meanwhile
            if isinstance(entry, Entry):
                self._add(entry)
            else:
                self.source.append(entry)
        if self.due is None:
            self.due = self.begun + self.flush_interval
        wait = self.due - monotonic()
        if wait > 0 and not now:
            again(wait)  # woken early, by the number of entries
            return False
        self.due = None
        sums, self.sums = self.sums, {}
        for entry in sums.values():
            self._emit(entry)
        return True

    def _add(self, entry: Entry) -> None:
        member = entry.value if entry.kind == "set" else None
        key = (entry.kind, entry.head, entry.tail, member)
        known = self.sums.get(key)
        if known is None:
            if len(self.sums) < self.max_pending:
                self.sums[key] = entry
            else:
                self.refused.add()
        elif entry.kind == "counter" or entry.delta:
            try:
                self.sums[key] = known._replace(value=known.value + entry.value)
            except (TypeError, ArithmeticError):
                # A Decimal and a float, or an int that no float can hold.
                self._emit(known)
                self.sums[key] = entry
        else:
            self.sums[key] = entry

    def _emit(self, entry: Entry) -> None:
        try:
            if entry.kind == "gauge":
                unit = gauge_lines(entry.head, entry.value, entry.tail, delta=entry.delta)
            else:
                text = entry.value if entry.kind == "set" else number("count", entry.value)
                unit = f"{entry.head}{text}{entry.tail}".encode()
        except ValueError:
            self.refused.add()  # the sum of finite floats is infinite, or too long
            return
        self.extra.add(count_lines(unit) - 1)
        self.source.append(unit)


class AggregatingSender(BufferedSender):
    """A `BufferedSender` that takes entries too."""

    __slots__ = ()

    def __init__(
        self, sender: Sender, *, flush_interval: float, flush_bytes: int, max_pending: int
    ) -> None:
        self._run(make_buffer(AggregatingBuffer, sender, flush_interval, flush_bytes, max_pending))

    def put_all(self, units: Iterable[object]) -> None:
        """Accept a pipeline's lines and entries."""
        for unit in units:
            if isinstance(unit, bytes):
                self.put_unit(unit)
            else:
                self.put(unit)
