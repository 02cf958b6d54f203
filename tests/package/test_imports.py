"""The data flow of the package has no way back: a module imports only what stands before it."""

from __future__ import annotations

import ast
from pathlib import Path

import ncafast

ROOT = Path(ncafast.__file__).parent

# Every module by its first name inside the package; each line may import the lines above it, and itself.
ORDER = (
    {
        "compiling",
        "evaluating",
        "half",
        "interrupt",
        "keywords",
        "medical_formats",
        "memory_option",
        "missing",
        "parsers",
        "pickled",
        "threads_option",
        "values",
        "versions",
    },
    {"alive", "losses", "user_class"},
    {"rule", "filters", "philox", "files"},
    {"flops", "initialisation", "native", "time_code"},
    {"free_memory", "measuring"},
    {"check"},
    {"backends", "prediction", "step_range"},
    {"film", "fixed_filters", "footprint", "ops", "perception"},
    {"members"},
    {"trace"},
    {"functional", "padding"},
    {"call_defaults", "convergence", "layers"},
    {"levels", "settling"},
    {"predicting"},
    {"single"},
    {"nca"},
    {"models"},
    {"acceleration", "finetuning", "heads", "uncertainty"},
    {"rebuild", "tensors"},
    {"checkpoint", "identify"},
    {"checkup", "importing", "info", "pretrained", "public", "utils"},
    {"training_options", "volume"},
    {"explanation", "nifti", "train", "viz"},
    {"bench"},
    {"tasks"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def imported(path: Path) -> set[str]:
    """First names inside ncafast of all that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names = parts if node.module == "ncafast" else [node.module]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("ncafast.")}
    return found


def test_imports_go_one_way():
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        own = path.relative_to(ROOT).with_suffix("").parts[0]
        if own == "__init__":
            continue
        assert own in RANK, f"{own} has no place in the order"
        for name in imported(path):
            rank = RANK.get(name)
            if rank is None and name not in {"_C"}:
                wrong.append(f"{path.relative_to(ROOT)} imports {name} through the package's front door")
            elif rank is not None and name != own and rank >= RANK[own]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_tasks_do_not_import_each_other():
    """Except for demo and repeats, which are made of others."""
    for folder in sorted((ROOT / "tasks").iterdir()):
        if not folder.is_dir() or folder.name in ("demo", "repeats", "__pycache__"):
            continue
        for path in folder.rglob("*.py"):
            for other in (p.name for p in (ROOT / "tasks").iterdir() if p.is_dir() and p != folder):
                assert f"ncafast.tasks.{other}" not in path.read_text(), f"{path} imports tasks.{other}"


def test_only_the_bindings_know_python():
    source = ROOT.parent / "csrc"
    for path in source.rglob("*"):
        if path.suffix in (".h", ".cpp", ".cu", ".cuh") and not path.name.startswith("bind"):
            text = path.read_text()
            assert "Python.h" not in text and "pybind11" not in text and "torch/" not in text, path
