"""The command line: `ncafast info | demo | bench`, and `ncafast train | evaluate | predict | animate | study TASK`.

A command is a typed dataclass of options and a function that takes it; tyro makes the options. Both are imported when
the command is called, so that `ncafast info` and `bench` run with the core dependencies alone.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import sys
import textwrap
import traceback
import typing
from collections.abc import Sequence
from typing import Any

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

_EXPECTED = (ValueError, TypeError, OSError, RuntimeError)  # their messages are for people


@dataclasses.dataclass(frozen=True)
class _Command:
    """Where a command lives, as "module:name". `run` takes an instance of `options`, or words where there are none.

    It returns the exit code, or None for 0.
    """

    summary: str
    run: str
    options: str | None = None


_COMMANDS = {
    "info": _Command(
        "versions, backends, and why a part is missing; with a FILE, what a checkpoint holds",
        "ncafast.info:main",
    ),
    "demo": _Command(
        "train a small Med-NCA on a brain template, segment held-out slices, measure the speed",
        "ncafast.tasks.demo:run",
        "ncafast.tasks.demo:DemoConfig",
    ),
    "bench": _Command(
        "measure speed, memory and error beside plain PyTorch, torch.compile and others",
        "ncafast.bench:main",
    ),
    "train mednca": _Command(
        "train a segmentation model, 2-D or 3-D, on NIfTI volumes with label maps",
        "ncafast.cli:_train_mednca",
        "ncafast.tasks.mednca:TrainConfig",
    ),
    "evaluate mednca": _Command(
        "score a trained model: Dice, IoU, Hausdorff distance per volume",
        "ncafast.cli:_evaluate_mednca",
        "ncafast.tasks.mednca:EvaluateConfig",
    ),
    "predict mednca": _Command(
        "segment NIfTI volumes with a trained model, and show where it is unsure",
        "ncafast.cli:_predict_mednca",
        "ncafast.tasks.mednca:PredictConfig",
    ),
    "train classification": _Command(
        "train a classifier on image folders, a CSV list or an .npz file",
        "ncafast.cli:_train_classification",
        "ncafast.tasks.classification:TrainConfig",
    ),
    "evaluate classification": _Command(
        "score a trained classifier: accuracy, F1, confusion matrix",
        "ncafast.cli:_evaluate_classification",
        "ncafast.tasks.classification:EvaluateConfig",
    ),
    "predict classification": _Command(
        "classify images with a trained model, and draw its channels over time",
        "ncafast.cli:_predict_classification",
        "ncafast.tasks.classification:PredictConfig",
    ),
    "train texture": _Command(
        "train a texture automaton on one image",
        "ncafast.cli:_train_texture",
        "ncafast.tasks.texture:TrainConfig",
    ),
    "evaluate texture": _Command(
        "measure a trained texture: distance from its sample over time, strength of motion",
        "ncafast.cli:_evaluate_texture",
        "ncafast.tasks.texture:EvaluateConfig",
    ),
    "animate texture": _Command(
        "write what a trained texture does as a GIF or MP4, at any size",
        "ncafast.cli:_animate_texture",
        "ncafast.tasks.texture:AnimateConfig",
    ),
    "study texture": _Command(
        "train textures over channels and hidden widths, and map how strongly they move",
        "ncafast.cli:_study_texture",
        "ncafast.tasks.texture:StudyConfig",
    ),
    "train growing": _Command(
        "train an automaton that grows an image from one cell, keeps it and heals it",
        "ncafast.cli:_train_growing",
        "ncafast.tasks.growing:TrainConfig",
    ),
    "evaluate growing": _Command(
        "grow the image, cut it in five ways, measure how it heals",
        "ncafast.cli:_evaluate_growing",
        "ncafast.tasks.growing:EvaluateConfig",
    ),
    "animate growing": _Command(
        "make a film of growth and healing",
        "ncafast.cli:_animate_growing",
        "ncafast.tasks.growing:AnimateConfig",
    ),
    "train selfclassify": _Command(
        "train the cells of handwritten digits to agree on what they are part of",
        "ncafast.cli:_train_selfclassify",
        "ncafast.tasks.selfclassify:TrainConfig",
    ),
    "evaluate selfclassify": _Command(
        "score a trained model over time: cells and votes that are right",
        "ncafast.cli:_evaluate_selfclassify",
        "ncafast.tasks.selfclassify:EvaluateConfig",
    ),
    "predict selfclassify": _Command(
        "classify images of digits and colour their cells",
        "ncafast.cli:_predict_selfclassify",
        "ncafast.tasks.selfclassify:PredictConfig",
    ),
    "animate selfclassify": _Command(
        "make a film of digits whose cells come to agree",
        "ncafast.cli:_animate_selfclassify",
        "ncafast.tasks.selfclassify:AnimateConfig",
    ),
}


class _Usage(Exception):
    """The command line makes no sense, or a package that the command needs is missing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `ncafast`; None takes those of this process.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    full = "--traceback" in words or os.environ.get("NCAFAST_TRACEBACK", "0") not in ("", "0")
    try:
        code = _dispatch([word for word in words if word != "--traceback"])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        print("ncafast: stopped", file=sys.stderr)
        return INTERRUPTED
    except _Usage as error:
        return _fail(error, WRONG_USAGE)
    except SystemExit as stop:  # tyro's, after --help or a wrong option, which it has explained itself
        return stop.code if isinstance(stop.code, int) else WRONG_USAGE
    except ImportError as error:
        if full:
            traceback.print_exc()
        return _fail(error, WRONG_USAGE)
    except _EXPECTED as error:
        if full:
            traceback.print_exc()
        return _fail(error, FAILED)


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_help())
        return WRONG_USAGE
    if words[0] in ("-h", "--help", "help"):
        print(_help())
        return DONE
    if words[0] in ("-V", "--version", "version"):
        from ncafast.info import version

        print(f"ncafast {version()}")
        return DONE
    name, rest = _find(words)
    command = _COMMANDS[name]
    options = rest if command.options is None else _parse(name, command, rest)
    code = _load(command.run)(options)
    return DONE if code is None else int(code)


def _find(words: list[str]) -> tuple[str, list[str]]:
    """The command that the first one or two words name, and the words after it."""
    for count in (1, 2):
        name = " ".join(words[:count])
        if name in _COMMANDS:
            return name, words[count:]
    first = words[0]
    tasks = [name.split()[1] for name in _COMMANDS if name.startswith(f"{first} ")]
    if not tasks:
        known = sorted({name.split()[0] for name in _COMMANDS})
        raise _Usage(f"there is no command {first!r}{_meant(first, known)}; see ncafast --help")
    if len(words) > 1 and words[1] not in ("-h", "--help"):
        raise _Usage(f"{first} has no task {words[1]!r}; it has {', '.join(tasks)}")
    raise _Usage(f"{first} needs a task: ncafast {first} {tasks[0]} --help")


def _meant(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else f"; there are {', '.join(known)}"


def _parse(name: str, command: _Command, words: list[str]) -> Any:
    """The command's options, from words; --help and wrong words end in SystemExit."""
    try:
        import tyro
    except ImportError:
        extra = "demo" if name == "demo" else "tasks"
        raise _Usage(f"`ncafast {name}` needs the package tyro; run: pip install 'ncafast[{extra}]'") from None
    assert command.options is not None
    options = _load(command.options)
    return tyro.cli(
        _described(options),
        prog=f"ncafast {name}",
        description=_paragraphs(options.__doc__ or ""),
        args=words,
        config=(tyro.conf.DisallowNone,),
    )


def _described(options: type[Any]) -> type[Any]:
    """The dataclass with the text under each field as its help. tyro reads that itself, but keeps its line breaks."""
    from docstring_parser import parse_from_object

    kinds = [kind for kind in reversed(options.__mro__) if dataclasses.is_dataclass(kind)]  # texts are inherited
    docs = [doc for kind in kinds for doc in parse_from_object(kind).params]
    texts = {doc.arg_name: doc.description for doc in docs if doc.description}
    types = typing.get_type_hints(options)
    own = options.__annotations__  # stands first in the help
    fields = [
        (
            field.name,
            types[field.name],
            dataclasses.field(
                default=field.default,
                default_factory=field.default_factory,
                metadata={"help": " ".join(texts[field.name].split())},
            ),
        )
        for field in sorted(dataclasses.fields(options), key=lambda field: field.name not in own)
    ]
    return dataclasses.make_dataclass(options.__name__, fields, bases=(options,), kw_only=True)


def _paragraphs(text: str) -> str:
    """The text with one line per paragraph."""
    blocks = textwrap.dedent(text).split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks)


def _train_mednca(options: Any) -> None:
    from ncafast.tasks.mednca import train

    result = train(options)
    score = "" if result.best_dice is None else f" (epoch {result.best_epoch}, Dice {result.best_dice:.4f})"
    print(f"best checkpoint: {result.best}{score}")


def _evaluate_mednca(options: Any) -> None:
    from ncafast.tasks.mednca import evaluate

    print(f"written: {evaluate(options).csv}")  # after the table, which the task prints


def _predict_mednca(options: Any) -> int:
    """FAILED when an image got no segmentation, as `cp` does when it could not copy a file."""
    from ncafast.tasks.mednca import predict
    from ncafast.train import texts

    done = predict(options)
    for item in done.written:
        overlay = f", {item.overlay.name}" if item.overlay else ""
        doubt = f" (NQM {', '.join(f'{value:.3f}' for value in item.quality.values())})" if item.quality else ""
        print(texts.printable(f"written: {item.labels}{overlay}{doubt}"))
    if done.report is not None:
        print(texts.printable(f"written: {done.report}, and beside it maps of where the model is unsure"))
    return FAILED if done.skipped else DONE


def _train_classification(options: Any) -> None:
    from ncafast.tasks.classification import train

    result = train(options)
    score = "" if result.best_accuracy is None else f" (epoch {result.best_epoch}, accuracy {result.best_accuracy:.4f})"
    print(f"best checkpoint: {result.best}{score}")


def _evaluate_classification(options: Any) -> None:
    from ncafast.tasks.classification import evaluate

    print(f"written: {evaluate(options).csv}")  # after the table, which the task prints


def _predict_classification(options: Any) -> int:
    """FAILED when an image could not be read, as `_predict_mednca`."""
    from ncafast.tasks.classification import predict
    from ncafast.train import texts

    done = predict(options)
    for item in done.found:
        shown = f" ({item.picture})" if item.picture else ""
        print(texts.printable(f"{item.image}: {item.label}, {item.probability:.2f}{shown}"))
    print(f"written: {done.csv}")
    return FAILED if done.skipped else DONE


def _train_texture(options: Any) -> None:
    from ncafast.tasks.texture import train

    result = train(options)
    print(f"best checkpoint: {result.best} (epoch {result.best_epoch}, distance {result.best_loss:.4g})")


def _evaluate_texture(options: Any) -> None:
    from ncafast.tasks.texture import evaluate

    print(f"written: {evaluate(options).folder}")


def _animate_texture(options: Any) -> None:
    from ncafast.tasks.texture import animate

    print(f"written: {animate(options)}")


def _study_texture(options: Any) -> None:
    from ncafast.tasks.texture import study

    print(f"written: {study(options).heat_map}")


def _train_growing(options: Any) -> None:
    from ncafast.tasks.growing import train

    result = train(options)
    losses = ", ".join(f"{name.removeprefix('val_')} {loss:.4f}" for name, loss in result.measures.items())
    print(f"best checkpoint: {result.best} (epoch {result.best_epoch}; loss {losses})")


def _evaluate_growing(options: Any) -> None:
    from ncafast.tasks.growing import evaluate

    result = evaluate(options)
    print(f"written: {result.json}, {result.picture.name}")


def _animate_growing(options: Any) -> None:
    from ncafast.tasks.growing import animate

    print(f"written: {animate(options)}")


def _train_selfclassify(options: Any) -> None:
    from ncafast.tasks.selfclassify import train

    result = train(options)
    cells = result.measures["val_cells"]
    score = "" if cells is None else f", {100 * cells:.1f} % of the held-out digits' cells are right"
    print(f"best checkpoint: {result.best} (epoch {result.best_epoch}{score})")


def _evaluate_selfclassify(options: Any) -> None:
    from ncafast.tasks.selfclassify import evaluate

    result = evaluate(options)
    print(f"written: {result.json}, {', '.join(picture.name for picture in result.pictures)}")


def _predict_selfclassify(options: Any) -> int:
    """FAILED when an image could not be classified, as `cp` does when it could not copy a file."""
    from ncafast.tasks.selfclassify import predict

    done = predict(options)
    print(f"written: {done.csv} and a picture per image")
    return FAILED if done.skipped else DONE


def _animate_selfclassify(options: Any) -> None:
    from ncafast.tasks.selfclassify import animate

    print(f"written: {animate(options)}")


def _load(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def _fail(error: BaseException, code: int) -> int:
    """Print the error on one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"ncafast: error: {message}", file=sys.stderr)
    return code


def _help() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in _COMMANDS.items()]
    commands = "\n".join(lines)
    return f"""usage: ncafast COMMAND [OPTIONS]

Fast neural cellular automata in PyTorch.

commands:
{commands}

`ncafast COMMAND --help` lists the options of a command, with their defaults.

options:
  -h, --help     show this help and exit
  -V, --version  show the version and exit
  --traceback    after an error, show where in the code it came from (also NCAFAST_TRACEBACK=1)

exit codes: 0 done, 1 failed, 2 wrong usage or a package is missing, 130 stopped by Ctrl-C"""
