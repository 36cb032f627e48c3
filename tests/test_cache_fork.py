"""A cache in a forked child: fresh locks, nobody left waiting, a worker of its own."""

from __future__ import annotations

import os
import sys

import pytest

from test_fork import run_forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

PRELUDE = """
        from letgo.cache import Cache

        class Key:
            '''A key that stops the thread that looks it up under the lock.'''
            def __init__(self):
                self.entered, self.go = threading.Event(), threading.Event()
            def __hash__(self):
                if cache._letgo_store.depth and not self.go.is_set():
                    self.entered.set()
                    self.go.wait(20)
                return 1
"""


def run_cache_forks(script: str) -> None:
    run_forks(PRELUDE + script)


@pytest.mark.parametrize("how", ["with", "without", "closed"])
def test_a_lock_that_another_thread_held_is_free_in_the_child(how: str) -> None:
    """With a worker, without one, and closed: the child reads, writes, counts and cleans."""
    run_cache_forks(
        f"""
        cache = Cache(1000, cleanup_interval={"None" if how == "without" else 60}, items={{"a": 1}})
        if {how == "closed"}:
            cache.close()
        key = Key()
        thread = threading.Thread(target=cache.add, args=(key, 2))
        thread.start()
        assert key.entered.wait(20)

        def child():
            assert cache["a"] == 1
            cache["b"] = 2
            cache.set("a", 3, 5)
            assert len(cache) == 2
            assert cache.delete("b")
            assert cache.delete_expired() == 0

        forked(child)
        key.go.set()
        thread.join()
        assert len(cache) == 2
        """
    )


def test_the_worker_cleans_in_the_child_and_in_the_parent() -> None:
    """Each its own copy."""
    run_cache_forks(
        """
        cache = Cache(0.3, cleanup_interval=0.05, items={"a": 1})

        def child():
            assert cache.alive
            wait_until(lambda: not cache._letgo_store.entries)
            cache["b"] = 1
            wait_until(lambda: not cache._letgo_store.entries)
            cache.close()

        forked(child)
        wait_until(lambda: not cache._letgo_store.entries)
        """
    )


def test_a_computation_of_another_thread_leaves_nobody_waiting() -> None:
    """In the child that thread is not: who asks there computes."""
    run_cache_forks(
        """
        cache = Cache()
        entered, go = threading.Event(), threading.Event()

        def slow():
            entered.set()
            go.wait(20)
            return "parent"

        results = []
        threads = [
            threading.Thread(target=lambda: results.append(cache.get_or_set("a", slow)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert entered.wait(20)

        def child():
            assert cache.get_or_set("a", lambda: "child") == "child"
            assert cache["a"] == "child"

        forked(child)
        go.set()
        for thread in threads:
            thread.join()
        assert results == ["parent"] * 3
        """
    )


def test_a_signal_handler_may_fork_while_its_thread_waits() -> None:
    """In the child nobody computes what it waits for: it does so itself."""
    run_cache_forks(
        """
        import signal
        cache = Cache()
        entered, go = threading.Event(), threading.Event()
        pids = []

        def slow():
            entered.set()
            go.wait(20)
            return "parent"

        def handler(*_):
            pids.append(os.fork())
            if pids[0]:
                go.set()

        thread = threading.Thread(target=cache.get_or_set, args=("a", slow))
        thread.start()
        assert entered.wait(20)
        signal.signal(signal.SIGUSR1, handler)
        main = threading.main_thread().ident
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGUSR1)).start()
        signal.alarm(30)
        result = cache.get_or_set("a", lambda: "child")
        if pids == [0]:
            os._exit(0 if result == "child" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0
        assert result == "parent"
        thread.join()
        """
    )


def test_a_factory_may_fork() -> None:
    """Its computation goes on in both, each for itself."""
    run_cache_forks(
        """
        cache = Cache()

        def factory():
            global pid
            pid = os.fork()
            return "child" if pid == 0 else "parent"

        result = cache.get_or_set("a", factory)
        if pid == 0:
            code = 1
            try:
                assert (result, cache["a"]) == ("child", "child")
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (result, cache["a"]) == ("parent", "parent")
        """
    )


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL, a dict that is written to during a fork hangs the child",
)
def test_many_forks_amid_many_writers() -> None:
    """Wherever the fork comes, the child's cache works and adds up."""
    run_cache_forks(
        """
        import random
        cache = Cache(1000, maxsize=50)
        done = threading.Event()

        def write(seed):
            choose = random.Random(seed)
            while not done.is_set():
                cache.set(choose.randrange(100), 1, choose.choice([None, 1e-5, 5]))
                cache.delete(choose.randrange(100))
                cache.touch(choose.randrange(100), 3)

        threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()

        def child():
            for number in range(200):
                cache[number] = number
            assert len(cache) == len(list(cache)) <= 50
            for key in list(cache):
                assert cache.delete(key)
            cache.delete_expired()
            assert not cache._letgo_store.entries

        for _ in range(30):
            forked(child)
        done.set()
        for thread in threads:
            thread.join()
        """
    )
