"""A hundred thousand handles on one thread: memory, making, dropping, polling, waking.

    python benchmarks/bench_scheduler.py [--rounds N] [--handles N] [--million] [-o FILE]

Needs the extra `bench`. The yardstick is what such a handle cannot do without: a
bare object with a `weakref.finalize`. Every part runs in a process of its own.

Beside it stands Go's go-cache, each with its janitor's goroutine, where `go` is on
PATH and the package can be found (Debian: golang-go and
golang-github-patrickmn-go-cache-dev).
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import psutil

import letgo
from _common import (
    Samples,
    child,
    interleave,
    noop,
    parser,
    print_table,
    print_versions,
    ratio,
    save,
    seconds,
)

WAKES = 200  # round trips at a time, so that what slows a few slows one sample
WATCHED = 5.0  # seconds that handles are watched for
KINDS = ("letgo", "bare")


class Bare:
    """An object that can be weakly referred to, and nothing else."""

    __slots__ = ("__weakref__",)


def make_bare() -> Bare:
    made = Bare()
    weakref.finalize(made, noop)
    return made


def maker(scheduler: letgo.Scheduler, interval: float = 60.0) -> Callable[[], letgo.Handle]:
    return lambda: letgo.Handle(noop, interval=interval, scheduler=scheduler)


def fill(make: Callable[[], object], count: int) -> list[object]:
    return [make() for _ in range(count)]


def rss() -> int:
    size: int = psutil.Process().memory_info().rss
    return size


def settle() -> None:
    gc.collect()
    time.sleep(1)


# --- In processes of their own: each prints its figures ---


def memory(kind: str, count: int) -> dict[str, float]:
    """Bytes of RSS for each of `count`, the list that holds them included."""
    make: Callable[[], object] = make_bare if kind == "bare" else maker(letgo.Scheduler())
    first = make()
    settle()
    before = rss()
    held = fill(make, count)
    settle()
    used = rss() - before
    del first, held
    return {"bytes": used / count}


def make_and_drop(rounds: int, count: int) -> dict[str, list[float]]:
    """Seconds for making `count` of both kinds, and for dropping them until all have finished."""
    scheduler = letgo.Scheduler("measured")
    samples: dict[str, list[float]] = {}
    for _ in range(rounds):
        for kind, make in (("bare", make_bare), ("letgo", maker(scheduler))):
            gc.collect()
            began = perf_counter()
            held = fill(make, count)
            samples.setdefault(f"{kind} make", []).append(perf_counter() - began)
            gc.collect()
            threads = [t for t in threading.enumerate() if t.name == "measured"]
            began = perf_counter()
            held.clear()
            for thread in threads:  # it ends when the last handle has finished
                thread.join()
            samples.setdefault(f"{kind} drop", []).append(perf_counter() - began)
    return samples


def poll_all(interval: float, count: int) -> dict[str, float]:
    """Empty polls a second, and the share of a core that they take."""
    scheduler = letgo.Scheduler(slow_poll=60)
    polls = itertools.count()
    poll = polls.__next__
    held = [letgo.Handle(poll, interval=interval, scheduler=scheduler) for _ in range(count)]
    gc.collect()
    time.sleep(2 * interval)
    first, began, cpu = next(polls), perf_counter(), process_time()
    time.sleep(WATCHED)
    last, ended, cpu = next(polls), perf_counter(), process_time() - cpu
    del held
    return {"rate": (last - first - 1) / (ended - began), "cpu": cpu / (ended - began)}


def wake_beside(rounds: int, few: int, many: int) -> dict[str, list[float]]:
    """Seconds from a wake to the end of its poll, beside `few` and beside `many` that sleep."""
    if hasattr(os, "sched_setaffinity"):
        # Two threads on one core hand over at half the price of two on two, and stay
        # where they are for long: where they are is not what is measured.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    schedulers = {str(count): letgo.Scheduler() for count in (few, many)}
    sleepers = [fill(maker(s), int(count)) for count, s in schedulers.items()]
    samples: dict[str, list[float]] = {count: [] for count in schedulers}
    polled = threading.Lock()
    polled.acquire()
    busy = {c: letgo.Handle(polled.release, scheduler=s) for c, s in schedulers.items()}
    gc.collect()
    gc.freeze()  # a collection of all the sleepers is not what is measured
    for _ in range(10 * rounds):
        for count, handle in busy.items():
            began = perf_counter()
            for _ in range(WAKES):
                handle.wake()
                polled.acquire()
            samples[count].append((perf_counter() - began) / WAKES)
    del sleepers
    return samples


def million(count: int) -> dict[str, float]:
    """So many handles made, idle for a while, and dropped."""
    scheduler = letgo.Scheduler("measured")
    process = psutil.Process()
    keep = maker(scheduler)()
    settle()
    before = rss()
    began = perf_counter()
    held = fill(maker(scheduler, interval=3600), count)
    made = perf_counter() - began
    settle()
    used = rss() - before
    cpu, switches = process_time(), process.num_ctx_switches().voluntary
    time.sleep(WATCHED)
    cpu = process_time() - cpu
    switches = process.num_ctx_switches().voluntary - switches
    [thread] = [t for t in threading.enumerate() if t.name == "measured"]
    del keep
    began = perf_counter()
    held.clear()
    thread.join()
    return {
        "make": made,
        "bytes": used / count,
        "cpu": cpu / WATCHED,
        "switches": switches / WATCHED,
        "drop": perf_counter() - began,
    }


PARTS: dict[str, Callable[..., object]] = {
    "memory": memory,
    "make_and_drop": make_and_drop,
    "poll_all": poll_all,
    "wake_beside": wake_beside,
    "million": million,
}


def run_part(name: str, *arguments: str) -> None:
    figures = PARTS[name](*(json.loads(argument) for argument in arguments))
    print(json.dumps(figures))


def part(name: str, *arguments: object) -> Any:
    return child(__file__, "--part", name, *map(json.dumps, arguments))


def go_cache(count: int) -> float | None:
    """Bytes of RSS for each go-cache; None where it cannot be built."""
    if shutil.which("go") is None:
        return None
    path = os.pathsep.join(filter(None, [os.environ.get("GOPATH"), "/usr/share/gocode"]))
    run = subprocess.run(
        ["go", "run", str(Path(__file__).with_name("go_cache") / "main.go"), str(count)],
        env={**os.environ, "GO111MODULE": "off", "GOPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return None if run.returncode else json.loads(run.stdout)["bytes"]


# --- The report ---


def report_memory(count: int) -> None:
    kinds = {kind: (lambda kind=kind: part("memory", kind, count)["bytes"]) for kind in KINDS}
    samples = interleave(3, kinds)
    ours, bare = (median(samples[kind]) for kind in KINDS)
    rows = [("RSS of one", f"{ours:,.0f} B", f"{bare:,.0f} B", f"{ours / bare:.2f}", "<= 1,000 B")]
    go = go_cache(count)
    if go is not None:
        rows.append(("beside go-cache's", f"{ours:,.0f} B", f"{go:,.0f} B", f"{ours / go:.2f}", ""))
    print_table((f"memory, {count:,}", "letgo", "peer", "ratio", "goal"), rows)
    if go is None:
        print("go-cache: not measured, for want of Go or the package")


def report_make_and_drop(rounds: int, count: int) -> Samples:
    samples: Samples = part("make_and_drop", rounds, count)
    rows = [
        (
            what,
            seconds(median(samples[f"letgo {name}"]) / count),
            seconds(median(samples[f"bare {name}"]) / count),
            f"{ratio(samples, f'letgo {name}', f'bare {name}'):.2f}",
            goal,
        )
        for what, name, goal in (
            ("make one", "make", "<= 4"),
            ("drop one, and have it finished", "drop", "<= 3"),
        )
    ]
    print_table((f"time, {count:,}", "letgo", "bare", "ratio", "goal"), rows)
    return samples


def report_polls(count: int) -> None:
    rows = []
    for interval, goal in ((0.5, f"{count / 0.5:,.0f}"), (0.05, "")):
        figures = part("poll_all", interval, count)
        rate, cpu = figures["rate"], figures["cpu"]
        rows.append((f"{interval} s", f"{rate:,.0f}", f"{cpu:.0%}", f"{rate / cpu:,.0f}", goal))
    header = ("polls a second", "of one core", "polls a second of CPU", "wanted")
    print_table((f"{count:,} at interval", *header), rows)


def report_wakes(rounds: int, count: int) -> Samples:
    samples: Samples = part("wake_beside", rounds, 10, count)
    few, many = (median(samples[str(beside)]) for beside in (10, count))
    value = ratio(samples, str(count), "10")
    row = ("wake to poll's end", seconds(few), seconds(many), f"{value:.2f}", "<= 1.5")
    print_table(("a busy handle's", "beside 10", f"beside {count:,}", "ratio", "goal"), [row])
    return samples


def report_million(count: int) -> None:
    figures = part("million", count)
    row = (
        f"{figures['make']:.1f} s",
        f"{figures['bytes']:,.0f} B",
        f"{figures['cpu']:.2%}",
        f"{figures['switches']:.1f}",
        f"{figures['drop']:.1f} s",
    )
    header = ("made in", "RSS of one", "idle: of one core", "idle: switches a second", "dropped in")
    print_table((f"{count:,} handles", *header), [("", *row)])


def main() -> None:
    if sys.argv[1:2] == ["--part"]:
        run_part(*sys.argv[2:])
        return
    made = parser(__doc__)
    made.add_argument("--handles", type=int, default=100_000, metavar="N")
    made.add_argument("--million", action="store_true", help="a million handles too (1 GB)")
    options = made.parse_args()
    print_versions("pyperf")
    print()
    report_memory(options.handles)
    print()
    samples = report_make_and_drop(options.rounds, options.handles)
    print()
    report_polls(options.handles)
    print()
    samples |= report_wakes(options.rounds, options.handles)
    if options.million:
        print()
        report_million(1_000_000)
    save(options.output, samples)


if __name__ == "__main__":
    main()
