"""A call through a guard's proxy beside the direct call, and beside `wrapt.ObjectProxy`.

    python benchmarks/bench_guard.py [--rounds N] [-o FILE]

Needs the extra `bench`. The methods are empty, which suits a proxy least: what it adds
is the same for every method. Every time is a median, every ratio the median of the
ratios of interleaved rounds. `wrapt`'s proxy is written in C, and a method that one has
taken from it does not hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import wrapt

import letgo
from _common import Samples, interleave, parser, print_table, print_versions, ratio, save, seconds

CALLS = 20_000  # times ten, in each round
CEILING = 7.0  # times the direct call


class Service:
    def __init__(self) -> None:
        self.value = 1

    def none(self) -> None: ...

    def one(self, a: int) -> None: ...

    def two(self, a: int, b: int) -> None: ...

    def close(self) -> None: ...

    def __len__(self) -> int:
        return 1


# What is measured, and whether the ceiling is for it: it is for calls of methods.
EXPRESSIONS = {
    "o.none()": True,
    "o.one(1)": True,
    "o.two(1, 2)": True,
    "o.one(a=1)": False,
    "o.value": False,
    "len(o)": False,
}


def timer(expression: str, target: object) -> Callable[[], float]:
    """Times one evaluation, in code of its own, which Python specialises for the target."""
    calls = f"        {expression}\n" * 10
    source = (
        "def run(o, clock, calls):\n"
        "    began = clock()\n"
        f"    for _ in range(calls):\n{calls}"
        "    return (clock() - began) / calls / 10\n"
    )
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return lambda: float(namespace["run"](target, perf_counter, CALLS))


def main() -> None:
    options = parser(__doc__).parse_args()
    print_versions("wrapt", "pyperf")
    service, proxied = Service(), wrapt.ObjectProxy(Service())
    guarded = letgo.guard(Service())
    rows: list[tuple[str, ...]] = []
    everything: Samples = {}
    over: list[str] = []
    for expression, limited in EXPRESSIONS.items():
        samples = interleave(
            options.rounds,
            {
                "direct": timer(expression, service),
                "guard": timer(expression, guarded),
                "wrapt": timer(expression, proxied),
            },
        )
        ours, theirs = ratio(samples, "guard", "direct"), ratio(samples, "wrapt", "direct")
        rows.append(
            (
                expression,
                seconds(median(samples["direct"])),
                f"{ours:.1f} x",
                f"{theirs:.1f} x",
                f"at most {CEILING:g} x" if limited else "",
            )
        )
        if limited and ours > CEILING:
            over.append(expression)
        everything.update({f"{expression} {name}": times for name, times in samples.items()})
    print_table(("", "direct", "guard", "wrapt", ""), rows)
    save(options.output, everything)
    if over:
        raise SystemExit(f"over {CEILING:g} times the direct call: {', '.join(over)}")


if __name__ == "__main__":
    main()
