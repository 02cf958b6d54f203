"""The command line: exit codes, one-line errors, help, typed options, and starting with the core packages alone."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import ncafast
from ncafast import backends, cli, models, native
from ncafast.backends import registry
from ncafast.bench import options as bench_options
from ncafast.tasks import TASKS, base, classification, depth, growing, mednca, segmentation, selfclassify, texture
from ncafast.tasks.demo import DemoConfig
from ncafast.tasks.mednca.prediction import Predictions
from ncafast.tasks.repeats import config as repeats
from ncafast.tasks.stopping import Stopping

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings the same under its old name there
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
HANG = 1800  # seconds after which a process is taken to hang, on however busy a machine
EXTRAS = ("tyro", "nibabel", "nilearn", "matplotlib", "imageio", "PIL", "scipy", "tensorboard")
EXTRAS += ("torchmetrics", "torchvision", "tqdm")
OPTIONS = {
    "demo": DemoConfig,
    "train mednca": mednca.TrainConfig,
    "train segmentation": segmentation.TrainConfig,
    "evaluate segmentation": segmentation.EvaluateConfig,
    "predict segmentation": segmentation.PredictConfig,
    "animate segmentation": segmentation.AnimateConfig,
    "train depth": depth.TrainConfig,
    "evaluate depth": depth.EvaluateConfig,
    "predict depth": depth.PredictConfig,
    "animate depth": depth.AnimateConfig,
    "render depth": depth.RenderConfig,
    "train classification": classification.TrainConfig,
    "evaluate classification": classification.EvaluateConfig,
    "predict classification": classification.PredictConfig,
    "evaluate mednca": mednca.EvaluateConfig,
    "predict mednca": mednca.PredictConfig,
    "animate mednca": mednca.AnimateConfig,
    "animate classification": classification.AnimateConfig,
    "train texture": texture.TrainConfig,
    "evaluate texture": texture.EvaluateConfig,
    "animate texture": texture.AnimateConfig,
    "study texture": texture.StudyConfig,
    "train growing": growing.TrainConfig,
    "evaluate growing": growing.EvaluateConfig,
    "animate growing": growing.AnimateConfig,
    "train selfclassify": selfclassify.TrainConfig,
    "evaluate selfclassify": selfclassify.EvaluateConfig,
    "predict selfclassify": selfclassify.PredictConfig,
    "animate selfclassify": selfclassify.AnimateConfig,
    **{
        f"crossvalidate {task}": repeats.fold_options(task)
        for task in ("mednca", "segmentation", "depth", "classification")
    },
    **{f"search {task}": repeats.grid_options(task) for task in TASKS},
}


FROM_SOURCE = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*words: str | Path, code: str = "", **environment: str) -> subprocess.Popen:
    """Start `ncafast` in a process of its own, after `code`, with SIGINT as a terminal has it."""
    interrupt = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{interrupt}\n{code}\nfrom ncafast.cli import main\nsys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*words: str | Path, code: str = "", **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    process = start(*words, code=code, **environment)
    out, err = process.communicate(timeout=HANG)
    return process.returncode, out, err


def assert_one_line(err: str) -> None:
    assert err.startswith("ncafast: error: ")
    assert err.count("\n") == 1 and err.endswith("\n")
    assert "Traceback" not in err


def without(*packages: str) -> str:
    return f"sys.modules.update(dict.fromkeys({packages}))"


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_command(capsys, word):
    assert cli.main([word]) == 0
    shown = capsys.readouterr().out
    for name in ("info", *OPTIONS):
        assert f"\n  {name} " in shown
    assert "--traceback" in shown and "NCAFAST_TRACEBACK" in shown


@pytest.mark.parametrize(
    "first", ["train", "evaluate", "predict", "animate", "render", "study", "crossvalidate", "search"]
)
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_of_a_command_without_a_task_lists_its_tasks(capsys, first, word):
    assert cli.main([first, word]) == 0
    shown = capsys.readouterr()
    tasks = [name.split()[1] for name in OPTIONS if name.startswith(f"{first} ")]
    assert {line.split()[0] for line in shown.out.splitlines() if line.startswith("  ")} == set(tasks)
    assert shown.out.startswith(f"usage: ncafast {first} TASK") and not shown.err


def test_no_command_is_wrong_usage_and_shows_help(capsys):
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian", "mednca"], "did you mean 'train'?"),
        (["train", "medncaa"], "train has no task 'medncaa' (did you mean 'mednca'?); see ncafast train --help"),
        (
            ["xyz"],
            "check, crossvalidate, demo, evaluate, explain, import, info, predict, render, search, study",
        ),
        (
            ["train"],
            "train needs a task: mednca, segmentation, depth, classification, texture, growing, selfclassify",
        ),
        (
            ["predict", "growing"],
            "predict has no task 'growing'; there are mednca, segmentation, depth, classification,",
        ),
        (["animate"], "ncafast animate --help"),
    ],
)
def test_wrong_command_is_one_line_and_exit_2(capsys, words, said):
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert_one_line(err)
    assert said in err


@pytest.mark.parametrize("name", OPTIONS)
def test_help_of_a_command_explains_every_option(capsys, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main([*name.split(), "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.translate({ord(c): " " for c in "│╭╮╰╯─"}).split())
    assert f"usage: ncafast {name}" in shown
    texts = field_texts(OPTIONS[name])
    for field in dataclasses.fields(OPTIONS[name]):
        assert f"--{field.name.replace('_', '-')}" in shown
        assert len(texts[field.name]) > 10
        assert texts[field.name] in shown
        default = field.default
        if default is None or default == ():
            assert "Left out: " in texts[field.name] or "(required)" in texts[field.name], field.name
        elif default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            assert f"{texts[field.name]} (required)" in shown
        else:
            words = default if isinstance(default, tuple) else (default,)
            beside = " By default beside the model; a number is added where that is taken."
            text = texts[field.name] + (beside if str(default).startswith("<model>/") else "")
            assert f"{text} (default: {shlex.join(map(str, words))})" in shown
    assert ("None" in shown) == ("Give None" in shown) and "default: None" not in shown


# Words for what a number counts, or is a part or a place of.
UNITS = (
    "pixels?|voxels?|cells?|steps?|epochs?|seconds?|millimetres?|frames?|degrees?|samples?|images?|volumes?|slices?|"
    "digits?|states?|batch|batches|trainings?|labels?|channels?|copies|levels?|parts?|share|probability|percentiles?|"
    "threads?|times|outputs|numbers|widths?|views?|radius|weight|norm|counted|smaller|after"
)
BARE = {"seed", "lr", "lr_gamma", "betas", "weight_decay", "seeds"}  # numbers that count nothing


@pytest.mark.parametrize("name", OPTIONS)
def test_help_of_a_number_has_its_unit(name):
    texts = field_texts(OPTIONS[name])
    for field in dataclasses.fields(OPTIONS[name]):
        if re.search(r"\b(int|float)\b", str(field.type)) and field.name not in BARE:
            assert re.search(rf"\b({UNITS})\b", texts[field.name], re.IGNORECASE), field.name


def test_help_of_the_benchmark_has_units_and_defaults():
    for action in bench_options.parser()._actions:
        assert action.help and len(action.help) > 10
        alone = action.nargs == 0 or action.dest.startswith("mine") and action.dest != "mine_steps"
        assert alone or "default: " in action.help, action.dest


def field_texts(options: type) -> dict[str, str]:
    """The text under every field of a dataclass and of those it inherits from, read from their sources."""
    import ast
    import inspect
    import textwrap

    texts = {}
    for kind in filter(dataclasses.is_dataclass, reversed(options.__mro__)):
        if hasattr(kind, "task"):  # made without source
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body
        for field, text in zip(body, body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                texts[field.target.id] = " ".join(text.value.value.split())
    return texts


@pytest.mark.parametrize(
    "words",
    [
        ["train", "mednca", "--no-such-option", "1"],
        ["train", "mednca", "--epochs", "three"],
        ["train", "mednca", "--axis", "diagonal"],
        ["predict", "mednca", "--input", "x.nii.gz"],
        ["train", "texture", "--output", "x"],
        ["train", "texture", "--image", "x.png", "--loss", "vgg"],
        ["animate", "texture", "--model", "x", "--size", "9"],
        ["demo", "--epochs"],
        ["info", "a.safetensors", "b.safetensors"],
    ],
)
def test_wrong_options_exit_2(capsys, words):
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err


@pytest.mark.parametrize("words", [["--data", ""], ["--data="], ["--data", "--output", ""]])
def test_an_empty_value_is_no_current_folder(monkeypatch, capsys, words):
    monkeypatch.setattr(base, "train", lambda task, config: pytest.fail(f"began with {config.data}"))
    assert cli.main(["train", "mednca", *words]) == 2
    option = "--output" if "--output" in words else "--data"
    assert capsys.readouterr().err.startswith(f"ncafast: error: {option} is followed by empty text; give a value")


def test_options_arrive_typed(monkeypatch, capsys):
    seen = []
    best = SimpleNamespace(best=Path("run/best.safetensors"), best_epoch=2, measures={"val_dice": 0.875})
    monkeypatch.setattr(base, "train", lambda task, c: seen.append(c) or best)
    words = ["--data", "brains", "--steps", "5", "6", "--channels", "0", "2", "--lr", "1e-3"]
    assert cli.main(["train", "mednca", *words, "--no-progress", "--crop", "64"]) == 0
    assert isinstance(seen[0], mednca.TrainConfig)
    expected = dataclasses.replace(
        mednca.TrainConfig(),
        data=Path("brains"),
        steps=(5, 6),
        channels=(0, 2),
        lr=1e-3,
        progress=False,
        crop=64,
    )
    assert dataclasses.asdict(seen[0]) == dataclasses.asdict(expected)
    assert "run/best.safetensors (epoch 2, dice 0.875)" in capsys.readouterr().out


@pytest.mark.parametrize("name", OPTIONS)
def test_options_whose_help_says_so_take_none(monkeypatch, name):
    seen = []
    monkeypatch.setattr(cli, "_load", lambda place: lambda *words: seen.append(words[-1]))
    texts, fields = field_texts(OPTIONS[name]), dataclasses.fields(OPTIONS[name])
    needed = [field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING]
    command = [*name.split(), *(word for option in needed for word in (f"--{option}", "x=1"))]
    for option in (field.name for field in fields if "Give None" in texts[field.name]):
        assert cli.main([*command, f"--{option}", "None"]) == 0
        assert getattr(seen[-1], option) is None, option
    for option in (field.name for field in fields if field.default is None and field.name.endswith("steps")):
        assert cli.main([*command, f"--{option}", "None"]) == 2, option


@pytest.mark.parametrize("task", ["growing", "texture", "classification", "selfclassify"])
@pytest.mark.parametrize(("words", "steps"), [(["10"], (10, 10)), (["10", "12"], (10, 12))])
def test_one_number_of_steps_is_the_fewest_and_the_most(monkeypatch, task, words, steps):
    seen = []
    monkeypatch.setattr(cli, "_load", lambda place: lambda *words: seen.append(words[-1]))
    needed = "--image" if task in ("growing", "texture") else "--data"
    assert cli.main(["train", task, needed, "x", "--steps", *words]) == 0
    assert seen[0].steps == steps
    assert cli.main(["train", task, needed, "x", "--steps", "1", "2", "3"]) == 2


@pytest.mark.parametrize(("skipped", "code"), [((), 0), (("a file",), 1)])
def test_predict_fails_when_an_image_was_left_out(monkeypatch, capsys, skipped, code):
    written = (
        SimpleNamespace(labels=Path("out/a.nii.gz"), overlay=None, quality={1: 0.1234}, masks=(), stopping=Stopping()),
    )
    result = Predictions(written, skipped, Path("out/uncertainty/report.json"))
    monkeypatch.setattr(base, "predict", lambda task, config: result)
    assert cli.main(["predict", "mednca", "--model", "m", "--input", "folder"]) == code
    said = capsys.readouterr().out
    assert "written: out/a.nii.gz (NQM 0.123)" in said and "written: out/uncertainty/report.json" in said


@pytest.mark.parametrize(
    "error",
    [
        ValueError("steps=0 is not allowed;\ngive one\n  or more"),
        TypeError("seed must be an int"),
        FileNotFoundError("no checkpoint at x"),
        RuntimeError("backend 'cuda' cannot run this"),
    ],
)
def test_an_expected_error_is_one_line_and_exit_1(monkeypatch, capsys, error):
    def fail(words):
        raise error

    monkeypatch.setattr("ncafast.info.main", fail)
    monkeypatch.delenv("NCAFAST_TRACEBACK", raising=False)
    assert cli.main(["info"]) == 1
    err = capsys.readouterr().err
    assert_one_line(err)
    assert " ".join(str(error).split()) in err
    for words, value in ((["info", "--traceback"], "0"), (["--traceback", "info"], ""), (["info"], "1")):
        monkeypatch.setenv("NCAFAST_TRACEBACK", value)
        assert cli.main(words) == 1
        err = capsys.readouterr().err
        assert "Traceback" in err and ", in fail" in err
        assert err.splitlines()[-1].startswith("ncafast: error: ")


def test_a_bug_is_not_dressed_up_as_a_users_error(monkeypatch):
    monkeypatch.setattr("ncafast.info.main", lambda words: {}["key"])
    with pytest.raises(KeyError):
        cli.main(["info"])


def test_bad_data_is_one_line_and_exit_1_for_real(tmp_path):
    words = ("train", "mednca", "--data", tmp_path / "none", "--output", tmp_path / "run")
    code, _, err = run(*words)
    assert code == 1
    assert_one_line(err)
    assert str(tmp_path / "none") in err


def test_ctrl_c_stops_with_130_and_one_line(tmp_path):
    process = start("demo", "--quick", "--no-progress", "--output", tmp_path / "out")
    assert "white matter" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "ncafast: stopped; the same command starts the demo anew"
    assert "Traceback" not in err


# Sends itself SIGINT at the import of a module, as if by Ctrl-C at that moment.
STOP_AT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
def stop(event, words):
    if event == "import" and words[0] == {module!r}:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(stop)
"""


def stopped_at(folder: Path, module: str, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python on these words, and stop it at the import of a module."""
    (folder / "sitecustomize.py").write_text(STOP_AT.format(module=module))
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=HANG)


@pytest.mark.parametrize("module", ["torch", "numpy", "ncafast.settling", "ncafast.commands"])
@pytest.mark.parametrize("way", ["script", "-m"])
def test_ctrl_c_during_imports_is_one_line_and_130(tmp_path, way, module):
    script = tmp_path / "ncafast"  # as pip writes it
    script.write_text("import sys\nfrom ncafast.cli import main\nsys.exit(main())\n")
    words = [script, "info"] if way == "script" else ["-m", "ncafast", "info"]
    done = stopped_at(tmp_path, module, *words)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ncafast: stopped\n")


NO_TORCH = [
    ["--help"],
    ["--version"],
    ["train", "--help"],
    ["train", "nothing"],
    ["nothing"],
    ["info", "--help"],
    ["bench", "--help"],
    ["bench", "--rounds", "0"],
    ["check", "--help"],
    ["explain"],
    ["import", "--help"],
    ["render", "depth", "--help"],
    ["train", "mednca", "--epochs", "x"],
    *([action, task, "--help"] for action in ("train", "search") for task in TASKS),
]


def test_help_and_wrong_words_need_no_torch(tmp_path):
    """In one process, as none of these leaves torch for the next."""
    script = tmp_path / "ncafast"
    script.write_text(
        "import sys\nfrom ncafast.cli import main\n"
        f"for words in {NO_TORCH}:\n"
        "    assert main(words) in (0, 2), words\n"
        "    assert not {'torch', 'numpy'} & set(sys.modules), words\n"
    )
    done = subprocess.run([sys.executable, script], env=FROM_SOURCE, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["info"], []])
def test_the_package_is_whole_for_code_that_a_command_imports(tmp_path, words):
    """Also before a command has begun, in a script that happens to have the command's name."""
    script = tmp_path / "ncafast"
    script.write_text(
        "import sys, ncafast, ncafast.cli\n"
        f"{f'ncafast.cli.main({words})' if words else ''}\n"
        "assert callable(ncafast.perception) and ncafast.NCA(4).rule.channels == 4\n"
        "assert all(hasattr(ncafast, name) for name in ncafast.__all__)\n"
    )
    done = subprocess.run([sys.executable, script], env=FROM_SOURCE, capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_in_a_callback_stops_a_command_too(tmp_path):
    """Python prints an exception there and goes on."""
    script = tmp_path / "ncafast"
    script.write_text(
        "import os, signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.path.insert(0, sys.argv[1])\nimport ncafast.parsers\n"
        "class Command:\n"
        "    def __del__(self):\n        os.kill(os.getpid(), signal.SIGINT)\n        time.sleep(1)\n"
        "def info(words):\n    command = Command()\n    del command\n    time.sleep(1000)\n"
        "import ncafast.cli, ncafast.info\nncafast.info.main = info\nsys.exit(ncafast.cli.main(['info']))\n"
    )
    done = subprocess.run([sys.executable, script, ROOT], capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stderr) == (130, "ncafast: stopped\n")


@pytest.mark.parametrize(
    ("words", "set_before", "policy"),
    [(["info"], {}, "PASSIVE"), (["info"], {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), (["bench", "--help"], {}, "None")],
)
def test_threads_of_a_command_wait_asleep(tmp_path, words, set_before, policy):
    script = tmp_path / "ncafast"
    script.write_text(
        "import atexit, os, sys\nsys.path.insert(0, sys.argv.pop(1))\n"
        "atexit.register(lambda: print(os.environ.get('OMP_WAIT_POLICY')))\n"
        "import ncafast.cli\nsys.exit(ncafast.cli.main())\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, script, ROOT, *words], env=kept | set_before, capture_output=True, text=True, timeout=HANG
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, policy)


def test_one_of_several_processes_says_that_they_stopped(tmp_path):
    for rank, said in (("0", "ncafast: stopped\n"), ("1", "")):
        done = stopped_at(tmp_path, "torch", "-m", "ncafast", "info", RANK=rank)
        assert (done.returncode, done.stderr) == (130, said)


def test_ctrl_c_stays_pythons_in_a_program_that_imports_the_package(tmp_path):
    code = "import signal, ncafast, ncafast.cli; assert signal.getsignal(2) is signal.default_int_handler"
    program = tmp_path / "program.py"
    program.write_text(code)
    assert stopped_at(tmp_path, "no_such_module", program).returncode == 0
    done = stopped_at(tmp_path, "torch", program)
    assert done.returncode == -signal.SIGINT and done.stderr.endswith("KeyboardInterrupt\n")


def test_a_closed_pipe_is_no_error():
    process = start("info")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=HANG) == 0
    process.stderr.close()


def test_info_needs_the_core_packages_only_and_loads_no_others():
    code, out, err = run("info", code=without(*EXTRAS))
    assert (code, err) == (0, "")
    for shown in (torch.__version__, "reference  yes", "missing ", "pip install 'ncafast[tasks]'"):
        assert shown in out
    heavy = set(EXTRAS) - {"tqdm"}  # torch itself imports that one
    look = f"import atexit; atexit.register(lambda: print('LOADED', {heavy} & set(sys.modules)))"
    code, out, _ = run("info", code=look)
    assert code == 0
    assert out.splitlines()[-1] == "LOADED set()"


def test_import_needs_the_core_packages_only(tmp_path):
    torch.save(models.BackboneNCA(6, 0.5).state_dict(), tmp_path / "weights.pth")
    words = ("import", tmp_path / "weights.pth", "--output", tmp_path / "model.safetensors")
    code, out, err = run(*words, code=without(*EXTRAS))
    assert (code, err) == (0, "") and out.startswith("BackboneNCA, ") and "assumed" in out


@pytest.mark.parametrize(("name", "extra"), [("demo", "demo"), ("train mednca", "tasks")])
def test_a_missing_package_is_named_with_its_remedy(tmp_path, name, extra):
    words = [*name.split(), "--output", tmp_path]
    code, out, err = run(*words, code=without("tyro"))
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert f"pip install 'ncafast[{extra}]'" in err and "tyro" in err
    code, _, err = run(*words, code=without("nibabel"))
    assert code == 2
    assert_one_line(err)
    assert f"pip install 'ncafast[{extra}]'" in err and "nibabel" in err


def test_version_and_entry_points(capsys):
    assert cli.main(["--version"]) == 0
    shown = capsys.readouterr().out
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert shown == f"ncafast {project['version']}\n"
    assert project["scripts"]["ncafast"] == "ncafast.cli:main"
    done = subprocess.run([sys.executable, "-m", "ncafast", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, shown)


def test_info_lists_the_extras_as_they_are_declared(capsys):
    from ncafast import info

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in info._EXTRAS.items():
        names = {re.split("[^a-z-]", requirement)[0] for requirement in declared[extra]}
        assert set(packages) == names - {"ncafast"}


def test_info_gives_the_reason_for_every_missing_part(monkeypatch, capsys):
    absent = SimpleNamespace(unavailable=lambda: "this machine has no such chip", UNVERIFIED=None)
    backends.names()
    monkeypatch.setitem(registry.loaded, "imaginary", absent)
    monkeypatch.setattr(native, "reason", lambda: "ncafast._C was not built: error 1\nerror 2")
    record = {"cuda": {"built": False, "reason": "no nvcc", "nvcc_version": "release 13.0"}}
    monkeypatch.setattr(native, "build_info", lambda: record)
    assert cli.main(["info"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "imaginary no: this machine has no such chip" in lines
    assert lines.index("reference yes") > lines.index("backends, fastest first")
    assert lines[lines.index("C++ no: ncafast._C was not built: error 1") + 1] == "error 2"
    assert "CUDA no: no nvcc (release 13.0)" in lines
    monkeypatch.setattr(native, "build_info", lambda: {"reason": "no build record"})
    assert cli.main(["info"]) == 0
    assert "no: no build record" in capsys.readouterr().out


@pytest.mark.parametrize("now", ["13.0", None])
def test_info_advises_a_new_installation_where_pytorch_is_another_one_now(now, monkeypatch, capsys):
    reason = "when ncafast was built, the installed PyTorch was a build for the CPU"
    record = {"cuda": {"built": False, "reason": reason, "torch_is_for_cpu": True}}
    monkeypatch.setattr(native, "build_info", lambda: record)
    monkeypatch.setattr(torch.version, "cuda", now)
    monkeypatch.setattr(torch, "__version__", "2.99.0+cu130")
    assert cli.main(["info"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  CUDA")]
    advice = "; now it is 2.99.0+cu130: install ncafast again, with pip install --force-reinstall --no-deps ."
    assert reason in line and (advice in line) is (now is not None)


def test_info_describes_a_checkpoint(tmp_path, capsys):
    nca = ncafast.NCA(channels=6, hidden=9, norm="batch", alive=(3, 0.2), padding="circular")
    ncafast.save(tmp_path / "model.safetensors", nca, task="texture", note="from a test")
    assert cli.main(["info", str(tmp_path / "model.safetensors")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    count = sum(p.numel() for p in nca.parameters())
    for line in ("model NCA", f"parameters {count}", "channels 6", "hidden [9]", 'norm "batch"'):
        assert line in lines
    for line in ('padding "circular"', "fixed_filters True", "task texture", "note from a test"):
        assert line in lines
    assert "fire_rate 0.5" in lines  # shown although it is the default
    assert not any(line.startswith("step_size") for line in lines)


def test_info_describes_a_run_by_its_best_checkpoint_and_shortens_what_is_long(tmp_path, capsys):
    ncafast.save(tmp_path / "run" / "last.safetensors", ncafast.NCA(channels=5))
    assert cli.main(["info", str(tmp_path / "run")]) == 0
    assert "last.safetensors" in capsys.readouterr().out
    table = str([0.123456] * 5000)
    ncafast.save(tmp_path / "run" / "best.safetensors", ncafast.NCA(channels=6), statistics=table, note="short")
    assert cli.main(["info", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "best.safetensors" in shown and len(shown) < 3000
    assert f"... ({len(table):,} characters)" in shown and "short" in shown
    (tmp_path / "empty").mkdir()
    for place, said in (("empty", "holds no best.safetensors"), ("absent", "there is no such file or folder")):
        assert cli.main(["info", str(tmp_path / place)]) == 1
        err = capsys.readouterr().err
        assert_one_line(err)
        assert f"{place}: {said}; give a checkpoint" in err


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is no such device here")
def test_a_device_as_a_model_is_not_called_missing(capsys):
    for words in (["info", "/dev/null"], ["predict", "depth", "--model", "/dev/null", "--input", str(ROOT / "docs")]):
        assert cli.main(words) == 1
        err = capsys.readouterr().err
        assert_one_line(err)
        assert "no such" not in err
    assert cli.main(["predict", "mednca", "--model", "/dev/null", "--input", "/dev/null"]) == 1
    assert "/dev/null: is a device or a pipe, not a regular file; give a checkpoint" in capsys.readouterr().err


def test_info_describes_a_cascade_with_both_rules(tmp_path, capsys):
    model = ncafast.models.MedNCA(channels=8, hidden=12, steps=(3, 2), scale=2)
    ncafast.save(tmp_path / "model.safetensors", model)
    assert cli.main(["info", str(tmp_path / "model.safetensors")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "model MedNCA" in lines and "steps [3, 2]" in lines
    assert "kernel_size [7, 7]" in lines and "kernel_size [3, 3]" in lines


def test_info_on_a_damaged_file_is_one_line(tmp_path, capsys):
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    assert cli.main(["info", str(tmp_path / "model.safetensors")]) == 1
    err = capsys.readouterr().err
    assert_one_line(err)
    assert "model.safetensors" in err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": None}, "its metadata has no config"),
        ({"config": "{"}, "does not fit its own description"),
        ({"config": "[1]"}, "does not fit its own description"),
        ({"config": '{"steps": 5}'}, "does not fit its own description"),
        ({"config": '{"kernel_sizes": [3]}'}, "does not fit its own description"),
        ({"model": None}, "holds a None, known are NCA"),
    ],
)
def test_info_on_damaged_metadata_is_one_line_with_the_file(tmp_path, capsys, changes, said):
    model = ncafast.models.MedNCA(channels=8, hidden=12, steps=(3, 2), scale=2)
    ncafast.save(tmp_path / "good", model)
    header = ncafast.checkpoint.describe(tmp_path / "good") | changes
    kept = {key: value for key, value in header.items() if value is not None}
    save_file(model.state_dict(), tmp_path / "damaged", kept)
    assert cli.main(["info", str(tmp_path / "damaged")]) == 1
    err = capsys.readouterr().err
    assert_one_line(err)
    assert str(tmp_path / "damaged") in err and said in err


def test_info_does_not_need_to_know_who_wrote_a_file(tmp_path, capsys):
    nca = ncafast.NCA(4, 6)
    ncafast.save(tmp_path / "good", nca)
    header = ncafast.checkpoint.describe(tmp_path / "good")
    del header["ncafast"]
    save_file(nca.state_dict(), tmp_path / "other", header)
    assert cli.main(["info", str(tmp_path / "other")]) == 0
    assert "ncafast unknown" in [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        ["train", "mednca", "--data", "d", "--output"],
        ["train", "texture", "--image", "d", "--output"],
        ["study", "texture", "--image", "d", "--output"],
        ["demo", "--quick", "--output"],
    ],
)
def test_an_output_that_cannot_be_names_its_option(tmp_path, capsys, words):
    (tmp_path / "file").touch()
    assert cli.main([*words, str(tmp_path / "file")]) == 1
    err = capsys.readouterr().err
    assert_one_line(err)
    assert f"--output {tmp_path / 'file'}: " in err and "is not a folder" in err
