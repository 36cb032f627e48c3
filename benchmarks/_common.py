"""What the benchmarks share: interleaved measurements, ratios, a table, a record in JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import pyperf

ROOT = Path(__file__).resolve().parents[1]

Samples = dict[str, list[float]]


def noop() -> None:
    """The empty poll."""


def interleave(rounds: int, measures: Mapping[str, Callable[[], float]]) -> Samples:
    """Measure all, one after another, `rounds` times, so that what slows one slows all."""
    samples: Samples = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            samples[name].append(measure())
    return samples


def ratio(samples: Samples, ours: str, theirs: str) -> float:
    """The median of the ratios of each round."""
    return median(a / b for a, b in zip(samples[ours], samples[theirs], strict=True))


def child(script: str, *arguments: object) -> Any:
    """Run `script` with these arguments in a process of its own; the JSON that it prints."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    run = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(run.stdout)


def seconds(value: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def print_versions(*packages: str) -> None:
    """Say what was measured, and on what."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(
        f"{platform.python_implementation()} {platform.python_version()}"
        f"{'' if gil else ' without the GIL'}, {platform.system()}, {os.cpu_count()} cores"
    )
    for package in packages:
        try:
            print(f"{package} {version(package)}")
        except PackageNotFoundError:
            print(f"{package}: not installed")


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print columns as wide as they need to be, the first to the left."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, tuple("-" * width for width in widths), *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells))


def save(path: str | None, samples: Samples) -> None:
    """Write samples of seconds as pyperf's JSON, for `pyperf compare_to` and the like."""
    if path is not None:
        benchmarks = [
            pyperf.Benchmark([pyperf.Run(values, metadata={"name": name, "loops": 1})])
            for name, values in samples.items()
        ]
        pyperf.BenchmarkSuite(benchmarks).dump(path, replace=True)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--rounds", type=int, default=15, help="interleaved rounds (%(default)s)")
    made.add_argument("-o", "--output", metavar="FILE", help="save the samples as pyperf's JSON")
    return made
