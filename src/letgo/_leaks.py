"""Why a worker is still alive: the ways in which it keeps its own handle.

The search goes forwards from the worker's callables, breadth first: it sees what
the worker holds and not all objects of the process, and meets the shortest chains
first. It knows the handle by its core, and so needs no reference to it: a handle
that its worker does not hold, its worker's search does not hold either. What a
search meets it holds until it ends: if others let go of it meanwhile, it is
destroyed here.
"""

from __future__ import annotations

import sys
import warnings
from itertools import pairwise
from time import monotonic
from typing import Any

from letgo import _check, _engine, _origin, _report
from letgo._core import Core
from letgo._errors import LeakWarning
from letgo._handle import Handle
from letgo._references import CALLABLES, describe, is_wide, name, referents


def leak_paths(handle: Handle, *, limit: int = 3) -> list[str]:
    """How the worker keeps its own handle alive, in words.

    The shortest chains of strong references from what the handle was given (`poll`,
    `on_close` and so on) to the handle itself, such as
    `poll -> closure variable 'self' -> <app.Cache> -> ._worker -> this Handle`.
    As long as there is one, dropping the handle does not stop the worker.

    Module globals, classes and loggers are not followed: those bindings can be
    deleted. Not seen are the local variables of functions that still run, and what
    an extension module hides from the garbage collector. At most a million
    references are looked at, 100,000 of them in one container, for two seconds; if
    that was not enough, the last line of the result says so. No code of yours runs,
    and nothing is kept.

    Threads: any, while the worker goes on.

    Args:
        handle: The handle, started or not.
        limit: How many chains at most.

    Returns:
        The chains, shortest first; an empty list when there is none.

    Raises:
        TypeError, ValueError: `handle` is no `Handle`, or `limit` no positive int.
    """
    return paths_of(_checked(handle), _check.count("limit", limit))


def _checked(handle: Any) -> Core:
    if not issubclass(type(handle), Handle):  # a proxy may say of itself that it is one
        raise TypeError(f"handle must be a letgo.Handle, not {handle!r}")
    core: Core = handle._letgo_core
    return core


def paths_of(core: Core, limit: int = 3) -> list[str]:
    """As `leak_paths`, for those who have no handle."""
    search = _Search(core, limit, references=1_000_000, seconds=2.0)
    return search.paths() + search.caveats()


class _Search:
    """One search, which is over when it has been made."""

    def __init__(self, core: Core, limit: int, *, references: int, seconds: float) -> None:
        self._core = core
        self._limit = limit
        self._left = self._budget = references
        self._end = monotonic() + seconds
        self._cut = False
        self._wide = False
        self._found: list[tuple[str, list[Any]]] = []
        seen: dict[int, Any] = {}  # holds them, so that no identity is used twice
        for root in CALLABLES:
            start = getattr(core, root)
            if start is None:
                continue
            chains = self._chains(start, seen)
            if chains:
                self._found += [(root, chain) for chain in chains]
                seen = {}  # what led there may do so from the next root too

    def paths(self) -> list[str]:
        """The chains as text, shortest first."""
        ordered = sorted(self._found, key=lambda found: len(found[1]))
        return [_written(root, chain) for root, chain in ordered[: self._limit]]

    def caveats(self) -> list[str]:
        """What was not looked at, as text."""
        if self._cut:
            count = self._budget - max(0, self._left)
            return [f"(the search gave up after {count:,} references: there may be more)"]
        if self._wide:
            return ["(of very big containers only a part was searched: there may be more)"]
        return []

    def _chains(self, start: Any, seen: dict[int, Any]) -> list[list[Any]]:
        """The shortest chains from `start` to the handle, one for each object that holds it."""
        chains: list[list[Any]] = []
        # In the order in which they were met, each with the place of the one that led there.
        line: list[tuple[Any, int]] = [(start, -1)]
        for place, (owner, _) in enumerate(line):  # which grows
            if self._left <= 0 or monotonic() > self._end:
                self._cut = True
                break
            self._wide = self._wide or is_wide(owner)
            values = referents(owner)
            self._left -= len(values)
            holds = None
            for value in values:
                if issubclass(type(value), Handle) and _core_of(value) is self._core:
                    holds = value
                elif id(value) not in seen:
                    seen[id(value)] = value
                    line.append((value, place))
            if holds is not None:
                chains.append([*_way_to(line, place), holds])
                if len(chains) == self._limit:
                    break
        return chains


def _core_of(handle: Any) -> object:
    try:
        return object.__getattribute__(handle, "_letgo_core")
    except AttributeError:
        return None  # it is being made


def _way_to(line: list[tuple[Any, int]], place: int) -> list[Any]:
    way: list[Any] = []
    while place >= 0:
        value, place = line[place]
        way.append(value)
    way.reverse()
    return way


def _written(root: str, chain: list[Any]) -> str:
    words = [root]
    for owner, value in pairwise(chain):
        kind = describe(owner)
        if kind is not None:
            words.append(kind)
        words.append(name(owner, value))
    return " -> ".join([*words, "this Handle"])


# --- Development mode ---


# Seconds after its making by which a handle has been put where it belongs.
_STORED = 0.1


def _check_itself(core: Core) -> None:
    """Warn if a worker keeps its own handle alive.

    Threads: the worker's, once, between the end of its first poll and whatever comes
    next. A handle that is dropped meanwhile ends its worker as ever, since this holds
    no reference to one that the worker does not hold.
    """
    try:
        _await_storing(core)
        paths = _Search(core, 1, references=100_000, seconds=0.1).paths()
        if paths:
            site = core.created_at or "?:0"
            message = (
                f"letgo worker {core.name!r}, made at {site}, keeps its own handle alive, "
                f"so that dropping the handle will not stop it: {paths[0]}"
            )
            _origin.warn(message, LeakWarning, site)
    except Exception as error:  # a check must not end what it checks
        _report.unraisable(error, "letgo could not check a worker for leaks")


def _await_storing(core: Core) -> None:
    """Let `self._worker = Handle(..., immediate=True)` get as far as the assignment.

    Any mail for the engine ends the wait: whoever sends it has the handle, or there is
    something to do. A poll that somebody waits for shows the same.
    """
    engine = core.engine
    while not (engine.mail or engine.serving or core.claim):
        left = min(core.born + _STORED - monotonic(), engine.collect_due())
        if left <= 0 or engine.ready:
            return
        engine.bell.wait(left)


if _origin.development:
    _engine.after_first_poll = _check_itself
    if not sys.warnoptions:
        # Python hides warnings about resources, and whoever has set LETGO_DEBUG wants these.
        warnings.simplefilter("default", LeakWarning)
