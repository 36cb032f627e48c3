"""`guard`, `handle_of`, `unguard`: what ends a guard, what disarms it, what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

import letgo
from guard_helpers import Context, Service
from helpers import PATIENCE, Gate, raises, wait_for, wait_until

# --- The closer ---


def test_a_dropped_guard_calls_close() -> None:
    """The drop of the proxy closes the object, on a thread of ours."""
    service = Service()
    proxy = letgo.guard(service)
    del proxy
    service.journal.wait_for("close")
    assert service.journal.threads != [threading.current_thread()]


def test_the_closer_can_be_another_method() -> None:
    """`close` names the method that ends the object."""
    service = Service()
    proxy = letgo.guard(service, close="shutdown")
    del proxy
    service.journal.wait_for("shutdown")


def test_the_closer_can_be_a_callable() -> None:
    """A callable closer is given the object itself."""
    service = Service()
    given: list[object] = []

    def close(it: Service) -> None:
        given.append(it)
        it.flush()
        it.shutdown()

    letgo.handle_of(letgo.guard(service, close=close)).close()
    assert given[0] is service
    assert service.journal.calls == ["flush", "shutdown"]


def test_a_guard_without_a_closer_calls_nothing() -> None:
    """`close=None`: the object is let go, and that is all."""
    service = Service()
    letgo.handle_of(letgo.guard(service, close=None)).close()
    assert service.journal.calls == []
    letgo.unguard(letgo.guard(service))


def test_the_closer_is_found_when_it_is_called() -> None:
    """A close method that was replaced after `guard` is the one that is called."""
    service = Service()
    proxy = letgo.guard(service)
    service.close = lambda *_: service.journal.note("replaced")  # type: ignore[method-assign]
    del proxy
    service.journal.wait_for("replaced")


# --- Disarmed ---


def test_close_by_name_calls_the_real_one() -> None:
    """The close method through the proxy gets its arguments and returns its result."""
    service = Service()
    proxy = letgo.guard(service)
    assert proxy.close(1, 2) == (1, 2)
    assert service.journal.threads == [threading.current_thread()]


def test_close_by_name_disarms() -> None:
    """After the close method through the proxy, the drop calls it no more."""
    service = Service()
    proxy = letgo.guard(service)
    proxy.close()
    assert letgo.handle_of(proxy).join(PATIENCE)
    del proxy
    assert service.journal.calls == ["close"]


def test_close_by_name_twice_is_as_the_object_has_it() -> None:
    """Each call of the close method through the proxy is a call of the real one."""
    proxy = letgo.guard(Service())
    proxy.close()
    proxy.close()
    assert proxy.journal.calls == ["close", "close"]


def test_close_by_name_disarms_even_if_it_raises() -> None:
    """What the close method raises comes out, and nobody tries again."""
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise OSError("broken")

    proxy = letgo.guard(Service(fail))
    with pytest.raises(OSError, match="broken"):
        proxy.close()
    assert letgo.handle_of(proxy).join(PATIENCE)
    assert calls == [1]


def test_only_the_named_method_disarms() -> None:
    """`close` does not disarm a guard whose closer is called `shutdown`."""
    service = Service()
    proxy = letgo.guard(service, close="shutdown")
    proxy.close()
    del proxy
    service.journal.wait_for("close", "shutdown")


def test_two_guards_of_one_type_have_each_its_closer() -> None:
    """The name of the closer belongs to the guard, not to the type."""
    first, second = Service(), Service()
    by_close, by_shutdown = letgo.guard(first), letgo.guard(second, close="shutdown")
    by_close.close()
    by_shutdown.shutdown()
    assert letgo.handle_of(by_close).join(PATIENCE)
    assert letgo.handle_of(by_shutdown).join(PATIENCE)
    assert (first.journal.calls, second.journal.calls) == (["close"], ["shutdown"])


def test_unguard_disarms_and_returns_the_object() -> None:
    """Nobody closes what was taken out of its guard."""
    service = Service()
    proxy = letgo.guard(service)
    handle = letgo.handle_of(proxy)
    assert letgo.unguard(proxy) is service
    assert handle.join(PATIENCE)
    assert service.journal.calls == []


def test_what_was_disarmed_can_be_guarded_again() -> None:
    """`unguard` and the close method end the guard at once."""
    service = Service()
    letgo.unguard(letgo.guard(service))
    letgo.guard(service).close()
    letgo.unguard(letgo.guard(service))


def test_a_disarmed_proxy_goes_on_forwarding() -> None:
    """The proxy of an ended guard is still the way to the object."""
    proxy = letgo.guard(Service())
    assert letgo.unguard(proxy) is proxy.__wrapped__
    assert proxy.flush() == "flushed"


# --- with ---


def test_leaving_with_closes() -> None:
    """An object without a `with` of its own is closed when the block is left."""
    service = Service()
    with letgo.guard(service) as proxy:
        assert isinstance(proxy, Service)
        assert service.journal.calls == []
    assert service.journal.calls == ["close"]


def test_leaving_with_raises_what_the_closer_raises() -> None:
    """The closer's error is the block's."""
    service = Service(raises(OSError("broken")))
    with pytest.raises(OSError, match="broken"), letgo.guard(service):  # type: ignore[attr-defined]
        pass


def test_the_objects_own_with_is_used_and_disarms() -> None:
    """`__enter__` and `__exit__` of the object run; afterwards nobody closes it."""
    service = Context()
    with letgo.guard(service) as proxy:  # type: ignore[var-annotated]
        assert proxy is not service
        handle = letgo.handle_of(proxy)
    assert handle.join(PATIENCE)
    del proxy
    assert service.journal.calls == ["enter", "exit"]


def test_leaving_async_with_disarms() -> None:
    """As the object's own `with` does."""

    class Connection(Service):
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *error: object) -> None:
            self.journal.note("exit")

    async def use(proxy: Connection) -> None:
        async with proxy:
            pass

    service = Connection()
    proxy = letgo.guard(service)
    asyncio.run(use(proxy))
    assert letgo.handle_of(proxy).join(PATIENCE)
    assert service.journal.calls == ["exit"]


def test_a_temporary_in_with_lives_for_the_block() -> None:
    """`with guard(x):` holds the proxy though nothing else does."""
    service = Service()
    with letgo.guard(service):  # type: ignore[attr-defined]
        assert letgo.live()
        assert service.journal.calls == []
    assert service.journal.calls == ["close"]


# --- The handle ---


def test_handle_of_closes_and_waits() -> None:
    """Closing the handle closes the object and waits for it; the proxy stays."""
    proxy = letgo.guard(Service())
    letgo.handle_of(proxy).close()
    assert proxy.journal.calls == ["close"]


def test_a_guard_lasts_as_long_as_its_handle() -> None:
    """The drop of the proxy alone does not end it while somebody has the handle."""
    service = Service()
    handle = letgo.handle_of(letgo.guard(service))
    assert handle.alive
    assert service.journal.calls == []
    handle.close()
    assert service.journal.calls == ["close"]


def test_close_all_closes_guards() -> None:
    """A guard is a worker as any other: `live` lists it, `close_all` closes it."""
    proxy = letgo.guard(Service(), name="mine")
    assert [info.name for info in letgo.live()] == ["mine"]
    assert letgo.close_all() == 1
    assert proxy.journal.calls == ["close"]


def test_a_worker_is_named_by_the_type() -> None:
    """Without a name, messages name the type of the object."""
    assert letgo.handle_of(letgo.guard(Service())).name == "guard-Service"


def test_a_guard_can_have_its_own_scheduler() -> None:
    """`scheduler` serves the guard; without one it is the shared one."""
    scheduler = letgo.Scheduler()
    ours, shared = letgo.guard(Service(), scheduler=scheduler), letgo.guard(Service())
    assert (len(scheduler), len(letgo.shared())) == (1, 1)
    del ours, shared


# --- poll ---


def test_a_poll_by_name_makes_a_worker() -> None:
    """Any object with a method to call becomes a guarded worker."""
    polled = threading.Event()
    service = Service(polled.set)
    proxy = letgo.guard(service, close=None, poll="flush", interval=0.001)
    wait_for(polled)
    del proxy


def test_a_poll_can_be_a_callable() -> None:
    """It is given the object, and runs on the scheduler's thread until the drop."""
    service = Service()
    polls: list[object] = []
    proxy = letgo.guard(service, poll=polls.append, interval=0.001)
    wait_until(lambda: len(polls) > 2, "polls")
    del proxy
    service.journal.wait_for("close")
    count = len(polls)
    assert all(given is service for given in polls)
    assert len(polls) == count


def test_a_poll_that_returns_stop_closes() -> None:
    """`STOP` from the poll ends the guard as a drop does."""
    proxy = letgo.guard(Service(), poll=lambda _: letgo.STOP, interval=0.001)
    assert letgo.handle_of(proxy).join(PATIENCE)
    assert proxy.journal.calls == ["close"]


def test_a_poll_without_interval_waits_for_wake() -> None:
    """The handle's `wake` and `poll_now` reach the poll."""
    proxy = letgo.guard(Service(), close=None, poll="flush")
    letgo.handle_of(proxy).poll_now()
    assert proxy.journal.calls == ["flush"]


@pytest.mark.parametrize("end", [letgo.unguard, lambda proxy: proxy.close()])
def test_disarming_waits_for_a_poll(end: Callable[[Service], object]) -> None:
    """The close method and `unguard` come after a poll that is running, and none follows."""
    gate = Gate()
    service = Service(gate)
    proxy = letgo.guard(service, poll="flush", interval=0.001)
    wait_for(gate.entered)
    threading.Timer(0.01, gate.opened.set).start()
    end(proxy)
    assert service.journal.calls[0] == "flush"
    count = service.journal.calls.count("flush")
    assert letgo.handle_of(proxy).join(PATIENCE)
    assert service.journal.calls.count("flush") == count


def test_a_poll_can_end_its_own_guard() -> None:
    """A poll that closes through the proxy does not wait for itself."""
    proxies: list[Service] = []
    ended = threading.Event()

    def poll(_: Service) -> None:
        if proxies:
            proxies.pop().close()
            ended.set()

    service = Service()
    proxies.append(letgo.guard(service, poll=poll, interval=0.001))
    wait_for(ended)
    assert service.journal.calls == ["close"]


# --- Refused ---


def test_a_second_guard_is_refused() -> None:
    """One object has one guard at a time: it would be closed twice."""
    proxy = letgo.guard(Service())
    with pytest.raises(ValueError, match="guarded already"):
        letgo.guard(proxy.__wrapped__)  # type: ignore[attr-defined]


def test_a_guard_over_a_proxy_is_refused() -> None:
    """A proxy is not an object to guard, not even one of an ended guard."""
    proxy = letgo.guard(Service())
    proxy.close()
    with pytest.raises(ValueError, match="proxy"):
        letgo.guard(proxy)


def test_an_unhashable_object_can_be_guarded_once_at_a_time() -> None:
    """Guarded objects are told by identity: equal ones are not the same."""
    first, second = letgo.guard([1], close="clear"), letgo.guard([1], close="clear")
    with pytest.raises(ValueError, match="guarded already"):
        letgo.guard(first.__wrapped__, close=None)  # type: ignore[attr-defined]
    assert first == second


def test_a_missing_close_method_is_told_at_once() -> None:
    """Not when the object is to be closed, and nobody can be told."""
    with pytest.raises(AttributeError, match="no attribute 'close'"):
        letgo.guard(object())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"close": "journal"}, TypeError, "close must be .* 'journal', which is"),
        ({"close": 3}, TypeError, "close must be .* not 3"),
        ({"poll": 3}, TypeError, "poll must be .* not 3"),
        ({"poll": "missing"}, AttributeError, "missing"),
        ({"after_fork": 3}, TypeError, "after_fork must be .* not 3"),
        ({"interval": "1", "poll": "flush"}, TypeError, "interval must be .* not '1'"),
        ({"interval": 0, "poll": "flush"}, ValueError, "interval=0"),
        ({"name": 3}, TypeError, "name must be .* not 3"),
        ({"exit_timeout": -1}, ValueError, "exit_timeout must be .* not -1"),
        ({"scheduler": 3}, TypeError, "scheduler must be .* not 3"),
    ],
)
def test_bad_arguments_are_named(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    """A bad argument is told at the call, with its value, and nothing is left behind."""
    service = Service()
    with pytest.raises(error, match=message):
        letgo.guard(service, **options)  # type: ignore[arg-type]
    assert not letgo.live()
    letgo.unguard(letgo.guard(service))


def test_a_coroutine_closer_is_refused() -> None:
    """A worker thread has no event loop to await it."""

    class Client:
        async def close(self) -> None: ...

    with pytest.raises(TypeError, match="close must be a plain callable"):
        letgo.guard(Client())


def test_a_bound_closer_is_refused() -> None:
    """A closer is given the object: bound to it already, it would be given it twice."""
    service = Service()
    with pytest.raises(TypeError, match="give close='close'"):
        letgo.guard(service, close=service.close)


def test_a_closed_scheduler_is_refused() -> None:
    """And the object is as free as before."""
    scheduler = letgo.Scheduler()
    scheduler.close()
    service = Service()
    with pytest.raises(letgo.ClosedError):
        letgo.guard(service, scheduler=scheduler)
    letgo.unguard(letgo.guard(service))


@pytest.mark.parametrize("function", [letgo.handle_of, letgo.unguard])
def test_what_is_no_proxy_is_refused(function: Callable[[object], object]) -> None:
    """`handle_of` and `unguard` want what `guard` returned."""
    with pytest.raises(TypeError, match="not 'x'"):
        function("x")
