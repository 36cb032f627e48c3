"""The client."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, NoReturn, Self

from letgo import _check as check
from letgo.statsd import _address, _check
from letgo.statsd._aggregate import AggregatingSender
from letgo.statsd._buffered import (
    FLUSH_BYTES,
    FLUSH_INTERVAL,
    MAX_PENDING,
    BufferedSender,
    QueuedSender,
)
from letgo.statsd._direct import DirectSink
from letgo.statsd._format import TAG_FORMATS, TagFormat, Tags, tag_pairs
from letgo.statsd._names import Names, check_prefix, join_prefixes
from letgo.statsd._pipeline import Pipeline
from letgo.statsd._recorder import Outlet, Sampler
from letgo.statsd._sender import Sender
from letgo.statsd._tagged import Metrics
from letgo.statsd._udp import ResolvingSender, UDPSender


class SubClient(Metrics):
    """A client with a prefix of its own, over the sender of the one that made it.

    The sender lives as long as any of them; only the `Client` closes it.
    """

    __slots__ = ("_outlet",)

    def __init__(
        self, outlet: Outlet, names: Names, sampler: Sampler | None, aggregates: bool
    ) -> None:
        self._outlet = outlet
        super().__init__(outlet, names, sampler, aggregates)

    def sub(self, prefix: str = "", *, tags: Tags | None = None) -> SubClient:
        """A client whose names begin with this one's prefix, a dot and `prefix`.

        Args:
            prefix: What comes after this one's prefix; empty: the same.
            tags: Constant tags, besides this one's.
        """
        names = self._names
        inner = check_prefix("prefix", prefix, names.form)
        more = _constant_tags(tags, names.form)
        keys = {key for key, _ in more}
        tags_of_both = (*(tag for tag in names.tags if tag[0] not in keys), *more)
        sub_names = Names(join_prefixes(names.prefix, inner), names.form, tags_of_both)
        return SubClient(self._outlet, sub_names, self._sampler, self._aggregates)

    def set_prefix(self, prefix: str) -> None:
        """Begin names with another prefix from now on. Sub-clients keep theirs."""
        names = self._names
        self._use(Names(check_prefix("prefix", prefix, names.form), names.form, names.tags))

    @property
    def prefix(self) -> str:
        """What names begin with, before a dot; see `set_prefix`."""
        return self._names.prefix

    @property
    def sampler(self) -> Sampler | None:
        """Decides, by the rate, whether a call is sent; None: by chance. Can be set.

        It is asked at a rate of 1 too, and may send nothing then; never at 0.
        """
        return self._sampler

    @sampler.setter
    def sampler(self, value: Sampler | None) -> None:
        self._sampler = _check_sampler(value)
        names = self._names
        self._use(Names(names.prefix, names.form, names.tags))  # without remembered lines

    def pipeline(self) -> Pipeline:
        """Collect metrics, and send them together: by `send`, or as a `with` block."""
        return Pipeline(self)

    def flush(self, timeout: float | None = None) -> None:
        """Have what was recorded before this call sent, and wait for it.

        What cannot be sent at present, for want of a server, is not waited for.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: It was not done in time.
            ClosedError: After `close`.
        """
        self._outlet.flush(timeout)

    @property
    def sent(self) -> int:
        """Metrics sent by all clients of the sender, those that were dropped among them.

        Counted in lines: what arrived + `dropped` = `sent`, when nothing is pending.
        """
        return self._outlet.sent

    @property
    def dropped(self) -> int:
        """Metrics that were not delivered, as far as this side can know."""
        return self._outlet.dropped

    def __reduce_ex__(self, protocol: object, /) -> NoReturn:
        """Copying and pickling are refused: there is one sender."""
        raise TypeError(
            f"cannot copy or pickle a {type(self).__name__}: it shares a running worker"
        )


class Client(SubClient):
    """A StatsD client that cannot leak, and loses nothing on the way to the socket.

    Dropping it, closing it, and the interpreter's exit send what is buffered. In a
    forked child it begins empty, and goes on. No call waits for the network or
    raises what the network does: that is counted, and logged once an outage.

    Args:
        address: `"host:port"` or `"[ipv6]:port"`, for UDP. See `sender` for others.
        prefix: What all names begin with, before a dot.
        buffered: Gather metrics into packets. Else each is a packet, sent at once.
        flush_interval: Seconds that a metric waits for others at most.
        flush_bytes: The size of a packet, unless one metric alone is longer.
        max_pending: How many metrics may wait; above it the newest are dropped.
        resolve_interval: Seconds after which the host is looked up again; None: once.
        tag_format: "datadog" (`|#k:v` at the end), "influx" (`,k=v` after the name)
            or "graphite" (`;k=v` after the name).
        tags: Constant tags: a mapping, pairs, or `"key:value"` strings.
        sampler: Called with the rate of each call; whether that call is sent.
        aggregate: Between flushes, add counters up, keep the last value of a gauge,
            and one of each member of a set.
        sender: Sends instead of UDP to `address`: anything with `send(data)` and
            `close()`. Closed with the client. Buffered as well, unless it is a
            `BufferedSender` or `buffered` is false.

    Raises:
        TypeError, ValueError: Arguments that are not that, named with their value.
    """

    __slots__ = ()

    def __init__(
        self,
        address: str = "localhost:8125",
        *,
        prefix: str = "",
        buffered: bool = True,
        flush_interval: float = FLUSH_INTERVAL,
        flush_bytes: int = FLUSH_BYTES,
        max_pending: int = MAX_PENDING,
        resolve_interval: float | None = None,
        tag_format: Literal["datadog", "influx", "graphite"] = "datadog",
        tags: Tags | None = None,
        sampler: Sampler | None = None,
        aggregate: bool = False,
        sender: Sender | None = None,
    ) -> None:
        check.flag("buffered", buffered)
        check.flag("aggregate", aggregate)
        form = _tag_format(tag_format)
        names = Names(check_prefix("prefix", prefix, form), form, _constant_tags(tags, form))
        _check_sampler(sampler)
        if resolve_interval is not None:
            _check.some_seconds("resolve_interval", resolve_interval)
        if sender is None:
            sender = _udp_sender(address, resolve_interval)
        outlet: Outlet
        if aggregate:
            outlet = AggregatingSender(
                sender,
                flush_interval=flush_interval,
                flush_bytes=flush_bytes if buffered else 1,
                max_pending=max_pending,
            )
        elif isinstance(sender, BufferedSender):
            outlet = sender
        elif buffered:
            outlet = BufferedSender(
                sender,
                flush_interval=flush_interval,
                flush_bytes=flush_bytes,
                max_pending=max_pending,
            )
        else:
            outlet = unbuffered(sender, flush_bytes, max_pending)
        super().__init__(outlet, names, sampler, aggregate)

    def close(self, timeout: float | None = None) -> None:
        """Send what is left, and close the sender. What is sent later is a `ClosedError`.

        Threads: any, any number of times; all callers wait for the same end.

        Args:
            timeout: Seconds to wait; None waits for ever.

        Raises:
            TimeoutError: Still busy. It goes on closing; close again to wait again.
        """
        self._outlet.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()


def unbuffered(sender: Sender, packet_bytes: int, max_pending: int = MAX_PENDING) -> Outlet:
    """Send each metric by itself: in the caller's thread, unless that could block it."""
    _check.sender("sender", sender)
    if getattr(sender, "may_block", False):
        return QueuedSender(sender, packet_bytes=packet_bytes, max_pending=max_pending)
    return DirectSink(sender, packet_bytes)


def _udp_sender(address: object, resolve_interval: float | None) -> Sender:
    host, port = _address.parse("address", address)
    if resolve_interval is None:
        return UDPSender(host, port)
    return ResolvingSender(host, port, interval=resolve_interval)


def _tag_format(name: Any) -> TagFormat:
    if not isinstance(name, str):
        raise TypeError(f"tag_format must be a str, not {name!r}")
    try:
        return TAG_FORMATS[name]
    except KeyError:
        known = ", ".join(map(repr, TAG_FORMATS))
        raise ValueError(f"tag_format must be one of {known}, not {name!r}") from None


def _constant_tags(tags: Tags | None, form: TagFormat) -> tuple[tuple[str, str], ...]:
    return () if tags is None else tuple(tag_pairs(tags, form))


def _check_sampler(value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"sampler must be callable or None, not {value!r}")
    return value
