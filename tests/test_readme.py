"""Every Python block of the documentation runs, and prints what it says.

Blocks are marked by a comment on the line before them:

    <!-- continues -->   the program goes on from the Python block before
    <!-- output -->      a text block: exactly what the program before prints
    <!-- needs: name --> runs only where the module `name` is installed
    <!-- ci: name -->    a shell block: the command that .ci/run takes from here

A program whose output is not shown may print what it likes.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers import ROOT, run_quietly

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<marker>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass
class Program:
    """Python blocks that run as one, and what they print, if that is shown."""

    place: str
    needs: str
    source: str = ""
    output: str | None = None


def programs(document: Path) -> Iterator[Program]:
    """The programs of one document; each line stays at its number, for tracebacks."""
    text = document.read_text(encoding="utf-8")
    program: Program | None = None
    for block in BLOCK.finditer(text):
        marker = block["marker"] or ""
        line = text.count("\n", 0, block.start("text"))
        if block["language"] == "python":
            if program is None or marker != "continues":
                if program is not None:
                    yield program
                needs = marker.removeprefix("needs: ") if marker.startswith("needs: ") else ""
                program = Program(f"{document.relative_to(ROOT)}:{line + 1}", needs)
            program.source += "\n" * (line - program.source.count("\n")) + block["text"]
        elif marker == "output":
            assert program is not None, f"output of nothing at line {line}"
            program.output = (program.output or "") + block["text"]
    if program is not None:
        yield program


def parameter(program: Program) -> object:
    needs = f"-needs-{program.needs}" if program.needs else ""
    return pytest.param(program, id=program.place + needs)


PROGRAMS = [parameter(program) for document in DOCUMENTS for program in programs(document)]


def commands(name: str) -> list[str]:
    """The shell commands of the README that are marked so."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [block["text"] for block in BLOCK.finditer(text) if block["marker"] == f"ci: {name}"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_python_blocks_run_as_they_stand(program: Program) -> None:
    """A reader who copies a block gets no error, no warning, and the output that is shown."""
    if program.needs and importlib.util.find_spec(program.needs.partition(".")[0]) is None:
        pytest.skip(f"{program.needs} is not installed")
    printed = run_quietly(program.source, "-W", "error")
    if program.output is not None:
        assert printed == program.output


@pytest.mark.parametrize("name", ["run", "test"])
def test_commands_are_one_line_each(name: str) -> None:
    """There is one command to run it and one to test it, and .ci/run checks both."""
    [command] = commands(name)
    assert command.startswith("python3 -m venv .venv && ")
    assert command.count("\n") == 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """A relative link names a file of this repository."""
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), target
