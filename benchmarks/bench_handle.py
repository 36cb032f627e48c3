"""A dedicated handle beside its peers: ending it, making it, and its memory.

    python benchmarks/bench_handle.py [--rounds N] [-o FILE]

Needs the extra `bench`. Every time is a median, every ratio the median of the
ratios of interleaved rounds.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from time import perf_counter

import psutil
from pymongo.periodic_executor import PeriodicExecutor

import letgo
from _common import (
    Samples,
    child,
    interleave,
    noop,
    parser,
    print_table,
    print_versions,
    ratio,
    save,
    seconds,
)

REPEAT = 100  # times in each round; the median of them is the round's sample
SETTLE = 0.001  # seconds for a new worker to fall asleep
TRACED = 200  # threads, for tracemalloc
RESIDENT = 2000  # threads, for RSS


def repeated(once: Callable[[], float]) -> float:
    return median(once() for _ in range(REPEAT))


# --- From the drop to the thread's end ---


def new_threads(before: set[threading.Thread]) -> threading.Thread:
    [thread] = set(threading.enumerate()) - before
    return thread


def drop_handle() -> float:
    before = set(threading.enumerate())
    handle = letgo.Handle(noop, interval=60, on_close=noop)
    thread = new_threads(before)
    time.sleep(SETTLE)
    began = perf_counter()
    del handle
    thread.join()
    return perf_counter() - began


def release_and_join() -> float:
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.acquire, daemon=True)
    thread.start()
    time.sleep(SETTLE)
    began = perf_counter()
    lock.release()
    thread.join()
    return perf_counter() - began


def drop_thread_pool() -> float:
    before = set(threading.enumerate())
    pool = ThreadPoolExecutor(1)
    pool.submit(noop).result()
    thread = new_threads(before)
    time.sleep(SETTLE)
    began = perf_counter()
    del pool
    thread.join()
    return perf_counter() - began


class Owner:
    """What PyMongo's monitors are to their executor."""


def drop_pymongo() -> float:
    """The way its monitors do it: a weak reference to the owner closes the executor."""
    executor = PeriodicExecutor(60, 0.5, lambda: True)
    owner = Owner()
    reference = weakref.ref(owner, executor.close)
    executor.open()
    time.sleep(SETTLE)
    began = perf_counter()
    del owner
    executor.join()
    assert reference() is None
    return perf_counter() - began


# --- Making one, and ending it in the open ---


def make_and_close_handle() -> float:
    began = perf_counter()
    letgo.Handle(noop, interval=60, on_close=noop).close()
    return perf_counter() - began


def thread_and_event() -> float:
    began = perf_counter()
    event = threading.Event()
    thread = threading.Thread(target=event.wait, daemon=True)
    thread.start()
    event.set()
    thread.join()
    return perf_counter() - began


# --- Memory, each in a process of its own ---


def make_bare() -> Callable[[], None]:
    """An idle thread that waits on a lock; what is returned ends it."""
    lock = threading.Lock()
    lock.acquire()
    threading.Thread(target=lock.acquire, daemon=True).start()
    return lock.release


def make_handle() -> Callable[[], None]:
    return letgo.Handle(noop, interval=60, on_close=noop).stop


MAKERS = {"bare": make_bare, "letgo": make_handle}


def memory_of(kind: str, method: str) -> float:
    """Bytes for each idle thread of a kind."""
    count = TRACED if method == "tracemalloc" else RESIDENT
    make = MAKERS[kind]
    make()()  # what the first one allocates for good is nobody's
    time.sleep(0.1)
    if method == "tracemalloc":
        tracemalloc.start()
    gc.collect()
    before = held(method)
    enders = [make() for _ in range(count)]
    time.sleep(0.5)
    gc.collect()
    used = held(method) - before
    for end in enders:
        end()
    return used / count


def held(method: str) -> int:
    if method == "tracemalloc":
        return tracemalloc.get_traced_memory()[0]
    rss: int = psutil.Process().memory_info().rss
    return rss


def memory(kind: str, method: str) -> float:
    return float(child(__file__, "--memory", kind, method)["bytes"])


# --- The report ---


COMPARED = (
    ("drop to thread's end / Lock.release + join", "drop", "release", "<= 1.2"),
    ("drop to thread's end / ThreadPoolExecutor", "drop", "pool", "<= 1"),
    ("drop to thread's end / PeriodicExecutor", "drop", "pymongo", "< 1/1,000"),
    ("make + close / Thread + Event, start to join", "make", "thread", "<= 1.3"),
)


def report_times(samples: Samples) -> None:
    rows = []
    for what, ours, theirs, goal in COMPARED:
        value = ratio(samples, ours, theirs)
        shown = f"{value:.2f}" if value > 0.01 else f"1/{1 / value:,.0f}"
        times = (seconds(median(samples[name])) for name in (ours, theirs))
        rows.append((what, *times, shown, goal))
    print_table(("time", "letgo", "peer", "ratio", "goal"), rows)


def report_memory(samples: Samples) -> None:
    rows = []
    for method, count in (("tracemalloc", TRACED), ("RSS", RESIDENT)):
        ours, bare = (median(samples[f"{kind} {method}"]) for kind in ("letgo", "bare"))
        what = f"an idle worker's, {method} over {count}"
        rows.append(
            (what, f"{ours:,.0f} B", f"{bare:,.0f} B", f"{ours - bare:,.0f} B", "< 3,072 B")
        )
    print_table(("memory", "letgo", "bare thread", "more", "goal"), rows)


def main() -> None:
    if sys.argv[1:2] == ["--memory"]:
        print(f'{{"bytes": {memory_of(*sys.argv[2:])}}}')
        return
    options = parser(__doc__).parse_args()
    print_versions("pymongo", "pyperf")
    once = {
        "drop": drop_handle,
        "release": release_and_join,
        "pool": drop_thread_pool,
        "make": make_and_close_handle,
        "thread": thread_and_event,
    }
    measures = {name: partial(repeated, measure) for name, measure in once.items()}
    samples = interleave(options.rounds, measures | {"pymongo": drop_pymongo})
    print()
    report_times(samples)
    print()
    kinds = [(kind, method) for method in ("tracemalloc", "RSS") for kind in MAKERS]
    report_memory(interleave(3, {f"{k} {m}": partial(memory, k, m) for k, m in kinds}))
    save(options.output, samples)


if __name__ == "__main__":
    main()
