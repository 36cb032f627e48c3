"""Drop-in clients for those of Python's `statsd` package, version 4.0.1."""

from __future__ import annotations

import os
import socket
from types import TracebackType
from typing import Self

from letgo import _check as check
from letgo.statsd import _check
from letgo.statsd._buffered import FLUSH_BYTES, BufferedSender
from letgo.statsd._client import unbuffered
from letgo.statsd._format import NO_TAGS
from letgo.statsd._names import Names, check_prefix
from letgo.statsd._pipeline import PlainPipeline
from letgo.statsd._plain import PlainMetrics
from letgo.statsd._recorder import Outlet
from letgo.statsd._sender import MAX_PACKET, Sender
from letgo.statsd._streams import TIMEOUT, TCPSender, UnixSender
from letgo.statsd._udp import UDPSender


class _PlainClient(PlainMetrics):
    """What the three share."""

    __slots__ = ("_outlet",)

    def _open(self, sender: Sender, prefix: str | None, buffered: bool, packet_bytes: int) -> None:
        check.flag("buffered", buffered)
        checked = "" if prefix is None else check_prefix("prefix", prefix, NO_TAGS)
        self._packet_bytes = packet_bytes
        self._outlet: Outlet
        if buffered:
            self._outlet = BufferedSender(sender, flush_bytes=min(packet_bytes, FLUSH_BYTES))
        else:
            self._outlet = unbuffered(sender, packet_bytes)
        super().__init__(self._outlet, Names(checked, NO_TAGS, ()), None, False)

    def pipeline(self) -> PlainPipeline:
        """Collect metrics, and send them in as few packets as possible."""
        return PlainPipeline(self)

    def flush(self, timeout: float | None = None) -> None:
        """As `Client.flush`."""
        self._outlet.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """As `Client.close`."""
        self._outlet.close(timeout)

    @property
    def sent(self) -> int:
        """As `Client.sent`."""
        return self._outlet.sent

    @property
    def dropped(self) -> int:
        """As `Client.dropped`."""
        return self._outlet.dropped

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


class StatsClient(_PlainClient):
    """`statsd.StatsClient`: over UDP, each metric a packet.

    Other than there, an unknown host is no error but logged, and looked up by a worker.

    Args:
        host: A name or an IP address.
        port: 1 to 65535.
        prefix: What all names begin with, before a dot.
        maxudpsize: Packets of several metrics stay below this many bytes.
        ipv6: Look for IPv6 addresses of the host instead of IPv4.
        buffered: Gather metrics into packets, as `Client` does.

    Raises:
        TypeError, ValueError: Arguments that are not that, named with their value.
    """

    __slots__ = ()

    def __init__(
        self,
        host: str = "localhost",
        port: int = 8125,
        prefix: str | None = None,
        maxudpsize: int = 512,
        ipv6: bool = False,
        *,
        buffered: bool = False,
    ) -> None:
        _check.count("maxudpsize", maxudpsize)
        sender = UDPSender(host, port, family=_family(ipv6))
        self._open(sender, prefix, buffered, min(max(1, maxudpsize - 1), MAX_PACKET))


class _StreamClient(_PlainClient):
    """What those over streams share: a worker connects, and waits for the server."""

    __slots__ = ("_sender",)

    _sender: TCPSender | UnixSender

    def _open_stream(
        self, sender: TCPSender | UnixSender, prefix: str | None, buffered: bool
    ) -> None:
        self._sender = sender
        self._open(sender, prefix, buffered, MAX_PACKET)

    def connect(self) -> None:
        """Nothing: the worker connects when there is something to send."""

    def reconnect(self) -> None:
        """Have the worker make a new connection for the next packet."""
        self._sender.reconnect()


class TCPStatsClient(_StreamClient):
    """`statsd.TCPStatsClient`: over a TCP connection, each line ended by a newline.

    Other than there, no call raises what the network does, or waits for it.

    Args:
        host: A name or an IP address.
        port: 1 to 65535.
        prefix: What all names begin with, before a dot.
        timeout: Seconds that connecting, or a server that does not read, may take
            the worker; None: two.
        ipv6: Look for IPv6 addresses of the host instead of IPv4.
        buffered: Gather metrics into packets, as `Client` does.

    Raises:
        TypeError, ValueError: Arguments that are not that, named with their value.
    """

    __slots__ = ()

    def __init__(
        self,
        host: str = "localhost",
        port: int = 8125,
        prefix: str | None = None,
        timeout: float | None = None,
        ipv6: bool = False,
        *,
        buffered: bool = False,
    ) -> None:
        seconds = TIMEOUT if timeout is None else timeout
        sender = TCPSender(host, port, timeout=seconds, family=_family(ipv6))
        self._open_stream(sender, prefix, buffered)


class UnixSocketStatsClient(_StreamClient):
    """`statsd.UnixSocketStatsClient`: over a Unix stream socket.

    Other than there, no call raises what the socket does, or waits for it.

    Args:
        socket_path: It need not exist yet.
        prefix: What all names begin with, before a dot.
        timeout: Seconds that a server which does not read may take the worker;
            None: two.
        buffered: Gather metrics into packets, as `Client` does.

    Raises:
        TypeError, ValueError: Arguments that are not that, named with their value.
    """

    __slots__ = ()

    def __init__(
        self,
        socket_path: str | bytes | os.PathLike[str],
        prefix: str | None = None,
        timeout: float | None = None,
        *,
        buffered: bool = False,
    ) -> None:
        seconds = TIMEOUT if timeout is None else timeout
        self._open_stream(UnixSender(socket_path, "stream", timeout=seconds), prefix, buffered)


def _family(ipv6: object) -> int:
    check.flag("ipv6", ipv6)
    return socket.AF_INET6 if ipv6 else socket.AF_INET
