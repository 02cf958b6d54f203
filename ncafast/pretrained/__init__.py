"""Small trained models that come with the package, one per task: what `--model example` stands for."""

from __future__ import annotations

from pathlib import Path

from ncafast import checkpoint

EXAMPLE = "example"
_FOLDER = Path(__file__).parent


def find(task: str, place: Path) -> Path:
    """The model file that `--model` stands for, as `checkpoint.find` does, or the task's own for `example`.

    A checkpoint or a training run of that name in the working directory goes first.

    Raises:
        ValueError: there is none, and the name is another one.
    """
    try:
        return checkpoint.find(place)
    except ValueError as error:
        if place == Path(EXAMPLE):
            return _FOLDER / f"{task}.safetensors"
        raise ValueError(f"{error}, or {EXAMPLE} for the one that comes with ncafast") from None
