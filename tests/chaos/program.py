"""A random program of workers: `program.py SEED SECONDS [gc] [switch] [fork]`.

Threads pick random workers from a common pool and do random things to them, while
each worker's own callables check what a worker is promised. Prints "ok" and the
number of things done, or every promise that was broken.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable

import letgo
from letgo.cache import Cache

THREADS = 6
POOL = 40
WATCHDOG = 60.0  # seconds beyond the program's own; then all stacks are dumped

faults: list[str] = []
done: list[str] = []


class Subject:
    """What one worker works on; it knows its handle no more than a user's would.

    Written by the worker's thread; a fault in that is what is looked for.
    """

    def __init__(self, number: int, seed: int, pool: list[object]) -> None:
        self.number = number
        self.random = random.Random(f"{seed} {number}")
        self.pool = pool
        self.polling = False
        self.closing = False
        self.closed = 0
        self.forked = False

    def fault(self, text: str) -> None:
        faults.append(f"worker {self.number}: {text}")

    def poll(self) -> object:
        if self.polling or self.closing:
            self.fault("a poll beside a poll, or beside on_close")
        if self.closed:
            self.fault("a poll after on_close")
        self.polling = True
        try:
            return self.misbehave()
        finally:
            self.polling = False

    def misbehave(self) -> object:
        chance = self.random.random()
        if chance < 0.05:
            raise ValueError("a poll that raises")
        if chance < 0.08:
            return letgo.STOP
        if chance < 0.10:
            sys.exit()
        if chance < 0.20:
            letgo.sleep(0.002)
        elif chance < 0.25:
            letgo.again(0.001)
        elif chance < 0.35:
            drop_one(self.pool, self.random)
        elif chance < 0.40:
            act(self.pool, self.random, patience=0.0)
        return None

    def on_close(self) -> None:
        if self.polling:
            self.fault("on_close beside a poll")
        self.closing = True
        self.closed += 1
        if self.closed > 1:
            self.fault("on_close ran twice")
        chance = self.random.random()
        if chance < 0.3:
            drop_one(self.pool, self.random)
        elif chance < 0.4:
            time.sleep(0.001)
        self.closing = False
        if chance > 0.95:
            raise ValueError("an on_close that raises")

    def after_fork(self) -> None:
        self.polling = self.closing = False  # of a thread that is no more
        self.forked = True

    def shut(self) -> None:
        """The close method of a guarded object."""
        self.on_close()


class Knot:
    """A cycle through a handle: only the collector can drop it."""

    def __init__(self, held: object) -> None:
        self.held = held
        self.knot = self


def ignore(error: Exception) -> None:
    """An on_error, so that nothing is logged."""


class Maker:
    """Makes workers of every kind."""

    def __init__(self, seed: int, pool: list[object]) -> None:
        self.seed = seed
        self.pool = pool
        self.subjects: list[Subject] = []
        self.schedulers = [letgo.Scheduler(slow_poll=60.0), letgo.Scheduler(slow_poll=60.0)]

    def make(self, choose: random.Random) -> object:
        kind = choose.random()
        if kind < 0.1:
            return make_cache(choose)
        subject = Subject(len(self.subjects), self.seed, self.pool)
        self.subjects.append(subject)
        scheduler = choose.choice([None, *self.schedulers, letgo.shared()])
        if kind < 0.25:
            return letgo.guard(subject, close="shut", scheduler=scheduler)
        return letgo.Handle(
            subject.poll,
            interval=choose.choice([None, 0.001, 0.01, 60.0]),
            on_close=subject.on_close,
            on_error=ignore,
            interrupt=choose.choice([None, int]),
            after_fork=subject.after_fork,
            immediate=choose.random() < 0.3,
            exit_last=choose.random() < 0.2,
            close_in_thread=choose.random() < 0.3,
            scheduler=scheduler,
        )


def make_cache(choose: random.Random) -> object:
    cache: Cache[int, object] = Cache(default_ttl=0.002, cleanup_interval=0.001)
    for number in range(choose.randrange(20)):
        cache.set(number, number)
    cache.set("itself", cache)  # type: ignore[arg-type]
    return cache


def drop_one(pool: list[object], choose: random.Random) -> None:
    try:
        pool.pop(choose.randrange(POOL))
    except IndexError:
        pass


def handle_of(thing: object) -> letgo.Handle:
    return thing if isinstance(thing, letgo.Handle) else letgo.handle_of(thing)


def act(pool: list[object], choose: random.Random, patience: float) -> None:
    """Do one random thing to one random worker. `patience` 0: nothing that waits."""
    try:
        handle = handle_of(pool[choose.randrange(POOL)])
    except IndexError:
        return
    actions: list[Callable[[], object]] = [
        handle.wake,
        lambda: handle.wake(0.002),
        lambda: setattr(handle, "interval", choose.choice([None, 0.001, 0.02, 1e12])),
        handle.stop,
        lambda: handle.info,
        letgo.live,
    ]
    if patience:
        actions += [
            lambda: handle.poll_now(patience),
            lambda: handle.close(patience),
            lambda: handle.join(patience),
        ] * 2
    try:
        choose.choice(actions)()
    except (RuntimeError, TimeoutError, ValueError):
        pass
    except SystemExit:
        pass  # poll_now re-raises what the poll raised


def churn(maker: Maker, seed: int, end: float) -> None:
    """One thread's part: make, use and drop until the time is over."""
    choose = random.Random(seed)
    pool = maker.pool
    while time.monotonic() < end and not faults:
        chance = choose.random()
        if len(pool) < POOL and chance < 0.5:
            pool.append(maker.make(choose))
        elif chance < 0.6:
            drop_one(pool, choose)
        elif chance < 0.7:
            try:
                Knot(pool.pop(choose.randrange(POOL)))
            except IndexError:
                pass
        else:
            act(pool, choose, patience=0.01)
        done.append("")


def fork_once(maker: Maker) -> None:
    """Fork while the others are at it; the child's workers must go on and end there."""
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            # Not dump_traceback_later: in a child it waits for the parent's watchdog thread.
            signal.alarm(int(WATCHDOG))
            code = child(maker)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status:
        faults.append(f"a forked child ended with status {status:#x}")


def child(maker: Maker) -> int:
    count = len(letgo.live())
    act(maker.pool, random.Random(count), patience=0.01)
    letgo.close_all(timeout=20)
    if letgo.live():
        return 3
    return 4 if faults else 0


def finish(maker: Maker) -> None:
    """Drop all; then nothing may be left: no worker, no thread, no core."""
    maker.pool.clear()
    end = time.monotonic() + WATCHDOG / 2
    while (letgo.live() or threading.active_count() > 1) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.001)
    if letgo.live():
        faults.append(f"workers are left: {letgo.live()}")
    if threading.active_count() > 1:
        faults.append(f"threads are left: {threading.enumerate()}")
    for subject in maker.subjects:
        if subject.closed != 1:
            subject.fault(f"on_close ran {subject.closed} times")
    gc.collect()
    cores = [thing for thing in gc.get_objects() if type(thing).__name__ == "Core"]
    if cores:
        faults.append(f"{len(cores)} cores are left")


def main(seed: int, seconds: float, modes: set[str]) -> int:
    faulthandler.dump_traceback_later(seconds + WATCHDOG, exit=True)
    faulthandler.register(signal.SIGALRM, chain=True)
    sys.unraisablehook = lambda details: faults.append(f"unraisable: {details.exc_value!r}")
    threading.excepthook = lambda details: faults.append(f"in a thread: {details.exc_value!r}")
    letgo_logger().disabled = True  # failing on_close is part of the program
    if "gc" in modes:
        gc.set_threshold(1)
    if "switch" in modes:
        sys.setswitchinterval(1e-6)
    maker = Maker(seed, [])
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=churn, args=(maker, seed * 100 + number, end))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    while "fork" in modes and time.monotonic() < end and not faults:
        fork_once(maker)
    for thread in threads:
        thread.join()
    del thread, threads
    finish(maker)
    print("\n".join(faults) or f"ok {len(done)} {len(maker.subjects)}")
    return bool(faults)


def letgo_logger() -> object:
    import logging

    return logging.getLogger("letgo")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), set(sys.argv[3:])))
