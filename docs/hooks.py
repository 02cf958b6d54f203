"""What the site needs beside docs/: files of the repository as pages, links as on GitHub, and formulas without scripts.

A page links to files of the repository as GitHub does, `../bench/results/x.csv`. Here such a link becomes one to the
site's copy of the file. A link to a file that the site does not have ends a strict build.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, relpath

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Path in the repository -> path on the site, where a README.md would be a folder's index.
PAGES = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/README.md": "bench/running.md",
}
FILES = ("LICENSE", "bench/results/*.csv", "bench/results/*.png", "examples/*.ipynb")
LINK = re.compile(r"""(\]\(|src=")([^)"#\s]+)(?=#|\)|")""")
FORMULA = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$`([^`]+)`\$")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that are outside of docs/."""
    others = [path.relative_to(ROOT).as_posix() for pattern in FILES for path in sorted(ROOT.glob(pattern))]
    for path in [*PAGES, *others]:
        files.append(File.generated(config, PAGES.get(path, path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository become links of the site, and formulas MathML."""
    here = page.file.src_uri
    source = next((ROOT / path for path, uri in PAGES.items() if uri == here), DOCS / here)

    def link(match: re.Match[str]) -> str:
        start, target = match.groups()
        if "://" in target:
            return match.group()
        path = (source.parent / target).resolve()
        uri = path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix()
        return start + relpath(PAGES.get(uri, uri), dirname(here))

    text = FORMULA.sub(lambda match: f"<div>{convert(match.group(1), display='block')}</div>\n", text)
    text = INLINE.sub(lambda match: convert(match.group(1)), text)
    return LINK.sub(link, text)
