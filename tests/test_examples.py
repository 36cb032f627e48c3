"""Each example runs, prints what it promises, and keeps the promise that it is there for."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import letgo
from helpers import PATIENCE, ROOT, Gate, run_quietly, wait_for, wait_until

EXAMPLES = ROOT / "examples"
GUNICORN = importlib.util.find_spec("gunicorn") is not None

PRINTS = {
    "before_and_after": """\
        Before: 10 threads left, 0 of 10 lines sent
        After: 0 threads left, 10 of 10 lines sent""",
    "feature_flags": """\
        new-checkout: False
        new-checkout: True
        workers left: 0""",
    "gunicorn_preload": """\
        200 OK
        answered by this process: True""",
    "http_server": """\
        started: False
        started: True
        answer: hello
        closed: True""",
    "lease": """\
        held: True
        taken: nightly-report
        held after 0.6 s: True
        held by another: True""",
    "log_shipper": """\
        shipped 2: order 1 order 2
        shipped 1: order 3""",
    "pool_reaper": """\
        answers: 1 2
        idle: 2
        idle, a little later: 0
        after the drop: Cannot operate on a closed database.""",
    "queue_consumer": """\
        job 0
        job 1
        job 2
        closed: True""",
}


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def load(name: str) -> ModuleType:
    """The example as a module, without its demonstration."""
    spec = importlib.util.spec_from_file_location(f"examples.{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_for_no_worker() -> None:
    wait_until(lambda: not letgo.live(), "no worker is left")


def drop(holders: list[letgo.Handle]) -> None:
    holders.clear()
    wait_for_no_worker()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_runs_and_prints_what_it_says(path: Path) -> None:
    """As a script, in development mode, with warnings as errors, and nothing on stderr."""
    source = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    printed = run_quietly(source, "-X", "dev", "-W", "error")
    assert printed.splitlines() == [line.strip() for line in PRINTS[path.stem].splitlines()]


def test_flags_outlive_a_failing_source(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the source fails the last flags count, and it is asked again before its turn."""
    module = load("feature_flags")
    module.RETRY = 0.001
    answers: list[dict[str, bool]] = [{"on": True}]
    flags = module.FlagClient(lambda: answers[0], interval=60)
    flags.poll_now()
    answers.clear()
    with pytest.raises(IndexError):
        flags.poll_now()
    wait_until(lambda: flags.info.errors > 1, "it was asked again")
    assert flags.is_enabled("on")
    answers.append({"on": False})
    wait_until(lambda: not flags.is_enabled("on"), "the new answer came")
    flags.close()


def test_a_dropped_lease_is_free_at_once() -> None:
    """The final call gives it back, though it would have lasted for an hour."""
    module = load("lease")
    table = module.LeaseTable()
    lease = module.Lease(table, "job", seconds=3600)
    with pytest.raises(module.LeaseTakenError):
        module.Lease(table, "job")
    del lease
    wait_for_no_worker()
    with module.Lease(table, "job") as mine:
        assert mine.held


def test_a_lost_lease_is_not_held() -> None:
    """When somebody else has it, the worker ends, and does not give away what is theirs."""
    module = load("lease")
    table = module.LeaseTable()
    lease = module.Lease(table, "job", seconds=60)
    table._rows["job"] = ("somebody else", float("inf"))
    lease.poll_now()
    assert lease.join(PATIENCE)
    assert not lease.held
    assert table._rows["job"][0] == "somebody else"


@needs_fork
def test_a_forked_child_leaves_the_lease_to_its_parent() -> None:
    """The child neither holds nor gives back what its parent holds."""
    source = f"""
        import os, runpy, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork beside threads
        lease = runpy.run_path({str(EXAMPLES / "lease.py")!r})
        held = lease["Lease"](lease["LeaseTable"](), "job")
        child = os.fork()
        if child == 0:
            sys.exit(held.held or held.alive)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), held.held, held.alive)
    """
    assert run_quietly(source) == "0 True True\n"


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.Logger("test_examples", logging.INFO)
    yield logger
    for handler in logger.handlers:
        handler.close()


def test_the_shipper_loses_and_repeats_nothing(log: logging.Logger) -> None:
    """A batch that could not be sent is sent again, before what came after it."""
    module = load("log_shipper")
    module.RETRY = module.DELAY = 0.001
    sent: list[str] = []
    failures = [OSError("away"), OSError("still away")]

    def send(batch: list[str]) -> None:
        if failures:
            raise failures.pop()
        assert len(batch) <= module.BATCH
        sent.extend(batch)

    log.addHandler(module.LogShipper(send))
    for number in range(250):
        log.info("%d", number)
    wait_until(lambda: len(sent) >= 250, "all is shipped")
    assert sent == [str(number) for number in range(250)]


def test_the_shipper_sleeps_until_there_is_a_record(log: logging.Logger) -> None:
    """Nothing is planned while nobody logs; the first record plans one poll, for later."""
    module = load("log_shipper")
    module.DELAY = 3600.0
    handler = module.LogShipper(lambda batch: None)
    log.addHandler(handler)
    assert handler._worker.info.next_poll_in is None
    log.info("first")
    log.info("second")
    assert 0 < handler._worker.info.next_poll_in <= 3600.0
    assert handler._worker.info.polls == 0


def test_a_consumer_dropped_while_it_waits_ends() -> None:
    """`interrupt` ends a get() that nobody will answer."""
    module = load("queue_consumer")
    consumers = [module.Consumer()]
    wait_until(lambda: consumers[0].info.polls == 1, "it waits for a job")
    drop(consumers)


def test_a_dropped_consumer_runs_what_was_submitted() -> None:
    """The jobs that wait when it is dropped are run by its final call, in order."""
    module = load("queue_consumer")
    consumer = module.Consumer()
    gate = Gate()
    ran: list[int] = []
    consumer.submit(gate)
    wait_for(gate.entered)
    for number in range(3):
        consumer.submit(lambda number=number: ran.append(number))
    del consumer
    gate.opened.set()
    wait_for_no_worker()
    assert ran == [0, 1, 2]


def test_a_dropped_server_is_reported_and_ends() -> None:
    """The explicit style: the drop still frees the port, and tells its user."""
    module = load("http_server")
    servers = [module.Server(module.Hello)]
    servers[0].start()
    address = servers[0].address
    with urllib.request.urlopen("http://{}:{}/".format(*address), timeout=PATIENCE) as answer:
        assert answer.read() == b"hello\n"
    with pytest.warns(ResourceWarning, match=r"http-server.* dropped without close"):
        drop(servers)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PATIENCE)


class FakeConnection:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_the_reaper_closes_what_is_idle_only() -> None:
    """A connection in use stays open, however long; one that fails is not used again."""
    module = load("pool_reaper")
    pool = module.Pool(FakeConnection, max_idle=0.01)
    with pool.connection() as used:
        with pool.connection() as idle:
            pass
        wait_until(lambda: idle.closed, "the idle one is closed")
        assert not used.closed
    with pytest.raises(ZeroDivisionError), pool.connection() as broken:
        raise ZeroDivisionError
    assert broken.closed
    pool.close()


def test_a_dropped_pool_closes_its_connections() -> None:
    """Those that come back to it at the last moment included."""
    module = load("pool_reaper")
    pool = module.Pool(FakeConnection, max_idle=60)
    with pool.connection() as first, pool.connection() as second:
        pool.close()
    assert first.closed
    assert second.closed
    pool = module.Pool(FakeConnection, max_idle=60)
    with pool.connection() as third:
        del pool
    wait_until(lambda: third.closed, "it is closed with the pool")


@needs_fork
def test_a_forked_child_counts_its_own_hits_only(tmp_path: Path) -> None:
    """What the parent had counted at the fork is written once, by the parent."""
    hits = tmp_path / "hits"
    source = f"""
        import os, runpy, sys, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork beside threads
        counter = runpy.run_path({str(EXAMPLES / "gunicorn_preload.py")!r})["counter"]
        counter.add()
        counter.add()
        child = os.fork()
        if child == 0:
            counter.add()
            sys.exit()
        print(child, os.getpid(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    child, parent, status = run_quietly(source, environment={"HITS": str(hits)}).split()
    assert (hits.read_text(), status) == (f"{child} 1\n{parent} 2\n", "0")


class Gunicorn:
    """gunicorn with the example, on a socket of its own; counts the answers by process."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "socket")
        self._log = folder / "log"
        self.hits = folder / "hits"
        self.answers: Counter[int] = Counter()
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [
                *[sys.executable, "-m", "gunicorn", "--preload", "--workers=2"],
                *[
                    f"--bind=unix:{self._socket}",
                    f"--chdir={EXAMPLES}",
                    f"--error-logfile={self._log}",
                ],
                "gunicorn_preload:app",
            ],
            env={**os.environ, "PYTHONPATH": path, "HITS": str(self.hits)},
        )

    def get(self) -> bool:
        """Whether it answered."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            try:
                client.connect(self._socket)
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(4096), b""))
            except OSError:
                return False
        if answer:
            self.answers[int(answer.split()[-1])] += 1
        return bool(answer)

    def written(self) -> Counter[int]:
        """What the workers have written, by process."""
        written: Counter[int] = Counter()
        for line in self.hits.read_text().splitlines():
            process, hits = map(int, line.split())
            written[process] += hits
        return written

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Gunicorn]:
    server = Gunicorn(tmp_path)
    yield server
    server.process.kill()
    server.process.wait(PATIENCE)


@pytest.mark.skipif(not GUNICORN, reason="gunicorn is not installed")
def test_gunicorn_workers_count_every_request_once(gunicorn: Gunicorn) -> None:
    """Made in the master before the fork, through a reload and to the end, by SIGTERM."""
    wait_until(gunicorn.get, "gunicorn answers")
    wait_until(lambda: gunicorn.get() and len(gunicorn.answers) == 2, "both workers answer")
    before = set(gunicorn.answers)
    gunicorn.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gunicorn.get() and len(set(gunicorn.answers) - before) == 2, "two new ones")
    gunicorn.process.send_signal(signal.SIGTERM)
    assert gunicorn.process.wait(PATIENCE) == 0, gunicorn.log()
    assert gunicorn.written() == gunicorn.answers, gunicorn.log()
    assert "Traceback" not in gunicorn.log()
