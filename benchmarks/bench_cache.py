"""A cache beside its peers: reading, writing, memory, cleaning, threads.

    python benchmarks/bench_cache.py [--rounds N] [-o FILE] [PART ...]

Parts: speed, memory, cleaning, threads; default: all. Needs the extra `bench`; a
peer that is not installed is left out. Each is used as its own documentation
says: `cachetools` with a lock around every access, the others as they are. The
floor is a plain `dict`, which neither expires nor has a method call in the way of
`d[k] = v`; `dict.__setitem__` is there as the same with a call.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import sys
import threading
import time
import timeit
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from statistics import median
from typing import Any

import psutil

from _common import (
    Samples,
    child,
    interleave,
    parser,
    print_table,
    print_versions,
    ratio,
    save,
    seconds,
)
from letgo.cache import Cache

TTL = 3600
KEYS = [f"key:{number}" for number in range(1000)]
NEW = [f"key:{number}" for number in range(3000)]
PEERS = ("cachetools", "expiringdict", "cacheout", "theine", "moka_py", "cachebox")

# How each is made for `size` items, and its statements for one get and one set.
RECIPES: dict[str, tuple[Callable[[Any, int], Any], str, str]] = {
    "dict": (lambda _, size: {}, "c.get(k)", "c[k] = v"),
    "letgo.cache": (lambda _, size: Cache(TTL), "c.get(k)", "c.set(k, v)"),
    "cachetools": (
        lambda module, size: module.TTLCache(size, TTL),
        "with lock: c.get(k)",
        "with lock: c[k] = v",
    ),
    "expiringdict": (
        lambda module, size: module.ExpiringDict(size, TTL),
        "c.get(k)",
        "c[k] = v",
    ),
    "cacheout": (
        lambda module, size: module.Cache(maxsize=size, ttl=TTL),
        "c.get(k)",
        "c.set(k, v)",
    ),
    "theine": (lambda module, size: module.Cache(size), "c.get(k)", "c.set(k, v, ttl)"),
    "moka_py": (lambda module, size: module.Moka(size, ttl=TTL), "c.get(k)", "c.set(k, v)"),
    "cachebox": (lambda module, size: module.TTLCache(size, TTL), "c.get(k)", "c[k] = v"),
}


def make(name: str, size: int) -> Any:
    """An empty cache of this kind; None where it is not installed."""
    module = None
    if name in PEERS:
        try:
            module = importlib.import_module(name)
        except ImportError:
            return None
    return RECIPES[name][0](module, size)


def table(samples: Samples, rows: list[str]) -> None:
    print_table(
        ("", "a call", "of dict's"),
        [
            (row, seconds(median(samples[row])), f"{ratio(samples, row, 'dict'):.3g}")
            for row in rows
            if row in samples
        ],
    )
    print()


# --- Speed ---


def loop(statement: str, caches: list[Any], keys: list[str] = KEYS) -> float:
    """Seconds for one execution of `statement`: the best of one loop over all keys on each."""
    scope = {"keys": keys, "v": 1, "lock": threading.RLock(), "ttl": timedelta(seconds=TTL)}
    code = f"for k in keys:\n  {statement}"
    times = (timeit.Timer(code, globals={**scope, "c": cache}).timeit(1) for cache in caches)
    return min(times) / len(keys)


def speed(rounds: int) -> Samples:
    kept: Samples = {}
    names = [name for name in RECIPES if make(name, 10) is not None]
    for what in ("get", "set", "set of a new key"):
        measures: dict[str, Callable[[], float]] = {}
        for name in names:
            _, get, put = RECIPES[name]
            cache = make(name, 10 * len(KEYS))
            loop(put, [cache])  # fill it
            if what == "set of a new key":
                measures[name] = lambda name=name, put=put: loop(
                    put, [make(name, 10 * len(KEYS)) for _ in range(5)], NEW
                )
            else:
                measures[name] = partial(loop, get if what == "get" else put, [cache] * 40)
        if what == "set":
            filled_dict = dict.fromkeys(KEYS, 0)
            measures["dict.__setitem__"] = partial(loop, "c.__setitem__(k, v)", [filled_dict] * 40)
        samples = interleave(rounds, measures)
        print(f"{what}, of {len(NEW if what.endswith('key') else KEYS)} keys")
        table(samples, list(measures))
        kept |= {f"{what}: {name}": values for name, values in samples.items()}
    return kept


# --- Memory ---


def resident(name: str, size: int) -> float:
    """Bytes of memory for each item: what the process grows by, the keys and values apart."""
    keys = [f"key:{number}" for number in range(size)]
    make(name, 10)
    gc.collect()
    before = psutil.Process().memory_info().rss
    cache = make(name, size)
    scope = {"c": cache, "keys": keys, "v": 1, "lock": threading.RLock()}
    scope["ttl"] = timedelta(seconds=TTL)
    exec(f"for k in keys:\n  {RECIPES[name][2]}", scope)
    return (psutil.Process().memory_info().rss - before) / size


def empty(count: int) -> float:
    """Bytes of an empty cache with its janitor."""
    first = Cache(TTL)  # with what is made once
    tracemalloc.start()
    caches = [Cache(TTL) for _ in range(count)]
    caches[-1].poll_now()  # the scheduler has seen them all
    traced = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del first
    return traced / len(caches)


def memory() -> None:
    size = 50_000
    rows = []
    for name in RECIPES:
        if make(name, 10) is not None:
            rows.append((name, f"{child(__file__, '--item', name, size):.0f}"))
    print(f"bytes for an item, of {size}, keys and values apart (resident)")
    print_table(("", "bytes"), rows)
    print(f"\nan empty cache with its janitor: {child(__file__, '--empty', 10_000):.0f} bytes\n")


# --- Cleaning ---


def filled(total: int, expired: int) -> Cache[int, int]:
    cache: Cache[int, int] = Cache(TTL, cleanup_interval=None)
    step = total // expired
    for key in range(total):
        cache.set(key, 0, 1e-6 if key % step == 0 else TTL + key % 97)
    return cache


def clean(total: int, expired: int) -> float:
    """Seconds to clean."""
    cache = filled(total, expired)
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    removed = cache.delete_expired()
    end = time.perf_counter()
    gc.enable()
    assert removed == expired
    return end - start


def reading_meanwhile(total: int, expired: int) -> tuple[int, float, float]:
    """Gets by another thread while it cleans, the longest of them, and the whole."""
    cache = filled(total, expired)
    started, done = threading.Event(), threading.Event()
    count, longest = 0, 0.0

    def read() -> None:
        nonlocal count, longest
        started.set()
        last = time.perf_counter()
        while not done.is_set():
            cache.get(1)
            count += 1
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    reader = threading.Thread(target=read)
    reader.start()
    started.wait()
    start = time.perf_counter()
    cache.delete_expired()
    whole = time.perf_counter() - start
    done.set()
    reader.join()
    return count, longest, whole


def cleaning(rounds: int) -> Samples:
    shapes = [(100_000, 10_000), (1_000_000, 10_000), (1_000_000, 100_000)]
    samples = interleave(
        min(rounds, 5), {f"{a:,} items, {b:,} expired": partial(clean, a, b) for a, b in shapes}
    )
    base = next(iter(samples))
    print_table(
        ("cleaning", "seconds", "of the first"),
        [
            (name, seconds(median(values)), f"{ratio(samples, name, base):.3g}")
            for name, values in samples.items()
        ],
    )
    count, longest, whole = reading_meanwhile(1_000_000, 100_000)
    print(
        f"\nmeanwhile another thread reads {count:,} times in {seconds(whole)}; "
        f"the longest get takes {seconds(longest)}\n"
        f"(a thread that wants the GIL waits {seconds(sys.getswitchinterval())} for it)\n"
    )
    return samples


# --- Threads ---


def read_rate(cache: Any, threads: int) -> float:
    """Gets a second of so many threads, by the processor time that each had for them."""
    turns = 100
    barrier = threading.Barrier(threads)
    rates: list[float] = []

    def read(keys: list[str]) -> None:
        get = cache.get
        barrier.wait()
        start = time.thread_time()
        for key in itertools.chain.from_iterable(itertools.repeat(keys, turns)):
            get(key)
        rates.append(turns * len(keys) / (time.thread_time() - start))

    workers = [threading.Thread(target=read, args=(list(KEYS),)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(rates)


def threads(rounds: int) -> None:
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        print("threads: with the GIL, two threads read no faster than one\n")
        return
    for name in ("letgo.cache", "dict"):
        cache = make(name, len(KEYS))
        for key in KEYS:
            cache[key] = 1
        pairs = [(read_rate(cache, 1), read_rate(cache, 2)) for _ in range(rounds)]
        gain = median(two / one for one, two in pairs)
        print(f"get from two threads, {name}: {gain:.3g} times one thread's rate")
    print()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("parts", nargs="*", metavar="PART")
    options.add_argument("--item", nargs=2, metavar=("NAME", "SIZE"), help="(for its own use)")
    options.add_argument("--empty", type=int, metavar="COUNT", help="(for its own use)")
    chosen = options.parse_args()
    if chosen.item:
        print(resident(chosen.item[0], int(chosen.item[1])))
        return
    if chosen.empty:
        print(empty(chosen.empty))
        return
    print_versions(*PEERS)
    print()
    samples: Samples = {}
    parts = chosen.parts or ["speed", "memory", "cleaning", "threads"]
    if "speed" in parts:
        samples |= speed(chosen.rounds)
    if "memory" in parts:
        memory()
    if "cleaning" in parts:
        samples |= cleaning(chosen.rounds)
    if "threads" in parts:
        threads(chosen.rounds)
    save(chosen.output, samples)


if __name__ == "__main__":
    main()
