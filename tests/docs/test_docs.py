"""The pages are true: commands and options exist, README's too, links lead somewhere, the Python in docs/ runs."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch

import ncafast
from ncafast import cli
from ncafast.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README = ROOT / "README.md"
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md")]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """What a page writes stays out of the checkout."""
    monkeypatch.chdir(tmp_path)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[str]:
    lines = [
        line
        for page in [*PAGES, README]
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return sorted({line for line in lines if line.startswith("ncafast")})


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = shlex.split(line)[1:]
    name = words[: next(k for k, word in enumerate([*words, "--"]) if word.startswith("-"))]
    assert cli.main([*name, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", shown)


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if not target.startswith("http"):
            assert (page.parent / path).exists(), target
            assert not anchor or anchor in anchors(page.parent / path if path else page), target


def test_the_training_page_runs():
    first, second = blocks(DOCS / "training.md", "python")
    names: dict = {}
    first = first.replace("epochs=20", "epochs=2").replace("(64, 16, 32, 32)", "(16, 16, 9, 8)")
    exec(first, names)
    exec(first, {})  # once more continues the run, which has ended
    assert names["result"].history[1]["loss"] < names["result"].history[0]["loss"]
    exec(second, names)
    assert [len(fold.val) for fold in names["folds"]] == [12] * 5
    calls = []

    def train(options, folder):
        calls.append(folder)
        return {"accuracy": options["lr"]}

    results = names["search"]({"lr": [1e-3, 4e-3]}, train, Path("search"), by="accuracy")
    assert results[0]["lr"] == 4e-3 and len(calls) == 2


def test_the_page_on_accelerating_runs(capsys):
    names: dict = {}
    code, report = blocks(DOCS / "accelerate.md", "python"), blocks(DOCS / "accelerate.md", "text")
    for block in code:
        exec(block, names)
    said = capsys.readouterr()
    shown, table = said.err.split("own code")
    assert shown.strip() == report[0].strip() and "training step" in table
    assert said.out.split(" at ")[0] == report[1].split(" at ")[0]
    assert float(names["difference"]) < 1e-5


def test_the_page_on_compiling_runs(capsys):
    code, report = blocks(DOCS / "compile.md", "python"), blocks(DOCS / "compile.md", "text")
    names: dict = {}
    exec(code[0].replace('"ncafast")', '"ncafast", options={"rest": "eager"})'), names)
    assert capsys.readouterr().err == report[0]
    exec(code[1].replace("torch.compile(Model", "(Model"), names)
    assert names["model"](names["torch"].rand(1, 3, 8, 8), 2).shape == (1, 2, 8, 8)


def test_the_page_on_segmentation_runs():
    names: dict = {}
    for block in blocks(DOCS / "segmentation.md", "python"):
        exec(block, names)
    assert names["levels"][0].shape == (4, 2, 24, 15, 11) and names["state"].shape == (2, 24, 61, 47)


def test_the_page_on_layers_runs():
    names: dict = {}
    for block in blocks(DOCS / "layers.md", "python"):
        exec(block, names)
    assert names["logits"].shape == (2, 13)


@pytest.mark.parametrize(
    "page", ["export", "index", "losses", "nca", "step", "uncertainty", "volumes-training", "why-fast"]
)
def test_the_code_of_a_page_runs(page):
    """It asserts for itself."""
    names: dict = {}
    for block in blocks(DOCS / f"{page}.md", "python"):
        exec(block, names)


def test_the_page_on_volumes_runs(capsys):
    names: dict = {}
    for block in blocks(DOCS / "volumes.md", "python"):
        exec(block, names)
    assert capsys.readouterr().out.startswith(blocks(DOCS / "volumes.md", "text")[0])


def test_the_page_on_several_devices_runs(monkeypatch):
    """On a group of one process; `tests/volume` has groups of several."""
    for name, value in (("MASTER_ADDR", "localhost"), ("MASTER_PORT", "0"), ("RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    first, second = blocks(DOCS / "sharding.md", "python")
    names: dict = {}
    exec(first.replace("48", "6").replace("dist.destroy_process_group()", ""), names)
    names |= {"model": lambda x: names["nca"](x, 2), "loss_of": torch.nn.functional.mse_loss}
    names |= {"images": torch.rand(1, 8, 12, 5, 7), "labels": torch.rand(1, 8, 12, 5, 7)}
    try:
        exec(second, names)
    finally:
        torch.distributed.destroy_process_group()
    assert ncafast.load("nca.safetensors").rule == names["nca"].rule


def test_the_table_of_what_tasks_have_on_by_default_is_right():
    table = (ROOT / "docs" / "training.md").read_text().split("What the tasks have on by default", 1)[1]
    lines = [line for line in table.splitlines() if line[:1] == "|"][:8]
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    shown = {name: row for row in rows for name in row[0].split(", ")}
    assert shown.keys() == TASKS.keys()
    for name, row in shown.items():
        options = importlib.import_module(f"ncafast.tasks.{name}.options").TrainConfig
        for column, cell in zip(head[1:-1], row[1:-1], strict=True):
            value = getattr(options, column.strip("`"), None)
            if column == "several GPUs":
                assert (cell == "yes") == (name not in ("classification", "mednca"))  # whose models have a batch norm
            elif isinstance(value, str):
                assert cell == value
            elif (name, column) == ("mednca", "`ema`"):
                assert value is None and cell == "2-D 0, 3-D 0.98"
            elif isinstance(value, bool):
                assert cell == ("yes" if value else "no")
            else:
                assert cell == ("" if value is None else f"{value:g}")
