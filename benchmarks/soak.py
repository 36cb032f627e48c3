"""Make and drop handles, guards, caches and clients for minutes: nothing may grow.

    python benchmarks/soak.py [--minutes N] [--plot FILE]

Prints threads, RSS and file descriptors as it goes, and fails if any is higher at
the end than it was once warm. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import gc
import random
import socket
import sys
import time
from collections.abc import Callable
from statistics import mean
from typing import NamedTuple

import psutil

import letgo
from _common import noop, print_table, print_versions
from _plots import stacked
from letgo.cache import Cache
from letgo.statsd import Client

BATCH = 50  # of each kind, made and dropped together
SAMPLES = 120  # over the whole run
# What counts as flat: allocators and the collector breathe, leaks do not stop.
THREADS_MORE = 1.0
DESCRIPTORS_MORE = 1.0
RSS_TIMES = 1.1


class Sample(NamedTuple):
    """The process at one moment, when all was dropped."""

    minutes: float
    threads: float
    megabytes: float
    descriptors: float


class Closable:
    """What a guard guards."""

    def close(self) -> None:
        """Do nothing."""


def make_handle() -> object:
    return letgo.Handle(noop, interval=random.choice([None, 0.001, 60.0]), on_close=noop)


def make_scheduled() -> object:
    return letgo.Handle(noop, interval=0.001, on_close=noop, scheduler=letgo.shared())


def make_guard() -> object:
    return letgo.guard(Closable())


def make_cache() -> object:
    cache: Cache[int, object] = Cache(default_ttl=0.01, cleanup_interval=0.01)
    for number in range(20):
        cache.set(number, cache)  # its values refer back to it
    return cache


SINK = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # takes what comes, and reads nothing
SINK.bind(("127.0.0.1", 0))


def make_client() -> object:
    client = Client(f"127.0.0.1:{SINK.getsockname()[1]}", flush_interval=0.01)
    for _ in range(20):
        client.incr("soak")
    return client


MAKERS: tuple[Callable[[], object], ...] = (
    make_handle,
    make_scheduled,
    make_guard,
    make_cache,
    make_client,
)


def churn() -> None:
    """Make a batch of everything, let it work for a moment, and drop it."""
    kept = [make() for make in MAKERS for _ in range(BATCH)]
    time.sleep(0.005)
    kept.clear()


def sample(began: float) -> Sample:
    """Measure once all that was dropped has ended."""
    gc.collect()
    patience = time.monotonic() + 10
    while letgo.live() and time.monotonic() < patience:
        time.sleep(0.001)
    process = psutil.Process()
    return Sample(
        (time.monotonic() - began) / 60,
        process.num_threads(),
        process.memory_info().rss / 1e6,
        process.num_fds(),
    )


def verdict(samples: list[Sample]) -> bool:
    """Print the second quarter's mean beside the last one's; whether all is flat."""
    quarter = max(1, len(samples) // 4)
    warm, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    rows = []
    flat = True
    for name, limit in (
        ("threads", lambda value: value + THREADS_MORE),
        ("megabytes", lambda value: value * RSS_TIMES),
        ("descriptors", lambda value: value + DESCRIPTORS_MORE),
    ):
        before, after = (mean(getattr(s, name) for s in part) for part in (warm, last))
        good = after <= limit(before)
        flat = flat and good
        rows.append((name, f"{before:.1f}", f"{after:.1f}", "flat" if good else "GROWS"))
    print_table(("", "once warm", "at the end", ""), rows)
    return flat


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--plot", metavar="FILE", help="draw the three lines")
    options = parser.parse_args()
    print_versions()
    began = time.monotonic()
    samples: list[Sample] = []
    rounds = 0
    while (now := time.monotonic()) < began + options.minutes * 60:
        churn()
        rounds += 1
        if now - began >= len(samples) * options.minutes * 60 / SAMPLES:
            samples.append(sample(began))
    made = rounds * BATCH * len(MAKERS)
    print(f"{made:,} workers made and dropped in {options.minutes:g} minutes\n")
    flat = verdict(samples)
    if options.plot:
        lines = {
            name: [(s.minutes, getattr(s, name)) for s in samples]
            for name in ("threads", "megabytes", "descriptors")
        }
        stacked(options.plot, f"{made:,} workers made and dropped", "minutes", lines)
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
