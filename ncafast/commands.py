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

    `options` is a class of options, or where one lives; without it `run` takes the words of the command line, and
    `parser` is where the function lives that makes their parser. `run` is called with the task's name, if there is one,
    and the options. A whole number that it returns is the exit code.
    """

    summary: str
    run: str
    options: str | type[Any] | None = None
    task: str | None = None
    parser: str | None = None


# Found without a look at the tasks, so that `ncafast info` needs none of what these need.
PLAIN = {
    "info": Command(
        "versions, backends, and why a part is missing; with a FILE or a run, what it holds",
        "ncafast.info:main",
        parser="ncafast.parsers:info",
    ),
    "import": Command(
        "make a model file from the weights of a published model, as its authors' code saved them",
        "ncafast.importing:main",
        parser="ncafast.parsers:weights",
    ),
    "check": Command(
        "check the GPU backends on this machine's GPUs, and print whether they are chosen by default",
        "ncafast.checkup:main",
        parser="ncafast.parsers:check",
    ),
    "demo": Command(
        "train a small Med-NCA on a brain template, segment held-out slices, measure the speed",
        "ncafast.tasks.demo:run",
        "ncafast.tasks.demo:DemoConfig",
    ),
    "explain": Command(
        "what accelerate finds in a module of yours, and why not more",
        "ncafast.explanation:main",
        parser="ncafast.parsers:explain",
    ),
    "bench": Command(
        "measure speed, memory and error beside plain PyTorch, torch.compile and others",
        "ncafast.bench.run:main",
        parser="ncafast.bench.options:parser",
    ),
    "render depth": Command(
        "render rooms, to try depth and segmentation without data",
        "ncafast.tasks.depth:render",
        "ncafast.tasks.depth:RenderConfig",
    ),
    "study texture": Command(
        "train textures over channels and hidden widths, and map how strongly they move",
        "ncafast.tasks.texture:study",
        "ncafast.tasks.texture:StudyConfig",
    ),
}
_ACTIONS = ("train", "evaluate", "predict", "animate")


@functools.cache
def commands() -> dict[str, Command]:
    """All commands by their words."""
    found = dict(PLAIN)
    for task in TASKS:
        known = vars(options_of(task))
        for action in _ACTIONS:
            options = known.get(f"{action.capitalize()}Config")
            if options is not None:
                found[f"{action} {task}"] = Command(_summary(options), f"ncafast.commands:_{action}", options, task)
    for task in filter(can_be_divided, TASKS):
        options = fold_options(task)
        found[f"crossvalidate {task}"] = Command(_summary(options), "ncafast.tasks.repeats:crossvalidate", options)
    for task in TASKS:
        options = grid_options(task)
        found[f"search {task}"] = Command(_summary(options), "ncafast.tasks.repeats:search", options)
    return found


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
