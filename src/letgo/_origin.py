"""Where a handle was made, and whether anybody wants to know."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType

from letgo import _report

development = sys.flags.dev_mode or os.environ.get("LETGO_DEBUG", "0") != "0"
"""Whether this process runs in development mode; read once, so that it costs nothing."""
recording = development
"""Whether every handle remembers where it was made: the pytest plugin wants that too."""


def creation_site(handle: object) -> str:
    """The "file:line" that made `handle`: not ours, and not its own class's `__init__`."""
    frame = _outer(sys._getframe(1))
    while frame is not None and _makes(frame, handle):
        frame = _outer(frame.f_back)
    if frame is None:
        return "?:0"
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _outer(frame: FrameType | None) -> FrameType | None:
    """The first frame from `frame` outwards that is not this package's."""
    while frame is not None and _is_ours(frame.f_globals.get("__name__")):
        frame = frame.f_back
    return frame


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and (module == "letgo" or module.startswith("letgo."))


def _makes(frame: FrameType, handle: object) -> bool:
    code = frame.f_code
    if code.co_name != "__init__" or not code.co_argcount:
        return False
    return frame.f_locals.get(code.co_varnames[0]) is handle


def warn(message: str, category: type[Warning], created_at: str) -> None:
    """Issue a warning at the line that made a handle, from wherever this is called.

    Where the filters make it an error there is no caller to raise it to: it goes
    to `sys.unraisablehook`, as one from a destructor does.
    """
    filename, _, line = created_at.rpartition(":")
    try:
        warnings.warn_explicit(message, category, filename, int(line))
    except Exception as error:
        _report.unraisable(error, "Exception ignored in a letgo worker")
