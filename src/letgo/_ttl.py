"""Lifetimes: what a user may give as one, and the seconds that it means."""

from __future__ import annotations

import enum
from datetime import timedelta
from math import inf, isfinite
from typing import Final, Literal


class Omitted(enum.Enum):
    """The type of `DEFAULT`, an enum so that type checkers can tell it from other values."""

    DEFAULT = "the cache's default"

    def __repr__(self) -> str:
        return "..."


DEFAULT: Final[Literal[Omitted.DEFAULT]] = Omitted.DEFAULT
"""An omitted `ttl`. Not None, which means never."""

Ttl = float | timedelta | None


def lifetime(argument: str, ttl: object) -> float:
    """The seconds of a `Ttl`; infinity for None, which never expires."""
    if ttl is None:
        return inf
    if isinstance(ttl, timedelta):
        seconds: float = ttl.total_seconds()
    # bool is an int, but ttl=True is a mistake and not one second.
    elif isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"{argument} must be seconds, a timedelta or None, not {ttl!r}")
    else:
        seconds = ttl
    try:
        good = isfinite(seconds) and seconds > 0
    except OverflowError:  # an int beyond what a float can hold
        good = False
    if not good:
        raise ValueError(f"{argument} must be finite and above zero, not {ttl!r}")
    return float(seconds)
