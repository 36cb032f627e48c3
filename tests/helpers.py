"""What many tests need: waiting for a condition, and Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Only a fault makes a test wait this long: no test relies on its being short.
PATIENCE = 20.0


def wait_until(predicate: Callable[[], object], what: str = "", patience: float = PATIENCE) -> None:
    """Return when `predicate()` is true; fail, naming what was waited for, when it stays false."""
    end = time.monotonic() + patience
    pause = 0.0001
    while not predicate():
        assert time.monotonic() < end, f"still not true after {patience} s: {what or predicate}"
        time.sleep(pause)
        pause = min(pause * 2, 0.01)


def wait_for(event: threading.Event, what: str = "") -> None:
    """Wait for an event that is bound to come."""
    assert event.wait(PATIENCE), f"never happened: {what or event}"


def letgo_threads() -> list[threading.Thread]:
    """The threads of ours that run now."""
    return [thread for thread in threading.enumerate() if type(thread).__module__ == "letgo._engine"]


def run_python(
    source: str,
    *flags: str,
    arguments: tuple[str, ...] = (),
    timeout: float = 60.0,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `source` as a script of its own, with this package on its path."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(source), *arguments],
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_quietly(source: str, *flags: str, **options: object) -> str:
    """What `source` prints, when it ends well and writes nothing to stderr."""
    result = run_python(source, *flags, **options)  # type: ignore[arg-type]
    assert (result.returncode, result.stderr) == (0, ""), (result.returncode, result.stderr)
    return result.stdout
