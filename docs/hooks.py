"""For MkDocs: files outside `docs/` that pages link to become files of the site.

So a link like `../examples/lease.py` leads somewhere on the repository's page and
on the site. One that leads nowhere still fails `mkdocs build --strict`.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_OUTSIDE = re.compile(r"(?<=\]\()\.\./([^)#]+)")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add each file that is linked to."""
    root = Path(config.docs_dir).parent
    for page in list(files.documentation_pages()):
        for path in set(_OUTSIDE.findall(page.content_string)):
            if (root / path).is_file() and not files.get_file_from_path(_on_site(path)):
                source = str(root / path)
                files.append(File.generated(config, _on_site(path), abs_src_path=source))


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead the links there."""
    return _OUTSIDE.sub(lambda link: _on_site(link[1]), markdown)


def _on_site(path: str) -> str:
    # As text: Markdown would be a page of its own, whose links lead from elsewhere.
    return f"source/{path}.txt"
