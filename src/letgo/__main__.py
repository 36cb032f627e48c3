"""`python -m letgo`: what happens to senders that are dropped without `close`."""

from __future__ import annotations

import argparse
import sys
import tracemalloc
from collections.abc import Iterator, Sequence

from letgo._demo import Moment, Progress, Result, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; the exit code: 0, or 1 if `letgo` failed, 2 if it could not run."""
    workers = _parse(arguments)
    progress = Progress(sys.stderr)
    tracemalloc.start()
    try:
        leaky, guarded = run(workers, progress)
    except (OSError, RuntimeError) as error:
        progress.clear()
        print(f"letgo: cannot run {workers} workers of each kind: {error}", file=sys.stderr)
        return 2
    finally:
        tracemalloc.stop()
    progress.clear()
    print("\n".join(_table(workers, leaky, guarded)), flush=True)
    faults = list(_faults(leaky, guarded))
    for fault in faults:
        print(f"letgo: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _parse(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m letgo",
        description="Make buffered UDP senders of two kinds, send lines through all of them, "
        "and drop them without close(): leaky ones, whose thread is bound to the sender, and "
        "ones built on letgo.Handle.",
        epilog="Exit code: 0; 1 if a guarded worker is left or a line is lost; "
        "2 if so many workers cannot be had.",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        default=100,
        metavar="N",
        help="senders of each kind (default: %(default)s)",
    )
    workers: int = parser.parse_args(arguments).workers
    return workers


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, not {text!r}")
    return number


def _table(workers: int, leaky: Result, guarded: Result) -> Iterator[str]:
    yield f"{f'{workers:,} senders of each kind':<40}{'leaky':>14}{'letgo':>14}"
    yield "-" * 68
    for title, left, right in zip(_TITLES, _cells(leaky), _cells(guarded), strict=True):
        yield f"{title:<40}{left:>14}{right:>14}"


_TITLES = (
    "threads before",
    "threads after making them",
    "threads after dropping them",
    "memory before (tracemalloc)",
    "memory after making them",
    "memory after dropping them",
    "from the drop to the last thread's end",
    "lines sent",
    "lines received",
)


def _cells(result: Result) -> Iterator[str]:
    moments = (result.before, result.made, result.dropped)
    yield from (f"{moment.threads:,}" for moment in moments)
    yield from (_kib(moment) for moment in moments)
    yield "never" if result.seconds is None else f"{result.seconds * 1000:,.1f} ms"
    yield f"{result.sent:,}"
    yield f"{result.received:,}"


def _kib(moment: Moment) -> str:
    return f"{moment.memory / 1024:,.0f} KiB"


def _faults(leaky: Result, guarded: Result) -> Iterator[str]:
    left = guarded.dropped.threads - guarded.before.threads
    if left or guarded.seconds is None:
        yield f"{left} guarded workers are left"
    for kind, result in (("leaky", leaky), ("guarded", guarded)):
        if result.received != result.sent:
            yield f"{result.sent:,} lines of {kind} senders sent, {result.received:,} received"


if __name__ == "__main__":
    sys.exit(main())
