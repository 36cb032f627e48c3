"""Connections that are made when they are needed, and made again when they break.

Threads: one at a time. The worker of a `BufferedSender` is the one that sends.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from letgo import ClosedError
from letgo.statsd._sender import UnsentError

Connect = Callable[[], socket.socket]


class Channel:
    """What both kinds share: one socket, or none."""

    __slots__ = ("_closed", "_connect", "_connected", "stale")

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connected: socket.socket | None = None
        self._closed = False
        self.stale = False  # the next packet is to make a new connection; any thread

    def connection(self, rest: bytes) -> socket.socket:
        """The socket, made if there is none. Raises `UnsentError` with `rest` when it cannot be."""
        if self._closed:
            raise ClosedError("the sender is closed")
        if self.stale:
            self.stale = False
            self.disconnect()
        if self._connected is None:
            try:
                self._connected = self._connect()
            except OSError as error:
                raise UnsentError(rest, error) from error
        return self._connected

    def disconnect(self) -> None:
        """Have the next packet make a new connection. In a forked child, the parent's stays."""
        connected, self._connected = self._connected, None
        if connected is not None:
            connected.close()

    def close(self) -> None:
        """Disconnect for good."""
        self._closed = True
        self.disconnect()


class StreamChannel(Channel):
    """A stream: each packet gets a newline, and each connection begins with a whole line."""

    __slots__ = ()

    def send(self, data: bytes) -> None:
        """Send a packet; once more, from the first line that has not left, if it breaks.

        What the kernel took before a connection broke is not sent again: counters
        that arrive twice are worse than counters that are lost.
        """
        self._leave_if_abandoned()
        try:
            self._write(data)
        except UnsentError as broken:
            if isinstance(broken.__cause__, TimeoutError):
                raise  # the server stalls: not this again at once
            self._write(broken.rest)

    def _write(self, data: bytes) -> None:
        connected = self.connection(data)
        rest = memoryview(data + b"\n")
        done = 0
        try:
            while done < len(rest):
                done += connected.send(rest[done:])
        except OSError as error:
            self.disconnect()
            raise UnsentError(data[data.rfind(b"\n", 0, done) + 1 :], error) from error
        except BaseException:
            self.disconnect()  # perhaps in the middle of a line
            raise

    def _leave_if_abandoned(self) -> None:
        """Disconnect if the server has: what was sent would be lost, and nobody be told."""
        connected = self._connected
        if connected is None:
            return
        timeout = connected.gettimeout()
        try:
            connected.setblocking(False)
            if connected.recv(4096) == b"":
                self.disconnect()
            else:
                connected.settimeout(timeout)
        except BlockingIOError:
            connected.settimeout(timeout)  # it says nothing, as it should
        except OSError:
            self.disconnect()


class DatagramChannel(Channel):
    """A Unix datagram socket: the kernel refuses what the server has no room for."""

    __slots__ = ()

    def send(self, data: bytes) -> None:
        """Send a packet; once more, to whoever listens now, if it is refused."""
        try:
            self._write(data)
        except UnsentError:
            self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            self.connection(data).send(data)
        except (UnsentError, BlockingIOError):
            raise
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise BlockingIOError(error.errno, error.strerror) from error
            if error.errno == errno.EMSGSIZE:
                raise
            self.disconnect()
            raise UnsentError(data, error) from error
