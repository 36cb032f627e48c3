"""Real libraries: dropped, each leaves its thread running; guarded and dropped, none does."""

from __future__ import annotations

import importlib.util
import os

import pytest

from helpers import run_python
from retrofit.libraries import LIBRARIES, Library

BEGIN = """
import gc, os, threading

before = set(threading.enumerate())

def started():
    mine = "letgo._engine"
    new = set(threading.enumerate()) - before
    return [thread for thread in new if type(thread).__module__ != mine]
"""

DROPPED = """
before |= set(threading.enumerate())
library = make()
use(library)
threads = started()
assert threads, "it has no thread of its own"
del library
gc.collect()
for thread in threads:
    thread.join(0.3)
print("leaks" if any(thread.is_alive() for thread in threads) else "ends", flush=True)
os._exit(0)  # its own exit handlers are none of our business
"""

GUARDED = """
import letgo
before |= set(threading.enumerate())
library = letgo.guard(make(), close=CLOSE)
use(library)
threads = started()
assert threads, "it has no thread of its own"
del library
gc.collect()
for thread in threads:
    thread.join(20)
    assert not thread.is_alive(), thread
assert delivered()
letgo.close_all()
print("cured", flush=True)
"""

# Exit handlers run in reverse order: this one is registered first, to look last.
AT_EXIT = """
import atexit
atexit.register(lambda: print("delivered" if delivered() else "lost", flush=True))
import letgo
{script}
library = letgo.guard(make(), close=CLOSE)
use(library)
"""


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    found: Library = LIBRARIES[request.param]
    if importlib.util.find_spec(found.module.partition(".")[0]) is None:
        missing = f"{found.distribution} is not installed: pip install -e .[test,retrofit]"
        if os.environ.get("LETGO_RETROFIT"):  # where they must run, none is skipped by mistake
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def run(source: str) -> str:
    """What it prints. Other people's libraries may warn: on stderr, which is not ours."""
    result = run_python(source, "-W", "default")
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_dropped_its_thread_stays(library: Library) -> None:
    """The leak that this library cures; a release that has mended it fails here: tell so."""
    expected = "leaks" if library.leaks else "ends"
    assert run(BEGIN + library.script + DROPPED) == expected


def test_guarded_and_dropped_its_thread_ends(library: Library) -> None:
    """In one line: the thread ends, and what was buffered arrives."""
    assert run(BEGIN + library.script + GUARDED) == "cured"


def test_guarded_its_last_data_arrives_at_exit(library: Library) -> None:
    """A guard that is alive at the end of the program is closed, and flushes."""
    assert run(AT_EXIT.replace("{script}", library.script)) == "delivered"
