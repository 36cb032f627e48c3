"""Stress: very many cyclic handles, collected by whoever it is, while all go on working."""

from __future__ import annotations

import sys

import pytest

from helpers import run_python, run_quietly

STRESS = """
    import faulthandler, functools, gc, os, random, sys, threading, time
    import letgo, letgo._engine

    bell, seed, seconds, patience, own, threshold = sys.argv[1], *map(float, sys.argv[2:])

    class EventBell:
        def __init__(self):
            self.event = threading.Event()
        def ring(self):
            self.event.set()
        def wait(self, seconds):
            if seconds > 0:
                self.event.wait(None if seconds == float("inf") else seconds)
            self.event.clear()

    if bell == "event":
        letgo._engine.Bell = EventBell

    class Owner:
        pass

    scheduler = letgo.Scheduler()
    made, closed = [0] * 4, []
    end = time.monotonic() + seconds

    def work(thread):
        chance = random.Random(seed + thread)
        while time.monotonic() < end and made[thread] < 100_000:
            owner = Owner()
            owner.cycle, owner.handle = owner, letgo.Handle(
                lambda: None,
                interval=chance.choice((None, 60.0, 0.0001)),
                on_close=functools.partial(closed.append, (thread, made[thread])),
                scheduler=None if chance.random() < own else scheduler,
            )
            made[thread] += 1
            what = chance.random()
            if what < 0.2:
                owner.handle.wake()
            elif what < 0.21:
                owner.handle.poll_now()
            elif what < 0.22:
                owner.handle.close()

    def progress():
        return sum(made), len(closed)

    def watch():
        '''Show the threads, and end the process, when nothing at all has happened for long.'''
        before = None
        while before != progress():
            before = progress()
            time.sleep(patience)
        faulthandler.dump_traceback()
        os._exit(3)

    # Before the thresholds: this thread is to collect nothing, and so to hang in nothing.
    threading.Thread(target=watch, daemon=True).start()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(int(threshold))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    while letgo.live():
        time.sleep(0.001)
    expected = [(number, each) for number, count in enumerate(made) for each in range(count)]
    assert sorted(closed) == expected, (made, len(closed))
    print(len(closed))
"""


@pytest.mark.parametrize(
    ("seed", "seconds", "own", "threshold"),
    [(1, 2.0, 0.0, 100), (2, 1.0, 0.01, 1), (3, 1.0, 0.5, 1)],
    ids=["on a scheduler", "most on a scheduler", "half with threads of their own"],
)
def test_cyclic_handles_are_collected_while_all_go_on(
    seed: int, seconds: float, own: float, threshold: int
) -> None:
    """No deadlock, and each on_close once, for as many handles as the time allows."""
    arguments = ("bell", str(seed), str(seconds), "20", str(own), str(threshold))
    assert int(run_quietly(STRESS, arguments=arguments)) > 100


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL the collector seldom runs where an Event holds its lock",
)
def test_the_same_with_an_event_for_a_doorbell_hangs() -> None:
    """The stress is a test: a doorbell made of a threading.Event does not live through it."""
    result = run_python(STRESS, arguments=("event", "1", "20", "1", "0", "1"))
    assert result.returncode == 3
    assert "in ring" in result.stderr
