"""Where errors go that have nobody to be raised to.

Threads: worker threads only, under no lock of ours, except `unraisable`, which
a finalizer may call.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import SimpleNamespace
from typing import Any, cast

_logger = logging.getLogger("letgo")


def log(level: int, message: str, *arguments: object, error: BaseException | None = None) -> None:
    """Write to logger `letgo`; a handler that raises must not end the worker."""
    try:
        _logger.log(level, message, *arguments, exc_info=error)
    except Exception as failure:
        unraisable(failure, "letgo could not log")


def unraisable(error: BaseException, message: str, culprit: object = None) -> None:
    """Give an error to `sys.unraisablehook`, and survive the hook."""
    details = SimpleNamespace(
        exc_type=type(error),
        exc_value=error,
        exc_traceback=error.__traceback__,
        err_msg=message,
        object=culprit,
    )
    try:
        if sys.unraisablehook is not sys.__unraisablehook__:
            sys.unraisablehook(cast(Any, details))
        elif sys.stderr is not None:
            # The interpreter's own hook refuses details that Python code has made.
            sys.stderr.write(f"{message}:\n{''.join(traceback.format_exception(error))}")
    except Exception:
        pass  # There is nobody left to tell.


def thread_exception(error: BaseException) -> None:
    """Do with it what a thread does with an exception that ends it."""
    if isinstance(error, SystemExit):
        return
    details = (type(error), error, error.__traceback__, threading.current_thread())
    try:
        threading.excepthook(threading.ExceptHookArgs(details))
    except Exception as failure:
        unraisable(failure, "threading.excepthook failed")


def text(error: BaseException) -> str:
    """The error as text, so that none need be kept: its frames hold the caller's objects."""
    return "".join(traceback.format_exception_only(error)).strip()
