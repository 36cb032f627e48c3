"""`incr` on a buffered client beside its Python peers; threads, and memory.

    python benchmarks/bench_statsd.py [--rounds N] [-o FILE] [--daemon PORT]

Needs the extras `bench` and `peers`. Peers: the pipeline of `statsd`, and the buffered
`DogStatsd` of `datadog` as it comes. All send to one UDP socket on this machine, which
another process reads. The first table is the call alone; the second is the call with
all that follows until the last packet has left. `letgo` rests there between packets, so
that its receiver can keep up, and the peers do not: see how much of each arrived.

With `--daemon`, eight threads send to a StatsD daemon on that port of this machine too.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
import tracemalloc
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter
from typing import Any

from datadog.dogstatsd.base import DogStatsd
from statsd import StatsClient

from _common import Samples, interleave, parser, print_table, print_versions, ratio, save, seconds
from letgo.statsd import Client, RecordingSender, TCPSender
from letgo.statsd import StatsClient as DropIn

CALLS = 20_000
CEILING = 0.75  # times the fastest peer
THREADS, PER_THREAD = 8, 20_000


# --- The receiver, in a process of its own ---


def receive(pipe: Connection) -> None:
    """Count lines by name until asked; a line that is none of ours is a mixed one."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    udp.bind(("127.0.0.1", 0))
    pipe.send(udp.getsockname()[1])
    udp.settimeout(0.3)
    while pipe.recv():  # asked: count until nothing has come for a while
        good = bad = 0
        while True:
            try:
                packet = udp.recv(65_536)
            except TimeoutError:
                break
            for line in packet.strip(b"\n").split(b"\n"):
                if line.startswith(b"app.requests") and line.endswith((b":1|c", b":7|c")):
                    good += 1
                else:
                    bad += 1
        pipe.send((good, bad))


class Receiver:
    """The process that reads, and what it has read since `begin`."""

    def __init__(self) -> None:
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=receive, args=(other,), daemon=True)
        self._process.start()
        self.port: int = self._pipe.recv()

    def begin(self) -> None:
        self._pipe.send(True)

    def counts(self) -> tuple[int, int]:
        counts: tuple[int, int] = self._pipe.recv()
        return counts

    def close(self) -> None:
        self._pipe.send(False)
        self._process.join()


# --- The calls ---


def timed(
    call: Callable[..., object], arguments: tuple[Any, ...], after: Any, alone: bool
) -> float:
    """Seconds for one of many calls; with `after`, or before it."""
    began = perf_counter()
    for _ in range(CALLS):
        call("requests", *arguments)
    if not alone:
        after()
    elapsed = perf_counter() - began
    if alone:
        after()
    return elapsed / CALLS


def measures(port: int, arguments: tuple[Any, ...], alone: bool) -> dict[str, Callable[[], float]]:
    """What is compared, by name."""
    ours = Client(f"127.0.0.1:{port}", prefix="app")
    drop_in = DropIn("127.0.0.1", port, "app", buffered=True)
    pipeline = StatsClient("127.0.0.1", port, "app").pipeline()
    dog = DogStatsd(host="127.0.0.1", port=port, namespace="app", disable_telemetry=True)
    return {
        "letgo": lambda: timed(ours.incr, arguments, ours.flush, alone),
        "letgo drop-in": lambda: timed(drop_in.incr, arguments, drop_in.flush, alone),
        "statsd": lambda: timed(pipeline.incr, arguments, pipeline.send, alone),
        "datadog": lambda: timed(dog.increment, arguments, dog.flush, alone),
    }


def compare(port: int, rounds: int) -> tuple[Samples, list[str]]:
    """Print the calls' tables; all samples, and what is above the ceiling."""
    everything: Samples = {}
    over: list[str] = []
    for title, arguments, alone in (
        ("incr(name)", (), True),
        ("incr(name, 7)", (7,), True),
        ("incr(name), until sent", (), False),
    ):
        samples = interleave(rounds, measures(port, arguments, alone))
        fastest = min(("statsd", "datadog"), key=lambda name: median(samples[name]))
        rows = [
            (name, seconds(median(times)), f"{ratio(samples, name, fastest):.2f} x")
            for name, times in samples.items()
        ]
        print()
        print_table((title, "median", f"beside {fastest}"), rows)
        if alone and not arguments and ratio(samples, "letgo", fastest) > CEILING:
            over.append(f"{title} takes more than {CEILING:g} times {fastest}'s")
        everything.update({f"{title} {name}": times for name, times in samples.items()})
    return everything, over


# --- Threads, and memory ---


def from_threads(client: Client) -> tuple[float, float]:
    """Seconds that eight threads take to record, and then the flush."""

    def work() -> None:
        for _ in range(PER_THREAD):
            client.incr("requests")

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorded = perf_counter()
    client.flush()
    return recorded - began, perf_counter() - recorded


def threads_table(receiver: Receiver, daemon: int | None) -> list[str]:
    """Eight threads, to the receiver and, over both transports, to a daemon."""
    over: list[str] = []
    receiver.begin()
    client = Client(f"127.0.0.1:{receiver.port}", prefix="app")
    recording, flushing = from_threads(client)
    arrived, mixed = receiver.counts()
    row = (str(client.sent), str(client.dropped), str(arrived), str(mixed))
    rows = [("UDP, a reader", *row, seconds(recording), seconds(flushing))]
    if client.dropped or mixed or arrived != THREADS * PER_THREAD:
        over.append("of eight threads' metrics, some were dropped, lost or mixed")
    client.close()
    for transport in ("UDP", "TCP") if daemon else ():
        assert daemon is not None
        sender = TCPSender("127.0.0.1", daemon) if transport == "TCP" else None
        client = Client(f"127.0.0.1:{daemon}", prefix=f"bench.{transport}", sender=sender)
        recording, flushing = from_threads(client)
        row = (str(client.sent), str(client.dropped), "see there", "")
        rows.append((f"{transport}, the daemon", *row, seconds(recording), seconds(flushing)))
        client.close()
    print()
    header = ("8 threads x 20,000", "sent", "dropped", "arrived", "mixed", "recording", "flush")
    print_table(header, rows)
    return over


def names_table() -> list[str]:
    """The memory that distinct names leave behind, once they are sent."""
    kept: dict[int, int] = {}
    for names in (20_000, 200_000):
        recorder = RecordingSender()
        client = Client(sender=recorder)
        tracemalloc.start()
        for number in range(names):
            client.incr(f"requests.{number}")
            if number % 10_000 == 0:
                client.flush()
                recorder.sent.clear()
        client.flush()
        recorder.sent.clear()
        kept[names] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        client.close()
    rows = [(f"{names:,}", f"{size / 1024:,.0f} KiB") for names, size in kept.items()]
    print()
    print_table(("distinct names", "memory kept"), rows)
    return ["memory grows with the number of names"] if kept[200_000] > 2 * kept[20_000] else []


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--daemon", type=int, metavar="PORT", help="of a StatsD daemon here")
    options = arguments.parse_args()
    print_versions("statsd", "datadog", "pyperf")
    receiver = Receiver()
    samples, over = compare(receiver.port, options.rounds)
    receiver.begin()
    receiver.counts()  # what the comparison left
    over += threads_table(receiver, options.daemon)
    over += names_table()
    receiver.close()
    save(options.output, samples)
    if over:
        raise SystemExit("; ".join(over))


if __name__ == "__main__":
    main()
