"""The options of repeated trainings: a task's own and a few more. The text under a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks.classification.options import TrainConfig as Classification
from ncafast.tasks.growing.options import TrainConfig as Growing
from ncafast.tasks.mednca.options import TrainConfig as MedNCA
from ncafast.tasks.selfclassify.options import TrainConfig as SelfClassify
from ncafast.tasks.texture.options import TrainConfig as Texture


@dataclass(kw_only=True)
class FoldOptions:
    """What cross-validation takes beside a task's options."""

    folds: int = 5
    """How many parts the data are divided into; each is held out once."""

    splits: Path | None = None
    """File with the folds, as nnU-Net's splits_final.json: a list of {"train": [names], "val": [names]}. Left out:
    --folds parts, drawn by --seed."""


@dataclass(kw_only=True)
class GridOptions:
    """What a search takes beside a task's options."""

    over: tuple[str, ...]
    """Values to try, by option: lr=0.001,0.002 hidden=64,128. Every combination is trained once. A value of several
    numbers has colons between them, as in steps=32:48."""

    by: str | None = None
    """What to rank by: val_dice or any other column of a training's history.csv, at its best epoch. Left out: what the
    task chooses its best epoch by."""

    lowest: bool = False
    """The lowest number is best. Left out: the highest, but for losses."""


@dataclass(kw_only=True)
class MedNCAFolds(FoldOptions, MedNCA):
    """Cross-validate a Med-NCA or M3D-NCA: train once for each fold of the volumes, and measure on those held out.

    If it is stopped, give the same command again: it goes on in the middle of a training too.
    """

    out: Path = Path("mednca-folds")
    """Folder for a training's folder per fold, results.csv, and results.png."""


@dataclass(kw_only=True)
class ClassificationFolds(FoldOptions, Classification):
    """Cross-validate a classifier: train once for each fold of the images, and measure on those held out.

    Every class is divided evenly over the folds. If it is stopped, give the same command again: it goes on in the
    middle of a training too.
    """

    out: Path = Path("classification-folds")
    """Folder for a training's folder per fold, results.csv, and results.png."""


@dataclass(kw_only=True)
class MedNCAGrid(GridOptions, MedNCA):
    """Train a Med-NCA or M3D-NCA with every combination of some options' values, and rank them.

    If it is stopped, give the same command again, also with more values: it trains what is left.
    """

    out: Path = Path("mednca-search")
    """Folder for a training's folder per combination, results.csv, and results.png."""


@dataclass(kw_only=True)
class ClassificationGrid(GridOptions, Classification):
    """Train a classifier with every combination of some options' values, and rank them.

    If it is stopped, give the same command again, also with more values: it trains what is left.
    """

    out: Path = Path("classification-search")
    """Folder for a training's folder per combination, results.csv, and results.png."""


@dataclass(kw_only=True)
class TextureGrid(GridOptions, Texture):
    """Train a texture automaton with every combination of some options' values, and rank them.

    If it is stopped, give the same command again, also with more values: it trains what is left.
    """

    out: Path = Path("texture-search")
    """Folder for a training's folder per combination, results.csv, and results.png."""


@dataclass(kw_only=True)
class GrowingGrid(GridOptions, Growing):
    """Train a growing automaton with every combination of some options' values, and rank them.

    If it is stopped, give the same command again, also with more values: it trains what is left.
    """

    out: Path = Path("growing-search")
    """Folder for a training's folder per combination, results.csv, and results.png."""


@dataclass(kw_only=True)
class SelfClassifyGrid(GridOptions, SelfClassify):
    """Train on digits with every combination of some options' values, and rank them.

    If it is stopped, give the same command again, also with more values: it trains what is left.
    """

    out: Path = Path("selfclassify-search")
    """Folder for a training's folder per combination, results.csv, and results.png."""
