"""The handle itself: states, `start`, `stop`, `join`, `with`, what polls return and raise."""

from __future__ import annotations

import copy
import logging
import pickle
import threading
import weakref
from collections.abc import Callable

import pytest

import letgo
from helpers import PATIENCE, Call, Gate, Probe, raises, wait_for, wait_until

Make = Callable[..., letgo.Handle]


# --- States ---


def test_a_handle_starts_at_once(make: Make) -> None:
    """A handle is alive and open from its constructor to its close."""
    handle = make(Probe().poll)
    assert (handle.alive, handle.closed, handle.info.state) == (True, False, "running")
    handle.close()
    assert (handle.alive, handle.closed, handle.info.state) == (False, True, "closed")


def test_an_explicit_start(make: Make) -> None:
    """With `start=False` nothing runs until `start`; a second one has no effect."""
    probe = Probe()
    handle = make(probe.poll, interval=0.001, start=False)
    assert (handle.alive, handle.closed, handle.info.state) == (False, False, "new")
    handle.start()
    handle.start()
    assert (handle.alive, len(letgo.live())) == (True, 1)
    wait_until(lambda: probe.polls, "a poll")
    handle.close()


def test_starting_from_many_threads_starts_once(make: Make) -> None:
    """Of ten threads that call `start` at once, one starts the worker."""
    handle = make(Probe().poll, start=False)
    barrier = threading.Barrier(10)

    def start() -> None:
        barrier.wait(PATIENCE)
        handle.start()

    for call in [Call(start) for _ in range(10)]:
        call.result()
    assert len(letgo.live()) == 1
    handle.close()


def test_starting_one_that_runs_has_no_effect(make: Make) -> None:
    """A handle that its constructor started can be started again in vain."""
    with make(Probe().poll) as handle:
        handle.start()
        assert len(letgo.live()) == 1


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("end", ["stop", "close"])
def test_no_start_after_the_end(make: Make, start: bool, end: str) -> None:
    """A worker that was stopped stays so: `start` and `with` are a `RuntimeError`."""
    handle = make(Probe().poll, start=start, name="ended")
    getattr(handle, end)()
    with pytest.raises(RuntimeError, match="ended") as caught:
        handle.start()
    assert caught.type is letgo.ClosedError
    with pytest.raises(RuntimeError), handle:
        pass


def test_names(make: Make) -> None:
    """A name is kept; without one each worker gets its own."""
    named, one, other = make(Probe().poll, name="janitor"), make(Probe().poll), make(Probe().poll)
    assert (named.name, named.info.name) == ("janitor", "janitor")
    assert one.name != other.name
    assert one.name == one.info.name


def test_a_dedicated_thread_is_a_daemon_with_the_handles_name() -> None:
    """The thread can be told in a dump, and does not keep the process alive."""
    threads: list[threading.Thread] = []
    with letgo.Handle(lambda: threads.append(threading.current_thread()), name="janitor") as handle:
        handle.poll_now()
    assert [(thread.name, thread.daemon) for thread in threads] == [("janitor", True)]


def test_a_handle_says_what_it_is(make: Make) -> None:
    """`repr` names class, worker and state; it works before the constructor ran too."""

    class Janitor(letgo.Handle):
        pass

    with make(Probe().poll, name="sweep") as handle:
        assert repr(handle) == "<Handle 'sweep' running>"
    assert repr(handle) == "<Handle 'sweep' closed>"
    assert repr(Janitor.__new__(Janitor)) == "<Janitor>"


# --- with, stop, join ---


def test_with_closes(make: Make) -> None:
    """Leaving the block closes, and lets its exception through."""
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close)
    with pytest.raises(ValueError, match="body"), handle as entered:
        raise ValueError("body", entered is handle)
    assert (probe.closes, handle.alive) == (1, False)


def test_with_starts_what_was_not_started(make: Make) -> None:
    """Entering the block starts a handle that was made with `start=False`."""
    with make(Probe().poll, start=False) as handle:
        assert handle.alive


def test_stop_returns_at_once(make: Make) -> None:
    """`stop` only asks: a poll that runs goes on, and the end comes after it."""
    gate = Gate()
    probe = Probe(gate)
    handle = make(probe.poll, on_close=probe.close)
    handle.wake()
    wait_for(gate.entered)
    handle.stop()
    assert (handle.closed, handle.alive, handle.info.state) == (True, True, "stopping")
    gate.opened.set()
    assert handle.join(PATIENCE)
    assert (probe.polls, probe.closes) == (1, 1)


def test_stop_before_the_start_runs_nothing(make: Make) -> None:
    """A handle that was never started just ends, without `on_close`."""
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close, start=False)
    handle.stop()
    handle.stop()
    handle.close()
    assert (handle.closed, handle.alive, handle.join(), probe.closes) == (True, False, True, 0)


def test_join_waits_for_the_end(make: Make) -> None:
    """`join` tells whether the worker has ended, and does not ask it to."""
    gate = Gate()
    handle = make(Probe().poll, on_close=gate)
    assert handle.join(0.001) is False
    assert handle.join(0) is False
    handle.stop()
    wait_for(gate.entered)
    call = Call(handle.join)
    assert handle.join(0.001) is False
    gate.opened.set()
    assert (call.result(), handle.join(0)) == (True, True)


def test_join_before_the_start(make: Make) -> None:
    """As for threads, one cannot join what was never started."""
    handle = make(Probe().poll, start=False)
    with pytest.raises(RuntimeError, match="not been started"):
        handle.join()


def test_join_on_the_workers_own_thread(make: Make) -> None:
    """A poll that joins its own worker is not made to wait for itself."""
    joined: list[bool] = []
    handles: list[letgo.Handle] = []
    handles.append(make(lambda: joined.append(handles[0].join())))
    handles[0].poll_now()
    handles.pop().close()
    assert joined == [False]


def test_join_does_not_raise_what_on_close_raised(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Who joins asked for nothing: the exception is logged."""
    handle = make(on_close=raises(OSError("flush")))
    call = Call(handle.join)
    handle.stop()
    assert call.result() is True
    assert "flush" in caplog.text


# --- What polls return and raise ---


def test_stop_ends_the_worker(make: Make) -> None:
    """A poll that returns `STOP` is the last: the end comes as if closed."""
    probe = Probe(lambda: letgo.STOP)
    handle = make(probe.poll, on_close=probe.close, interval=0.001)
    assert handle.join(PATIENCE)
    assert (probe.polls, probe.closes, handle.closed) == (1, 1, True)


@pytest.mark.parametrize("value", [None, True, False, "letgo.STOP", 0])
def test_other_results_mean_nothing(make: Make, value: object) -> None:
    """Whatever else a poll returns, the worker goes on."""
    with make(lambda: value) as handle:
        handle.poll_now()
        handle.poll_now()
        assert not handle.closed


def test_stop_is_one_value() -> None:
    """`STOP` is named by its repr, and survives copies as the same object."""
    assert repr(letgo.STOP) == "letgo.STOP"
    assert copy.deepcopy(letgo.STOP) is letgo.STOP
    assert pickle.loads(pickle.dumps(letgo.STOP)) is letgo.STOP


def test_a_poll_that_raises_is_given_to_on_error(make: Make) -> None:
    """`on_error` gets each exception, with its traceback, and the worker goes on."""
    errors: list[Exception] = []
    wrong = ValueError("wrong")
    probe = Probe(raises(wrong))
    with make(probe.poll, interval=0.001, on_error=errors.append) as handle:
        wait_until(lambda: len(errors) >= 3, "three errors")
        assert handle.info.errors >= 3
    assert set(errors) == {wrong}
    assert wrong.__traceback__ is not None


def test_without_on_error_failures_are_logged_ever_less(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Of consecutive failures the 1st, 2nd, 4th, 8th … are logged: no flood."""
    probe = Probe(raises(ValueError("no route")))
    with make(probe.poll, interval=0.001, name="sender") as handle:
        wait_until(lambda: handle.info.errors >= 17, "seventeen failures")
        probe.act = lambda: letgo.STOP
        handle.join()
    failures = handle.info.errors
    logged = [record.getMessage() for record in caplog.records]
    counts = [2**n for n in range(failures.bit_length())]
    assert all(f"({count} in a row)" in text for count, text in zip(counts, logged, strict=True))
    assert all("sender" in text and "Probe.poll" in text for text in logged)
    assert all(
        (record.name, record.levelno) == ("letgo", logging.ERROR) and record.exc_info
        for record in caplog.records
    )


def test_a_success_begins_the_count_again(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Only failures in a row are counted: the first after a success is logged."""
    results = iter([True, True, True, False, True, False])
    gate = threading.Event()

    def poll() -> object:
        fails = next(results, None)
        if fails is None:
            gate.set()
            return letgo.STOP
        if fails:
            raise ValueError("again")
        return None

    with make(poll, interval=0.001, start=False):
        wait_for(gate)
    texts = [record.getMessage().rpartition(" failed ")[2] for record in caplog.records]
    assert texts == ["(1 in a row)", "(2 in a row)", "(1 in a row)"]


@pytest.mark.parametrize("failure", [ValueError("handler"), KeyboardInterrupt()])
def test_on_error_that_raises_stops_the_worker(
    make: Make,
    failure: BaseException,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker cannot tell anybody of its errors: it ends, with `on_close`, and says so."""
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    probe = Probe(raises(OSError("poll")))
    handle = make(
        probe.poll, interval=0.001, on_close=probe.close, on_error=raises(failure), name="mute"
    )
    assert handle.join(PATIENCE)
    assert (probe.polls, probe.closes, handle.closed) == (1, 1, True)
    assert "mute" in caplog.text or told


def test_system_exit_ends_the_worker_silently(
    make: Make, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """`SystemExit` in a poll ends its worker as it ends a thread, with `on_close`."""
    errors: list[Exception] = []
    probe = Probe(raises(SystemExit(3)))
    handle = make(probe.poll, interval=0.001, on_close=probe.close, on_error=errors.append)
    assert handle.join(PATIENCE)
    assert (probe.polls, probe.closes, handle.closed) == (1, 1, True)
    assert (errors, caplog.records, capsys.readouterr().err) == ([], [], "")


def test_other_base_exceptions_go_to_the_threads_excepthook(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no worker can handle ends it, with `on_close`, and is reported as a thread's end."""
    told: list[type[BaseException] | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    probe = Probe(raises(KeyboardInterrupt()))
    handle = make(probe.poll, interval=0.001, on_close=probe.close)
    assert handle.join(PATIENCE)
    assert (probe.polls, probe.closes, told) == (1, 1, [KeyboardInterrupt])


def test_a_log_handler_that_raises_does_not_end_the_worker(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken logging set-up goes to `sys.unraisablehook`, and the worker goes on."""
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    monkeypatch.setattr(logging.getLogger("letgo"), "handle", raises(OSError("disk full")))
    probe = Probe(raises(ValueError("poll")))
    with make(probe.poll, interval=0.001):
        wait_until(lambda: probe.polls >= 5, "five polls")
    assert told


# --- The class ---


def test_a_handle_can_be_subclassed(scheduler: letgo.Scheduler | None) -> None:
    """A subclass has its own attributes, and its methods keep the handle alive while they run."""

    class Counter(letgo.Handle):
        def __init__(self, poll: Callable[[], object]) -> None:
            super().__init__(poll, scheduler=scheduler)
            self.total = 0

        def add(self) -> bool:
            self.total += 1
            return self.closed

    probe = Probe()
    assert Counter(probe.poll).add() is False
    counter = Counter(probe.poll)
    counter.add()
    assert counter.total == 1
    counter.close()


def test_a_handle_has_slots() -> None:
    """A handle has no dict, can be weakly referred to, and a subclass may keep it so."""

    class Slim(letgo.Handle):
        __slots__ = ("extra",)

    with Slim(Probe().poll) as slim, letgo.Handle(Probe().poll) as plain:
        slim.extra = 1
        assert weakref.ref(slim)() is slim
        assert not hasattr(slim, "__dict__")
        assert not hasattr(plain, "__dict__")


def test_a_subclass_that_fails_after_the_base_leaves_no_worker(
    scheduler: letgo.Scheduler | None,
) -> None:
    """When a constructor raises after `super().__init__`, the worker ends with the object."""

    class Broken(letgo.Handle):
        def __init__(self) -> None:
            super().__init__(Probe().poll, interval=0.001, scheduler=scheduler)
            raise ValueError("no configuration")

    def build() -> None:
        with pytest.raises(ValueError, match="configuration"):
            Broken()

    build()
    wait_until(lambda: not letgo.live(), "the worker ends")


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, *(lambda h, p=p: pickle.dumps(h, p) for p in range(6))],
)
def test_a_handle_cannot_be_copied(make: Make, duplicate: Callable[[object], object]) -> None:
    """There is one worker: copy, deepcopy and pickle are a `TypeError` with the reason."""
    with make(Probe().poll) as handle, pytest.raises(TypeError, match=r"Handle.*running worker"):
        duplicate(handle)


def test_handles_are_compared_by_identity(make: Make) -> None:
    """A handle is hashable, and equal to itself only."""
    with make(Probe().poll) as one, make(Probe().poll) as other:
        assert len({one, other, one}) == 2


@pytest.mark.parametrize("attribute", ["closed", "alive", "name", "info"])
def test_state_cannot_be_written(make: Make, attribute: str) -> None:
    """Only `interval` can be set."""
    with make(Probe().poll) as handle, pytest.raises(AttributeError):
        setattr(handle, attribute, None)
