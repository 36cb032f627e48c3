"""UDP: to an address, or to a name that is looked up again and again."""

from __future__ import annotations

import errno
import os
import socket

from letgo import ClosedError, Handle, again
from letgo.statsd import _check
from letgo.statsd._address import Address, check_host, check_port, literal, look_up
from letgo.statsd._outage import Outage
from letgo.statsd._sender import UnsentError

# Seconds between two tries to resolve a name that has never been resolved.
_FIRST_RETRY = 1.0


class Lookup:
    """A host's addresses. Whoever looks up replaces the tuple; others read it."""

    __slots__ = ("_outage", "addresses", "family", "host", "is_literal", "port")

    def __init__(self, host: str, port: int, family: int) -> None:
        self.host = check_host("host", host)
        self.port = check_port("port", port)
        self.family = family
        self.addresses = literal(host, port)
        self.is_literal = bool(self.addresses)
        self._outage = Outage(f"statsd host {host!r} cannot be looked up")

    def resolve(self) -> tuple[Address, ...]:
        """Look the host up. Raises OSError, and keeps the addresses that it had."""
        self.addresses = look_up(self.host, self.port, socket.SOCK_DGRAM, self.family)
        return self.addresses

    def refresh(self) -> None:
        """The poll of a worker: look it up; a failure changes nothing."""
        try:
            self.resolve()
        except OSError as error:
            self._outage.began(error)
            if not self.addresses:
                again(_FIRST_RETRY)
        else:
            self._outage.ended()


class UDPSender:
    """Sends packets as UDP datagrams, and never blocks for the network.

    A host that is a name is looked up once, by the first `send` that succeeds in
    it: on the worker's thread inside a `BufferedSender`, where a lookup that
    fails is tried again later.

    A datagram that is refused (nobody listens) is sent once more at once, to the
    host's next address if it has several: a refusal that is met may be that of an
    earlier one, from before the server's restart. Only refusals that the kernel
    knows of are seen: UDP tells nobody of what it loses.

    Threads: any; `send` may also run inside itself, in a signal handler or finalizer.

    Args:
        host: A name or an IP address, IPv4 or IPv6.
        port: 1 to 65535.

    Raises:
        TypeError, ValueError: What is no host or port.
    """

    __slots__ = ("__weakref__", "_closed", "_lookup", "_sockets", "_turn")

    lossy = True
    """What comes faster than the server reads is lost: a `BufferedSender` paces itself."""

    def __init__(self, host: str, port: int, *, family: int = socket.AF_UNSPEC) -> None:
        self._lookup = Lookup(host, port, family)
        self._closed = False
        self._sockets: dict[Address, socket.socket] = {}  # any thread; each entry is one step
        self._turn = 0  # which of the addresses; a lost update does no harm

    @property
    def may_block(self) -> bool:
        """Whether `send` may have to look the host up."""
        return not self._lookup.is_literal

    def send(self, data: bytes, /) -> None:
        """Send one datagram.

        Raises:
            UnsentError: The host's name does not resolve yet.
            BlockingIOError: The socket is full.
            OSError: It was refused twice, is too long, or cannot be sent.
            ClosedError: After `close`.
        """
        if self._closed:
            raise ClosedError("the sender is closed")
        addresses = self._addresses(data)
        refusal = self._try(addresses, data)
        if refusal is not None:
            self._turn += 1
            refusal = self._try(addresses, data)
        if refusal is not None:
            raise refusal

    def _addresses(self, data: bytes) -> tuple[Address, ...]:
        addresses = self._lookup.addresses
        if not addresses:
            try:
                addresses = self._lookup.resolve()
            except OSError as error:
                raise UnsentError(data, error) from error
        return addresses

    def _try(self, addresses: tuple[Address, ...], data: bytes) -> OSError | None:
        """Send once; the refusal if it, or one before it, was refused."""
        address = addresses[self._turn % len(addresses)]
        try:
            connected = self._socket(address)
            connected.send(data)
            # On the same machine a refusal is there at once. Reading it clears it.
            code = connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except ConnectionError as error:
            return error
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise BlockingIOError(error.errno, error.strerror) from error
            if not isinstance(error, BlockingIOError) and error.errno != errno.EMSGSIZE:
                self._discard(address)  # the machine's own addresses may have changed
            raise
        return OSError(code, os.strerror(code)) if code else None

    def _socket(self, address: Address) -> socket.socket:
        known = self._sockets.get(address)
        if known is not None:
            return known
        # Connected, or refusals would not be told.
        fresh = socket.socket(address.family, socket.SOCK_DGRAM)
        try:
            fresh.setblocking(False)
            fresh.connect(address.sockaddr)
        except BaseException:
            fresh.close()
            raise
        connected = self._sockets.setdefault(address, fresh)
        if connected is not fresh:
            fresh.close()  # another thread was faster
        return connected

    def _discard(self, address: Address) -> None:
        stale = self._sockets.pop(address, None)
        if stale is not None:
            stale.close()

    def close(self) -> None:
        """Close the sockets; twice has no effect."""
        self._closed = True
        for address in list(self._sockets):
            self._discard(address)

    def __del__(self) -> None:
        # Not left to the sockets: they would warn that they were not closed.
        if hasattr(self, "_sockets"):
            self.close()


class ResolvingSender(UDPSender):
    """A `UDPSender` that looks its host up again, on a worker of its own.

    For servers that move. While a lookup fails, the address that was known stays;
    before the first that succeeds, `send` raises `UnsentError`, for a `BufferedSender`
    to try again later. An IP address is not looked up, and has no worker, which
    otherwise ends with the sender: dropped or closed.

    Threads: as `UDPSender`. No thread ever waits for a lookup but the worker.

    Args:
        host: A name; one that does not resolve yet is no error.
        port: 1 to 65535.
        interval: Seconds from one lookup to the next.
        family: `socket.AF_INET` or `AF_INET6`, to use only such addresses.

    Raises:
        TypeError, ValueError: What is no host, port or number of seconds above 0.
    """

    __slots__ = ("_worker",)

    def __init__(
        self, host: str, port: int, *, interval: float = 30.0, family: int = socket.AF_UNSPEC
    ) -> None:
        super().__init__(host, port, family=family)
        _check.some_seconds("interval", interval)
        self._worker: Handle | None = None
        if not self._lookup.is_literal:
            self._worker = Handle(
                self._lookup.refresh,
                interval=interval,
                immediate=True,
                name=f"letgo-statsd-resolve-{host}",
                exit_last=True,  # the last flushes still need an address
                exit_timeout=1.0,  # a lookup that hangs has nothing to lose
            )

    def _addresses(self, data: bytes) -> tuple[Address, ...]:
        addresses = self._lookup.addresses
        if not addresses:
            raise UnsentError(data, f"host {self._lookup.host!r} is not resolved yet")
        for address in list(self._sockets):
            if address not in addresses:
                self._discard(address)
        return addresses

    def close(self) -> None:
        """Stop looking up, and close the sockets; twice has no effect."""
        worker: Handle | None = getattr(self, "_worker", None)
        if worker is not None:
            worker.stop()  # not close(): it may be in a lookup that takes minutes
        super().close()
