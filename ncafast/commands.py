"""The commands: what there is, where it lives, and what it prints of a task's result.

Nothing of a task is imported before its command is called.
"""

from __future__ import annotations

import dataclasses
from typing import Any

DONE, FAILED = 0, 1


@dataclasses.dataclass(frozen=True)
class Command:
    """Where a command lives, as "module:name". `run` takes an instance of `options`, or words where there are none.

    It returns the exit code, or None for 0.
    """

    summary: str
    run: str
    options: str | None = None


COMMANDS = {
    "info": Command(
        "versions, backends, and why a part is missing; with a FILE or a run, what it holds",
        "ncafast.info:main",
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
    "train mednca": Command(
        "train a segmentation model, 2-D or 3-D, on NIfTI volumes with label maps",
        "ncafast.commands:_train_mednca",
        "ncafast.tasks.mednca:TrainConfig",
    ),
    "evaluate mednca": Command(
        "score a trained model: Dice, IoU, Hausdorff distance per volume",
        "ncafast.commands:_evaluate_mednca",
        "ncafast.tasks.mednca:EvaluateConfig",
    ),
    "predict mednca": Command(
        "segment NIfTI volumes with a trained model, and show where it is unsure",
        "ncafast.commands:_predict_mednca",
        "ncafast.tasks.mednca:PredictConfig",
    ),
    "animate mednca": Command(
        "make a film of a slice as its segmentation appears",
        "ncafast.commands:_animate_mednca",
        "ncafast.tasks.mednca:AnimateConfig",
    ),
    "train classification": Command(
        "train a classifier on image folders, a CSV list or an .npz file",
        "ncafast.commands:_train_classification",
        "ncafast.tasks.classification:TrainConfig",
    ),
    "evaluate classification": Command(
        "score a trained classifier: accuracy, F1, confusion matrix",
        "ncafast.commands:_evaluate_classification",
        "ncafast.tasks.classification:EvaluateConfig",
    ),
    "predict classification": Command(
        "classify images with a trained model, and draw its channels over time",
        "ncafast.commands:_predict_classification",
        "ncafast.tasks.classification:PredictConfig",
    ),
    "animate classification": Command(
        "make a film of an image's channels over time",
        "ncafast.commands:_animate_classification",
        "ncafast.tasks.classification:AnimateConfig",
    ),
    "train texture": Command(
        "train a texture automaton on one image",
        "ncafast.commands:_train_texture",
        "ncafast.tasks.texture:TrainConfig",
    ),
    "evaluate texture": Command(
        "measure a trained texture: distance from its sample over time, strength of motion",
        "ncafast.commands:_evaluate_texture",
        "ncafast.tasks.texture:EvaluateConfig",
    ),
    "animate texture": Command(
        "write what a trained texture does as a GIF or MP4, at any size",
        "ncafast.commands:_animate_texture",
        "ncafast.tasks.texture:AnimateConfig",
    ),
    "study texture": Command(
        "train textures over channels and hidden widths, and map how strongly they move",
        "ncafast.commands:_study_texture",
        "ncafast.tasks.texture:StudyConfig",
    ),
    "train growing": Command(
        "train an automaton that grows an image from one cell, keeps it and heals it",
        "ncafast.commands:_train_growing",
        "ncafast.tasks.growing:TrainConfig",
    ),
    "evaluate growing": Command(
        "grow the image, cut it in five ways, measure how it heals",
        "ncafast.commands:_evaluate_growing",
        "ncafast.tasks.growing:EvaluateConfig",
    ),
    "animate growing": Command(
        "make a film of growth and healing",
        "ncafast.commands:_animate_growing",
        "ncafast.tasks.growing:AnimateConfig",
    ),
    "train selfclassify": Command(
        "train the cells of handwritten digits to agree on what they are part of",
        "ncafast.commands:_train_selfclassify",
        "ncafast.tasks.selfclassify:TrainConfig",
    ),
    "evaluate selfclassify": Command(
        "score a trained model over time: cells and votes that are right",
        "ncafast.commands:_evaluate_selfclassify",
        "ncafast.tasks.selfclassify:EvaluateConfig",
    ),
    "predict selfclassify": Command(
        "classify images of digits and colour their cells",
        "ncafast.commands:_predict_selfclassify",
        "ncafast.tasks.selfclassify:PredictConfig",
    ),
    "animate selfclassify": Command(
        "make a film of digits whose cells come to agree",
        "ncafast.commands:_animate_selfclassify",
        "ncafast.tasks.selfclassify:AnimateConfig",
    ),
    "crossvalidate mednca": Command(
        "train and measure over folds of the volumes, with mean and deviation",
        "ncafast.commands:_crossvalidate",
        "ncafast.tasks.repeats.config:MedNCAFolds",
    ),
    "crossvalidate classification": Command(
        "train and measure over folds of the images, with mean and deviation",
        "ncafast.commands:_crossvalidate",
        "ncafast.tasks.repeats.config:ClassificationFolds",
    ),
    "search mednca": Command(
        "train every combination of some options' values, and rank them",
        "ncafast.commands:_search",
        "ncafast.tasks.repeats.config:MedNCAGrid",
    ),
    "search classification": Command(
        "train every combination of some options' values, and rank them",
        "ncafast.commands:_search",
        "ncafast.tasks.repeats.config:ClassificationGrid",
    ),
    "search texture": Command(
        "train every combination of some options' values, and rank them",
        "ncafast.commands:_search",
        "ncafast.tasks.repeats.config:TextureGrid",
    ),
    "search growing": Command(
        "train every combination of some options' values, and rank them",
        "ncafast.commands:_search",
        "ncafast.tasks.repeats.config:GrowingGrid",
    ),
    "search selfclassify": Command(
        "train every combination of some options' values, and rank them",
        "ncafast.commands:_search",
        "ncafast.tasks.repeats.config:SelfClassifyGrid",
    ),
}


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
    from ncafast.utils import texts

    done = predict(options)
    for item in done.written:
        overlay = f", {item.overlay.name}" if item.overlay else ""
        doubt = f" (NQM {', '.join(f'{value:.3f}' for value in item.quality.values())})" if item.quality else ""
        masks = f", {len(item.masks)} masks in {item.masks[0].parent.name}/" if item.masks else ""
        print(texts.printable(f"written: {item.labels}{overlay}{masks}{doubt}"))
    if done.report is not None:
        print(texts.printable(f"written: {done.report}, and beside it maps of where the model is unsure"))
    return FAILED if done.skipped else DONE


def _animate_mednca(options: Any) -> None:
    from ncafast.tasks.mednca import animate
    from ncafast.utils import texts

    print(texts.printable(f"written: {animate(options)}"))


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
    from ncafast.utils import texts

    done = predict(options)
    for item in done.found:
        shown = f" ({item.picture})" if item.picture else ""
        print(texts.printable(f"{item.image}: {item.label}, {item.probability:.2f}{shown}"))
    print(f"written: {done.csv}")
    return FAILED if done.skipped else DONE


def _animate_classification(options: Any) -> None:
    from ncafast.tasks.classification import animate
    from ncafast.utils import texts

    print(texts.printable(f"written: {animate(options)}"))


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
    print(f"written: {result.folder / 'healing.json'}, steps.csv, healing.png")


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


def _crossvalidate(options: Any) -> None:
    from ncafast.tasks.repeats import crossvalidate

    crossvalidate(options)
    print(f"written: {options.out / 'results.csv'}, results.png")  # after the table, which it prints


def _search(options: Any) -> None:
    from ncafast.tasks.repeats import search

    search(options)
    print(f"written: {options.out / 'results.csv'}, results.png")
