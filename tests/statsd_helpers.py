"""Receivers and senders for the tests of `letgo.statsd`."""

from __future__ import annotations

import socket
import threading

from helpers import PATIENCE, wait_for


class Receiver:
    """A UDP socket on a free port, on whose other end a client sends."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.socket = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((host, port))
        self.socket.settimeout(PATIENCE)
        self.port: int = self.socket.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def packet(self) -> bytes:
        """The next packet."""
        return self.socket.recv(65_536)

    def waiting(self) -> list[bytes]:
        """The packets that are there already."""
        packets: list[bytes] = []
        self.socket.setblocking(False)
        try:
            while True:
                packets.append(self.socket.recv(65_536))
        except BlockingIOError:
            return packets
        finally:
            self.socket.settimeout(PATIENCE)

    def lines(self, count: int) -> list[bytes]:
        """The next lines, at least so many."""
        lines: list[bytes] = []
        while len(lines) < count:
            lines += self.packet().split(b"\n")
        return lines

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


class BlockedSender:
    """Sends nothing until it is let: the worker waits inside `send`."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.entered.set()
        wait_for(self.go, "the sender is let go on")
        self.sent.append(data)

    def close(self) -> None:
        pass


class FailingSender:
    """Raises what it is told to, for as long as it is told to."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.attempts = 0
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        self.sent.append(data)

    def close(self) -> None:
        pass


def lines_of(packets: list[bytes]) -> list[bytes]:
    """All lines of some packets."""
    return [line for packet in packets for line in packet.split(b"\n")]
