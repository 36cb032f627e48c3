"""`dump` shows all workers as a table, also while the process is stuck."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress

import pytest

import letgo
from helpers import Gate, run_python, wait_for


def nothing() -> None: ...


def fail() -> None:
    raise ValueError("first line\nlast line")


def dumped() -> list[str]:
    """The lines of the table, without the first."""
    file = io.StringIO()
    letgo.dump(file)
    first, *lines = file.getvalue().splitlines()
    assert first.startswith("letgo: ")
    return lines


def test_table_has_a_row_for_each_worker() -> None:
    """The oldest first, with what there is to know."""
    scheduler = letgo.Scheduler("all")
    with (
        letgo.Handle(nothing, interval=60, name="a", scheduler=scheduler, warn_unclosed=True) as a,
        letgo.Handle(nothing, name="bb", scheduler=scheduler) as b,
    ):
        a.poll_now()
        b.wake(1000)
        header, first, second = dumped()
    assert header.split("  ")[1:3] == ["name", "state"]
    assert first.split()[:4] == ["a", "running", "1", "0"]
    assert "test_dump.py:" in first.split()[-1]
    assert second.split()[:5] == ["bb", "running", "0", "0", "-"]
    assert "  1,000.000 s  " in second or "  999." in second
    assert second.split()[-2:] == ["all", "-"]


def test_no_workers() -> None:
    """One line says so."""
    assert dumped() == []


def test_last_error_is_one_line() -> None:
    """An error's last line says what it was."""
    with letgo.Handle(fail, on_error=lambda _: None) as handle:
        with pytest.raises(ValueError, match="first line"):
            handle.poll_now()
        assert dumped()[2] == "    last error: last line"


def test_busy_worker_tells_where_it_is(scheduler: letgo.Scheduler | None) -> None:
    """The one whose callable runs shows the line that it has got to."""
    gate = Gate()
    with (
        letgo.Handle(gate, immediate=True, interval=60, scheduler=scheduler),
        letgo.Handle(nothing, interval=60, scheduler=scheduler),
    ):
        wait_for(gate.entered)
        _, _, busy, idle = dumped()
        gate.opened.set()
    assert busy.startswith("    busy in ")
    assert "running" in idle


def test_default_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """As it is at that moment; also when called as a signal handler is."""
    letgo.dump()
    letgo.dump(signal.SIGINT, None)
    expected = f"letgo: 0 workers in process {os.getpid()}\n"
    assert capsys.readouterr().err == expected * 2


def test_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a console has nowhere to write to, and that is no error."""
    monkeypatch.setattr(sys, "stderr", None)
    letgo.dump()


class Descriptor(io.StringIO):
    """A file whose buffer somebody holds: only its descriptor may be used."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def write(self, _: str) -> int:
        raise AssertionError("went through the buffer")

    flush = write  # type: ignore[assignment]


def test_goes_past_the_buffer() -> None:
    """Whoever is stuck with the file's lock in hand is not waited for."""
    reader, writer = os.pipe()
    with letgo.Handle(nothing, name="ünïcode"):
        letgo.dump(Descriptor(writer))
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        assert "ünïcode" in file.read()


def test_nobody_reads() -> None:
    """A pipe that is full, or closed at the other end, neither blocks nor raises."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    letgo.dump(Descriptor(writer))
    os.close(reader)
    letgo.dump(Descriptor(writer))
    os.close(writer)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform has no SIGUSR1")
@pytest.mark.parametrize("stuck", ["handle.close()", "lock.acquire()", "thread.join()"])
def test_signal_while_the_process_is_stuck(stuck: str) -> None:
    """Registered on a signal, it shows what a process is stuck in."""
    result = run_python(f"""
    import os, signal, sys, threading, letgo

    def never():
        begun.set()
        threading.Event().wait()

    def send():
        # Again and again: Python misses one that comes just before a lock is waited for.
        while not told:
            os.kill(os.getpid(), signal.SIGUSR1)
            letgo.sleep(0.01)
        os._exit(3)

    def dump(*arguments):
        letgo.dump(*arguments)
        told.append(True)

    told = []
    begun = threading.Event()
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.acquire, daemon=True)
    thread.start()
    signal.signal(signal.SIGUSR1, dump)
    handle = letgo.Handle(never, immediate=True, interval=60, name="stuck one")
    begun.wait()
    threading.Thread(target=send).start()
    {stuck}
    """)
    assert result.returncode == 3
    assert "stuck one" in result.stderr
    assert "busy in " in result.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform has no SIGUSR1")
def test_dump_is_a_signal_handler_itself() -> None:
    """It can be registered as it is."""
    result = run_python("""
    import os, signal, letgo
    signal.signal(signal.SIGUSR1, letgo.dump)
    with letgo.Handle(lambda: None, name="seen"):
        os.kill(os.getpid(), signal.SIGUSR1)
    """)
    assert result.returncode == 0
    assert result.stderr.count("seen") == 2  # the worker's name, and its thread's
