"""What a poll can ask about the worker that runs it."""

from __future__ import annotations

import threading
import time

from letgo import _check
from letgo._engine import current


def stopping() -> bool:
    """Whether the worker whose poll this is has been asked to stop.

    Threads: any; outside a poll the answer is False. A long poll asks between
    two steps, so that `close`, a drop or exit need not wait for all of it.
    """
    core = current.core
    return core is not None and core.stopping


def again(after: float = 0.0) -> None:
    """Inside a poll: poll once more, no later than `after` seconds from now.

    For a back-off, a delay that a server sets, or a fixed delay instead of the
    grid. As with `Handle.wake`, the earliest wins and the grid stays.

    Threads: the worker's own, inside its poll.

    Raises:
        RuntimeError: Called outside a poll.
        TypeError, ValueError: `after` is no finite, non-negative number.
    """
    core = current.core
    if core is None:
        raise RuntimeError("letgo.again() works inside a poll only")
    core.wake(_check.seconds("after", after))


def sleep(seconds: float) -> bool:
    """Sleep; inside a poll, cut short when the worker is asked to stop.

    Threads: any.

    Returns:
        True if it was cut short, or a stop had been asked for before.

    Raises:
        TypeError, ValueError: `seconds` is no finite, non-negative number.
    """
    end = time.monotonic() + _check.seconds("seconds", seconds)
    core = current.core
    if core is None:
        time.sleep(min(seconds, threading.TIMEOUT_MAX))
        return False
    while not core.stopping:
        left = end - time.monotonic()
        if left <= 0:
            return False
        # The loop's own doorbell, so that a stop ends this wait. A ring that this
        # takes is not lost: the loop reads its mail before it waits.
        core.engine.bell.wait(left)
    return True
