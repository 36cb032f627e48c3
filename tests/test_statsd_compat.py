"""The drop-in clients beside Python's `statsd` package: same bytes, same packets."""

from __future__ import annotations

import inspect
import random
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import letgo
from helpers import PATIENCE, wait_until
from letgo import statsd as ours
from statsd_daemon import free_port
from statsd_helpers import Receiver

NAMES = ["a", "requests.count", "x" * 250, "with space", "dash-and_under", "#,;=", "1"]


def random_calls(seed: int, count: int) -> list[Callable[[Any], object]]:
    """Calls of every method, with arguments of every kind that both take."""
    chance = random.Random(seed)

    def number() -> Any:
        return chance.choice(
            [
                chance.randint(-10, 10),
                chance.randint(-(10**12), 10**12),
                round(chance.uniform(-100, 100), chance.randint(0, 6)),
                chance.uniform(0, 1) + 0.0001,
                0,
                -0.0,
            ]
        )

    def call(depth: int = 0) -> Callable[[Any], object]:
        name, value = chance.choice(NAMES), number()
        rate = chance.choice([1, 1, 1.0, 0.5, 0.1, 0])
        delta = timedelta(milliseconds=abs(value))
        member = chance.choice(["user", "", "a b", value])
        inside = chance.randint(0, 12) if depth < 3 else 0
        several = [call(depth + 1) for _ in range(inside)] if chance.random() < 0.2 else []

        def pipeline(client: Any) -> None:
            with client.pipeline() as pipe:
                for one in several:
                    one(pipe)

        return chance.choice(
            [
                lambda c: c.incr(name),
                lambda c: c.incr(name, value),
                lambda c: c.incr(name, value, rate),
                lambda c: c.decr(name, count=value, rate=rate),
                lambda c: c.gauge(name, value, rate),
                lambda c: c.gauge(name, value, rate, True),
                lambda c: c.gauge(name, value, delta=False),
                lambda c: c.set(name, member, rate),
                lambda c: c.timing(name, value, rate),
                lambda c: c.timing(name, delta),
                pipeline,
            ]
        )

    return [call() for _ in range(count)]


def play(client: Any, calls: list[Callable[[Any], object]], after: Callable[[], object]) -> None:
    """Make all calls, with the same chance for the samplers of both clients."""
    random.seed(5)
    for call in calls:
        call(client)
        after()


@pytest.fixture
def theirs() -> Any:
    return pytest.importorskip("statsd", reason="compares with Python's statsd (extra 'peers')")


@pytest.mark.parametrize("prefix", [None, "", "pre.fix"])
@pytest.mark.parametrize("size", [512, 64])
def test_udp_packets_are_the_same(theirs: Any, prefix: str | None, size: int) -> None:
    """Thousands of random calls make the same packets, one by one."""
    calls = random_calls(size, 1_500)
    packets: list[list[bytes]] = []
    for package in (theirs, ours):
        with Receiver() as receiver:
            seen: list[bytes] = []
            client = package.StatsClient("127.0.0.1", receiver.port, prefix, size)
            play(client, calls, lambda seen=seen, at=receiver: seen.extend(at.waiting()))
            client.close()
            packets.append(seen)
    assert len(packets[0]) > 1_000
    assert packets[0] == packets[1]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_stream_bytes_are_the_same(theirs: Any, kind: str, tmp_path: Path) -> None:
    """Over TCP and Unix sockets."""
    calls = random_calls(3, 1_500)
    streams: list[bytes] = []
    for package in (theirs, ours):
        with socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX) as listener:
            where = tmp_path / package.__name__
            listener.bind(("127.0.0.1", 0) if kind == "tcp" else str(where))
            listener.listen()
            listener.settimeout(PATIENCE)
            if kind == "tcp":
                client = package.TCPStatsClient("127.0.0.1", listener.getsockname()[1], "p")
            else:
                client = package.UnixSocketStatsClient(str(where), "p")
            data = bytearray()
            reader = threading.Thread(target=read_all, args=(listener, data))
            reader.start()
            play(client, calls, lambda: None)
            client.close()
            reader.join(PATIENCE)
            streams.append(bytes(data))
    assert len(streams[0]) > 10_000
    assert streams[0] == streams[1]


def read_all(listener: socket.socket, data: bytearray) -> None:
    """All that comes on the first connection."""
    connection, _ = listener.accept()
    with connection:
        while more := connection.recv(1 << 20):
            data += more


@pytest.mark.parametrize("name", ["StatsClient", "TCPStatsClient", "UnixSocketStatsClient"])
def test_signatures_are_the_same(theirs: Any, name: str) -> None:
    """Names, order, kinds and defaults of all parameters; `buffered` is the one thing more."""
    their_class, our_class = getattr(theirs, name), getattr(ours, name)
    for method in ("__init__", "incr", "decr", "gauge", "set", "timing", "timer", "pipeline"):
        expected = shape(getattr(their_class, method))
        seen = shape(getattr(our_class, method))
        if method == "__init__":
            assert seen.pop() == ("buffered", inspect.Parameter.KEYWORD_ONLY, False)
        assert seen == expected, method
    public = {method for method in dir(their_class) if not method.startswith("_")}
    assert public <= set(dir(our_class))


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in parameters]


def test_their_lines_are_what_is_documented() -> None:
    """Without the peer too: the bytes of one call each."""
    with Receiver() as receiver:
        client = ours.StatsClient("127.0.0.1", receiver.port, prefix="p")
        client.incr("a", 2)
        client.gauge("b", -5)
        client.timing("c", 3)
        with client.pipeline() as pipe:
            pipe.decr("d")
            pipe.set("e", "x")
        client.close()
        assert receiver.waiting() == [
            b"p.a:2|c",
            b"p.b:0|g\np.b:-5|g",
            b"p.c:3.000000|ms",
            b"p.d:-1|c\np.e:x|s",
        ]


def test_buffered_they_gather_and_lose_nothing(no_collector: None) -> None:
    """Dropped without `close`, all arrives in packets below `maxudpsize`."""
    with Receiver() as receiver:
        client = ours.StatsClient("127.0.0.1", receiver.port, maxudpsize=100, buffered=True)
        for _ in range(100):
            client.incr("a")
        del client
        packets: list[bytes] = []
        wait_until(lambda: packets.extend(receiver.waiting()) or not letgo.live())
        packets += receiver.waiting()
        assert b"\n".join(packets).split(b"\n") == [b"a:1|c"] * 100
        assert max(map(len, packets)) < 100


def test_a_missing_server_raises_nothing(tmp_path: Path) -> None:
    """Other than in that package, over streams too; close counts what was left."""
    for client in (
        ours.TCPStatsClient("127.0.0.1", free_port()),
        ours.UnixSocketStatsClient(str(tmp_path / "nowhere")),
        ours.StatsClient("127.0.0.1", free_port(socket.SOCK_DGRAM)),
    ):
        client.incr("a")
        client.gauge("b", -1)
        client.close()
        assert (client.sent, client.dropped) == (3, 3)
        with pytest.raises(letgo.ClosedError):
            client.incr("a")


def test_reconnect_makes_a_new_connection() -> None:
    """For the next packet."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        with ours.TCPStatsClient("127.0.0.1", listener.getsockname()[1]) as client:
            client.connect()
            for name in ("a", "b"):
                client.incr(name)
                connection, _ = listener.accept()
                assert connection.recv(100) == f"{name}:1|c\n".encode()
                connection.close()
                client.reconnect()


@pytest.mark.parametrize(
    "options",
    [{"host": ""}, {"port": 0}, {"prefix": "a:b"}, {"maxudpsize": 0}, {"ipv6": 1}, {"buffered": 1}],
)
def test_bad_arguments_are_refused(options: dict[str, Any]) -> None:
    """At construction, naming the argument."""
    with pytest.raises((TypeError, ValueError), match=next(iter(options))):
        ours.StatsClient(**options)
