"""A failure that lasts is told once."""

from __future__ import annotations

import logging
from threading import Lock

from letgo import _report


class Outage:
    """Whether something fails at present, and whether that has been logged.

    Threads: any, at any time; the lock is a flag that is only ever tried. A
    logging handler may itself send metrics, and fail: it finds the flag set.
    """

    __slots__ = ("_told", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = Lock()

    def began(self, error: BaseException) -> None:
        """Log the failure, unless it has been since it last `ended`."""
        if self._told.acquire(False):
            _report.log(logging.WARNING, "%s: %s", self._what, _report.text(error))

    def ended(self) -> None:
        """It works again: the next failure is another one."""
        if self._told.locked():
            try:
                self._told.release()
            except RuntimeError:
                pass  # another thread was faster
