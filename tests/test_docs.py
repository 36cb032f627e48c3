"""The pages of `docs/` fit together: links, menu, reference, site.

That their Python blocks run, and that their links lead to files, is in test_readme.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from helpers import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
MENU = re.findall(r"^ +- (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
REFERENCE = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.M)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs both make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {slug(title) for title in titles}


def slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_headings(page: Path) -> None:
    """A link with a fragment names a heading that is there."""
    links = re.findall(r"\]\(([\w./-]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    for target, anchor in links:
        assert anchor in anchors(page.parent / target if target else page), (target, anchor)


def test_the_menu_names_every_page() -> None:
    """What is not in the menu is not found."""
    assert sorted(MENU) == [page.name for page in PAGES]


@pytest.mark.parametrize("package", ["letgo", "letgo.cache", "letgo.statsd"])
def test_the_reference_has_every_name(package: str) -> None:
    """Each public name is in it: by itself, or with its module."""
    module = importlib.import_module(package)
    if package in REFERENCE:
        assert module.__doc__
    else:
        assert {f"{package}.{name}" for name in module.__all__} <= set(REFERENCE)


def test_the_reference_names_nothing_else() -> None:
    """What it names can be imported."""
    for name in REFERENCE:
        package, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(package), attribute) or importlib.import_module(name)


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="the extra 'docs' is not installed"
)
def test_the_site_builds(tmp_path: Path) -> None:
    """One command, without a warning: a page, link or docstring that is wrong fails it."""
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "api" / "index.html").read_text(encoding="utf-8").count("Threads") > 10
