"""What stands in two files of the repository agrees."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def text(name):
    return (ROOT / name).read_text()


def test_one_version():
    (version,) = re.findall(r'^version = "(.+)"$', text("pyproject.toml"), re.MULTILINE)
    assert re.findall(r"^version: (.+)$", text("CITATION.cff"), re.MULTILINE) == [version]


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
