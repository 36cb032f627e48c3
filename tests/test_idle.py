"""An idle worker costs nothing: nobody wakes it, and no thread is there without need."""

from __future__ import annotations

import pytest

from helpers import run_quietly

resource = pytest.importorskip("resource", reason="voluntary context switches are counted on Unix")

COUNT_SWITCHES = """
    import letgo, resource, threading, time
    def waits():
        return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    scheduler = letgo.Scheduler()
    handles = [
        letgo.Handle(lambda: None, interval=interval, scheduler=where)
        for interval in INTERVALS for where in (None, scheduler) for _ in range(20)
    ]
    time.sleep(0.2)  # until all threads have come to rest
    before = waits()
    time.sleep(SECONDS)
    print(waits() - before)
"""


def switches(intervals: tuple[float | None, ...], seconds: float) -> int:
    """The voluntary context switches of a process while it only waits."""
    script = COUNT_SWITCHES.replace("INTERVALS", repr(intervals))
    return int(run_quietly(script.replace("SECONDS", repr(seconds))))


def test_nothing_wakes_idle_workers() -> None:
    """Two seconds of a process with 120 idle handles see almost no voluntary context switch."""
    # The sleep itself makes one. Threads that looked once a second would make over 120.
    assert switches((60, 1e12, None), seconds=2.0) < 15


def test_workers_that_look_are_noticed() -> None:
    """What the test above counts is there to be counted: 20 polls in half a second show."""
    assert switches((0.025,), seconds=0.5) >= 15


def test_a_process_without_live_handles_has_no_threads() -> None:
    """Neither importing, nor a scheduler, nor an unstarted handle starts a thread; ends end it."""
    run_quietly("""
        import threading, time, letgo
        def only_main():
            return threading.enumerate() == [threading.main_thread()]
        scheduler = letgo.Scheduler()
        letgo.shared()
        unstarted = letgo.Handle(print, start=False)
        assert only_main()
        handles = [letgo.Handle(print, scheduler=where) for where in [None, scheduler] * 3]
        assert len(threading.enumerate()) == 1 + 3 + 1
        del handles
        end = time.monotonic() + 20
        while not only_main():
            assert time.monotonic() < end, threading.enumerate()
            time.sleep(0.001)
    """)
