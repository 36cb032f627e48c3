"""The pytest plugin: no test leaves a worker behind without being told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest

import letgo
from helpers import ROOT, run_quietly
from letgo import pytest_plugin

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

HEADER = """
    import threading
    import letgo
    import pytest

    kept = []

    def keep(name):
        kept.append(letgo.Handle(lambda: None, interval=60, name=name))

    class Cache:
        def __init__(self):
            self._worker = letgo.Handle(self.refresh, interval=60, name="janitor")

        def refresh(self):
            pass
"""


@pytest.fixture
def arguments(pytestconfig: pytest.Config) -> list[str]:
    """How the plugin is loaded: by its entry point where the package is installed."""
    options = ["-p", "no:cacheprovider"]
    installed = pytestconfig.pluginmanager.hasplugin("letgo")
    return options if installed else [*options, "-p", "letgo.pytest_plugin"]


@pytest.fixture
def run(
    pytester: pytest.Pytester, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Run tests with the plugin, strictly, in this process; end what they leave."""
    monkeypatch.setattr(pytest_plugin, "_PATIENCE", 0.05)  # only those that do leave some wait

    def run_tests(source: str, *options: str, strict: bool = True) -> pytest.RunResult:
        pytester.makeini(f"[pytest]\nletgo_strict = {str(strict).lower()}\n")
        pytester.makepyfile(HEADER + source)
        return pytester.runpytest_inprocess(*arguments, "--strict-markers", *options)

    yield run_tests
    letgo.close_all()


def test_strict_mode_names_the_worker_and_where_it_was_made(run: Run) -> None:
    """A test that leaves a worker is an error; others are not."""
    result = run("""
    def test_leaves_one(): keep("flusher")
    def test_clean(): pass
    """)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "test_leaves_one left 1 letgo worker behind:",
            "  worker 'flusher' (keep.<locals>.<lambda>), running, made at *.py:8",
            "    it does not keep its handle alive: something else does",
        ]
    )


def test_strict_mode_names_the_leak(run: Run) -> None:
    """A worker that keeps its own handle alive is shown with the chain."""
    result = run("    def test_leaks(): Cache()")
    result.assert_outcomes(passed=1, errors=1)
    chain = "poll -> .__self__ -> <test_*.Cache> -> ._worker -> this Handle"
    result.stdout.fnmatch_lines(["  worker 'janitor' (Cache.refresh), *", f"      {chain}"])


def test_without_strict_mode_nothing_is_checked(run: Run) -> None:
    """The plugin does not speak unless asked."""
    run("    def test_leaves_one(): keep('flusher')", strict=False).assert_outcomes(passed=1)


def test_what_ends_with_the_test_is_not_left(run: Run) -> None:
    """Dropped, closed, in a cycle, returned by a fixture or closed by it: all are well."""
    result = run("""
    @pytest.fixture
    def returned():
        return letgo.Handle(lambda: None, interval=60)

    @pytest.fixture
    def closed():
        with letgo.Handle(lambda: None, interval=60) as handle:
            yield handle

    @pytest.fixture
    def make():
        made = []
        def make():
            made.append(letgo.Handle(lambda: None, interval=60))
        yield make
        made.clear()

    class Node:
        def __init__(self):
            self.me = self
            self.handle = letgo.Handle(lambda: None, interval=60)

    def test_drops(): letgo.Handle(lambda: None, interval=60).wake()
    def test_closes(): letgo.Handle(lambda: None, interval=60).close()
    def test_cycle(): Node()
    def test_fixtures(returned, closed, make): make()
    """)
    result.assert_outcomes(passed=4)


def test_worker_on_its_way_out_is_waited_for(run: Run) -> None:
    """A worker that was told to end, and is still flushing, is given the time."""
    result = run("""
    def test_slow_flush():
        flushing = threading.Event()
        def flush():
            flushing.set()
            threading.Event().wait(0.5)  # longer than a worker gets that nobody told
        letgo.Handle(on_close=flush)
        assert flushing.wait(20)
    """)
    result.assert_outcomes(passed=1)


def test_worker_that_stops_too_slowly_is_told_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded."""
    monkeypatch.setattr(pytest_plugin, "_PATIENCE_STOPPING", 0.05)
    result = run("""
    def test_stuck():
        flushing = threading.Event()
        kept.append(threading.Event())
        def flush():
            flushing.set()
            kept[0].wait(1)
        letgo.Handle(on_close=flush, name="stuck")
        assert flushing.wait(20)
    """)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["  worker 'stuck' *, stopping, *", "    it was told to stop and is still busy"]
    )


def test_fixtures_of_wider_scopes_are_not_blamed_on_tests(run: Run) -> None:
    """Session, module and class fixtures own what they start; so do modules."""
    result = run("""
    keep("of the module itself")

    @pytest.fixture(scope="session", autouse=True)
    def session(): keep("of the session")
    @pytest.fixture(scope="module")
    def module(session): keep("of the module")
    @pytest.fixture(scope="class")
    def of_class(module): keep("of the class")
    @pytest.fixture
    def function(request): request.getfixturevalue("of_class")

    def test_first(): pass
    def test_asks(function): pass
    def test_asks_late(request): request.getfixturevalue("module")
    def setup_module(): keep("of setup_module")
    """)
    result.assert_outcomes(passed=3)


def test_function_fixture_is_blamed_on_its_test(run: Run) -> None:
    """A fixture that lasts as long as the test is part of it."""
    result = run("""
    @pytest.fixture
    def function(): keep("of a fixture")
    def test_uses_it(function): pass
    def test_does_not(): pass
    """)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*test_uses_it left 1 letgo worker behind:"])


def test_marker_allows_workers(run: Run) -> None:
    """A test may say that it leaves some; the next is not blamed for them."""
    result = run("""
    @pytest.mark.letgo_allow_workers
    def test_may(): keep("allowed")
    def test_next(): pass
    """)
    result.assert_outcomes(passed=2)


def test_failed_test_is_not_checked(run: Run) -> None:
    """Its frames are kept for the report, and with them its handles: one error is enough."""
    result = run("""
    def test_fails():
        handle = letgo.Handle(lambda: None, interval=60)
        assert not handle

    @pytest.mark.xfail
    def test_fails_as_expected(): test_fails()

    def test_next(): pass
    """)
    result.assert_outcomes(failed=1, xfailed=1, passed=1)


def test_workers_made_in_threads_are_seen(run: Run) -> None:
    """Whichever thread has made a worker, the test has left it."""
    result = run("""
    def test_thread():
        thread = threading.Thread(target=keep, args=("of a thread",))
        thread.start()
        thread.join()
    """)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["  worker 'of a thread' *"])


def test_tests_that_run_in_a_thread_are_checked(run: Run, pytester: pytest.Pytester) -> None:
    """Timeout plugins run a test's function in a thread: that makes no difference."""
    pytester.makeconftest("""
    import threading, pytest

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(pyfuncitem):
        thread = threading.Thread(target=pyfuncitem.obj)
        thread.start()
        thread.join()
        return True
    """)
    result = run("""
    def test_leaves_one(): keep("of a test in a thread")
    def test_clean(): letgo.Handle(lambda: None, interval=60)
    """)
    result.assert_outcomes(passed=2, errors=1)


def test_fixture_lists_what_the_test_started(run: Run) -> None:
    """`letgo_workers` is what the test has started and what has not ended."""
    result = run(
        """
    @pytest.fixture(scope="session")
    def session(): keep("of the session")

    def test_lists(session, letgo_workers):
        assert len(letgo_workers) == 0
        first = letgo.Handle(lambda: None, interval=60, name="first")
        [worker] = letgo_workers
        assert worker.name == "first" and ".py:22" in worker.created_at
        first.close()
        letgo_workers.assert_none_left()
    """,
        strict=False,
    )
    result.assert_outcomes(passed=1)


def test_fixture_fails_the_test_where_it_is_asked(run: Run) -> None:
    """`assert_none_left()` fails the test, naming what is left, without strict mode too."""
    result = run(
        """
    def test_leaves_one(letgo_workers):
        cache = Cache()
        del cache
        letgo_workers.assert_none_left()
    """,
        strict=False,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *test_leaves_one left 1 letgo worker behind:",
            "E *worker 'janitor' (Cache.refresh), running, made at *.py:12",
        ]
    )


@pytest.mark.skipif(find_spec("xdist") is None, reason="needs pytest-xdist, of the extra dev")
def test_under_xdist(
    pytester: pytest.Pytester, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process looks after its own tests."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    pytester.makeini("[pytest]\nletgo_strict = true\n")
    source = f"""{HEADER}
    @pytest.mark.parametrize("number", range(6))
    def test_each(number):
        if number % 3 == 0:
            keep(f"number {{number}}")
    """
    pytester.makepyfile(source)
    result = pytester.runpytest_subprocess(*arguments, "-n", "2", timeout=60)
    result.assert_outcomes(passed=6, errors=2)
    result.stdout.fnmatch_lines_random(["  worker 'number 0' *", "  worker 'number 3' *"])


def test_package_does_not_import_pytest() -> None:
    """Programs pay nothing for the plugin."""
    run_quietly("""
    import sys, letgo
    found = [name for name in sys.modules if "pytest" in name]
    assert not found, found
    """)


def test_handles_forget_where_they_were_made_when_pytest_ends(run: Run) -> None:
    """What strict mode switches on, it switches off."""
    run("    def test_nothing(): pass")
    with letgo.Handle(lambda: None) as handle:
        assert handle.info.created_at is None
