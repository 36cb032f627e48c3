"""Guards: an object that someone else wrote ends when its last user lets go of it."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar, cast

from letgo import _check
from letgo._guarded import Action, Guarded
from letgo._handle import Handle
from letgo._proxy import Proxy, disarm, make_proxy, plain, proxy_class
from letgo._scheduler import Scheduler, shared

T = TypeVar("T")


def guard(
    obj: T,
    /,
    *,
    close: str | Callable[[T], object] | None = "close",
    poll: str | Callable[[T], object] | None = None,
    interval: float | None = None,
    after_fork: str | Callable[[T], object] | None = None,
    name: str | None = None,
    exit_timeout: float = 5.0,
    scheduler: Scheduler | None = None,
) -> T:
    """Wrap an object in a proxy whose drop closes the object.

    The cure for a library whose background thread keeps its own object alive: use
    the proxy in the object's place. It forwards everything, and a type checker takes
    it for the object. Once it is dropped, and at the interpreter's exit, the object
    is closed on a thread of ours and let go.

    Calling the close method by its name through the proxy calls the object's own and
    ends the guard, even if it raises; so does the object's own `__exit__`. Where it
    has none, leaving a `with` block closes the object. A method that returns the
    object returns the proxy. A method holds the proxy while it is called; an
    iterator or a coroutine that it returns does not, nor does any other part of the
    object. See docs/guard.md for this and the other limits.

    Threads: any. `close` is called on a short-lived thread, so that it may block, or
    on the scheduler's where none can be started (at exit on Python 3.12 and later).
    `poll` is called on the scheduler's thread, `after_fork` in the thread that forked.

    Args:
        obj: Any object. Nobody should go on using it but through the proxy.
        close: The name of the method that ends `obj`, or a callable that is given
            `obj`. None: there is nothing to call.
        poll: Likewise, called every `interval` seconds. Returning `STOP` closes.
        interval: Seconds from one poll to the next; see `Handle`.
        after_fork: Likewise, called in a forked child, where the guard goes on.
        name: The worker's name in messages. Default: made of the type's.
        exit_timeout: Seconds that the interpreter's exit waits for `close`.
        scheduler: Serves the guard. None: `shared()`; a `poll` that blocks wants a
            `Scheduler()` of its own.

    Returns:
        The proxy.

    Raises:
        AttributeError: `obj` has no method of that name.
        TypeError: An argument of the wrong type, or a coroutine function.
        ValueError: `obj` is a proxy, or guarded at present; or a number is out of
            range.
        ClosedError: The scheduler is closed.
        RuntimeError: A thread cannot be started. Nothing is left behind.
    """
    if isinstance(obj, Proxy):
        raise ValueError(f"obj is the proxy of a guard already: {object.__repr__(obj)}")
    closer = _action("close", close, obj)
    poller = _action("poll", poll, obj)
    forker = _action("after_fork", after_fork, obj)
    kind = proxy_class(obj, close if isinstance(close, str) else None)
    guarded = Guarded(obj, closer, poller, forker)
    try:
        handle = Handle(
            None if poller is None else guarded.poll,
            interval=interval,
            on_close=guarded.close,
            after_fork=guarded.after_fork,
            name=f"guard-{type(obj).__qualname__}" if name is None else name,
            exit_timeout=exit_timeout,
            close_in_thread=True,
            scheduler=shared() if scheduler is None else scheduler,
        )
    except BaseException:
        guarded.disarm()
        raise
    guarded.handle = weakref.ref(handle)
    return cast(T, make_proxy(kind, guarded, handle))


def handle_of(proxy: object) -> Handle:
    """The handle of a guard, which lasts as long as the proxy or this handle.

    Closing it closes the object, and waits.

    Threads: any.

    Raises:
        TypeError: Not a proxy of `guard`.
    """
    return _checked(proxy)._letgo_handle


def unguard(proxy: T) -> T:
    """Disarm a guard, and return the object itself: nobody will close it for you.

    `proxy.__wrapped__` only looks.

    Threads: any. A poll that is running is waited for, and there is none after it.

    Raises:
        TypeError: Not a proxy of `guard`.
    """
    checked = _checked(proxy)
    disarm(checked)
    return cast(T, plain(checked))


def _checked(proxy: object) -> Proxy:
    if not isinstance(proxy, Proxy):
        raise TypeError(f"proxy must be one that letgo.guard() returned, not {proxy!r}")
    return proxy


def _action(argument: str, value: Any, obj: object) -> Action | None:
    """What to call with the object, for the name of its method or a callable."""
    if value is None:
        return None
    action = method = value
    if isinstance(value, str):
        method = getattr(obj, value)
        action = operator.methodcaller(value)
    if not callable(method):
        what = f"{value!r}, which is {method!r}" if method is not value else repr(value)
        raise TypeError(
            f"{argument} must be a method's name, a callable of the object or None, not {what}"
        )
    if _check.is_async(method):
        raise TypeError(
            f"{argument} must be a plain callable: a worker thread has no event loop "
            f"to await {method!r}"
        )
    if isinstance(value, MethodType) and value.__self__ is obj:
        raise TypeError(
            f"{argument}={value.__qualname__} is bound to the object, and would be given it "
            f"again: give {argument}={value.__name__!r}"
        )
    return cast(Action, action)
