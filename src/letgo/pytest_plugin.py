"""Tests that leave no worker behind: a pytest plugin, loaded where `letgo` is installed.

The fixture `letgo_workers` shows what the test has started. With `letgo_strict = true`
in the ini file every test that leaves a worker behind is an error, unless it carries
`@pytest.mark.letgo_allow_workers`. What fixtures of a wider scope start is theirs. A
test that failed is not checked: pytest keeps its frames, and with them its handles.

Tests that run at the same time in one process are not told apart. Under pytest-xdist
each process looks after its own. PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import time
from collections.abc import Generator, Iterator
from typing import Any, cast

import pytest

from letgo import _leaks, _origin, _process
from letgo._core import Core
from letgo._info import WorkerInfo

# Seconds that workers get to end, before a test is blamed: those that nobody has told
# to, since the last reference may be on its way out in another thread, and the others.
_PATIENCE = 0.5
_PATIENCE_STOPPING = 5.0

_before = pytest.StashKey[set[int]]()  # of an item: the workers that ran before it
_failed = pytest.StashKey[bool]()  # of an item
_of_wider_scopes = pytest.StashKey[set[int]]()  # of the configuration


class Workers:
    """The workers that a test has started and that have not ended: see `letgo_workers`."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def __iter__(self) -> Iterator[WorkerInfo]:
        return iter([core.info() for core in _started_by(self._item)])

    def __len__(self) -> int:
        return len(_started_by(self._item))

    def assert_none_left(self) -> None:
        """Fail, naming them, if workers are left that do not end within a moment."""
        __tracebackhide__ = True
        left = _left_by(self._item)
        if left:
            pytest.fail(_message(self._item, left))


@pytest.fixture
def letgo_workers(request: pytest.FixtureRequest) -> Workers:
    """The workers that this test has started: iterable, with `len` and `assert_none_left()`."""
    _origin.recording = True
    return Workers(cast(Any, request).node)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The ini option `letgo_strict`."""
    text = "make every test an error that leaves a letgo worker behind"
    parser.addini("letgo_strict", text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """The marker `letgo_allow_workers`; in strict mode, handles remember where they were made."""
    text = "letgo_allow_workers: this test may leave letgo workers behind (see letgo_strict)"
    config.addinivalue_line("markers", text)
    config.stash[_of_wider_scopes] = set()
    _origin.recording = _origin.development or config.getini("letgo_strict")


def pytest_unconfigure() -> None:
    """As before."""
    _origin.recording = _origin.development


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Take note of the workers that a fixture starts which outlives the test."""
    if fixturedef.scope == "function":
        return (yield)
    before = _live_keys()
    try:
        return (yield)
    finally:
        request.config.stash[_of_wider_scopes] |= _live_keys() - before


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take note of the workers that run before the test, its fixtures included."""
    item.stash[_before] = _live_keys()
    item.stash[_failed] = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Take note of failures."""
    if call.excinfo is not None:
        item.stash[_failed] = True
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Check the test when all its fixtures have been torn down."""
    result = yield
    if not item.config.getini("letgo_strict") or item.stash[_failed] or not _started_by(item):
        return result
    if not item.get_closest_marker("letgo_allow_workers"):
        # The values of fixtures, torn down by now, which pytest lets go of just after this.
        getattr(item, "funcargs", {}).clear()
        left = _left_by(item)
        if left:
            pytest.fail(_message(item, left), pytrace=False)
    return result


def _live_keys() -> set[int]:
    return {core.key for core in _process._live_cores()}


def _started_by(item: pytest.Item) -> list[Core]:
    before, wider = item.stash[_before], item.config.stash[_of_wider_scopes]
    cores = _process._live_cores()
    return [core for core in cores if core.key not in before and core.key not in wider]


def _left_by(item: pytest.Item) -> list[Core]:
    """Those that do not end, although what can be let go of has been, and in good time."""
    left = _started_by(item)
    if left:
        gc.collect()
    begin = time.monotonic()
    pause = 0.001
    while left := _started_by(item):
        waited = time.monotonic() - begin
        stopping = all(core.stopping for core in left)
        if waited > (_PATIENCE_STOPPING if stopping else _PATIENCE):
            return left
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return []


def _message(item: pytest.Item, left: list[Core]) -> str:
    count = "1 letgo worker" if len(left) == 1 else f"{len(left)} letgo workers"
    lines = [f"{item.name} left {count} behind:"]
    for core in left:
        info = core.info()
        made = "" if info.created_at is None else f", made at {info.created_at}"
        lines.append(f"  {core.label}, {info.state}{made}")
        paths = _leaks.paths_of(core)
        if info.state == "stopping":
            lines.append("    it was told to stop and is still busy")
        elif paths:
            lines.append("    it keeps its own handle alive:")
            lines += [f"      {path}" for path in paths]
        else:
            lines.append("    it does not keep its handle alive: something else does")
    return "\n".join(lines)
