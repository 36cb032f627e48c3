"""In development mode every worker checks once whether it keeps its own handle alive."""

from __future__ import annotations

import pytest

from helpers import run_python, run_quietly

DEVELOPMENT = [{"LETGO_DEBUG": "1"}, {"PYTHONDEVMODE": "1", "LETGO_DEBUG": "0"}]

LEAKING = """
    import letgo

    class Cache:
        def __init__(self, **options):
            self._worker = letgo.Handle(self.refresh, name="janitor", **options)

        def refresh(self):
            pass
"""
CLEAN = """
    import letgo

    class Cache:
        def __init__(self, **options):
            self.store = {}
            self._worker = letgo.Handle(self.store.clear, name="janitor", **options)
"""
SITE = "<string>:6"
CHAIN = "poll -> .__self__ -> <__main__.Cache> -> ._worker -> this Handle"
WARNING = (
    f"LeakWarning: letgo worker 'janitor', made at {SITE}, keeps its own handle alive, "
    f"so that dropping the handle will not stop it: {CHAIN}"
)


def errors(source: str, *flags: str, **environment: str) -> str:
    """What `source` writes to stderr."""
    result = run_python(source, *flags, environment=environment)
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.mark.parametrize("environment", DEVELOPMENT, ids=["LETGO_DEBUG", "-X dev"])
def test_worker_that_keeps_its_handle_warns_once(environment: dict[str, str]) -> None:
    """One warning, with the chain, at the line that made the handle."""
    source = f"""{LEAKING}
    worker = Cache(interval=0.001)._worker
    while worker.info.polls < 3:
        worker.poll_now()
    """
    written = errors(source, **environment)
    assert written.splitlines()[0] == f"{SITE}: {WARNING}"
    assert written.count("LeakWarning") == 1


@pytest.mark.parametrize(
    "source",
    [
        "    Cache(interval=60)._worker.poll_now()",
        "    Cache(immediate=True, interval=60)",
        "    Cache(immediate=True)._worker.poll_now()",
        "    Cache(interval=0)",
        "    Cache(immediate=True, interval=60, scheduler=letgo.shared())",
        "    Cache(immediate=True, start=False)._worker.start()",
        "    cache = Cache()\n    cache._worker.wake()",
    ],
)
def test_first_poll_may_come_at_once(source: str) -> None:
    """The check sees what becomes of a handle whose first poll comes before it is stored."""
    until_polled = "\n    while not letgo.live()[0].polls: pass"
    assert WARNING in errors(LEAKING + source + until_polled, LETGO_DEBUG="1")


@pytest.mark.parametrize("environment", DEVELOPMENT, ids=["LETGO_DEBUG", "-X dev"])
def test_clean_worker_is_silent(environment: dict[str, str]) -> None:
    """No warning, with warnings as errors, and the drop works as ever."""
    source = f"""{CLEAN}
    caches = [Cache(interval=0.001, scheduler=s) for s in (None, letgo.shared()) for _ in range(9)]
    for cache in caches:
        cache._worker.poll_now()
    worker = caches[0]._worker
    caches.clear()
    del cache
    worker.poll_now()
    print(len(letgo.live()) <= 18)
    del worker
    while letgo.live():
        pass
    """
    assert run_quietly(source, "-W", "error", environment=environment) == "True\n"


@pytest.mark.parametrize("off", [{}, {"LETGO_DEBUG": "0"}])
def test_otherwise_nothing_is_checked(off: dict[str, str]) -> None:
    """Out of development mode there is no warning, and no record of where handles were made."""
    source = f"""{LEAKING}
    cache = Cache(interval=60)
    cache._worker.poll_now()
    print(cache._worker.info.created_at, letgo.leak_paths(cache._worker))
    """
    environment = {"LETGO_DEBUG": "0", "PYTHONDEVMODE": "", **off}
    assert run_quietly(source, "-W", "error", environment=environment) == f"None ['{CHAIN}']\n"


def test_live_workers_tell_where_they_were_made() -> None:
    """`created_at` is filled in: of a subclass, the line that made it."""
    source = """
    import letgo

    class Worker(letgo.Handle):
        def __init__(self):
            super().__init__(lambda: None)

    worker = Worker()
    print(worker.info.created_at, letgo.live()[0].created_at)
    """
    assert run_quietly(source, environment={"LETGO_DEBUG": "1"}) == "<string>:8 <string>:8\n"


def test_warning_that_is_an_error_ends_nothing() -> None:
    """It goes where errors go that nobody can be given, and the worker goes on."""
    source = f"""{LEAKING}
    cache = Cache(interval=60)
    cache._worker.poll_now()
    cache._worker.poll_now()
    assert cache._worker.info.polls == 2
    """
    written = errors(source, "-W", "error", LETGO_DEBUG="1")
    assert written.startswith("Exception ignored in a letgo worker:\nTraceback ")
    assert written.endswith(f"letgo._errors.{WARNING}\n")


def test_worker_that_a_callback_drops_during_the_check() -> None:
    """A handle that goes while its worker checks itself ends that worker."""
    source = f"""{CLEAN}
    import threading
    big = [[number] for number in range(90_000)]
    for _ in range(5):
        cache = Cache(immediate=True)
        cache.store["big"] = big
        del cache
    while letgo.live():
        pass
    print("ended")
    """
    environment = {"LETGO_DEBUG": "1"}
    assert run_quietly(source, "-W", "error", environment=environment) == "ended\n"


def test_check_does_not_delay_the_end() -> None:
    """A worker that waits for its handle to be stored can be closed at once."""
    source = f"""{CLEAN}
    import time
    begin = time.monotonic()
    for _ in range(200):
        Cache(immediate=True)._worker.close()
    assert time.monotonic() - begin < 15, "each would have waited a tenth of a second"
    """
    run_quietly(source, "-W", "error", environment={"LETGO_DEBUG": "1"})
