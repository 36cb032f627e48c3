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
from typing import NoReturn

import letgo

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
    return [
        thread for thread in threading.enumerate() if type(thread).__module__ == "letgo._engine"
    ]


def python_command(source: str, *flags: str) -> list[str]:
    """The command that runs `source` as a script, with this package on its path."""
    prelude = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
    return [sys.executable, *flags, "-c", prelude + textwrap.dedent(source)]


def run_python(
    source: str,
    *flags: str,
    arguments: tuple[str, ...] = (),
    timeout: float = 60.0,
    environment: dict[str, str] | None = None,
    file: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `source` as a script of its own, from `file` if given, with this package on its path."""
    command = ["-c", textwrap.dedent(source)]
    if file is not None:
        file.write_text(command.pop())
        command = [str(file)]
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, *flags, *command, *arguments],
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


class Probe:
    """Callables for a worker: they count, and `poll` does what a test puts into `act`."""

    def __init__(self, act: Callable[[], object] | None = None) -> None:
        self.polls = 0
        self.closes = 0
        self.act = act
        self.error: BaseException | None = None  # what `close` raises

    def poll(self) -> object:
        self.polls += 1
        return self.act() if self.act is not None else None

    def close(self) -> None:
        self.closes += 1
        if self.error is not None:
            error, self.error = self.error, None
            try:
                raise error
            finally:
                del error  # no cycle of ours, where tests look for others'


class Gate:
    """A call that says that it has begun, and waits to be let through."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        wait_for(self.opened, "the gate is opened")


class Call:
    """A call on a thread of its own, and what came of it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._function = function
        self._arguments = arguments
        self._result: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function(*self._arguments)
        except BaseException as error:
            self._error = error
        del self._function, self._arguments

    def pending(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> object:
        """What it returned; raises what it raised."""
        self._thread.join(PATIENCE)
        assert not self.pending(), "the call never returned"
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
        return self._result


def raises(error: BaseException) -> Callable[..., NoReturn]:
    """A callable that raises `error`."""

    def fail(*_: object) -> NoReturn:
        raise error

    return fail


def next_due(handle: letgo.Handle, within: float = 0.001) -> float:
    """When the next poll is due on the monotonic clock, at most `within` seconds too early."""
    while True:
        before = time.monotonic()
        seconds = handle.info.next_poll_in
        if seconds and time.monotonic() - before < within:
            return before + seconds
