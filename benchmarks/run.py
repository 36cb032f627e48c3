"""Run all benchmarks beside all their peers, and write docs/benchmarks.md with its plots.

    python benchmarks/run.py [--rounds N] [--soak MINUTES]

Needs the extra `bench`. Takes about ten minutes, and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import pyperf

import _plots
import bench_handle
import bench_scheduler
from _common import ROOT

HERE = Path(__file__).parent
DOCS = ROOT / "docs"
PLOTS = DOCS / "plots"
SCRIPTS = {
    "bench_handle": "A dedicated handle",
    "bench_scheduler": "A hundred thousand handles on one thread",
    "bench_guard": "A guard",
    "bench_cache": "A cache",
    "bench_statsd": "A StatsD client",
}
HEAD = """# Benchmarks

Made by `python benchmarks/run.py`. Every figure that matters is a ratio, taken beside
its peer in the same run, on {machine}, with {python}. Times are
medians, and ratios medians of the ratios of interleaved rounds.

![From the drop to the thread's end](plots/latency.svg)

![Memory of one worker](plots/memory.svg)

![A cache's get and set](plots/cache.svg)
"""
SECTION = """
## {title}

`benchmarks/{script}.py`

```text
{output}
```
"""


def run(script: str, *arguments: object) -> str:
    """What a benchmark prints. Its progress, if any, goes to stderr."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    print(f"{script} ...", file=sys.stderr, flush=True)
    result = subprocess.run(
        [sys.executable, str(HERE / f"{script}.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=False,  # some fail when a goal is missed, and that is to be seen
        text=True,
    )
    return result.stdout.rstrip()


def read(path: Path) -> dict[str, list[float]]:
    """The samples that a benchmark saved, by name."""
    suite = pyperf.BenchmarkSuite.load(str(path))
    return {made.get_name(): list(made.get_values()) for made in suite.get_benchmarks()}


def plot_latency(samples: dict[str, list[float]]) -> None:
    names = {
        "drop": "letgo.Handle",
        "release": "Lock.release + join",
        "pool": "ThreadPoolExecutor",
        "pymongo": "PyMongo PeriodicExecutor",
    }
    _plots.spread(
        PLOTS / "latency.svg",
        "From the drop to the thread's end",
        "seconds",
        {shown: samples[name] for name, shown in names.items()},
    )


def plot_memory() -> None:
    counts = (100, 1_000, 10_000, 100_000)
    series = {
        shown: [(n, bench_scheduler.part("memory", kind, n)["bytes"]) for n in counts[1:]]
        for kind, shown in (("letgo", "on a scheduler"), ("bare", "bare finalizer"))
    }
    for kind, shown in (("letgo", "with its own thread"), ("bare", "bare thread")):
        each = bench_handle.memory(kind, "RSS")
        series[shown] = [(n, each) for n in counts[:2]]
    _plots.lines(
        PLOTS / "memory.svg", "Memory of one worker", "handles", "bytes each (RSS)", series
    )


def plot_cache(samples: dict[str, list[float]]) -> None:
    groups: dict[str, dict[str, float]] = {"get": {}, "set": {}}
    for name, values in samples.items():
        operation, _, peer = name.partition(": ")
        if operation in groups:
            groups[operation][peer] = median(values) * 1e9
    _plots.bars(PLOTS / "cache.svg", "A call of a cache with 1,000 keys", "nanoseconds", groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--soak", type=float, default=2.0, metavar="MINUTES")
    options = parser.parse_args()
    PLOTS.mkdir(exist_ok=True)
    machine = f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    page = HEAD.format(machine=machine, python=python)
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for script, title in SCRIPTS.items():
            saved = Path(directory) / f"{script}.json"
            output = run(script, "--rounds", options.rounds, "-o", saved)
            samples |= read(saved)
            page += SECTION.format(title=title, script=script, output=output)
    plot_latency(samples)
    plot_memory()
    plot_cache(samples)
    output = run("soak", "--minutes", options.soak, "--plot", PLOTS / "soak.svg")
    page += SECTION.format(title="Soak", script="soak", output=output)
    page += "\n![Threads, memory and descriptors](plots/soak.svg)\n"
    (DOCS / "benchmarks.md").write_text(page, encoding="utf-8")
    print(f"wrote {DOCS / 'benchmarks.md'}", file=sys.stderr)


if __name__ == "__main__":
    main()
