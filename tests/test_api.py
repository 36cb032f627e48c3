"""The public names: `__all__`, signatures, docstrings and types are what they are said to be."""

from __future__ import annotations

import dataclasses
import inspect
import types
from importlib import resources

import pytest

import letgo

# What users rely on; `__all__` may hold more.
NAMES = {
    "STOP",
    "ClosedError",
    "Handle",
    "LeakWarning",
    "Scheduler",
    "WorkerInfo",
    "again",
    "close_all",
    "leak_paths",
    "live",
    "shared",
    "sleep",
    "stopping",
    "weakly",
}
PUBLIC = [getattr(letgo, name) for name in letgo.__all__]
DOCUMENTED = [thing for thing in PUBLIC if callable(thing)]


def members(cls: type) -> list[tuple[str, object]]:
    """A class's own public methods and properties."""
    return [
        (name, member)
        for name, member in vars(cls).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]


METHODS = [
    pytest.param(member, id=f"{cls.__name__}.{name}")
    for cls in (letgo.Handle, letgo.Scheduler)
    for name, member in members(cls)
]


def test_all_is_what_is_public() -> None:
    """`__all__` names each public object once, and no public object is left out."""
    found = {
        name
        for name, value in vars(letgo).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    } - {"annotations"}
    assert found == set(letgo.__all__)
    assert len(letgo.__all__) == len(set(letgo.__all__))
    assert set(letgo.__all__) >= NAMES


@pytest.mark.parametrize("thing", DOCUMENTED, ids=lambda thing: thing.__name__)
def test_public_names_are_documented(thing: object) -> None:
    """Each class and function has a docstring of its own."""
    assert (getattr(thing, "__doc__", None) or "").strip()


@pytest.mark.parametrize("method", METHODS)
def test_public_methods_are_documented(method: object) -> None:
    """Each public method and property has a docstring."""
    assert (getattr(method, "__doc__", None) or "").strip()


@pytest.mark.parametrize(
    "thing",
    [letgo.Handle, letgo.Scheduler, letgo.live, letgo.close_all, letgo.shared, letgo.stopping],
    ids=lambda thing: thing.__name__,
)
def test_docstrings_tell_which_threads_may_call(thing: object) -> None:
    """Where threads meet, the docstring says what holds."""
    assert "Threads:" in (thing.__doc__ or "")


def test_the_package_is_typed() -> None:
    """The marker for type checkers is shipped."""
    assert resources.files(letgo).joinpath("py.typed").is_file()


@pytest.mark.parametrize("thing", DOCUMENTED, ids=lambda thing: thing.__name__)
def test_public_names_are_annotated(thing: object) -> None:
    """Each public function says what it takes and returns."""
    functions = (
        [member for _, member in inspect.getmembers(thing, inspect.isfunction)]
        if inspect.isclass(thing)
        else [thing]
    )
    for function in functions:
        if function.__module__.startswith("letgo") and not dataclasses.is_dataclass(thing):
            assert "return" in function.__annotations__, function


def test_the_signature_of_handle() -> None:
    """Names and defaults are a contract; all but `poll` are keywords."""
    parameters = list(inspect.signature(letgo.Handle).parameters.values())
    assert {parameter.name: parameter.default for parameter in parameters} == {
        "poll": None,
        "interval": None,
        "on_close": None,
        "on_error": None,
        "interrupt": None,
        "after_fork": None,
        "name": None,
        "start": True,
        "immediate": False,
        "exit_timeout": 5.0,
        "exit_last": False,
        "warn_unclosed": False,
        "close_in_thread": False,
        "scheduler": None,
    }
    kinds = [parameter.kind for parameter in parameters]
    assert kinds == [inspect.Parameter.POSITIONAL_OR_KEYWORD] + [inspect.Parameter.KEYWORD_ONLY] * (
        len(kinds) - 1
    )


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (letgo.Handle.wake, {"after": 0.0}),
        (letgo.Handle.poll_now, {"timeout": None}),
        (letgo.Handle.join, {"timeout": None}),
        (letgo.Handle.close, {"timeout": None}),
        (letgo.Scheduler, {"name": None, "slow_poll": 1.0}),
        (letgo.Scheduler.close, {"timeout": None}),
        (letgo.close_all, {"timeout": None}),
        (letgo.again, {"after": 0.0}),
        (letgo.sleep, {"seconds": inspect.Parameter.empty}),
    ],
)
def test_other_signatures(function: object, expected: dict[str, object]) -> None:
    """So are those of the rest."""
    assert callable(function)
    parameters = dict(inspect.signature(function).parameters)
    parameters.pop("self", None)
    assert {name: parameter.default for name, parameter in parameters.items()} == expected


def test_closed_error_is_a_runtime_error() -> None:
    """Who catches `RuntimeError` catches it too."""
    assert issubclass(letgo.ClosedError, RuntimeError)
    assert issubclass(letgo.LeakWarning, ResourceWarning)
