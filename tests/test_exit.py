"""The end of the interpreter: final flushes are delivered, and nothing hangs or is printed."""

from __future__ import annotations

import signal
import time

import pytest

from helpers import PATIENCE, run_python, run_quietly

ENDS = {
    "the script ends": "",
    "sys.exit": "import sys; sys.exit()",
    "SystemExit in a function": "(lambda: exec('raise SystemExit'))()",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("flags", [(), ("-X", "dev", "-W", "error")], ids=["plain", "dev"])
def test_final_flushes_are_delivered_and_nothing_else_is_printed(
    end: str, flags: tuple[str, ...]
) -> None:
    """However the script ends, every live handle's on_close runs, once, and stderr is empty."""
    script = """
        import letgo, os
        scheduler = letgo.Scheduler()
        def flush(name):
            return lambda: os.write(1, name.encode() + b" ")  # print is no single write
        handles = [
            letgo.Handle(lambda: None, interval=60, on_close=flush("a")),
            letgo.Handle(lambda: None, interval=0.001, on_close=flush("b")),
            letgo.Handle(on_close=flush("c"), scheduler=scheduler),
            letgo.Handle(on_close=flush("d"), scheduler=scheduler, close_in_thread=True),
            letgo.Handle(on_close=flush("e"), exit_last=True, warn_unclosed=True),
        ]
        def inside():  # a frame keeps one
            handle = letgo.Handle(on_close=flush("f"))
            END
        inside()
    """
    printed = run_quietly(script.replace("END", end or "handles.append(handle)"), *flags)
    assert sorted(printed.split()) == ["a", "b", "c", "d", "e", "f"]


def test_an_unhandled_exception_delivers_them_too() -> None:
    """The traceback is Python's only output on stderr, the exit code is 1, the flush is done."""
    result = run_python("""
        import letgo
        handle = letgo.Handle(on_close=lambda: print("flushed"))
        raise ZeroDivisionError("mine")
    """)
    assert (result.returncode, result.stdout) == (1, "flushed\n")
    assert result.stderr.endswith("ZeroDivisionError: mine\n")
    assert result.stderr.count("Traceback") == 1


def test_an_interrupt_delivers_them_too() -> None:
    """Ctrl-C ends the script with its usual traceback, and the flush is done."""
    result = run_python("""
        import letgo, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it is ignored
        handle = letgo.Handle(on_close=lambda: print("flushed"))
        signal.raise_signal(signal.SIGINT)
    """)
    assert result.stdout == "flushed\n"
    assert result.stderr.endswith("KeyboardInterrupt\n")
    assert result.stderr.count("Traceback") == 1
    assert result.returncode in (1, -signal.SIGINT)


def test_non_daemon_threads_go_on_using_the_worker() -> None:
    """A worker polls on, and is not stopped, until the last non-daemon thread has ended."""
    printed = run_quietly("""
        import letgo, threading
        lines, sent = [], []
        handle = letgo.Handle(
            lambda: (sent.extend(lines), lines.clear()),
            on_close=lambda: print(len(sent), lines, flush=True),
        )
        def work():
            threading.main_thread().join()
            for number in range(200):
                lines.append(number)
                handle.poll_now()
            lines.append("last")
            assert not handle.closed
        threading.Thread(target=work).start()
    """)
    assert printed == "200 ['last']\n"


# Seconds that a machine under load may take to start and end Python itself.
SLACK = 10.0


@pytest.mark.parametrize("count", [1, 50])
def test_a_poll_that_blocks_delays_exit_by_its_exit_timeout(count: int) -> None:
    """One such worker or fifty: exit takes as long as one, and a warning names each."""
    begin = time.monotonic()
    result = run_python(
        """
        import letgo, sys, threading, time
        forever = threading.Lock()
        forever.acquire()
        handles = [
            letgo.Handle(forever.acquire, immediate=True, exit_timeout=0.5, name=f"stuck-{number}")
            for number in range(int(sys.argv[1]))
        ]
        flushed = letgo.Handle(on_close=lambda: print("flushed"))
        while not all(handle.info.polls for handle in handles):
            time.sleep(0.001)
        """,
        arguments=(str(count),),
    )
    assert 0.5 <= time.monotonic() - begin < 0.5 + SLACK
    assert (result.returncode, result.stdout) == (0, "flushed\n")
    warnings = result.stderr.splitlines()
    assert len(warnings) == count
    for number in range(count):
        assert sum(f"'stuck-{number}'" in warning for warning in warnings) == 1


def test_a_blocked_scheduler_is_abandoned_with_a_warning_that_names_the_culprit() -> None:
    """The worker that blocks the scheduler is named; the others are counted."""
    result = run_python("""
        import letgo, threading
        entered = threading.Event()
        scheduler = letgo.Scheduler("mine")
        def poll():
            entered.set()
            threading.Event().wait()
        stuck = letgo.Handle(poll, name="culprit", exit_timeout=0.2, scheduler=scheduler)
        others = [
            letgo.Handle(print, exit_timeout=0.2, scheduler=scheduler) for _ in range(3)
        ]
        stuck.wake()
        entered.wait()
    """)
    assert (result.returncode, result.stdout) == (0, "")
    assert "'culprit'" in result.stderr
    assert "3 workers" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_a_blocked_on_close_is_abandoned_too() -> None:
    """An on_close that never returns delays exit by exit_timeout, and the warning names it."""
    result = run_python("""
        import letgo, threading
        handle = letgo.Handle(
            on_close=threading.Event().wait, exit_timeout=0.2, name="never"
        )
        on_thread = letgo.Handle(
            on_close=threading.Event().wait, exit_timeout=0.2, name="neither",
            scheduler=letgo.Scheduler(), close_in_thread=True,
        )
    """)
    assert (result.returncode, result.stdout) == (0, "")
    assert "'never'" in result.stderr
    assert "'neither'" in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_exit_timeout_zero_asks_and_does_not_wait() -> None:
    """A worker whose poll blocks holds up nothing at all with exit_timeout=0."""
    begin = time.monotonic()
    result = run_python("""
        import letgo, threading
        entered = threading.Event()
        def poll():
            entered.set()
            threading.Event().wait()
        handle = letgo.Handle(poll, immediate=True, exit_timeout=0, name="stuck")
        entered.wait()
    """)
    assert time.monotonic() - begin < SLACK
    assert result.returncode == 0
    assert "'stuck'" in result.stderr


def test_an_interrupt_ends_a_poll_that_blocks() -> None:
    """`interrupt` is called at exit, so that a blocking poll needs no exit_timeout."""
    printed = run_quietly("""
        import letgo, queue, threading
        letters, entered = queue.SimpleQueue(), threading.Event()
        def poll():
            entered.set()
            print(letters.get())
        handle = letgo.Handle(
            poll, interval=0, interrupt=lambda: letters.put(None),
            on_close=lambda: print("flushed"),
        )
        entered.wait()
    """)
    assert printed == "None\nflushed\n"


def test_exit_last_is_stopped_after_the_others() -> None:
    """Final flushes can still use a worker with exit_last, whichever was made first."""
    printed = run_quietly("""
        import letgo
        lines, sent = [], []
        def made(last):
            return letgo.Handle(
                lambda: (sent.extend(lines), lines.clear()),
                on_close=lambda: print(sent, lines), exit_last=last,
            )
        sender = made(True)
        def flush():
            lines.append("metric")
            sender.poll_now()
        first = letgo.Handle(on_close=flush)
        second = letgo.Handle(on_close=flush, scheduler=letgo.Scheduler())
    """)
    assert printed == "['metric', 'metric'] []\n"


def test_handles_made_by_final_flushes_are_flushed_too() -> None:
    """A handle that an on_close makes at exit, where threads are there, is closed as well."""
    printed = run_quietly("""
        import letgo
        scheduler = letgo.Scheduler()
        made = []
        def flush():
            made.append(letgo.Handle(on_close=lambda: print("second"), scheduler=scheduler))
            print("first")
        handle = letgo.Handle(on_close=flush, scheduler=scheduler)
    """)
    assert printed == "first\nsecond\n"


@pytest.mark.parametrize("where", ["scheduler", "None"])
def test_workers_that_make_workers_for_ever_do_not_hang_exit(where: str) -> None:
    """An on_close that always makes the next handle is cut off: exit never hangs."""
    result = run_python(
        """
        import letgo, sys
        scheduler = letgo.Scheduler()
        made = []
        def again():
            made.append(letgo.Handle(on_close=again, exit_timeout=0.2, scheduler=WHERE))
        for _ in range(20):
            again()
        """.replace("WHERE", where),
        timeout=PATIENCE,
    )
    assert result.returncode == 0
    assert "Fatal" not in result.stderr


def test_a_handle_made_at_exit_works() -> None:
    """In an atexit handler that runs before ours a handle works, where threads can start."""
    printed = run_quietly("""
        import atexit, letgo
        scheduler = letgo.Scheduler()
        first = letgo.Handle(on_close=lambda: print("flushed"), scheduler=scheduler)
        def late():
            handle = letgo.Handle(lambda: print("polled"), scheduler=scheduler)
            handle.poll_now()
            handle.close()
        atexit.register(late)
    """)
    assert printed == "polled\nflushed\n"


@pytest.mark.parametrize("where", ["None", "letgo.shared()"])
def test_a_drop_just_before_exit_is_a_final_flush_too(where: str) -> None:
    """Handles dropped by the script's last line, or by the end of its globals, are flushed."""
    printed = run_quietly(
        """
        import gc, letgo, os
        gc.disable()
        def made(name):
            flush = lambda: os.write(1, name.encode() + b" ")
            return letgo.Handle(lambda: None, interval=60, on_close=flush, scheduler=WHERE)
        class Owner: pass
        owner = Owner()
        owner.cycle, owner.handle = owner, made("cyclic")
        kept = made("kept")
        dropped = made("dropped")
        del dropped, owner
        """.replace("WHERE", where)
    )
    assert sorted(printed.split()) == ["cyclic", "dropped", "kept"]


def test_handles_dropped_by_exit_handlers_and_module_teardown_are_quiet() -> None:
    """Whatever the order in which exit lets go of handles, on_close runs once and quietly."""
    printed = run_quietly(
        """
        import atexit, builtins, os, sys, letgo
        def made(name):
            flush = lambda: os.write(1, name.encode() + b" ")
            return letgo.Handle(on_close=flush, scheduler=letgo.shared())
        holder = {"a": made("a")}
        atexit.register(holder.clear)
        builtins.kept = made("b")
        sys.kept = made("c")
        class Late:
            handle = made("d")
            def __del__(self):
                self.handle.stop()
        late = Late()
        """,
        "-X",
        "dev",
    )
    assert sorted(printed.split()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("kept", ["None", "letgo.shared()"])
def test_calls_after_our_exit_handler_neither_raise_nor_hang(kept: str) -> None:
    """Handlers registered before letgo was imported run after it: every call still returns."""
    printed = run_quietly(
        """
        import atexit
        def late():
            handle.wake(); handle.wake(5); handle.stop(); handle.close()
            handle.interval = 5
            print(handle.join(), handle.alive, handle.closed, handle.info.state)
            print(letgo.live(), letgo.close_all())
            unstarted.stop()
            letgo.shared().close()
            for options in {}, {"scheduler": letgo.Scheduler()}:
                try:
                    letgo.Handle(print, **options)
                except RuntimeError as error:
                    print("refused")
        atexit.register(late)
        import letgo
        handle = letgo.Handle(lambda: None, interval=60, scheduler=WHERE)
        unstarted = letgo.Handle(print, start=False)
        """.replace("WHERE", kept)
    )
    assert printed == "True False True closed\n[] 0\nrefused\nrefused\n"


def test_late_calls_on_an_abandoned_worker_neither_raise_nor_hang() -> None:
    """wake, stop and a close with a timeout return, for a worker that exit gave up on."""
    result = run_python("""
        import atexit
        def late():
            handle.wake(); handle.stop()
            try:
                handle.close(timeout=0.01)
            except TimeoutError:
                print("still busy")
        atexit.register(late)
        import letgo, threading
        entered = threading.Event()
        def poll():
            entered.set()
            threading.Event().wait()
        handle = letgo.Handle(poll, immediate=True, exit_timeout=0.01)
        entered.wait()
    """)
    assert (result.returncode, result.stdout) == (0, "still busy\n")
    assert len(result.stderr.splitlines()) == 1


def test_on_close_runs_once_when_exit_races_with_close_and_drop() -> None:
    """Workers that daemon threads close and drop while exit stops them are flushed once."""
    printed = run_quietly("""
        import letgo, threading
        closed = []
        class Flush:
            def __init__(self): self.times = 0
            def __call__(self): self.times += 1
        flushes = [Flush() for _ in range(200)]
        scheduler = letgo.Scheduler()
        handles = [
            letgo.Handle(lambda: None, interval=0.001, on_close=flush, scheduler=scheduler)
            for flush in flushes
        ]
        go = threading.Event()
        def close_all_of_them():
            go.wait()
            for handle in list(handles):
                handle.close()
        def drop_them():
            go.wait()
            while handles:
                handles.pop()
        for target in [close_all_of_them] * 3 + [drop_them]:
            threading.Thread(target=target, daemon=True).start()
        report = letgo.Handle(
            on_close=lambda: print({flush.times for flush in flushes}), exit_last=True
        )
        go.set()
    """)
    assert printed == "{1}\n"


def test_exit_waits_for_the_threads_themselves() -> None:
    """Not only on_close is over, but the thread, when Python takes the interpreter apart."""
    printed = run_quietly("""
        import atexit, os, threading, time
        def late():
            os.write(1, repr([thread.name for thread in threading.enumerate()]).encode())
        atexit.register(late)
        import letgo
        own = threading.local()
        class Slow:
            def __del__(self):
                time.sleep(0.05)
                os.write(1, b"ended ")
        def on_close():
            own.slow = Slow()  # goes when the thread does
        handles = [
            letgo.Handle(on_close=on_close),
            letgo.Handle(on_close=on_close, scheduler=letgo.Scheduler()),
            letgo.Handle(on_close=on_close, scheduler=letgo.Scheduler(), exit_last=True),
        ]
    """)
    assert printed == "ended ended ended ['MainThread']"


def test_a_failing_final_flush_is_logged_and_stops_no_other() -> None:
    """What on_close raises at exit is logged with its traceback; the others are flushed."""
    result = run_python("""
        import letgo
        def fail():
            raise OSError("no route")
        handles = [letgo.Handle(on_close=fail, name="bad"), letgo.Handle(on_close=lambda: print(1))]
    """)
    assert (result.returncode, result.stdout) == (0, "1\n")
    assert "'bad'" in result.stderr
    assert "OSError: no route" in result.stderr


def test_exits_of_busy_workers_are_never_fatal() -> None:
    """Ends of Python while workers poll without pause and are dropped: code 0, and silent."""
    script = """
        import letgo, sys, threading
        sys.setswitchinterval(1e-6)
        scheduler = letgo.Scheduler()
        handles = [letgo.Handle(lambda: None, interval=0) for _ in range(3)]
        handles += [
            letgo.Handle(lambda: None, interval=1e-6, scheduler=scheduler) for _ in range(5)
        ]
        def drop():
            while handles:
                handles.pop()
        threading.Thread(target=drop, daemon=True).start()
    """
    for _ in range(5):
        assert run_quietly(script) == ""


@pytest.mark.parametrize("kind", ["None", "letgo.shared()"])
def test_an_interrupted_close_leaves_nobody_who_hears(kind: str) -> None:
    """After Ctrl-C in a close(), what on_close raises is logged: there is no one to raise it to."""
    source = f"""
    import signal, threading, letgo

    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it is ignored
    closing, go_on, struck = threading.Event(), threading.Event(), threading.Event()

    def on_close():
        closing.set()
        go_on.wait(20)
        raise ValueError("flush")

    handle = letgo.Handle(int, on_close=on_close, scheduler={kind})

    def interrupt(*_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        struck.set()
        raise KeyboardInterrupt

    def strike():
        closing.wait(20)
        while not struck.wait(0.05):  # one that comes just before a wait does not end it
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    striker = threading.Thread(target=strike)
    striker.start()
    try:
        handle.close()
    except KeyboardInterrupt:
        print("interrupted")
    striker.join()
    go_on.set()
    handle.join()
    """
    result = run_python(source)
    assert (result.returncode, result.stdout) == (0, "interrupted\n"), result.stderr
    assert "ValueError: flush" in result.stderr
