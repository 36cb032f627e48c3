"""Signals, exhaustion and numbers: what a process goes through on a bad day."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig

import pytest

from helpers import python_command, run_quietly

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_a_storm_of_signals_during_close_loses_no_on_close() -> None:
    """Handlers that raise, and handlers that stop, arrive between any two bytecodes of close."""
    source = """
    import itertools, signal, letgo

    closed, made, handles = [], 0, []
    numbers = itertools.count()
    armed = False

    class Storm(Exception):
        pass

    def strike(*_):
        global armed
        for handle in handles:
            handle.wake()
            handle.stop()
        if armed and next(numbers) % 3 == 0:
            armed = False  # until the next try: none is raised outside of one
            raise Storm

    def brave(action):
        global armed
        while True:
            try:
                armed = True
                action()
                armed = False
                return
            except Storm:
                pass

    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    for _ in range(40):
        for scheduler in (None, letgo.shared()):
            handles = [
                letgo.Handle(int, interval=0.001, on_close=lambda: closed.append(1),
                             scheduler=scheduler)
                for _ in range(3)
            ]
            made += len(handles)
            for handle in handles:
                brave(handle.close)
    signal.setitimer(signal.ITIMER_REAL, 0)
    letgo.close_all()
    print(len(closed) == made, letgo.live())
    """
    assert run_quietly(source) == "True []\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_ends_the_program_flushes(number: int) -> None:
    """Ctrl-C, and SIGTERM as most services turn it into an exit, still run every on_close."""
    source = """
    import os, signal, sys, letgo

    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it is ignored
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    handles = [
        letgo.Handle(int, interval=60, on_close=lambda: os.write(1, b"flushed\\n"),
                     scheduler=scheduler)
        for scheduler in (None, letgo.shared())
    ]
    try:
        print("ready", flush=True)
        while True:
            signal.pause()
    except KeyboardInterrupt:
        pass
    """
    with subprocess.Popen(
        python_command(source), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (out, err, process.returncode) == ("flushed\nflushed\n", "", 0)


def test_signals_at_exit_do_not_stop_the_flush_of_others() -> None:
    """A SIGINT while exit waits interrupts the wait; it breaks nothing and nothing hangs."""
    source = """
    import os, signal, time, letgo

    signal.signal(signal.SIGINT, signal.default_int_handler)

    def slow():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    handle = letgo.Handle(int, interval=60, on_close=slow)
    """
    result = subprocess.run(
        python_command(source), capture_output=True, text=True, timeout=60, check=False
    )
    assert "Fatal" not in result.stderr
    assert result.stderr.count("Traceback") <= 1
    assert "KeyboardInterrupt" in result.stderr or not result.stderr


def test_no_threads_to_be_had_raises_and_leaves_nothing() -> None:
    """Where the system refuses threads, constructors raise, and all is well afterwards."""
    source = """
    import gc, threading, letgo

    threading.stack_size(0x8000)
    made = []
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    threading.stack_size(64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20), hard))
    refused = 0
    closed = []
    for _ in range(40):
        try:
            made.append(letgo.Handle(int, interval=60, on_close=lambda: closed.append(1)))
        except RuntimeError:
            refused += 1
    alive = len(letgo.live())
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    threading.stack_size(0)
    one_more = letgo.Handle(int, interval=60, on_close=lambda: closed.append(1))
    print(refused > 0, alive == len(made), refused + len(made))
    count = len(made) + 1
    del made, one_more
    letgo.close_all()
    print(len(closed) == count, letgo.live())
    """
    assert run_quietly(source) == "True True 40\nTrue []\n"


def test_a_close_that_cannot_have_a_thread_runs_on_the_schedulers_own() -> None:
    """close_in_thread is kept as far as the system lets it: on_close runs all the same."""
    source = """
    import threading, letgo

    closed = []
    scheduler = letgo.Scheduler()
    handles = [
        letgo.Handle(int, interval=60, on_close=lambda: closed.append(1),
                     close_in_thread=True, scheduler=scheduler)
        for _ in range(3)
    ]
    threading.stack_size(1 << 46)
    for handle in handles:
        handle.close()
    print(len(closed), len(scheduler))
    """
    assert run_quietly(source) == "3 0\n"


@pytest.mark.skipif(
    FREE_THREADED or not hasattr(os, "fork"), reason="needs forks that keep no interpreter lock"
)
def test_forks_by_the_hundred_in_mid_activity(pytestconfig: pytest.Config) -> None:
    """Every child finds its workers going on, can close them, and hangs nowhere."""
    forks = 200 if not pytestconfig.getoption("--chaos-minutes") else 5_000
    source = """
    import os, signal, sys, threading, warnings, letgo

    warnings.simplefilter("ignore", DeprecationWarning)
    closed, stop = [], threading.Event()
    scheduler = letgo.Scheduler()
    keep = [letgo.Handle(int, interval=0.001, on_close=lambda: closed.append(1), scheduler=s)
            for s in (None, scheduler)]

    def churn():
        while not stop.is_set():
            handle = letgo.Handle(int, interval=0.001, scheduler=scheduler)
            handle.wake()
            letgo.Handle(int, interval=60)
            handle.close()

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    bad = 0
    for _ in range(int(sys.argv[1])):
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            code = 1
            try:
                keep[0].poll_now(20)
                keep[1].poll_now(20)
                letgo.close_all(20)
                code = 0 if len(closed) == 2 and not letgo.live() else 2
            finally:
                os._exit(code)
        bad += os.waitpid(pid, 0)[1] != 0
    stop.set()
    for thread in threads:
        thread.join()
    print(bad, closed)
    """
    assert run_quietly(source, arguments=(str(forks),), timeout=600) == "0 []\n"


@pytest.mark.parametrize("kind", ["None", "letgo.shared()"])
def test_exit_with_ten_thousand_live_handles(kind: str) -> None:
    """Exit tells all, waits for all, and every final flush has run."""
    count = 10_000 if kind != "None" else 1_000  # threads cost more than handles
    source = f"""
    import atexit, threading
    closed = []
    atexit.register(lambda: print(len(closed)))
    import letgo
    threading.stack_size(1 << 18)
    handles = [letgo.Handle(int, interval=60, on_close=lambda: closed.append(1), scheduler={kind})
               for _ in range({count})]
    """
    assert run_quietly(source) == f"{count}\n"
