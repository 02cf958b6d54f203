"""Options stand in groups in every command's help: the data first, what is required first of all."""

from __future__ import annotations

import dataclasses
import re

import pytest

from ncafast import cli
from ncafast.commands import commands
from ncafast.tasks.option_groups import _ORDER, required

OPTIONS = {
    name: cli._load(command.options) if isinstance(command.options, str) else command.options
    for name, command in commands().items()
    if command.options is not None
}
ORDER = ["", "data", "repeated training", "model", "training", "view", "speed and memory", "output"]


def test_every_option_has_its_place():
    names = {field.name for options in OPTIONS.values() for field in dataclasses.fields(options)}
    assert names == set(_ORDER)


@pytest.mark.parametrize("name", ["demo", "train mednca", "predict mednca", "animate growing", "search texture"])
def test_help_is_in_groups(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out.translate({ord(c): " " for c in "│╭╮╰╯─"})
    titles = re.findall(r"^ +([a-z ]*?) ?options +$", shown, re.MULTILINE)
    assert titles == [title for title in ORDER if title in titles]
    assert titles[0] == "" and titles[-1] == "output"
    groups = dict(zip(titles, re.split(r"^ +[a-z ]*options +$", shown, flags=re.MULTILINE)[1:], strict=True))
    assert "--config" in groups[""] and "--output" in groups["output"]
    for group in groups.values():
        found = [word.replace("-", "_") for word in re.findall(r"^ +--([a-z-]+)", group, re.MULTILINE)]
        fields = {field.name: field for field in dataclasses.fields(OPTIONS[name])}
        needed = [required(fields[option]) for option in found if option in fields]
        assert needed == sorted(needed, reverse=True)
    if "data" in groups and not name.startswith("demo"):
        assert titles[1] == "data"
