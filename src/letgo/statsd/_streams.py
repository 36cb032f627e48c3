"""Senders that keep a connection: TCP and Unix sockets."""

from __future__ import annotations

import os
import socket
from typing import Literal

from letgo.statsd import _check
from letgo.statsd._address import Address, check_host, check_port, literal, look_up
from letgo.statsd._channels import DatagramChannel, StreamChannel

# Seconds. Below what interpreter exit waits for a worker, so that a final flush to
# a server that stalls still ends by itself, with its metrics counted.
TIMEOUT = 2.0


class _Connected:
    """What the senders here share. Threads: one at a time; `reconnect` any."""

    __slots__ = ("__weakref__", "_channel")

    may_block = True

    def __init__(self, channel: StreamChannel | DatagramChannel) -> None:
        self._channel = channel

    def send(self, data: bytes, /) -> None:
        """Send one packet; it may wait for the server, up to the timeout.

        Raises:
            UnsentError: No connection, or it broke or stalled: not all of the packet left.
            BlockingIOError: A datagram server has no room.
            OSError: The datagram is too long.
            ClosedError: After `close`.
        """
        self._channel.send(data)

    def reconnect(self) -> None:
        """Have the next packet make a new connection. Threads: any."""
        self._channel.stale = True

    def after_fork(self) -> None:
        """In a forked child: leave the parent's connection alone, and make a new one."""
        self._channel.disconnect()

    def close(self) -> None:
        """Close the connection; twice has no effect."""
        self._channel.close()

    def __del__(self) -> None:
        # Not left to the socket: it would warn that it was not closed.
        if hasattr(self, "_channel"):
            self.close()


class TCPSender(_Connected):
    """Sends packets over one TCP connection, each ended by a newline.

    The host is looked up and connected to by the first `send`, and again after
    the connection was lost. A new connection begins with a whole line.

    Args:
        host: A name or an IP address, IPv4 or IPv6.
        port: 1 to 65535.
        timeout: Seconds that connecting, or a server that does not read, may take.
        family: `socket.AF_INET` or `AF_INET6`, to use only such addresses.

    Raises:
        TypeError, ValueError: What is no host, port or number of seconds above 0.
    """

    __slots__ = ()

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float = TIMEOUT,
        family: int = socket.AF_UNSPEC,
    ) -> None:
        check_host("host", host)
        check_port("port", port)
        _check.some_seconds("timeout", timeout)
        fixed = literal(host, port)

        def connect() -> socket.socket:
            addresses = fixed or look_up(host, port, socket.SOCK_STREAM, family)
            return _connect_to_any(addresses, timeout)

        super().__init__(StreamChannel(connect))


class UnixSender(_Connected):
    """Sends packets to a Unix socket.

    Args:
        path: Of the socket; it need not exist yet.
        kind: "datagram": each packet a datagram; "stream": each ended by a newline.
        timeout: Seconds that a stream's server may take to read.

    Raises:
        TypeError, ValueError: What is no path, kind or number of seconds above 0.
    """

    __slots__ = ()

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        kind: Literal["datagram", "stream"] = "datagram",
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        where = _check_path(path)
        _check.some_seconds("timeout", timeout)
        if kind not in ("datagram", "stream"):
            raise ValueError(f"kind must be 'datagram' or 'stream', not {kind!r}")
        stream = kind == "stream"

        def connect() -> socket.socket:
            socket_kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
            address = Address(socket.AF_UNIX, where)
            return _connected(address, socket_kind, timeout if stream else 0.0)

        super().__init__(StreamChannel(connect) if stream else DatagramChannel(connect))


def _check_path(path: object) -> str | bytes:
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path must be a path, not {path!r}")
    where: str | bytes = os.fspath(path)
    if not where:
        raise ValueError(f"path must not be empty: {path!r}")
    return where


def _connect_to_any(addresses: tuple[Address, ...], timeout: float) -> socket.socket:
    """A connection to the first address that answers; raises what the last one raised."""
    for left in range(len(addresses) - 1, -1, -1):
        try:
            connected = _connected(addresses[-1 - left], socket.SOCK_STREAM, timeout)
        except OSError:
            if left == 0:
                raise
        else:
            # A batch is one write: there is nothing to hold back and collect.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
    raise OSError("the host has no address")


def _connected(address: Address, kind: int, timeout: float) -> socket.socket:
    fresh = socket.socket(address.family, kind)
    try:
        fresh.settimeout(timeout)
        fresh.connect(address.sockaddr)
    except BaseException:
        fresh.close()
        raise
    return fresh
