"""What a trained cascade needs to know of its input and of its classes, kept in the checkpoint so that prediction needs
no options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncafast.tasks.cascades import Array, ImageRecipe
from ncafast.tasks.image_labels import Kind, read_label_map
from ncafast.tasks.images import Reading
from ncafast.tasks.options import ValueRange

MOST_CLASSES = 255  # class numbers are bytes, and 0 is background
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_NUMBER = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(ImageRecipe):
    """Classes in the logits' order, and what images must look like."""

    names: tuple[str, ...]
    values: tuple[str, ...]
    """Number or colour of each class in masks; empty where all that is not black is one class."""

    def __post_init__(self) -> None:
        self.check()
        if not self.names or (self.values and len(self.values) != len(self.names)):
            raise ValueError(f"names={self.names} and values={self.values} do not belong together")
        for value in self.values:
            check_value(value)

    @classmethod
    def of(cls, classes: Sequence[str], size: int | None, value_range: ValueRange = "format") -> Recipe:
        """With the colours' statistics left open. `classes` as --classes."""
        names, values = parse_classes(classes)
        return cls(names=names, values=values, size=size, value_range=value_range)

    @property
    def kind(self) -> Kind:
        """What is asked of a mask."""
        if not self.values:
            return "binary"
        return "colours" if self.values[0].startswith("#") else "numbers"

    def read_mask(self, path: Path, reading: Reading) -> tuple[Array, list[str]]:
        """Class numbers [H, W] uint8, and the first values that belong to no class. Raises ImageError."""
        pixels = read_label_map(path, self.kind, reading)
        if not self.values:
            return pixels.astype(np.uint8), []
        if self.kind == "colours":
            pixels = pixels.astype(np.int64) @ (65536, 256, 1)
        found = np.zeros(pixels.shape, np.uint8)
        wanted = [_as_number(value) for value in self.values]
        for number, value in enumerate(wanted, start=1):
            found[pixels == value] = number
        others = np.setdiff1d(np.unique(pixels[found == 0]), 0)
        return found, [f"#{value:06x}" if self.kind == "colours" else str(value) for value in others[:8]]

    def mask(self, numbers: Array) -> Array:
        """Class numbers [H, W] as masks of training are: [H, W] uint8 or uint16, or [H, W, 3] uint8."""
        if not self.values:
            return np.where(numbers > 0, 255, 0).astype(np.uint8)
        table = np.array([0, *map(_as_number, self.values)])
        if self.kind == "colours":
            rgb = np.stack((table >> 16, table >> 8 & 255, table & 255), -1).astype(np.uint8)
            return rgb[numbers]  # type: ignore[no-any-return]
        return table.astype(np.uint8 if table.max() < 256 else np.uint16)[numbers]  # type: ignore[no-any-return]


def parse_classes(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and values of --classes.

    Raises:
        ValueError: words that are none, or that contradict each other; one line.
    """
    if not words:
        return ("label",), ()
    names, values = [], []
    for word in words:
        name, _, value = word.strip().rpartition("=")
        value = value.strip().lower()
        try:
            check_value(value)
        except ValueError as error:
            raise ValueError(f"classes={words!r} is not allowed; {error}") from None
        names.append(name.strip() or value)
        values.append(str(int(value)) if value.isdecimal() else value)
    kinds = {value.startswith("#") for value in values}
    for what, bad in (
        ("give either numbers or colours", len(kinds) > 1),
        ("every class needs a name and a value of its own", len({*names}) < len(names) or len({*values}) < len(values)),
        (f"at most {MOST_CLASSES} classes are possible", len(names) > MOST_CLASSES),
    ):
        if bad:
            raise ValueError(f"classes={words!r} is not allowed; {what}")
    return tuple(names), tuple(values)


def check_value(value: str) -> None:
    """Raise ValueError for what is no number or colour of a class."""
    fits = _COLOUR.fullmatch(value) or (_NUMBER.fullmatch(value) and int(value) < 65536)
    if not fits or _as_number(value) == 0:
        raise ValueError(f"{value!r} is no number from 1 to 65535 and no colour such as #ff0000 (black is background)")


def _as_number(value: str) -> int:
    return int(value[1:], 16) if value.startswith("#") else int(value)
