"""Forks: workers go on in the child, inherited state is cleared, and nothing deadlocks."""

from __future__ import annotations

import os

import pytest

from helpers import run_quietly

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

PRELUDE = """
import faulthandler, os, signal, sys, threading, time, traceback, warnings
# From 3.12 on Python warns of each fork with threads, which is what these tests are about.
warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
# No dump_traceback_later: in a forked child it waits for its thread, which is no more.
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(50)
import letgo

def forked(child):
    '''Run `child` in a forked process, which must end well.'''
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # a child inherits none
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, status

def wait_until(predicate):
    end = time.monotonic() + 20
    while not predicate():
        assert time.monotonic() < end
        time.sleep(0.001)

PARENT = os.getpid()
"""

KINDS = pytest.mark.parametrize("where", ["None", "letgo.Scheduler()"], ids=["own", "scheduler"])


def run_forks(script: str, where: str = "None", *flags: str) -> str:
    """Run `script` after the prelude; WHERE in it is the scheduler of its handles."""
    lines = script.replace("WHERE", where)
    indent = " " * (len(lines) - len(lines.lstrip()) - 1)
    return run_quietly(PRELUDE + lines.replace("\n" + indent, "\n"), *flags)


@KINDS
def test_workers_go_on_in_the_child(where: str) -> None:
    """The grid, wake and poll_now all work in the child, on a thread of its own."""
    run_forks(
        """
        polled = []
        handle = letgo.Handle(lambda: polled.append(os.getpid()), interval=0.001, scheduler=WHERE)
        only_woken = letgo.Handle(lambda: polled.append("woken"), scheduler=letgo.shared())
        wait_until(lambda: polled)
        def child():
            polled.clear()
            assert handle.alive
            wait_until(lambda: polled.count(os.getpid()) > 2)
            handle.poll_now(10)
            only_woken.wake()
            wait_until(lambda: "woken" in polled)
            assert PARENT not in polled
            assert len(letgo.live()) == 2
            handle.close(10)
            assert [worker.name for worker in letgo.live()] == [only_woken.name]
        forked(child)
        forked(lambda: forked(child))
        """,
        where,
    )


@KINDS
def test_a_drop_in_the_child_ends_the_worker_there(where: str) -> None:
    """The finalizer works in the child as it does in the parent, and on_close runs once."""
    run_forks(
        """
        closed = []
        handle = letgo.Handle(on_close=lambda: closed.append(os.getpid()), scheduler=WHERE)
        def child():
            global handle
            del handle
            wait_until(lambda: not letgo.live())
            assert closed == [os.getpid()]
        forked(child)
        assert handle.alive and not closed
        handle.close()
        assert closed == [PARENT]
        """,
        where,
    )


@KINDS
def test_a_planned_wake_is_inherited(where: str) -> None:
    """A wake that was planned before the fork comes in the child too."""
    run_forks(
        """
        polled = threading.Event()
        handle = letgo.Handle(polled.set, scheduler=WHERE)
        handle.wake(0.2)
        wait_until(lambda: handle.info.next_poll_in is not None)
        def child():
            assert polled.wait(10)
        forked(child)
        assert polled.wait(10)
        """,
        where,
    )


@KINDS
def test_after_fork_clears_what_is_inherited(where: str) -> None:
    """It runs in the forking thread, before fork returns; so nothing is sent twice."""
    printed = run_forks(
        """
        class Sender:
            def __init__(self): self.lines = ["inherited"]; self.cleared = None
            def flush(self):
                for line in self.lines: os.write(1, f"{line}\\n".encode())
                self.lines.clear()
            def clear(self):
                self.cleared = threading.get_ident()
                self.lines = []
        sender = Sender()
        handle = letgo.Handle(
            sender.flush, interval=60, on_close=sender.flush, after_fork=sender.clear,
            scheduler=WHERE,
        )
        def child():
            assert sender.cleared == threading.get_ident()
            sender.lines.append("child")
            handle.close()
        forked(child)
        assert sender.cleared is None
        handle.close()
        """,
        where,
    )
    assert printed == "child\ninherited\n"


@KINDS
def test_an_after_fork_that_raises_is_logged(where: str) -> None:
    """The error is logged in the child, and the worker goes on there."""
    printed = run_forks(
        """
        import logging
        logging.basicConfig(stream=sys.stdout)
        def fail(): raise OSError("no socket")
        handle = letgo.Handle(lambda: None, after_fork=fail, name="mine", scheduler=WHERE)
        def child():
            handle.poll_now(10)
            handle.close(10)
            sys.stdout.flush()
        forked(child)
        """,
        where,
    )
    assert printed.count("ERROR:letgo:") == 1
    assert "'mine'" in printed
    assert "OSError: no socket" in printed


@KINDS
def test_after_fork_can_close_the_worker_in_the_child(where: str) -> None:
    """Returning STOP: closed in the child without on_close; the parent's goes on."""
    run_forks(
        """
        closed = []
        handle = letgo.Handle(
            lambda: None, interval=60, on_close=lambda: closed.append(os.getpid()),
            after_fork=lambda: letgo.STOP, scheduler=WHERE,
        )
        def child():
            assert (handle.closed, handle.alive, letgo.live()) == (True, False, [])
            assert handle.join(10)
            handle.close(10)
            assert closed == []
        forked(child)
        handle.poll_now()
        handle.close()
        assert closed == [PARENT]
        """,
        where,
    )


@KINDS
def test_a_worker_that_was_stopping_is_closed_in_the_child(where: str) -> None:
    """A fork in the middle of on_close: the child's worker is closed, and on_close not repeated."""
    run_forks(
        """
        entered, leave = threading.Event(), threading.Event()
        closed = []
        def on_close():
            closed.append(os.getpid())
            entered.set()
            assert leave.wait(20)
        handle = letgo.Handle(on_close=on_close, scheduler=WHERE)
        waiting = threading.Thread(target=handle.close)
        waiting.start()
        assert entered.wait(20)
        def child():
            assert (handle.closed, handle.alive, letgo.live()) == (True, False, [])
            handle.close(10)
            assert closed == [PARENT]
        forked(child)
        leave.set()
        waiting.join(20)
        assert closed == [PARENT] and not handle.alive
        """,
        where,
    )


@KINDS
def test_a_fork_in_the_middle_of_a_poll(where: str) -> None:
    """The child's worker polls afresh; the parent's poll ends as if nothing had been."""
    run_forks(
        """
        # Lists, not events: the poll may hold an event's lock when the fork comes.
        leave, polls = [], []
        def poll():
            polls.append(os.getpid())
            wait_until(lambda: leave)
        handle = letgo.Handle(poll, scheduler=WHERE)
        handle.wake()
        wait_until(lambda: polls)
        def child():
            leave.append(True)
            handle.poll_now(10)
            handle.close(10)
            assert set(polls) == {PARENT, os.getpid()}
        forked(child)
        leave.append(True)
        handle.poll_now(10)
        handle.close(10)
        assert set(polls) == {PARENT}
        """,
        where,
    )


@KINDS
@pytest.mark.parametrize("role", ["poll", "on_close", "on_error"])
def test_a_fork_that_the_worker_itself_makes(where: str, role: str) -> None:
    """In the child that worker is closed without on_close; its neighbours go on there."""
    run_forks(
        """
        closed, polled, neighbours = [], [], []
        scheduler = WHERE
        neighbour = letgo.Handle(lambda: polled.append(os.getpid()), scheduler=scheduler)
        def fork_once(*_):
            def child():
                assert (handle.closed, handle.alive) == (True, False)
                handle.close(10)
                assert PARENT == os.getppid() and not closed
                polled.clear()
                neighbour.poll_now(10)
                assert polled == [os.getpid()]
                neighbour.close(10)
                assert letgo.live() == []
            forked(child)
            closed.append("parent")
        def fail(): raise ValueError
        role = "ROLE"
        handle = letgo.Handle(
            fork_once if role == "poll" else fail if role == "on_error" else None,
            on_close=fork_once if role == "on_close" else None,
            on_error=fork_once if role == "on_error" else None, scheduler=scheduler,
        )
        handle.wake()
        if role == "on_close":
            handle.stop()
        wait_until(lambda: closed)
        neighbour.poll_now(10)
        handle.close(10)
        assert closed == ["parent"]
        """.replace("ROLE", role),
        where,
    )


@KINDS
def test_a_child_that_returns_through_the_poll_that_forked(where: str) -> None:
    """In the child the old loop ends silently: its core is never served by two."""
    run_forks(
        """
        pids, closed = [], []
        neighbour = letgo.Handle(lambda: None, interval=0.001, scheduler=WHERE)
        def poll():
            pids.append(os.fork())
            if pids[-1] == 0:
                # This thread is the child's only old one: it ends when the poll returns.
                def end():
                    old.join(20)
                    neighbour.poll_now(10)
                    os._exit(17 if not closed and not handle.alive else 1)
                old = threading.current_thread()
                threading.Thread(target=end).start()
        handle = letgo.Handle(poll, on_close=lambda: closed.append(1), scheduler=WHERE)
        handle.poll_now(20)
        assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 17
        handle.close()
        assert closed == [1]
        """,
        where,
    )


@KINDS
@pytest.mark.parametrize("flags", [(), ("-X", "dev")], ids=["plain", "dev"])
def test_a_child_that_returns_normally_delivers_its_final_flush(
    where: str, flags: tuple[str, ...]
) -> None:
    """A forked child that just ends runs on_close at its exit, as the parent does."""
    printed = run_forks(
        """
        flush = lambda: os.write(1, b"parent " if os.getpid() == PARENT else b"child ")
        handle = letgo.Handle(lambda: None, interval=60, on_close=flush, scheduler=WHERE)
        pid = os.fork()
        if pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        """,
        where,
        *flags,
    )
    assert printed == "child parent "


@KINDS
def test_a_child_that_ends_by_os_exit_delivers_nothing(where: str) -> None:
    """`os._exit` runs nothing: no flush in the child, and none is lost in the parent."""
    printed = run_forks(
        """
        flush = lambda: os.write(1, b"flushed ")
        handle = letgo.Handle(lambda: None, interval=60, on_close=flush, scheduler=WHERE)
        forked(lambda: None)
        """,
        where,
    )
    assert printed == "flushed "


def test_handles_of_the_child_are_the_childs() -> None:
    """A child makes, closes and drops handles on an inherited scheduler without a thread."""
    run_forks("""
        scheduler = letgo.Scheduler()
        letgo.Handle(print, scheduler=scheduler).close()
        unstarted = letgo.Handle(lambda: None, start=False, scheduler=scheduler)
        def child():
            handle = letgo.Handle(lambda: None, scheduler=scheduler)
            handle.poll_now(10)
            unstarted.start()
            unstarted.poll_now(10)
            del handle
            unstarted.close(10)
            wait_until(lambda: not len(scheduler))
            scheduler.close(10)
        forked(child)
        assert unstarted.info.state == "new"
    """)


def test_forks_while_threads_start_wake_and_close_handles() -> None:
    """Hundreds of forks at any moment of other threads' work: no child and no parent hangs."""
    run_forks("""
        sys.setswitchinterval(1e-5)
        scheduler = letgo.Scheduler()
        closed = []
        mine = [
            letgo.Handle(
                lambda: None, interval=0.001, on_close=lambda: closed.append(os.getpid()),
                scheduler=where,
            )
            for where in (None, scheduler)
        ]
        going = True
        def work(where):
            while going:
                handle = letgo.Handle(lambda: None, on_close=lambda: None, scheduler=where)
                handle.wake()
                handle.poll_now()
                handle.close()
                letgo.Handle(lambda: None, interval=0.001, scheduler=where)
        workers = [threading.Thread(target=work, args=(where,)) for where in (None, scheduler)]
        for worker in workers:
            worker.start()
        def child():
            for handle in mine:
                handle.poll_now(10)
                handle.wake()
                handle.close(10)
            assert closed == [os.getpid()] * 2
            for where in (None, scheduler):
                handle = letgo.Handle(lambda: None, scheduler=where)
                handle.poll_now(10)
                handle.close(10)
        for _ in range(300):
            forked(child)
        going = False
        for worker in workers:
            worker.join()
        for handle in mine:
            handle.close()
        assert closed == [PARENT] * 2
    """)


@KINDS
@pytest.mark.parametrize("job", ["work", "close", "make"])
def test_a_fork_between_any_two_lines_of_ours(where: str, job: str) -> None:
    """Forced, not hoped for: the child is whole wherever the fork cut another thread off."""
    forks = run_forks(
        """
        asked, answered, one_at_a_time = threading.Lock(), threading.Lock(), threading.Lock()
        asked.acquire(), answered.acquire()
        seen = set()

        def trace(frame, event, argument):
            '''Have the main thread fork before this thread, of whoever, goes on to a new line.'''
            if os.getpid() != PARENT or not frame.f_globals["__name__"].startswith("letgo."):
                return None
            line = frame.f_code, frame.f_lineno
            if event == "line" and line not in seen:
                seen.add(line)
                with one_at_a_time:
                    asked.release()
                    answered.acquire()
            return trace

        def child():
            for attempt in handle.start, lambda: handle.poll_now(10):
                try:
                    attempt()
                except letgo.ClosedError:
                    pass  # it was stopping
            handle.close(10)
            assert not handle.alive
            letgo.close_all(10)  # the other thread's
            assert not letgo.live()
            another = letgo.Handle(lambda: None, scheduler=scheduler)
            another.poll_now(10)
            another.close(10)
            if scheduler is not None:
                scheduler.close(10)

        def work():
            handle.start()
            handle.poll_now()
            handle.wake(0.001)
            handle.interval = 0.01
            handle.wake()
            handle.close()

        def close():
            handle.close()

        def make():
            letgo.Handle(lambda: None, interval=60, scheduler=scheduler).poll_now()

        scheduler = WHERE
        handle = letgo.Handle(
            lambda: None, on_close=lambda: None, start=False, scheduler=scheduler
        )
        threading.settrace(trace)
        threading.Thread(target=JOB).start()
        forks = 0
        while threading.active_count() > 1:
            if asked.acquire(timeout=0.01):
                forks += 1
                forked(child)
                answered.release()
        print(forks)
        """.replace("JOB", job),
        where,
    )
    assert int(forks) > 100
