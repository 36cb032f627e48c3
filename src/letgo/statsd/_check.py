"""Argument checks: each names the argument and the value that it refuses."""

from __future__ import annotations

from letgo import _check


def sender(argument: str, value: object) -> None:
    """Something with `send` and `close`."""
    for method in ("send", "close"):
        if not callable(getattr(value, method, None)):
            raise TypeError(f"{argument} must have send(data) and close(), not {value!r}")


def count(argument: str, value: object, most: int | None = None) -> None:
    """An int above 0, and at most `most`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an int, not {value!r}")
    if value < 1 or (most is not None and value > most):
        limits = "above 0" if most is None else f"from 1 to {most}"
        raise ValueError(f"{argument} must be {limits}, not {value!r}")


def some_seconds(argument: str, value: object) -> None:
    """A finite number of seconds above 0."""
    if _check.seconds(argument, value) == 0:
        raise ValueError(f"{argument} must be above 0, not {value!r}")
