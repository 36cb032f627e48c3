"""The senders: servers that are missing, dead, restarted, slow, renamed, or on IPv6."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import letgo
from helpers import PATIENCE, wait_for, wait_until
from letgo.statsd import (
    BufferedSender,
    Client,
    ResolvingSender,
    TCPSender,
    UDPSender,
    UnixSender,
    UnsentError,
)
from statsd_daemon import free_port
from statsd_helpers import Receiver


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


HOSTS = ["127.0.0.1"] + (["::1"] if has_ipv6() else [])


class Stream:
    """A stream server that takes one connection after another."""

    def __init__(self, family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0)) -> None:
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        if family != socket.AF_UNIX:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(address)
        self.listener.listen()
        self.listener.settimeout(PATIENCE)
        self.port = None if family == socket.AF_UNIX else self.listener.getsockname()[1]
        self.connections: list[socket.socket] = []

    def accept(self) -> socket.socket:
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE)
        self.connections.append(connection)
        return connection

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        for opened in (*self.connections, self.listener):
            opened.close()


def read(connection: socket.socket, count: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < count:
        more = connection.recv(65_536)
        assert more, f"closed after {data!r}"
        data += more
    return data


@pytest.mark.parametrize("host", HOSTS)
def test_udp_reaches_addresses_of_both_kinds(host: str) -> None:
    """By a sender, and by a client's address."""
    with Receiver(host) as receiver, Client(receiver.address) as client:
        sender = UDPSender(host, receiver.port)
        sender.send(b"a:1|c")
        sender.close()
        client.incr("b")
        client.flush()
        assert [receiver.packet(), receiver.packet()] == [b"a:1|c", b"b:1|c"]


def test_the_first_metric_after_a_restart_arrives(caplog: pytest.LogCaptureFixture) -> None:
    """What a dead UDP server refuses is counted and logged once; then all is well again."""
    receiver = Receiver()
    with Client(receiver.address, flush_interval=3600) as client:
        for name in ("up", "down", "down", "up"):
            if name == "down":
                receiver.socket.close()
            elif receiver.socket.fileno() < 0:
                receiver = Receiver(port=receiver.port)
            client.incr(name)
            client.flush()
            if name == "up":
                assert receiver.packet() == b"up:1|c"
        assert (client.sent, client.dropped) == (4, 2)
    receiver.socket.close()
    assert len(caplog.records) == 1
    assert "refused" in caplog.text


def test_an_unbuffered_client_survives_a_dead_server(caplog: pytest.LogCaptureFixture) -> None:
    """It raises nothing, counts, and logs once."""
    client = Client(f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}", buffered=False)
    for _ in range(5):
        client.incr("a")
    assert (client.sent, client.dropped, len(caplog.records)) == (5, 5, 1)
    client.close()


def test_a_refused_datagram_is_sent_to_the_next_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once: nothing is lost where only one of a host's addresses is listened on."""
    with Receiver("127.0.0.2") as receiver:
        found = [
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", (host, receiver.port))
            for host in ("127.0.0.1", "127.0.0.2")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *more, **options: found)
        with Client(f"both.test:{receiver.port}") as client:
            client.incr("a")
            client.flush()
            assert receiver.packet() == b"a:1|c"
            assert client.dropped == 0


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A resolver that knows what it is told, and nothing else."""
    known: dict[str, Any] = {"asked": []}

    def getaddrinfo(host: str, port: int, *more: Any, **options: Any) -> list[Any]:
        known["asked"].append((host, threading.current_thread().name))
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        address = known[host]
        if callable(address):
            address()
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (host_of(known[host]), port))]

    def host_of(address: Any) -> str:
        return "127.0.0.1" if callable(address) else str(address)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def test_a_name_that_does_not_resolve_yet_loses_nothing(
    names: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither constructor nor call raises; once the name is known, all arrives."""
    with Receiver() as receiver:
        for interval in (None, 0.01):
            names.pop("stats.test", None)
            caplog.clear()
            address = f"stats.test:{receiver.port}"
            with Client(address, flush_interval=0, resolve_interval=interval) as client:
                client.incr("early")
                wait_until(lambda: len(names["asked"]) > 2, "it is asked for again")
                names["stats.test"] = "127.0.0.1"
                assert receiver.packet() == b"early:1|c"
            assert {record.levelno for record in caplog.records} == {logging.WARNING}
            assert len(caplog.records) <= 2  # the sender's, the lookup's
    assert all(thread.startswith("letgo") for _, thread in names["asked"])


def test_resolving_again_follows_the_name(names: dict[str, Any]) -> None:
    """A new address is used, and kept while lookups fail."""
    names["stats.test"] = "127.0.0.1"
    with Receiver("127.0.0.1") as old, Receiver("127.0.0.2", old.port) as new:
        sender = ResolvingSender("stats.test", old.port, interval=0.005)
        client = Client(sender=sender, flush_interval=0)
        client.incr("a")
        assert old.packet() == b"a:1|c"
        names["stats.test"] = "127.0.0.2"
        wait_until(lambda: (client.incr("b"), new.waiting())[1], "the new address is used")
        del names["stats.test"]
        asked = len(names["asked"])
        wait_until(lambda: len(names["asked"]) > asked + 2, "a lookup has failed")
        new.waiting()
        client.incr("c")
        wait_until(lambda: b"c:1|c" in new.packet(), "the address is kept")
        client.close()


def test_an_ip_address_is_never_looked_up(names: dict[str, Any]) -> None:
    """Nor does it cost a worker."""
    with Receiver() as receiver:
        sender = ResolvingSender("127.0.0.1", receiver.port, interval=0.001)
        sender.send(b"a")
        assert receiver.packet() == b"a"
        assert not letgo.live()
        sender.close()
    assert names["asked"] == []


def test_a_resolver_that_hangs_holds_up_nobody(names: dict[str, Any]) -> None:
    """Metrics go on to the address that is known, and close does not wait for the lookup."""
    hanging, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        if len(names["asked"]) > 1:
            hanging.set()
            wait_for(go_on)

    names["stats.test"] = hang
    with Receiver() as receiver:
        address = f"stats.test:{receiver.port}"
        client = Client(address, resolve_interval=0.001, flush_interval=0)
        wait_for(hanging)
        client.incr("a")
        assert receiver.packet() == b"a:1|c"
        client.close(PATIENCE / 2)
        go_on.set()


def test_a_dropped_resolving_sender_ends_its_worker(
    names: dict[str, Any], no_collector: None
) -> None:
    """As any handle does."""
    sender = ResolvingSender("stats.test", 8125)
    assert len(letgo.live()) == 1
    del sender
    wait_until(lambda: not letgo.live(), "the worker has ended")


def streams(tmp_path: Path) -> list[tuple[Callable[[], Stream], Callable[[Stream], Any]]]:
    path = str(tmp_path / "stream")

    def unix_server() -> Stream:
        Path(path).unlink(missing_ok=True)
        return Stream(socket.AF_UNIX, path)

    port = free_port()
    return [
        (lambda: Stream(address=("127.0.0.1", port)), lambda _: TCPSender("127.0.0.1", port)),
        (unix_server, lambda _: UnixSender(path, "stream")),
    ]


@pytest.mark.parametrize("which", ["tcp", "unix"])
def test_streams_survive_a_restart(which: str, tmp_path: Path) -> None:
    """Missing, there, gone and there again: every metric arrives, in whole lines."""
    serve, connect = streams(tmp_path)[which == "unix"]
    sender = BufferedSender(connect(None), flush_interval=0.001)  # type: ignore[arg-type]
    sender.send(b"before")
    wait_until(lambda: sender.info.polls > 3, "it has tried in vain")
    with serve() as server:
        connection = server.accept()
        assert read(connection, 7) == b"before\n"
        sender.send(b"one")
        sender.flush()
        sender.send(b"two")
        sender.flush()
        assert read(connection, 8) == b"one\ntwo\n"
    sender.send(b"gone")
    wait_until(lambda: sender.info.polls > 10, "it has tried in vain")
    with serve() as server:
        assert read(server.accept(), 5) == b"gone\n"
        sender.close()
    assert (sender.sent, sender.dropped) == (4, 0)


def test_a_stream_that_breaks_within_a_packet_goes_on_with_a_whole_line() -> None:
    """What the first connection took is not sent twice, and no line is cut in two."""
    # More than the kernel's buffers take, so that the break comes within a packet.
    lines = [b"%06d" % number + b"x" * 150 for number in range(150_000)]
    with Stream() as server:
        tcp = TCPSender("127.0.0.1", server.port or 0, timeout=PATIENCE)
        sender = BufferedSender(tcp, flush_bytes=65_507)
        for line in lines:
            sender.send(line)
        first = read(server.accept(), 100_000)
        server.connections[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.connections[0].close()
        second = server.accept()
        closing = threading.Thread(target=sender.close)
        closing.start()
        rest = bytearray()
        while more := second.recv(1 << 20):
            rest += more
        closing.join()
    whole = first[: first.rindex(b"\n")].split(b"\n")
    assert whole == lines[: len(whole)]
    later = rest.removesuffix(b"\n").split(b"\n")
    assert later == lines[-len(later) :]
    assert rest.endswith(b"\n")
    assert sender.dropped == 0


def test_a_connection_that_breaks_within_a_line_repeats_that_line_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the new connection, from its beginning."""
    send = socket.socket.send
    calls = 0

    def break_after_eight_bytes(self: socket.socket, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionResetError
        return send(self, data[:8] if calls == 1 else data)

    monkeypatch.setattr(socket.socket, "send", break_after_eight_bytes)
    with Stream() as server:
        sender = TCPSender("127.0.0.1", server.port or 0)
        sender.send(b"one\nlong\nthree")
        assert read(server.accept(), 8) == b"one\nlong"
        assert read(server.accept(), 11) == b"long\nthree\n"
        sender.close()


def test_a_server_that_does_not_read_stops_neither_caller_nor_end() -> None:
    """The worker gives up after the timeout, counts, and closes."""
    with Stream() as server:
        sender = TCPSender("127.0.0.1", server.port or 0, timeout=0.1)
        client = Client(sender=sender, flush_interval=0, flush_bytes=65_507)
        for _ in range(500):  # more than the kernel's buffers take
            client.set("a", "x" * 60_000)
        assert client.sent == 500
        client.close()
        assert client.dropped > 0


def test_unix_datagrams_wait_for_room(tmp_path: Path) -> None:
    """The kernel refuses what the server has no room for: the rest is kept, none is lost."""
    path = str(tmp_path / "datagram")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.settimeout(PATIENCE)
        server.bind(path)
        with BufferedSender(UnixSender(path), flush_interval=0, flush_bytes=1) as sender:
            for number in range(3_000):
                sender.send(b"%d" % number)
            received = [server.recv(100) for _ in range(3_000)]
            assert received == [b"%d" % number for number in range(3_000)]
            assert sender.dropped == 0


def test_unix_datagrams_survive_a_restart(tmp_path: Path) -> None:
    """Missing and restarted servers get what was meant for them."""
    path = tmp_path / "datagram"
    with BufferedSender(UnixSender(path), flush_interval=0.001) as sender:
        for name in (b"one", b"two"):
            sender.send(name)
            wait_until(lambda: sender.info.polls > 3, "it has tried in vain")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
                server.settimeout(PATIENCE)
                server.bind(str(path))
                assert server.recv(100) == name
                path.unlink()
        assert (sender.sent, sender.dropped) == (2, 0)


@pytest.mark.parametrize("host", HOSTS)
def test_tcp_reaches_addresses_of_both_kinds(host: str) -> None:
    """IPv4 and IPv6."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        Stream(family, (host, 0)) as server,
        BufferedSender(TCPSender(host, server.port or 0)) as sender,
    ):
        sender.send(b"a")
        sender.flush()
        assert read(server.accept(), 2) == b"a\n"


def test_without_a_server_a_sender_says_that_nothing_left() -> None:
    """Used by itself, it names what was not sent."""
    for sender in (TCPSender("127.0.0.1", free_port()), UnixSender("/nowhere/at/all")):
        with pytest.raises(UnsentError) as caught:
            sender.send(b"a\nb")
        assert caught.value.rest == b"a\nb"
        sender.close()
        with pytest.raises(letgo.ClosedError):
            sender.send(b"a")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: UDPSender("", 1), ValueError),
        (lambda: UDPSender("a b", 1), ValueError),
        (lambda: UDPSender(None, 1), TypeError),
        (lambda: UDPSender("host", 0), ValueError),
        (lambda: UDPSender("host", "1"), TypeError),
        (lambda: ResolvingSender("host", 1, interval=0), ValueError),
        (lambda: ResolvingSender("host", 1, interval=True), TypeError),
        (lambda: TCPSender("host", 1, timeout=0), ValueError),
        (lambda: TCPSender("host", True), TypeError),
        (lambda: UnixSender("", "stream"), ValueError),
        (lambda: UnixSender(3), TypeError),
        (lambda: UnixSender("/x", "udp"), ValueError),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], object], error: type[Exception]) -> None:
    """At construction."""
    with pytest.raises(error):
        make()
