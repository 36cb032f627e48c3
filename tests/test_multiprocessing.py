"""Children of `multiprocessing` count as processes that exit: their final flushes are delivered."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from helpers import run_python, run_quietly

METHODS = multiprocessing.get_all_start_methods()

# The start method is the script's argument, and each test puts in `child` and `parent`.
SCRIPT = """
import concurrent.futures, multiprocessing, os, queue, sys, threading, time
import letgo

def say(text):
    return lambda: os.write(1, text.encode() + b" ")  # print is no single write

PARENT = os.getppid() if multiprocessing.parent_process() else os.getpid()
kept = []
CHILD

def run(*arguments, code=0):
    process = context.Process(target=child, args=arguments)
    process.start()
    process.join(40)
    assert process.exitcode == code, process.exitcode

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    PARENT_CODE
"""


def script(child: str, parent: str) -> str:
    return SCRIPT.replace("CHILD", child).replace("PARENT_CODE", parent, 1)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_handles_made_in_a_child_are_flushed_there(method: str, tmp_path: Path) -> None:
    """When the child's function returns, on_close runs in the child: once, in order."""
    source = script(
        """
def child():
    scheduler = letgo.Scheduler()
    kept.append(letgo.Handle(on_close=say("last"), exit_last=True))
    kept.append(letgo.Handle(print, interval=60, on_close=say("flushed")))
    kept.append(letgo.Handle(print, interval=60, on_close=say("flushed"), scheduler=scheduler))
""",
        "run(); run(); say('end')()",
    )
    printed = run_quietly(source, arguments=(method,), file=tmp_path / "script.py")
    assert printed == "flushed flushed last " * 2 + "end "


def test_however_the_childs_function_ends(method: str, tmp_path: Path) -> None:
    """The final flush is delivered after sys.exit and after an exception."""
    source = script(
        """
def child(end):
    kept.append(letgo.Handle(on_close=say("flushed")))
    raise end
""",
        "run(SystemExit(3), code=3); run(ValueError('mine'), code=1)",
    )
    result = run_python(source, arguments=(method,), file=tmp_path / "script.py")
    assert (result.returncode, result.stdout) == (0, "flushed flushed ")
    assert result.stderr.endswith("ValueError: mine\n")


@pytest.mark.skipif("fork" not in METHODS, reason="this platform has no fork")
@pytest.mark.parametrize("where", ["None", "letgo.shared()"], ids=["own", "scheduler"])
def test_inherited_handles_are_flushed_in_both(where: str, tmp_path: Path) -> None:
    """A handle that a forked child inherits is flushed there too, after its after_fork."""
    source = script(
        "def child(): pass",
        f"""
    handle = letgo.Handle(
        print, interval=60, after_fork=say("cleared"), scheduler={where},
        on_close=lambda: say("parent" if os.getpid() == PARENT else "child")(),
    )
    run()
    assert handle.alive
""",
    )
    printed = run_quietly(source, arguments=("fork",), file=tmp_path / "script.py")
    assert printed == "cleared child parent "


def test_final_flushes_can_fill_a_queue(method: str, tmp_path: Path) -> None:
    """What on_close puts into a multiprocessing.Queue reaches the parent."""
    source = script(
        """
def child(letters):
    kept.append(letgo.Handle(on_close=lambda: letters.put("x" * 100_000)))
    letters.put("first")
""",
        """
    letters = context.Queue()
    process = context.Process(target=child, args=(letters,))
    process.start()
    assert letters.get(timeout=40) == "first"
    assert len(letters.get(timeout=40)) == 100_000
    process.join(40)
    assert process.exitcode == 0
""",
    )
    assert run_quietly(source, arguments=(method,), file=tmp_path / "script.py") == ""


def test_non_daemon_threads_of_a_child_go_on_using_the_worker(method: str, tmp_path: Path) -> None:
    """The worker lives until the child's last non-daemon thread has ended, then flushes."""
    source = script(
        """
def child():
    lines, sent = [], []
    handle = letgo.Handle(
        lambda: (sent.extend(lines), lines.clear()),
        on_close=lambda: say(f"{len(sent)},{lines}")(),
    )
    kept.append(handle)
    def work():
        time.sleep(0.1)  # until long after the child's function has returned
        for number in range(100):
            lines.append(number)
            handle.poll_now()
        lines.append("last")
        assert not handle.closed
    threading.Thread(target=work).start()
""",
        "run()",
    )
    printed = run_quietly(source, arguments=(method,), file=tmp_path / "script.py")
    assert printed == "100,['last'] "


def test_workers_of_a_process_pool_flush(method: str, tmp_path: Path) -> None:
    """Processes of a ProcessPoolExecutor deliver their final flush at its shutdown."""
    source = script(
        """
def begin():
    kept.append(letgo.Handle(lambda: None, interval=0.001, on_close=say("flushed")))
def child(number):
    kept[0].poll_now()
    return number
""",
        """
    with concurrent.futures.ProcessPoolExecutor(
        2, mp_context=context, initializer=begin
    ) as pool:
        assert list(pool.map(child, range(20))) == list(range(20))
        started = len(pool._processes)
    say("end")()
    assert started in (1, 2)
    print(started)
""",
    )
    printed = run_quietly(source, arguments=(method,), file=tmp_path / "script.py")
    *flushes, end, started = printed.split()
    assert (flushes, end) == (["flushed"] * int(started), "end")


def test_a_poll_that_blocks_does_not_hang_a_child(method: str, tmp_path: Path) -> None:
    """A child with such a worker ends after exit_timeout, with one warning that names it."""
    source = script(
        """
def child():
    entered = threading.Event()
    def poll():
        entered.set()
        threading.Event().wait()
    kept.append(letgo.Handle(poll, immediate=True, exit_timeout=0.1, name="stuck"))
    assert entered.wait(40)
""",
        "run()",
    )
    result = run_python(source, arguments=(method,), file=tmp_path / "script.py")
    assert (result.returncode, result.stdout) == (0, "")
    assert "'stuck'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif("fork" not in METHODS, reason="this platform has no fork")
def test_a_worker_can_fork_processes(tmp_path: Path) -> None:
    """A child that a poll starts flushes its own handles, and never the poll's worker."""
    source = script(
        """
def child():
    kept.append(letgo.Handle(on_close=say("child")))
""",
        """
    neighbour = letgo.Handle(on_close=say("neighbour"), after_fork=lambda: letgo.STOP)
    handle = letgo.Handle(run, on_close=say("parent"))
    handle.poll_now()
    handle.close()
    neighbour.close()
""",
    )
    printed = run_quietly(source, arguments=("fork",), file=tmp_path / "script.py")
    assert printed == "child parent neighbour "


@pytest.mark.skipif("fork" not in METHODS, reason="this platform has no fork")
def test_grandchildren_flush_too(tmp_path: Path) -> None:
    """Forks of forks: every generation delivers what it inherited and what it made."""
    source = script(
        """
def child(generation):
    kept.append(letgo.Handle(on_close=say(str(generation))))
    if generation < 3:
        run(generation + 1)
""",
        "run(1)",
    )
    printed = run_quietly(source, arguments=("fork",), file=tmp_path / "script.py")
    third, second, first = printed[:6], printed[6:10], printed[10:]
    assert sorted(third.split()) == ["1", "2", "3"]
    assert (sorted(second.split()), first) == (["1", "2"], "1 ")
