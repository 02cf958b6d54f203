"""The commands: what there is, where it lives, and what it prints of a task's result.

The commands of a task follow from its options: a task with an `EvaluateConfig` can be evaluated. Nothing of a task but
its options is imported before its command is called.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from ncafast.tasks import TASKS, on_demand
from ncafast.tasks.on_demand import options_of
from ncafast.tasks.repeats.config import can_be_divided, fold_options, grid_options

DONE, FAILED = 0, 1


@dataclass(frozen=True)
class Command:
    """Where a command lives, as "module:name".

    `options` is a class of options, or where one lives; without it `run` takes the words of the command line. `run` is
    called with the task's name, if there is one, and the options. It returns the exit code, or None for 0.
    """

    summary: str
    run: str
    options: str | type[Any] | None = None
    task: str | None = None


# Found without a look at the tasks, so that `ncafast info` needs none of what these need.
PLAIN = {
    "info": Command(
        "versions, backends, and why a part is missing; with a FILE or a run, what it holds",
        "ncafast.info:main",
    ),
    "import": Command(
        "make a model file from the weights of a published model, as its authors' code saved them",
        "ncafast.importing:main",
    ),
    "check": Command(
        "check the GPU backends on this machine's GPUs, and print whether they are chosen by default",
        "ncafast.checkup:main",
    ),
    "demo": Command(
        "train a small Med-NCA on a brain template, segment held-out slices, measure the speed",
        "ncafast.tasks.demo:run",
        "ncafast.tasks.demo:DemoConfig",
    ),
    "bench": Command(
        "measure speed, memory and error beside plain PyTorch, torch.compile and others",
        "ncafast.bench:main",
    ),
    "study texture": Command(
        "train textures over channels and hidden widths, and map how strongly they move",
        "ncafast.commands:_study_texture",
        "ncafast.tasks.texture:StudyConfig",
    ),
}
_ACTIONS = {action: f"{action.capitalize()}Config" for action in ("train", "evaluate", "predict", "animate")}


@functools.cache
def commands() -> dict[str, Command]:
    """All commands by their words."""
    found = dict(PLAIN)
    for task in TASKS:
        options = vars(options_of(task))
        for action, name in _ACTIONS.items():
            if name in options:
                found[f"{action} {task}"] = _of_task(action, task, options[name])
    for task in filter(can_be_divided, TASKS):
        found[f"crossvalidate {task}"] = _of_task("crossvalidate", task, fold_options(task))
    for task in TASKS:
        found[f"search {task}"] = _of_task("search", task, grid_options(task))
    return found


def _of_task(action: str, task: str, options: type[Any]) -> Command:
    return Command(_summary(options), f"ncafast.commands:_{action}", options, task)


def _summary(options: type) -> str:
    """The first sentence of the options' description, up to a colon or semicolon."""
    text = " ".join((options.__doc__ or "").split())
    for end in (". ", ": ", "; "):
        text = text.split(end, 1)[0]
    return text[:1].lower() + text[1:].rstrip(".")


def _train(task: str, options: Any) -> None:
    result = on_demand.run("train", task, options)
    measures = [
        f"{name.removeprefix('val_').replace('_', ' ')} {value:.4g}"
        for name, value in result.measures.items()
        if value is not None
    ]
    print(f"best checkpoint: {result.best} ({', '.join([f'epoch {result.best_epoch}', *measures])})")


def _evaluate(task: str, options: Any) -> None:
    report = on_demand.run("evaluate", task, options)  # prints its table
    print(f"written: {report.folder}")


def _predict(task: str, options: Any) -> int:
    """FAILED when a file could not be used, as `cp` does when it could not copy one."""
    from ncafast.utils.texts import printable

    done = on_demand.run("predict", task, options)
    for line in done.lines():
        print(printable(line))
    return FAILED if done.skipped else DONE


def _animate(task: str, options: Any) -> None:
    from ncafast.utils.texts import printable

    print(printable(f"written: {on_demand.run('animate', task, options)}"))


def _study_texture(options: Any) -> None:
    from ncafast.tasks.texture import study

    print(f"written: {study(options).heat_map}")


def _crossvalidate(task: str, options: Any) -> None:
    from ncafast.tasks.repeats import crossvalidate

    crossvalidate(options)
    print(f"written: {options.output / 'results.csv'}, results.png")  # after the table, which it prints


def _search(task: str, options: Any) -> None:
    from ncafast.tasks.repeats import search

    search(options)
    print(f"written: {options.output / 'results.csv'}, results.png")
