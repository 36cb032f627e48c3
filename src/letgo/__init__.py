"""Let go of the handle, and the worker stops.

Background workers that end with their handle: a `Handle` is what the user
holds, a private core is what the daemon thread polls, and a finalizer on the
first tells the second to stop.
"""

from letgo._context import again, sleep, stopping
from letgo._core import STOP
from letgo._dump import dump
from letgo._errors import ClosedError, LeakWarning
from letgo._guard import guard, handle_of, unguard
from letgo._handle import Handle
from letgo._info import WorkerInfo
from letgo._leaks import leak_paths
from letgo._process import close_all, live
from letgo._scheduler import Scheduler, shared
from letgo._weakly import weakly

__all__ = [
    "STOP",
    "ClosedError",
    "Handle",
    "LeakWarning",
    "Scheduler",
    "WorkerInfo",
    "again",
    "close_all",
    "dump",
    "guard",
    "handle_of",
    "leak_paths",
    "live",
    "shared",
    "sleep",
    "stopping",
    "unguard",
    "weakly",
]
