"""`python -m letgo`: what it prints, and when it fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from helpers import ROOT, run_python

DEMO = "import runpy; runpy.run_module('letgo', run_name='__main__')"


def run_demo(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the demonstration, after the statements in `before`, with both streams piped."""
    return run_python(f"{before}\n{DEMO}", "-X", "dev", "-W", "error", arguments=arguments)


def numbers(output: str, title: str) -> list[str]:
    """The two cells of the row that begins with `title`."""
    [row] = [line for line in output.splitlines() if line.startswith(title)]
    return re.split(r"\s{2,}", row)[1:]


@pytest.fixture(scope="module")
def six() -> subprocess.CompletedProcess[str]:
    """One run with six senders of each kind, for all tests that only look."""
    result = run_demo("--workers", "6")
    assert result.returncode == 0, result.stderr
    return result


def test_only_the_leaky_threads_stay(six: subprocess.CompletedProcess[str]) -> None:
    """Six leaky senders leave six threads when dropped, six guarded ones none."""
    [before, _] = numbers(six.stdout, "threads before")
    made = str(int(before) + 6)
    assert numbers(six.stdout, "threads after making them") == [made, made]
    assert numbers(six.stdout, "threads after dropping them") == [made, before]
    [never, time] = numbers(six.stdout, "from the drop to the last thread's end")
    assert never == "never"
    assert time.endswith(" ms")


def test_no_line_is_lost(six: subprocess.CompletedProcess[str]) -> None:
    """What was sent is received, final flushes included, by both kinds."""
    assert numbers(six.stdout, "lines sent") == ["600", "600"]
    assert numbers(six.stdout, "lines received") == ["600", "600"]


def test_progress_in_a_pipe_is_plain_lines(six: subprocess.CompletedProcess[str]) -> None:
    """Progress goes to stderr, a line for each step, and the table alone to stdout."""
    assert six.stdout.startswith("6 senders of each kind")
    assert "making" in six.stderr.splitlines()[0]
    assert "\r" not in six.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_progress_in_a_terminal_stays_on_one_line() -> None:
    """In a terminal the progress is written over itself and cleared in the end."""
    ours, theirs = os.openpty()
    arguments = [sys.executable, "-c", DEMO, "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as child:
        os.close(theirs)
        output, _ = child.communicate(timeout=60)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert child.returncode == 0
    assert output.startswith("1 senders of each kind")
    assert "\n" not in shown
    assert shown.endswith("\r")


@pytest.mark.parametrize("workers", ["0", "-1", "1.5", "many"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers: str) -> None:
    """The message names the argument and the value."""
    result = run_demo("--workers", workers)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "argument --workers: must be a whole number" in result.stderr
    assert repr(workers) in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit to set")
def test_more_workers_than_the_system_allows_is_one_line() -> None:
    """Without enough file descriptors it says so, and ends what it had made."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))"
    result = run_demo("--workers", "100", before=limit)
    assert result.returncode == 2
    assert result.stdout == ""
    [message] = [line for line in result.stderr.splitlines() if line.startswith("letgo: ")][-1:]
    assert message.startswith("letgo: cannot run 100 workers of each kind: ")
    assert "Traceback" not in result.stderr


def test_it_fails_when_a_guarded_worker_is_left() -> None:
    """With leaky senders in the place of the guarded ones it exits with 1, and says why."""
    swap = (
        "import letgo._demo as demo\n"
        "demo._PATIENCE = demo._LEAKY_PATIENCE = demo._FLUSH_INTERVAL = 0.1\n"
        "demo.GuardedSender = demo.LeakySender"
    )
    result = run_demo("--workers", "2", before=swap)
    assert result.returncode == 1
    assert "letgo: 2 guarded workers are left" in result.stderr


def test_it_fails_when_a_line_is_lost() -> None:
    """With the final flush taken out it exits with 1, and says how many lines came."""
    forget = (
        "import letgo._demo as demo\n"
        "demo._PATIENCE, demo._LEAKY_PATIENCE, demo._FLUSH_INTERVAL = 0.5, 0.1, 60\n"
        "demo.Outbox.close = lambda outbox: outbox._socket.close()"
    )
    result = run_demo("--workers", "2", before=forget)
    assert result.returncode == 1
    assert "letgo: 200 lines of guarded senders sent, 0 received" in result.stderr
