"""All workers of the process as a table, for a person who wonders what is going on.

It takes no lock and allocates no buffer that somebody else could be in the middle
of: it is for processes that are stuck, and for signal handlers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TextIO

from letgo import _process
from letgo._core import Core
from letgo._info import WorkerInfo


def dump(file: TextIO | int | None = None, _frame: FrameType | None = None) -> None:
    """Write a table of all workers that run or are stopping, with what the busy ones do.

    It can be a signal handler itself: `signal.signal(signal.SIGUSR1, letgo.dump)`.

    A file with a descriptor is written to through that, past its buffer: what others
    have yet to flush comes later, and nobody who holds the buffer's lock is waited for.

    Threads: any, signal handlers included; it takes no lock.

    Args:
        file: Where to; None, or the number of the signal that called it, is
            `sys.stderr` of that moment.
    """
    stream = sys.stderr if file is None or isinstance(file, int) else file
    if stream is not None:  # as in a process without a console
        _write(stream, _table(_process._live_cores()))


def _table(cores: list[Core]) -> str:
    count = "1 worker" if len(cores) == 1 else f"{len(cores)} workers"
    rows: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    rows.append((tuple(title for title, _ in _COLUMNS), ()))
    for core in sorted(cores, key=lambda core: core.key):  # the oldest first
        info = core.info()
        rows.append((_cells(info), tuple(_notes(core, info))))
    widths = [max(len(cells[column]) for cells, _ in rows) for column in range(len(_COLUMNS))]
    lines = [f"letgo: {count} in process {os.getpid()}"]
    for cells, notes in rows if cores else []:
        padded = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append(f"  {padded.rstrip()}")
        lines.extend(f"    {note}" for note in notes)
    return "\n".join(lines) + "\n"


_COLUMNS: tuple[tuple[str, Callable[[WorkerInfo], object]], ...] = (
    ("name", lambda info: info.name),
    ("state", lambda info: info.state),
    ("polls", lambda info: info.polls),
    ("errors", lambda info: info.errors),
    ("last poll", lambda info: _seconds(info.last_poll_seconds)),
    ("next poll", lambda info: _seconds(info.next_poll_in)),
    ("age", lambda info: _seconds(info.age)),
    ("thread", lambda info: info.thread),
    ("made at", lambda info: info.created_at),
)


def _cells(info: WorkerInfo) -> tuple[str, ...]:
    values = (value(info) for _, value in _COLUMNS)
    return tuple("-" if value is None else str(value) for value in values)


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:,.3f} s"


def _notes(core: Core, info: WorkerInfo) -> Iterable[str]:
    if info.last_error is not None:
        yield f"last error: {info.last_error.splitlines()[-1]}"
    thread = core.engine.thread
    if core is core.engine.current and thread is not None and thread.ident is not None:
        frame = sys._current_frames().get(thread.ident)
        if frame is not None:
            code = frame.f_code
            yield f"busy in {code.co_qualname}, {code.co_filename}:{frame.f_lineno}"


def _write(stream: TextIO, text: str) -> None:
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        stream.write(text)  # in memory, or closed: then it says so
        return
    data = text.encode(getattr(stream, "encoding", None) or "utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass  # Closed, or a full pipe that must not be waited for: nobody would read it.
