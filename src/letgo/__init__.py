"""Let go of the handle, and the worker stops.

Background workers that end with their handle: a `Handle` is what the user
holds, a private core is what the daemon thread polls, and a finalizer on the
first tells the second to stop.
"""

from letgo._context import again, sleep, stopping
from letgo._core import STOP
from letgo._errors import ClosedError
from letgo._handle import Handle
from letgo._info import WorkerInfo
from letgo._process import close_all, live
from letgo._scheduler import Scheduler, shared
from letgo._weakly import weakly

__all__ = [
    "STOP",
    "ClosedError",
    "Handle",
    "Scheduler",
    "WorkerInfo",
    "again",
    "close_all",
    "live",
    "shared",
    "sleep",
    "stopping",
    "weakly",
]
