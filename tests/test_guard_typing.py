"""Type checkers take a proxy for the object."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from helpers import ROOT


@pytest.mark.parametrize("checker", [["mypy", "--strict"], ["basedpyright"]], ids=lambda c: c[0])
def test_a_checker_sees_the_type_of_the_object(checker: list[str]) -> None:
    """`guard(x)` has the type of `x`, to the method's result."""
    if importlib.util.find_spec(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed: pip install -e .[dev]")
    result = subprocess.run(
        [sys.executable, "-m", *checker, "tests/typing/guard_is_transparent.py"],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
