"""Pictures of what the benchmarks measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")  # no screen

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]


def _figure(title: str) -> Axes:
    _, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.set_title(title)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _save(axes: Axes, path: str | Path) -> None:
    figure = axes.figure
    assert figure is not None
    # No date and no version in the file: the same figures give the same bytes.
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)
    plt.close("all")


def spread(path: str | Path, title: str, unit: str, samples: Mapping[str, Sequence[float]]) -> None:
    """A line of dots for each name, on a logarithmic scale."""
    axes = _figure(title)
    for row, values in enumerate(reversed(samples.values())):
        axes.plot(values, [row] * len(values), "o", alpha=0.4)
    axes.set_yticks(range(len(samples)), list(reversed(samples)))
    axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.grid(axis="x", alpha=0.3)
    _save(axes, path)


def lines(
    path: str | Path, title: str, xlabel: str, ylabel: str, series: Mapping[str, Points]
) -> None:
    """A line for each name, both scales logarithmic."""
    axes = _figure(title)
    for name, points in series.items():
        axes.loglog(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(axes, path)


def stacked(path: str | Path, title: str, xlabel: str, series: Mapping[str, Points]) -> None:
    """A strip for each name, one above the other, each from zero."""
    figure, strips = plt.subplots(
        len(series), sharex=True, figsize=(7, 1.6 * len(series)), layout="constrained"
    )
    figure.suptitle(title)
    for axes, (name, points) in zip(strips, series.items(), strict=True):
        axes.plot(*zip(*points, strict=True))
        axes.set_ylim(bottom=0)
        axes.set_ylabel(name)
    strips[-1].set_xlabel(xlabel)
    _save(strips[-1], path)


def bars(
    path: str | Path, title: str, unit: str, groups: Mapping[str, Mapping[str, float]]
) -> None:
    """A group of bars for each outer name, a bar in it for each inner one."""
    axes = _figure(title)
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        places = [place + index * width for place in range(len(groups))]
        axes.bar(places, [group.get(name, 0.0) for group in groups.values()], width, label=name)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], list(groups))
    axes.set_ylabel(unit)
    axes.legend(frameon=False, ncols=2)
    _save(axes, path)
