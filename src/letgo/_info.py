"""What a worker tells about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["new", "running", "stopping", "closed"]


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as it was at one moment: plain data that keeps nothing alive.

    Attributes:
        name: The handle's name.
        state: "new" until it is started, "running", "stopping" once a stop was
            requested, "closed" once it has ended.
        polls: Polls begun.
        errors: Polls that raised.
        last_error: The exception of the last poll that raised, as text (no
            exception is kept); None while none has.
        last_poll_seconds: How long the last ended poll took; None before it.
        next_poll_in: Seconds until the next poll is due; 0.0 when it is
            overdue, None when none is planned.
        age: Seconds since the handle was made.
        thread: The name of the thread that serves it; None without one.
        created_at: "file:line" that made the handle, in development mode
            (`python -X dev`, or `LETGO_DEBUG` set to anything but 0), with
            `warn_unclosed`, and in the pytest plugin's strict mode, else None.
    """

    name: str
    state: State
    polls: int
    errors: int
    last_error: str | None
    last_poll_seconds: float | None
    next_poll_in: float | None
    age: float
    thread: str | None
    created_at: str | None
