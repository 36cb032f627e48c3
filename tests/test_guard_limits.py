"""The limits of `guard`: each documented in docs/guard.md, and shown here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import letgo
from guard_helpers import Service
from helpers import run_python, run_quietly, wait_until


class Client(Service):
    """One that hands out parts of itself."""

    def __getitem__(self, name: str) -> list[str]:
        return self.journal.calls

    def stream(self) -> Iterator[str]:
        yield from self.journal.calls

    async def fetch(self) -> list[str]:
        return self.journal.calls


def finish(coroutine: Any) -> Any:
    """What a coroutine that never waits returns."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


def test_a_part_does_not_hold_the_whole() -> None:
    """`guard(client)["db"]` closes the client under the part: guard what you keep."""
    client = Client()
    part = letgo.guard(client)["db"]
    client.journal.wait_for("close")
    assert part == ["close"]


def test_a_coroutine_does_not_hold_the_proxy() -> None:
    """`await guard(client).fetch()` runs on a closed client: keep the proxy in a name."""
    client = Client()
    coroutine = letgo.guard(client).fetch()
    client.journal.wait_for("close")
    assert finish(coroutine) == ["close"]


def test_an_iterator_does_not_hold_the_proxy() -> None:
    """`for x in guard(client).stream()` runs on a closed client: keep the proxy in a name."""
    client = Client()
    stream = letgo.guard(client).stream()
    client.journal.wait_for("close")
    assert list(stream) == ["close"]


def test_an_object_that_holds_its_proxy_is_not_dropped() -> None:
    """The worker holds the object, and so what the object holds: its own proxy too."""
    proxy = letgo.guard(Service())
    proxy.owner = proxy  # type: ignore[attr-defined]
    service = proxy.__wrapped__  # type: ignore[attr-defined]
    del proxy
    assert len(letgo.live()) == 1
    del service.owner
    service.journal.wait_for("close")


def test_the_object_itself_can_be_held_past_its_guard() -> None:
    """Who keeps `__wrapped__`, or the object from before, has it closed under the hands."""
    service = letgo.guard(Service()).__wrapped__  # type: ignore[attr-defined]
    service.journal.wait_for("close")


def test_a_second_closer_comes_second() -> None:
    """A library that registers its own `atexit` closes again: its close must bear that."""
    out = run_quietly("""
        import atexit, letgo
        class Library:
            def __init__(self): atexit.register(self.close)
            def close(self): print("closed", flush=True)
        proxy = letgo.guard(Library())
        letgo.handle_of(proxy).close()
        """)
    assert out.splitlines() == ["closed", "closed"]


def test_a_non_daemon_thread_is_joined_before_guards_close() -> None:
    """Python waits for it before any exit handler: the program hangs, guarded or not."""
    source = """
        import letgo, threading, time
        class Library:
            def __init__(self):
                self.ended = threading.Event()
                threading.Thread(target=self.work).start()
            def work(self):
                print("closed" if self.ended.wait({patience}) else "hung", flush=True)
            def close(self): self.ended.set()
        proxy = letgo.guard(Library())
        {last}
        """
    assert run_quietly(source.format(patience=0.1, last="")) == "hung\n"
    assert run_quietly(source.format(patience=30, last="del proxy")) == "closed\n"


def test_the_threads_of_an_executor_are_joined_before_guards_close() -> None:
    """Daemon or not: `concurrent.futures` joins them first, as it does non-daemon threads."""
    out = run_quietly("""
        import concurrent.futures, letgo, threading
        class Library:
            def __init__(self):
                self.ended = threading.Event()
                self.pool = concurrent.futures.ThreadPoolExecutor(1)
                self.pool.submit(self.work)
            def work(self): print("closed" if self.ended.wait(0.1) else "hung", flush=True)
            def close(self): self.ended.set()
        proxy = letgo.guard(Library())
        """)
    assert out == "hung\n"


def test_a_part_that_was_handed_over_is_its_owners() -> None:
    """Guard the outermost owner: what it was given it holds itself, proxy or not."""

    class Provider(Service):
        def __init__(self, reader: Service) -> None:
            super().__init__()
            self.reader = reader

        def close(self, *arguments: object) -> object:
            self.reader.close()
            return super().close(*arguments)

    reader = Service()
    provider = letgo.guard(Provider(letgo.guard(reader)))
    assert reader.journal.calls == []
    del provider
    reader.journal.wait_for("close")


def test_a_blocking_poll_wants_a_scheduler_of_its_own() -> None:
    """Without `scheduler` a guard shares its thread: a poll that blocks delays the others."""
    blocked, release = threading.Event(), threading.Event()

    def block(_: Service) -> None:
        blocked.set()
        release.wait(20)

    proxy = letgo.guard(Service(), poll=block, interval=0.001)
    assert blocked.wait(20)
    other = letgo.guard(Service(), close=None, poll="flush")
    with pytest.raises(TimeoutError):
        letgo.handle_of(other).poll_now(timeout=0.02)
    apart = letgo.guard(Service(), close=None, poll="flush", scheduler=letgo.Scheduler())
    letgo.handle_of(apart).poll_now()
    release.set()
    letgo.handle_of(proxy).close()


@pytest.mark.parametrize(
    ("last", "printed"), [("os._exit(0)", ""), ("letgo.close_all(); os._exit(0)", "closed\n")]
)
def test_a_server_that_skips_exit_handlers_needs_close_all(last: str, printed: str) -> None:
    """Where `os._exit` ends a worker process, its own hook is to call `close_all()`."""
    result = run_python(f"""
        import letgo, os
        class Library:
            def close(self): print("closed", flush=True)
        proxy = letgo.guard(Library())
        {last}
        """)
    assert (result.returncode, result.stdout, result.stderr) == (0, printed, "")


def test_a_built_in_sequence_on_the_left_takes_its_own_kind_only() -> None:
    """`[1] + proxy` is list's own affair, and lists do not ask: unpack the proxy."""
    proxy: Any = letgo.guard([2], close="clear")
    with pytest.raises(TypeError, match="can only concatenate list"):
        [1] + proxy  # noqa: RUF005
    assert [1, *proxy] == [1, 2]


def test_type_tells_a_proxy_from_the_object() -> None:
    """`type()` and C code that looks at the type see the proxy; `isinstance` does not."""
    proxy = letgo.guard([2], close="clear")
    assert type(proxy) is not list
    assert isinstance(proxy, list)


def test_what_the_object_replaces_itself_is_called_but_not_shown() -> None:
    """A method replaced on the object behind the proxy: the call finds it, a look does not."""
    service = Service()
    proxy = letgo.guard(service)
    service.flush = replaced = lambda: "replaced"  # type: ignore[method-assign]
    assert proxy.flush() == "replaced"
    assert proxy.flush is not replaced
    letgo.unguard(proxy)


def test_a_method_of_an_executor_thread_keeps_the_guard() -> None:
    """A thread that runs a method of the proxy holds it: such a thread is never dropped."""
    started, ended = threading.Event(), threading.Event()

    def run() -> None:
        started.set()
        ended.wait(20)

    service = Service(run)
    thread = threading.Thread(target=letgo.guard(service).flush)
    thread.start()
    assert started.wait(20)
    assert len(letgo.live()) == 1
    service.act = None
    ended.set()
    thread.join()
    del thread
    wait_until(lambda: service.journal.calls == ["flush", "close"], "closed")
