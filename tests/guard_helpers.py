"""An object to guard: it notes what is done to it, elsewhere, so that it can be freed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from helpers import PATIENCE


class Journal:
    """What was done to a `Service`, and by which thread."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arguments: list[object] = []
        self.threads: list[threading.Thread] = []
        self._changed = threading.Condition()

    def note(self, call: str, *arguments: object) -> None:
        with self._changed:
            self.calls.append(call)
            self.arguments.append(arguments)
            self.threads.append(threading.current_thread())
            self._changed.notify_all()

    def wait_for(self, *calls: str) -> None:
        """Wait until just these calls were made, in this order."""
        with self._changed:
            seen = self._changed.wait_for(lambda: self.calls == list(calls), PATIENCE)
        assert seen, f"not {calls} but {self.calls}"


class Service:
    """Someone else's object, as a library has it."""

    def __init__(self, act: Callable[[], object] | None = None) -> None:
        self.journal = Journal()
        self.act = act  # what `close` and `flush` do besides

    def flush(self) -> str:
        if self.act is not None:
            self.act()
        self.journal.note("flush")
        return "flushed"

    def close(self, *arguments: object) -> object:
        if self.act is not None:
            self.act()
        self.journal.note("close", *arguments)
        return arguments

    def shutdown(self) -> None:
        self.journal.note("shutdown")

    def chained(self) -> Service:
        return self


class Context(Service):
    """One with a `with` of its own, which calls no close method."""

    def __enter__(self) -> Context:
        self.journal.note("enter")
        return self

    def __exit__(self, *error: object) -> None:
        self.journal.note("exit")
