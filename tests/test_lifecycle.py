"""The end of a worker: `close`, drop, `interrupt`, exactly once, and freed means freed."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable

import pytest

import letgo
from helpers import PATIENCE, Call, Gate, Probe, raises, wait_for, wait_until

Make = Callable[..., letgo.Handle]


def waiting_in_close() -> int:
    """How many threads wait for the end of a worker."""
    return sum(
        any(frame.f_code.co_name == "_wait_for_end" for frame, _ in traceback.walk_stack(innermost))
        for innermost in sys._current_frames().values()
    )


def held_by_a_worker(probe: Probe) -> list[letgo.Handle]:
    """A list for a poll to find its handle in: the worker itself must not refer to one."""
    handles: list[letgo.Handle] = []
    probe.act = handles.clear
    return handles


# --- close ---


def test_close_waits_for_on_close(make: Make) -> None:
    """`close` returns when the final flush is done."""
    probe = Probe()
    make(probe.poll, on_close=probe.close).close()
    assert probe.closes == 1


def test_on_close_runs_on_the_workers_thread_after_the_last_poll(make: Make) -> None:
    """Polls and the final flush share one thread, never together, the flush last."""
    threads: list[threading.Thread] = []
    calls: list[str] = []

    def call(what: str) -> None:
        calls.append(what)
        threads.append(threading.current_thread())

    handle = make(lambda: call("poll"), on_close=lambda: call("close"), interval=0.0005)
    wait_until(lambda: len(calls) > 3, "a few polls")
    handle.close()
    assert calls.index("close") == len(calls) - 1
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


def test_close_waits_for_a_poll_that_runs(make: Make) -> None:
    """A poll in progress ends before `on_close` begins; no other follows."""
    gate = Gate()
    probe = Probe(gate)
    handle = make(probe.poll, on_close=probe.close, interval=0.001)
    wait_for(gate.entered)
    call = Call(handle.close)
    wait_until(lambda: handle.closed, "close has asked")
    assert (probe.closes, call.pending()) == (0, True)
    gate.opened.set()
    call.result()
    assert (probe.polls, probe.closes) == (1, 1)


def test_close_again_has_no_effect(make: Make) -> None:
    """`close` is idempotent."""
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close)
    for _ in range(3):
        handle.close()
    assert probe.closes == 1


def test_close_times_out_and_can_wait_again(make: Make) -> None:
    """`TimeoutError` names the worker, which goes on stopping; a second `close` waits again."""
    gate = Gate()
    handle = make(on_close=gate, name="slow")
    with pytest.raises(TimeoutError, match="slow"):
        handle.close(timeout=0.001)
    with pytest.raises(TimeoutError):
        handle.close(timeout=0)
    assert handle.info.state == "stopping"
    gate.opened.set()
    handle.close(timeout=PATIENCE)
    assert handle.info.state == "closed"


def test_very_large_timeouts_work(make: Make) -> None:
    """A timeout beyond what a lock can wait for means as long as it takes."""
    handle = make(Probe().poll)
    handle.poll_now(timeout=1e12)
    handle.close(timeout=1e12)
    assert handle.join(timeout=1e12)


def test_close_raises_what_on_close_raised_to_every_waiter(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten threads that wait in `close` all get the exception, and it is not logged."""
    gate = Gate()

    def flush() -> None:
        gate()
        raise OSError("flush")

    handle = make(on_close=flush)
    running = threading.Barrier(11)

    def close() -> None:
        running.wait(PATIENCE)
        handle.close()

    calls = [Call(close) for _ in range(10)]
    running.wait(PATIENCE)
    wait_for(gate.entered)
    wait_until(lambda: waiting_in_close() == 10, "all wait")
    gate.opened.set()
    for call in calls:
        with pytest.raises(OSError, match="flush"):
            call.result()
    assert caplog.records == []


def test_who_asks_for_the_end_hears_of_it(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """However fast the worker ends, the `close` that asked gets what `on_close` raised."""
    for _ in range(300):
        handle = make(on_close=raises(OSError("flush")))
        with pytest.raises(OSError, match="flush"):
            handle.close()
    assert caplog.records == []


def test_on_close_errors_that_nobody_waits_for_are_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """After `stop` or a drop there is nobody to raise to: the log names the worker."""
    handle = make(on_close=raises(OSError("flush")), name="mute")
    handle.stop()
    handle.join()
    wait_until(lambda: caplog.records, "a log record")
    record = caplog.records[0]
    assert (record.name, record.levelno, len(caplog.records)) == ("letgo", logging.ERROR, 1)
    assert "mute" in record.getMessage()
    assert record.exc_info


def test_a_close_that_gave_up_leaves_the_error_to_the_log(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A `close` that has timed out waits no more: the exception that comes later is logged."""
    gate = Gate()

    def flush() -> None:
        gate()
        raise OSError("flush")

    handle = make(on_close=flush)
    with pytest.raises(TimeoutError):
        handle.close(timeout=0.001)
    gate.opened.set()
    assert handle.join(PATIENCE)
    assert "flush" in caplog.text


def test_close_from_the_poll_only_asks(make: Make) -> None:
    """On the worker's own thread `close` does not wait for itself; the flush follows the poll."""
    probe = Probe()
    handles: list[letgo.Handle] = []
    closes: list[int] = []

    def poll() -> None:
        handles[0].close()
        handles[0].close(timeout=0)
        closes.append(probe.closes)

    handles.append(make(poll, on_close=probe.close))
    handles[0].wake()
    assert handles[0].join(PATIENCE)
    assert (closes, probe.closes) == ([0], 1)


@pytest.mark.parametrize("in_thread", [False, True])
def test_close_from_on_close_only_asks(make: Make, in_thread: bool) -> None:
    """A final flush that closes its own handle is not made to wait for itself."""
    handles: list[letgo.Handle] = []
    handles.append(make(on_close=lambda: handles[0].close(), close_in_thread=in_thread))
    handles[0].stop()
    assert handles[0].join(PATIENCE)


def test_close_before_the_start_runs_on_close(make: Make) -> None:
    """An explicit close of what never ran flushes all the same, on a thread made for it."""
    threads: list[threading.Thread] = []
    probe = Probe()
    handle = make(
        probe.poll, on_close=lambda: threads.append(threading.current_thread()), start=False
    )
    handle.wake()
    handle.close()
    handle.close()
    assert (len(threads), probe.polls, handle.closed, handle.alive) == (1, 0, True, False)
    assert threads[0] is not threading.current_thread()


def test_close_before_the_start_raises_what_on_close_raised(make: Make) -> None:
    """A handle that was never started has no other way to tell."""
    handle = make(on_close=raises(OSError("flush")), start=False)
    with pytest.raises(OSError, match="flush"):
        handle.close()


def test_close_before_the_start_without_on_close_makes_no_thread(make: Make) -> None:
    """With nothing to run, nothing is started."""
    handle = make(Probe().poll, start=False)
    threads = threading.active_count()
    handle.close()
    assert (handle.info.state, threading.active_count()) == ("closed", threads)


def test_a_drop_before_the_start_runs_nothing(make: Make, no_collector: None) -> None:
    """A handle that was never started has no worker: it is freed at once."""
    probe = Probe()
    freed = weakref.ref(probe)
    closes = probe.close
    make(probe.poll, on_close=closes, start=False, interval=0.001)
    assert probe.closes == 0
    del probe, closes
    assert freed() is None


# --- Exactly once ---


def test_ten_threads_close_while_the_handle_is_dropped(make: Make) -> None:
    """However many close a handle while its last reference goes, `on_close` runs once."""
    for _ in range(50):
        probe = Probe()
        handles = [make(probe.poll, on_close=probe.close, interval=0.001)]
        barrier = threading.Barrier(11)

        def close(handle: letgo.Handle, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(PATIENCE)
            handle.close()

        calls = [Call(close, handles[0]) for _ in range(10)]
        barrier.wait(PATIENCE)
        handles.clear()
        for call in calls:
            call.result()
        assert probe.closes == 1


def test_ten_threads_close_what_was_never_started(make: Make) -> None:
    """Threads that race to close, start and stop a handle see one end, and none waits for ever."""
    for turn in range(50):
        probe = Probe()
        handle = make(probe.poll, on_close=probe.close, start=False)
        barrier = threading.Barrier(10)

        def end(
            method: str, handle: letgo.Handle = handle, barrier: threading.Barrier = barrier
        ) -> None:
            barrier.wait(PATIENCE)
            try:
                getattr(handle, method)()
            except letgo.ClosedError:
                assert method == "start"

        methods = ["close"] * 8 + (["start", "start"] if turn % 2 else ["stop", "start"])
        for call in [Call(end, method) for method in methods]:
            call.result()
        handle.close()
        assert probe.closes <= 1
        assert turn % 2 == 0 or probe.closes == 1


def test_nobody_who_waits_is_forgotten_at_the_end(make: Make) -> None:
    """Threads that come to wait just as the worker ends all return, others' waits untouched."""
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the window is a few bytecodes wide
    try:
        for _ in range(200):
            handle = make(Probe().poll)

            def wait(handle: letgo.Handle = handle) -> None:
                while not handle.join(0.0002):
                    pass

            calls = [Call(handle.join), *(Call(wait) for _ in range(3)), Call(handle.close)]
            for call in calls:
                call.result()
    finally:
        sys.setswitchinterval(switch)


def test_a_close_and_a_poll_never_run_together(make: Make) -> None:
    """`close` during a storm of wakes: `on_close` once, alone, and last."""
    busy = threading.Lock()
    faults: list[str] = []

    def alone() -> None:
        if not busy.acquire(False):
            faults.append("together")
        else:
            busy.release()

    for _ in range(50):
        closes: list[int] = []

        def poll(closes: list[int] = closes) -> None:
            alone()
            if closes:
                faults.append("after the end")

        def flush(closes: list[int] = closes) -> None:
            alone()
            closes.append(1)

        handle = make(poll, on_close=flush, interval=0.0001)
        waker = Call(lambda handle=handle: [handle.wake() for _ in range(200)])
        handle.close()
        waker.result()
        if closes != [1]:
            faults.append("not once")
    assert faults == []


def test_a_drop_inside_the_poll_ends_after_it(make: Make, no_collector: None) -> None:
    """When the poll lets go of the last reference, it ends first, then `on_close` runs."""
    probe = Probe()
    handles = held_by_a_worker(probe)
    handles.append(make(probe.poll, on_close=probe.close))
    handles[0].wake()
    wait_until(lambda: probe.closes, "on_close")
    assert (probe.polls, probe.closes, handles) == (1, 1, [])


def test_a_drop_during_a_poll(make: Make, no_collector: None) -> None:
    """A drop from outside while a poll runs: no other poll, one `on_close`."""
    gate = Gate()
    probe = Probe(gate)
    handle = make(probe.poll, on_close=probe.close, interval=0.001)
    wait_for(gate.entered)
    del handle
    assert letgo.live()[0].state == "stopping"
    gate.opened.set()
    wait_until(lambda: not letgo.live(), "the end")
    assert (probe.polls, probe.closes) == (1, 1)


def test_a_drop_races_with_stop_and_a_poll_that_raises(make: Make) -> None:
    """`STOP`, an exception and a drop at the same time are one end."""
    for error in (None, ValueError("poll"), SystemExit()):
        probe = Probe(raises(error) if error else lambda: letgo.STOP)
        handle = make(probe.poll, on_close=probe.close, on_error=lambda _: None, interval=0.0001)
        wait_until(lambda probe=probe: probe.polls, "a poll")
        handle.stop()
        del handle
        wait_until(lambda: not letgo.live(), "the end")
        assert probe.closes == 1


# --- Drop: freed means freed ---


def use_idle(handle: letgo.Handle, probe: Probe) -> None:
    """Let it be."""


def use_by_polling(handle: letgo.Handle, probe: Probe) -> None:
    handle.poll_now()


def use_by_failing(handle: letgo.Handle, probe: Probe) -> None:
    probe.act = lambda: int("no number")
    handle.wake()
    wait_until(lambda: handle.info.last_poll_seconds is not None, "the poll")


def use_by_failing_for_a_waiter(handle: letgo.Handle, probe: Probe) -> None:
    probe.act = lambda: int("no number")
    try:
        handle.poll_now()
    except ValueError:
        pass


def use_by_failing_at_the_end(handle: letgo.Handle, probe: Probe) -> None:
    probe.error = OSError("flush")


def use_by_a_wait_in_vain(handle: letgo.Handle, probe: Probe) -> None:
    gate = Gate()
    probe.act = gate
    try:
        handle.poll_now(timeout=0.001)
    except TimeoutError:
        pass
    gate.opened.set()


USES = [
    use_idle,
    use_by_polling,
    use_by_failing,
    use_by_failing_for_a_waiter,
    use_by_failing_at_the_end,
    use_by_a_wait_in_vain,
]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No log records, which would keep exceptions for the test's report."""
    monkeypatch.setattr(logging.getLogger("letgo"), "disabled", True)


@pytest.mark.parametrize("handled", [False, True], ids=["logged", "on_error"])
@pytest.mark.parametrize("use", USES)
def test_what_a_dropped_worker_held_is_freed(
    make: Make,
    use: Callable[[letgo.Handle, Probe], None],
    handled: bool,
    no_collector: None,
    quiet: None,
) -> None:
    """After a drop the final flush runs, and all goes without a collection."""
    probe = Probe()
    freed = weakref.ref(probe)
    options = {"on_error": lambda _: None} if handled else {}
    handle = make(probe.poll, on_close=probe.close, interrupt=probe.__init__, **options)
    use(handle, probe)
    del probe, handle
    wait_until(lambda: freed() is None, "the worker's object is freed")
    wait_until(lambda: not letgo.live(), "the worker ends")


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("use", USES)
def test_what_a_closed_worker_held_is_freed(
    make: Make,
    use: Callable[[letgo.Handle, Probe], None],
    in_thread: bool,
    no_collector: None,
    quiet: None,
) -> None:
    """After `close` the handle may live on: the worker's objects and the core do not."""
    probe = Probe()
    freed = weakref.ref(probe)
    handle = make(probe.poll, on_close=probe.close, close_in_thread=in_thread)
    use(handle, probe)
    try:
        handle.close()
    except OSError:
        pass
    del probe
    wait_until(lambda: freed() is None, "the worker's object is freed")
    assert handle.closed


def test_the_handle_is_freed_after_an_error_that_a_waiter_took(
    make: Make, no_collector: None, quiet: None
) -> None:
    """An exception carries its waiter's frames, the handle in them: the worker keeps none."""
    probe = Probe()
    handle = make(probe.poll, on_error=lambda _: None)
    dropped = weakref.ref(handle)
    use_by_failing_for_a_waiter(handle, probe)
    del handle
    wait_until(lambda: dropped() is None, "the handle is freed")


def test_an_error_that_the_user_keeps_does_not_keep_the_worker(
    make: Make, no_collector: None, quiet: None
) -> None:
    """`on_error` may keep exceptions: the handle is dropped all the same."""
    errors: list[Exception] = []
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close, on_error=errors.append)
    use_by_failing(handle, probe)
    del handle
    wait_until(lambda: probe.closes, "the final flush")
    assert len(errors) == 1


def test_a_stopped_worker_lets_go_of_its_callables_before_join_returns(make: Make) -> None:
    """Once `join` says that the worker has ended, nothing of it holds what it was given."""
    probe = Probe()
    freed = weakref.ref(probe)
    handle = make(probe.poll, on_close=probe.close, after_fork=probe.close)
    handle.stop()
    handle.join()
    del probe
    assert freed() is None


def test_many_dropped_at_once_all_end(make: Make, no_collector: None) -> None:
    """A hundred handles dropped together: each is flushed once, and no thread stays."""
    probes = [Probe() for _ in range(100)]
    handles = [make(probe.poll, on_close=probe.close, interval=60) for probe in probes]
    handles.clear()
    wait_until(lambda: not letgo.live(), "all have ended")
    assert [probe.closes for probe in probes] == [1] * 100


def test_a_drop_on_another_thread(make: Make) -> None:
    """The last reference may go on any thread."""
    probe = Probe()
    handles = [make(probe.poll, on_close=probe.close)]
    Call(handles.clear).result()
    wait_until(lambda: probe.closes, "the final flush")


# --- interrupt ---


@pytest.mark.parametrize("end", ["stop", "close", "drop"])
def test_interrupt_is_called_once_on_every_end(make: Make, end: str) -> None:
    """A stop calls `interrupt` once, whether or not a poll is running."""
    for _ in range(100):
        calls: list[int] = []
        handle = make(Probe().poll, interrupt=lambda calls=calls: calls.append(1))
        if end != "drop":
            getattr(handle, end)()
            handle.stop()
            handle.close()
        del handle
        wait_until(lambda calls=calls: calls, "the interrupt")
        wait_until(lambda: not letgo.live(), "the end")
        assert calls == [1]


def test_interrupt_ends_a_blocking_poll(make: Make) -> None:
    """`interrupt` makes a poll return that waits for something of its own."""
    gate = Gate()
    probe = Probe(gate)
    handle = make(probe.poll, on_close=probe.close, interrupt=gate.opened.set)
    handle.wake()
    wait_for(gate.entered)
    handle.close(timeout=PATIENCE)
    assert (probe.polls, probe.closes) == (1, 1)


def test_interrupt_is_called_once_by_many_that_stop(make: Make) -> None:
    """Ten threads that stop a worker at once make one call."""
    for _ in range(30):
        calls: list[int] = []
        handle = make(Probe().poll, interrupt=lambda calls=calls: calls.append(1))
        barrier = threading.Barrier(10)

        def stop(handle: letgo.Handle = handle, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(PATIENCE)
            handle.stop()

        for call in [Call(stop) for _ in range(10)]:
            call.result()
        handle.close()
        assert calls == [1]


def test_a_worker_that_ends_by_itself_is_not_interrupted(make: Make) -> None:
    """After `STOP` there is no poll to cut short."""
    calls: list[int] = []
    handle = make(lambda: letgo.STOP, interval=0.001, interrupt=lambda: calls.append(1))
    handle.join(PATIENCE)
    handle.close()
    assert calls == []


@pytest.mark.parametrize("failure", [ValueError("broken"), SystemExit()])
def test_what_interrupt_raises_stops_nothing(
    make: Make, failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exception goes to `sys.unraisablehook`; the worker ends as ever."""
    told: list[BaseException | None] = []
    monkeypatch.setattr("sys.unraisablehook", lambda details: told.append(details.exc_value))
    probe = Probe()
    handle = make(probe.poll, on_close=probe.close, interrupt=raises(failure))
    handle.close()
    assert (told, probe.closes) == ([failure], 1)


# --- warn_unclosed ---


def here() -> str:
    """The caller's "file:line"."""
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def test_an_unclosed_handle_warns_where_it_was_made(
    make: Make, recwarn: pytest.WarningsRecorder
) -> None:
    """With `warn_unclosed` a drop is a `ResourceWarning` that names worker and line."""
    warnings.simplefilter("always")
    probe = Probe()
    handle, site = make(on_close=probe.close, warn_unclosed=True, name="forgotten"), here()
    assert handle.info.created_at == site
    del handle
    wait_until(lambda: not letgo.live(), "the end")
    warning = recwarn.pop(ResourceWarning)
    assert f"{warning.filename}:{warning.lineno}" == site
    assert "forgotten" in str(warning.message)
    assert site in str(warning.message)
    assert probe.closes == 1


@pytest.mark.parametrize("end", ["close", "stop", "STOP", "with"])
def test_a_closed_handle_does_not_warn(
    make: Make, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who ended the worker in any way need not be told, warnings being errors here."""
    told: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    probe = Probe(lambda: letgo.STOP)
    handle = make(probe.poll, on_close=probe.close, warn_unclosed=True)
    if end == "STOP":
        handle.wake()
        handle.join(PATIENCE)
    elif end == "with":
        with handle:
            pass
    else:
        getattr(handle, end)()
    del handle
    wait_until(lambda: not letgo.live(), "the end")
    assert (told, probe.closes) == ([], 1)


def test_the_flush_runs_even_where_warnings_are_errors(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning that is an error goes to `sys.unraisablehook`, and `on_close` runs."""
    told: list[BaseException | None] = []
    monkeypatch.setattr("sys.unraisablehook", lambda details: told.append(details.exc_value))
    probe = Probe()
    make(on_close=probe.close, warn_unclosed=True)
    wait_until(lambda: not letgo.live(), "the end")
    assert ([type(error) for error in told], probe.closes) == ([ResourceWarning], 1)


def test_a_warning_names_the_line_that_made_a_subclass(scheduler: letgo.Scheduler | None) -> None:
    """Frames of the subclass's own constructor are passed over."""

    class Sender(letgo.Handle):
        def __init__(self) -> None:
            super().__init__(Probe().poll, warn_unclosed=True, scheduler=scheduler)

    sender, site = Sender(), here()
    assert sender.info.created_at == site
    sender.close()


# --- Two workers ---


def test_a_poll_may_close_another_worker(make: Make) -> None:
    """One worker closes another from its poll, and closing takes effect."""
    probe = Probe()
    other = make(probe.poll, on_close=probe.close)
    with make(lambda: other.close()) as handle:
        handle.poll_now()
        assert other.join(PATIENCE)
    assert probe.closes == 1


def test_a_poll_may_make_workers(make: Make) -> None:
    """A poll may make handles and drop them."""
    probe = Probe()

    def poll() -> None:
        made = make(probe.poll, on_close=probe.close)
        made.wake()

    with make(poll) as handle:
        for _ in range(20):
            handle.poll_now()
        wait_until(lambda: probe.closes == 20, "all have ended")
