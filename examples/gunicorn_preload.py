"""A WSGI application that counts its requests, under `gunicorn --preload`.

The counter is made once, in gunicorn's master, before it forks. Each forked
worker gets a thread of its own, forgets the counts that it inherited, and writes
its own when it ends. Run it:

    HITS=/tmp/hits gunicorn --preload --workers 4 --chdir examples gunicorn_preload:app
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

import letgo

StartResponse = Callable[[str, list[tuple[str, str]]], object]
Environ = dict[str, object]


class _Hits:
    """What the worker needs: how many hits there were, and where to write them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.forget()

    def forget(self) -> None:
        """In a forked child: what was counted so far is the parent's to write."""
        self._lock = threading.Lock()  # some thread of the parent may have held the old one
        self._hits = 0

    def add(self) -> None:
        with self._lock:
            self._hits += 1

    def write(self) -> None:
        with self._lock:
            hits, self._hits = self._hits, 0
        if hits:
            # One line and one write: the workers append to the same file.
            with open(self._path, "ab", buffering=0) as file:
                file.write(f"{os.getpid()} {hits}\n".encode())


class HitCounter(letgo.Handle):
    __slots__ = ("_hits",)

    def __init__(self, path: str, interval: float = 10.0) -> None:
        self._hits = hits = _Hits(path)
        super().__init__(
            hits.write,
            interval=interval,
            on_close=hits.write,
            after_fork=hits.forget,
            name="hit-counter",
        )

    def add(self) -> None:
        self._hits.add()


counter = HitCounter(os.environ.get("HITS", os.devnull))


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    counter.add()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()}\n".encode()]


def main() -> None:
    """Without gunicorn: one request to the application itself."""
    for line in app({}, lambda status, headers: print(status)):
        print("answered by this process:", int(line) == os.getpid())


if __name__ == "__main__":
    main()
