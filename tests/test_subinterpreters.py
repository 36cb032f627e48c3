"""Isolated subinterpreters allow no daemon threads: making a worker there fails, and cleanly."""

from __future__ import annotations

from helpers import run_quietly

# The module's name, and what its run_string returns for an error, differ between versions.
IN_ISOLATION = """
    import sys, textwrap
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    source = "import sys; sys.path = " + repr(sys.path) + textwrap.dedent('''
        import gc, os, threading
        import letgo
        from letgo._core import Core
        def refused(call, *arguments, **options):
            try:
                call(*arguments, **options)
            except RuntimeError as error:
                return "thread" in str(error) and "interpreter" in str(error)
            return False
        INSIDE
        os.write(1, b"done ")
    ''')
    number = interpreters.create()
    failure = interpreters.run_string(number, source)
    assert failure is None, failure
    interpreters.destroy(number)
    print("end")
"""


def run_isolated(*lines: str) -> str:
    """What `lines` print in an isolated subinterpreter of a process of its own."""
    return run_quietly(IN_ISOLATION.replace("INSIDE", ("\n" + " " * 8).join(lines)))


def test_constructing_is_a_runtime_error_that_says_so() -> None:
    """With a thread of its own or on a scheduler: RuntimeError, and on_close never runs."""
    printed = run_isolated(
        "say = lambda: os.write(1, b'closed ')",
        "assert refused(letgo.Handle, print, interval=1, on_close=say)",
        "assert refused(letgo.Handle, on_close=say, scheduler=letgo.Scheduler())",
        "assert refused(letgo.Handle, on_close=say, scheduler=letgo.shared())",
    )
    assert printed == "done end\n"


def test_starting_is_a_runtime_error_that_says_so() -> None:
    """An explicit start, `with`, and the close that runs an on_close: RuntimeError each."""
    printed = run_isolated(
        "handle = letgo.Handle(on_close=print, start=False)",
        "assert refused(handle.start)",
        "assert refused(handle.__enter__)",
        "assert refused(handle.close)",
        "assert not handle.alive",
        "handle.stop()",
    )
    assert printed == "done end\n"


def test_nothing_is_left_behind() -> None:
    """After the failure there is no thread, no live worker, and no core, without a collection."""
    printed = run_isolated(
        "gc.disable()",
        "scheduler = letgo.Scheduler()",
        "assert refused(letgo.Handle, print)",
        "assert refused(letgo.Handle, print, scheduler=scheduler)",
        "assert threading.enumerate() == [threading.main_thread()]",
        "assert (letgo.live(), len(scheduler), letgo.close_all()) == ([], 0, 0)",
        "assert not [thing for thing in gc.get_objects() if type(thing) is Core]",
    )
    assert printed == "done end\n"
