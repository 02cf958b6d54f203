"""What stands in two files of the repository agrees."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import readme

import ncafast

ROOT = Path(__file__).resolve().parents[2]


def text(name):
    return (ROOT / name).read_text()


def test_one_version():
    """In a release it is the tag's too, which the workflow compares; its expression is tried here."""
    (version,) = re.findall(r'^version = "(.+)"$', text("pyproject.toml"), re.MULTILINE)
    assert re.findall(r"^version: (.+)$", text("CITATION.cff"), re.MULTILINE) == [version]
    assert ncafast.__version__ == version
    (command,) = re.findall(r"^ +run: (test .+)$", text(".github/workflows/release.yml"), re.MULTILINE)
    for tag, code in ((f"v{version}", 0), (f"v{version}.1", 1)):
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, env={**os.environ, "GITHUB_REF_NAME": tag})
        assert done.returncode == code


def test_the_papers_of_the_models_can_be_cited():
    """Those that docstrings name with a year, and no others."""
    listed = set(re.findall(r'^    title: "(.+)"$', text("CITATION.cff"), re.MULTILINE))
    named = " ".join(" ".join(path.read_text().split()) for path in (ROOT / "ncafast" / "models").glob("*.py"))
    assert listed == {title for title in listed if title in named}
    assert {title for title in re.findall(r'"([^"]+)"(?=,? \(?20\d\d| \([A-Za-z]+ 20)', named)} <= listed


def test_hooks_before_a_commit_are_the_linters_of_ci():
    """Each with the same command, but for what CI only checks and a hook changes."""
    commands = re.findall(r"entry: (.+)", text(".pre-commit-config.yaml"))
    assert commands == ["ruff check", "ruff format", "mypy", "clang-format -i"]
    ci = text(".ci/run")
    assert all(f'"$bin/{command.split()[0]}"' in ci for command in commands)


def test_public_ci_tests_the_oldest_versions_that_are_allowed():
    project, workflow = text("pyproject.toml"), text(".github/workflows/ci.yml")
    (python,) = re.findall(r'requires-python = ">=([\d.]+)"', project)
    (torch,) = re.findall(r'"torch>=([\d.]+)"', project)
    assert f'python: "{python}", torch: "torch=={torch}.*"' in workflow
    assert "- run: .ci/run" in workflow


def test_readme_of_a_package_index_has_no_relative_links():
    page = readme.with_absolute_links(text("README.md"), "https://example.org/o/r")
    targets = re.findall(r'\]\(([^)]+)\)|src="([^"]+)"', page)
    left = [target for pair in targets for target in pair if target and not target.startswith(("https://", "#"))]
    assert not left
    assert 'src="https://example.org/o/r/raw/HEAD/docs/images/growing.gif"' in page
    assert re.search(r"!\[[^]]+\]\(https://example.org/o/r/raw/HEAD/bench/results/[\w-]+.png\)", page)
    assert "[One step](https://example.org/o/r/blob/HEAD/docs/step.md)" in page
    assert "](https://example.org/o/r/blob/HEAD/docs/step.md#what-is-fused-where)" in page
