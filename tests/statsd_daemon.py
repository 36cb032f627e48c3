"""The real StatsD daemon, started on free loopback ports and read through its management port."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers import PATIENCE, ROOT, wait_until

# What has arrived since the start: the daemon itself forgets it with each flush.
_BACKEND = """
const totals = {counters: {}, gauges: {}, timers: {}, sets: {}, bad: 0};
exports.init = function(startup, config, events) {
  events.on('flush', function(time, metrics) {
    for (const key in metrics.counters) {
      totals.counters[key] = (totals.counters[key] || 0) + metrics.counters[key];
    }
    for (const key in metrics.gauges) totals.gauges[key] = metrics.gauges[key];
    for (const key in metrics.timers) {
      totals.timers[key] = (totals.timers[key] || []).concat(metrics.timers[key]);
    }
    for (const key in metrics.sets) {
      const known = totals.sets[key] || [];
      totals.sets[key] = Array.from(new Set(known.concat(metrics.sets[key].values())));
    }
  });
  events.on('status', function(write) { write(null, 'letgo', 'totals', JSON.stringify(totals)); });
  return true;
};
"""


def package() -> Path:
    """Where the daemon is; skips the test on a machine that has none."""
    told = os.environ.get("LETGO_STATSD_DAEMON")
    where = Path(told) if told else ROOT / "node_modules" / "statsd"
    if told:  # then it is required
        assert shutil.which("node"), "LETGO_STATSD_DAEMON is set, but there is no node"
        assert (where / "stats.js").exists(), f"no stats.js in {where}"
    elif not (shutil.which("node") and (where / "stats.js").exists()):
        pytest.skip("needs Node.js and the npm package statsd (npm install statsd@0.9.0)")
    return where


def free_port(kind: int = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Daemon:
    """A running daemon: UDP and TCP on `port`, totals over `management`."""

    def __init__(self, port: int, management: int) -> None:
        self.port = port
        self.management = management

    def totals(self) -> dict[str, dict[str, object]]:
        """All that has arrived and been flushed."""
        with socket.create_connection(("127.0.0.1", self.management), PATIENCE) as connection:
            connection.sendall(b"stats\n")
            answer = b""
            while b"END" not in answer:
                answer += connection.recv(1 << 20)
        line = next(line for line in answer.splitlines() if line.startswith(b"letgo.totals: "))
        totals: dict[str, dict[str, object]] = json.loads(line.partition(b": ")[2])
        return totals

    def counter(self, name: str) -> object:
        return self.totals()["counters"].get(name, 0)

    def await_counter(self, name: str, value: int) -> None:
        """Wait until a counter has reached `value`, and see that it is not above."""
        wait_until(lambda: self.counter(name) >= value, f"counter {name} is {value}")  # type: ignore[operator]
        assert self.counter(name) == value


@contextmanager
def running(directory: Path) -> Iterator[Daemon]:
    """A daemon for the length of a `with` block."""
    where = package()
    daemon = Daemon(free_port(), free_port())
    (directory / "totals.js").write_text(_BACKEND)
    servers = [
        {"server": f"./servers/{kind}", "address": "127.0.0.1", "port": daemon.port}
        for kind in ("udp", "tcp")
    ]
    config = {
        "servers": servers,
        "mgmt_port": daemon.management,
        "mgmt_address": "127.0.0.1",
        "flushInterval": 100,
        "backends": [str(directory / "totals.js")],
    }
    (directory / "config.js").write_text(json.dumps(config))
    with open(directory / "log", "w") as log:
        process = subprocess.Popen(
            ["node", "stats.js", str(directory / "config.js")], cwd=where, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: _answers(daemon, process), "the daemon answers")
        yield daemon
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(daemon: Daemon, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the daemon ended"
    try:
        daemon.totals()
    except OSError:
        return False
    return True
