"""The real StatsD daemon gets everything, in the ways in which metrics are usually lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import PATIENCE, ROOT, run_quietly, wait_until
from letgo.statsd import Client, TCPSender
from statsd_daemon import Daemon, free_port, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("statsd")) as started:
        yield started


def test_a_dropped_client_delivers_every_kind(daemon: Daemon, no_collector: None) -> None:
    """Counters, gauges, timers and sets arrive with the right totals, without `close`."""
    client = Client(f"127.0.0.1:{daemon.port}", prefix="kinds", flush_interval=3600)
    for number in range(500):
        client.incr("counter", 3)
        client.decr("counter")
        client.gauge("gauge", number)
        client.timing("timer", number)
        client.set("set", number % 7)
    client.gauge("negative", -5)
    client.gauge_delta("negative", 2)
    client.gauge("float", 2.5)
    client.incr("tagged", tags={"k": "v"})
    client.incr("end")
    del client
    daemon.await_counter("kinds.end", 1)
    totals = daemon.totals()
    assert totals["counters"]["kinds.counter"] == 1_000
    assert totals["counters"]["kinds.tagged;k=v"] == 1
    assert totals["counters"]["statsd.bad_lines_seen"] == 0
    assert totals["gauges"]["kinds.gauge"] == 499
    assert totals["gauges"]["kinds.negative"] == -3
    assert totals["gauges"]["kinds.float"] == 2.5
    assert sorted(totals["timers"]["kinds.timer"]) == list(range(500))  # type: ignore[call-overload]
    assert sorted(totals["sets"]["kinds.set"]) == list("0123456")  # type: ignore[call-overload]


def test_exit_delivers(daemon: Daemon) -> None:
    """A script that just ends."""
    run_quietly(
        """
        import sys
        from letgo.statsd import Client
        client = Client(sys.argv[1], prefix="exit", flush_interval=3600)
        for _ in range(2_000):
            client.incr("counter")
        """,
        arguments=(f"127.0.0.1:{daemon.port}",),
    )
    daemon.await_counter("exit.counter", 2_000)


# Over UDP no more than what the daemon's socket buffer holds while others keep the
# machine busy: what comes above that is lost in the kernel, whoever sends it.
@pytest.mark.parametrize(("transport", "count"), [("udp", 400), ("tcp", 20_000)])
def test_eight_threads_deliver(daemon: Daemon, transport: str, count: int) -> None:
    """None dropped, no line mixed with another."""
    sender = TCPSender("127.0.0.1", daemon.port) if transport == "tcp" else None
    client = Client(f"127.0.0.1:{daemon.port}", prefix=transport, sender=sender)

    def work(number: int) -> None:
        for _ in range(count):
            client.incr(f"thread{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert (client.sent, client.dropped) == (8 * count, 0)
    for number in range(8):
        daemon.await_counter(f"{transport}.thread{number}", count)
    assert daemon.counter("statsd.bad_lines_seen") == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_children_deliver(daemon: Daemon) -> None:
    """Each what it recorded itself, the parent's buffer once."""
    run_quietly(
        """
        import os, sys
        from letgo.statsd import Client
        client = Client(sys.argv[1], prefix="fork", flush_interval=3600)
        client.incr("parent", 7)
        children = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                for _ in range(200):
                    client.incr("child")
                sys.exit()
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        """,
        "-W",
        "ignore:This process:DeprecationWarning",
        arguments=(f"127.0.0.1:{daemon.port}",),
    )
    daemon.await_counter("fork.child", 1_600)
    daemon.await_counter("fork.parent", 7)


GUNICORN = (sys.executable, "-m", "gunicorn", "--preload", "--workers=4", "--no-control-socket")
APPLICATION = """
import os
from letgo.statsd import Client

client = Client("127.0.0.1:PORT", prefix="gunicorn", flush_interval=3600)
client.incr("loaded")

def application(environ, start_response):
    client.incr("requests")
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
"""


def get(port: int) -> int:
    """The process that answers a request."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE) as answer:
        return int(answer.read())


def answers(port: int) -> bool:
    try:
        return get(port) > 0
    except OSError:
        return False


def test_gunicorn_delivers_over_a_reload_and_its_end(daemon: Daemon, tmp_path: Path) -> None:
    """`--preload`, four workers: each request is counted once, though no process flushes."""
    pytest.importorskip("gunicorn", reason="runs gunicorn (extra 'peers')")
    (tmp_path / "shop.py").write_text(APPLICATION.replace("PORT", str(daemon.port)))
    port = free_port()
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [*GUNICORN, f"--bind=127.0.0.1:{port}", "shop:application"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=log,
            stderr=log,
        )
    requests = 0

    def serve_from_all() -> set[int]:
        nonlocal requests
        seen: set[int] = set()
        while len(seen) < 4 or requests % 200:
            seen.add(get(port))
            requests += 1
        return seen

    try:
        wait_until(lambda: server.poll() is not None or answers(port), "gunicorn answers")
        requests += 1
        before = serve_from_all()
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: not any(alive(pid) for pid in before), "the old workers are gone")
        assert not before & serve_from_all()
    finally:
        server.terminate()
        assert server.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    daemon.await_counter("gunicorn.requests", requests)
    daemon.await_counter("gunicorn.loaded", 1)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
