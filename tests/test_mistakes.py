"""The page about mistakes is true: what it calls a mistake leaks, and its cures do not."""

from __future__ import annotations

import gc
import re
import types
from dataclasses import dataclass

import pytest

import letgo
from helpers import ROOT, wait_until

PAGE = (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## \d+\. (?P<title>.+?)\n(?P<text>.*?)(?=^## )", re.M | re.S)
PROGRAM = re.compile(
    r"^```python\n(?P<source>.*?)^```\n\n<!-- output -->\n```text\n(?P<output>.*?)^```$",
    re.M | re.S,
)


@dataclass
class Mistake:
    """One section of the page: the mistake and its cure, each with what it prints."""

    title: str
    wrong: tuple[str, str]
    right: tuple[str, str]


def mistakes() -> list[Mistake]:
    found = []
    for section in SECTION.finditer(PAGE):
        wrong, right = (match.groups() for match in PROGRAM.finditer(section["text"]))
        found.append(Mistake(section["title"], wrong, right))  # type: ignore[arg-type]
    return found


MISTAKES = mistakes()
each = pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)


def run(source: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a program of the page, let go of all that it made, and return what it printed."""
    module = types.ModuleType("__main__")
    exec(compile(source, "mistakes.md", "exec"), vars(module))
    vars(module).clear()
    return capsys.readouterr().out


def test_there_are_ten() -> None:
    """The page keeps what its title says."""
    assert len(MISTAKES) == 10


@each
def test_mistake_leaks(mistake: Mistake, capsys: pytest.CaptureFixture[str]) -> None:
    """Its worker goes on when all is let go, but for those that the program closes."""
    source, output = mistake.wrong
    assert run(source, capsys) == output
    assert "-> this Handle\n" in output
    gc.collect()
    assert len(letgo.live()) == (0 if ".close()" in source else 1)
    letgo.close_all()


@each
@pytest.mark.usefixtures("no_collector")
def test_cure_ends(mistake: Mistake, capsys: pytest.CaptureFixture[str]) -> None:
    """Its worker ends with its handle."""
    source, output = mistake.right
    assert run(source, capsys) == output
    assert output.startswith("[]\n")
    gc.collect()  # the page's own classes are cycles
    wait_until(lambda: not letgo.live(), "the worker ended")
