"""The site has every page and every public name, and every page's Python is run by a test."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from test_docs import DOCS, PAGES, ROOT, blocks

TEXT = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
LISTED = re.findall(r"^::: (\S+)$", REFERENCE, re.MULTILINE)


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    pages = re.findall(r"[\w/-]+\.md", nav)
    assert sorted(pages) == sorted(set(pages))
    generated = {"overview.md", "changelog.md", "contributing.md", "bench/running.md"}
    assert set(pages) - generated == {page.relative_to(DOCS).as_posix() for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_the_python_of_every_page_is_run(page: Path):
    """By a test that names the page, with or without `.md`."""
    assert re.search(rf'"{page.stem}(\.md)?"', TEXT)


@pytest.mark.parametrize(
    "package", ["", ".acceleration", ".backends", ".losses", ".models", ".train", ".viz", ".volume"]
)
def test_every_public_name_is_in_the_reference(package):
    """By itself, or as a part of its package."""
    module = importlib.import_module(f"ncafast{package}")
    names = [f"ncafast{package}.{name}" for name in module.__all__]
    parts = [name for name in names if any(f"{listed}.".startswith(f"{name}.") for listed in LISTED)]
    missing = set(names) - set(parts) - set(LISTED)
    if module.__name__ not in LISTED:
        accelerate = {f"ncafast.{name.rsplit('.', 1)[1]}" for name in LISTED if ".acceleration." in name}
        assert not missing - accelerate


def test_every_name_in_the_reference_is_there():
    for name in LISTED:
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name
