"""docs/architecture.md and CONTRIBUTING.md are true where that can be checked: files, names, and the import ladder."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAP = ROOT / "docs" / "architecture.md"
PAGES = [MAP, ROOT / "CONTRIBUTING.md"]
SOURCES = ("ncafast", "csrc", "tests", "bench", ".ci")


def spans(page: Path) -> set[str]:
    """What stands between single backticks, outside of code blocks."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", text))


def sources() -> str:
    paths = [path for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.is_file()]
    kinds = {".py", ".h", ".cpp", ".cu", ".cuh", ".sh", ""}
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths if path.suffix in kinds]
    return "\n".join((*texts, (ROOT / "setup.py").read_text(encoding="utf-8")))


def resolve(name: str) -> object:
    """A dotted name of the package: a module, or what is in one."""
    words = name.split(".")
    for count in range(len(words), 0, -1):
        try:
            found: object = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            found = getattr(found, word)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_exist(page):
    """A name in capitals stands for what a newcomer chooses."""
    paths = {span for span in spans(page) if re.fullmatch(r"[\w.*-]+(/[\w.*-]*)+", span) and "NAME" not in span}
    assert paths
    missing = [path for path in sorted(paths) if not list(ROOT.glob(path))]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_public_names_exist(page):
    names = {span for span in spans(page) if re.fullmatch(r"ncafast(\.\w+)+", span)}
    assert names
    for name in sorted(names):
        resolve(name)


def test_files_in_the_diagram_exist():
    diagram = re.search(r"```mermaid\n(.*?)```", MAP.read_text(encoding="utf-8"), re.DOTALL)
    assert diagram is not None
    files = re.findall(r"[\w/]+\.(?:py|h|cpp)\b|csrc/\w+/", diagram.group(1))
    assert len(files) > 10
    assert not [name for name in files if not (ROOT / name).exists() and not (ROOT / "ncafast" / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_environment_variables_and_cpp_names_are_used(page):
    text = sources()
    for span in spans(page):
        for variable in re.findall(r"NCAFAST_[A-Z_]+", span):
            assert variable in text, variable
        if re.fullmatch(r"\w+(::\w+)+", span):
            assert re.search(rf"\b{span.split('::')[-1]}\b", text), span


def test_the_ladder_is_the_one_that_is_enforced():
    ladder = MAP.read_text(encoding="utf-8").split("<!-- import ladder -->")[1].split("```")[1]
    order = runpy.run_path(str(ROOT / "tests" / "package" / "test_imports.py"))["ORDER"]
    assert [set(line.split()) for line in ladder.strip().splitlines()] == list(order)


def test_recipes_name_what_is_in_their_files():
    """In a row of files and what to add to them, every identifier occurs in one of the files."""
    rows = re.findall(r"^\| (`[\w./]+/[\w.]+`(?:, `[\w./]+`)*) \| (.*) \|$", PAGES[1].read_text("utf-8"), re.MULTILINE)
    rows = [(files, words) for files, words in rows if "NAME" not in files]
    assert len(rows) > 20
    for files, words in rows:
        text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in re.findall(r"`([^`]+)`", files))
        for name in re.findall(r"`([A-Za-z_]\w+)`", words):
            assert re.search(rf"\b{name}\b", text), f"{name} is not in {files}"
