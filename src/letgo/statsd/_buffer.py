"""The buffer: what callers fill and the worker empties.

Callers append to a deque and compare its length with `limit`: two steps, each of
them atomic, so that a signal handler, a finalizer or a logging handler may send
while the same thread is between them. There is no lock on their way.

Every line that was accepted is in one place: in the deque, taken by the worker
(`taken`), or refused. So received + dropped = sent, whatever fails.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from time import monotonic
from typing import Any

from letgo import ClosedError, again, sleep
from letgo.statsd._outage import Outage
from letgo.statsd._pace import PAUSE, Pace
from letgo.statsd._packets import count_lines, packets
from letgo.statsd._sender import MAX_PACKET, Sender, UnsentError
from letgo.statsd._tally import Tally

# Units that the worker has in its hands at a time.
_CHUNK = 4096
# Bytes: about what a line has. A batch is sent early when it fills a packet, which
# is guessed from its length: adding up bytes would cost every caller.
_TYPICAL_LINE = 24
# Seconds from one try to the next while a sender cannot send: doubled up to the last.
_FIRST_DELAY = 0.001
_LAST_DELAY = 1.0
# Seconds that a flush which somebody waits for gives a full socket to empty.
_PATIENCE = 1.0


class Buffer:
    """The state that a `BufferedSender` and its worker share. It knows no handle."""

    __slots__ = (
        "sender",
        "flush_interval",
        "flush_bytes",
        "max_pending",
        "burst",  # length of `pending` that makes about one packet
        "pending",  # any thread appends; the worker takes from the left
        "source",  # where the worker takes units from: `pending`, unless aggregated
        "begun",  # when the first of a batch came; any thread
        "limit",  # length of `pending` above which an append needs attention
        "closed",  # close() was called: by any thread, never unset
        "over",  # the worker has ended; written by it
        "hurry",  # somebody waits: back-off is to be skipped; by any thread
        # Counts. See `sent` and `dropped`.
        "moving",  # held by the worker while units move between `source` and `taken`
        "taken",
        "lost",  # lines; the worker only
        "refused",
        "extra",  # lines of units beyond one each
        # The worker only.
        "outage",
        "delay",
        "not_before",
        "pace",  # of a sender whose receiver cannot say that it is too fast
    )

    def __init__(
        self, sender: Sender, flush_interval: float, flush_bytes: int, max_pending: int
    ) -> None:
        self.sender = sender
        self.flush_interval = flush_interval
        self.flush_bytes = flush_bytes
        self.max_pending = max_pending
        self.burst = min(max(1, flush_bytes // _TYPICAL_LINE), max_pending)
        self.pending: deque[Any] = deque()
        self.source: deque[bytes] = self.pending
        self.closed = False
        self.over = False
        self._reset()

    def _reset(self) -> None:
        """All that belongs to this process."""
        self.limit = 0
        self.begun = 0.0
        self.hurry = False
        self.moving = Lock()
        self.taken = 0
        self.lost = 0
        self.refused = Tally()
        self.extra = Tally()
        self.outage = Outage(f"statsd {type(self.sender).__name__} cannot send")
        self.delay = 0.0
        self.not_before = 0.0
        self.pace = Pace() if getattr(self.sender, "lossy", False) else None

    # --- Any thread ---

    @property
    def sent(self) -> int:
        """Lines accepted so far, those that were dropped later among them."""
        # Held for as long as it takes to move a chunk. A finalizer that interrupts
        # the worker in there waits for itself: hence the limit.
        held = self.moving.acquire(timeout=0.1)
        try:
            units = self.taken + len(self.source)
        finally:
            if held:
                self.moving.release()
        return units + self.refused.value + self.extra.value

    @property
    def dropped(self) -> int:
        """Lines that will never arrive, as far as this side can know."""
        return self.lost + self.refused.value

    def refuse_newest(self) -> None:
        """Drop what came last: the buffer is full."""
        self._refuse_last_of(self.pending)

    def refuse_late(self, unit: Any) -> None:
        """Take back what was appended when nobody would send it any more.

        Raises:
            ClosedError: `close` was called. Else the interpreter exits, or somebody
                called `letgo.close_all`: then it is counted, for the caller can do
                nothing about it.
        """
        if not self.closed:
            self._refuse_all()
            return
        try:
            self.pending.remove(unit)  # an equal one does as well
        except ValueError:
            return  # the last flush took it after all
        if type(unit) is bytes:
            self.extra.add(1 - count_lines(unit))
        raise ClosedError("the StatsD client is closed")

    def _refuse_all(self) -> None:
        while self.pending:
            self.refuse_newest()

    def _refuse_last_of(self, units: deque[Any]) -> None:
        try:
            unit = units.pop()
        except IndexError:
            return  # there is room again
        lines = count_lines(unit) if type(unit) is bytes else 1
        self.refused.add(lines)
        if lines > 1:
            self.extra.add(1 - lines)  # counted with the refused ones from here on

    # --- The worker ---

    def poll(self) -> None:
        """Send what is pending now; what comes meanwhile wakes the worker again."""
        self.limit = 0  # before anything is taken: see BufferedSender._attend
        now = monotonic()
        hurry, self.hurry = self.hurry, False
        if now < self.not_before and not hurry:
            self._rest(self.not_before - now)
            return
        if not self._gather(hurry):
            return
        if self._send_pending(_PATIENCE if hurry else 0.0):
            if self.pending:
                self.limit = self.burst
                again(0.0 if len(self.pending) > self.burst else self.flush_interval)
        else:
            self.delay = min(max(2 * self.delay, _FIRST_DELAY), _LAST_DELAY)
            self.not_before = monotonic() + self.delay
            self._rest(self.delay)

    def _rest(self, seconds: float) -> None:
        """Poll again in so many seconds, and let nobody wake this worker before."""
        self.limit = self.max_pending
        again(seconds)

    def finish(self) -> None:
        """The last flush. What cannot be sent now never will: it is counted."""
        try:
            self._finish_sending()
            self.over = True
            self.limit = -1
            self._finish_sending()  # what came in between
        finally:
            self.over = True
            self.limit = -1
            self._lose_source()
            self._refuse_all()
            self.sender.close()

    def _finish_sending(self) -> None:
        self._gather(True)
        while self.source:
            if not self._send_pending(_PATIENCE):
                self._lose_source()

    def after_fork(self) -> None:
        """In the child: what is buffered is the parent's, and so are the counts."""
        self.pending.clear()
        self._reset()
        leave_connection = getattr(self.sender, "after_fork", None)
        if leave_connection is not None:
            leave_connection()

    def _gather(self, now: bool) -> bool:
        """Prepare `source`; whether it is to be sent."""
        return True

    def _send_pending(self, patience: float) -> bool:
        """Send as many units as there are now; False when the sender cannot at present."""
        left = len(self.source)
        if self.pace is not None:
            self.pace.expect(left // self.burst)
        while left > 0:
            units = self._take(min(left, _CHUNK))
            if not units:
                return True  # they were refused meanwhile
            left -= len(units)
            if not self._send_units(units, patience):
                return False
        return True

    def _take(self, count: int) -> list[bytes]:
        units: list[bytes] = []
        popleft = self.source.popleft
        with self.moving:
            try:
                for _ in range(count):
                    units.append(popleft())
            except IndexError:
                pass
            self.taken += len(units)
        return units

    def _put_back(self, units: list[bytes]) -> None:
        with self.moving:
            self.source.extendleft(reversed(units))
            self.taken -= len(units)
        while len(self.source) > self.max_pending:
            self._refuse_last_of(self.source)  # callers have filled the room meanwhile

    def _lose_source(self) -> None:
        units = self._take(len(self.source))
        self.lost += sum(map(count_lines, units))

    def _send_units(self, units: list[bytes], patience: float) -> bool:
        rest: list[bytes] = []
        done = 0
        try:
            for packet, end in packets(units, self.flush_bytes):
                begin, done = done, end
                unsent = self._send(packet, patience)
                if unsent:
                    whole = len(unsent) == len(packet)
                    rest = units[begin:end] if whole else unsent.split(b"\n")
                    return False
        finally:
            # After what is no Exception too: then this packet is lost, not the others.
            if rest or done < len(units):
                self._put_back(rest + units[done:])
        return True

    def _send(self, packet: bytes, patience: float) -> bytes:
        """Send one packet; what of it is to be tried again later."""
        if len(packet) > MAX_PACKET:
            self.lost += count_lines(packet)
            return b""
        end = monotonic() + patience
        while True:
            try:
                self.sender.send(packet)
            except BlockingIOError as error:
                if monotonic() < end and not sleep(PAUSE):
                    continue
                if self.delay >= _LAST_DELAY:
                    self.outage.began(error)
                return packet
            except UnsentError as error:
                self.outage.began(error)
                return error.rest
            except Exception as error:
                self.lost += count_lines(packet)
                self.outage.began(error)
                return b""
            except BaseException:
                self.lost += count_lines(packet)
                raise
            self._was_sent(len(packet))
            return b""

    def _was_sent(self, size: int) -> None:
        self.outage.ended()
        self.delay = 0.0
        if self.pace is not None and self.pace.must_pause(size):
            sleep(PAUSE)
