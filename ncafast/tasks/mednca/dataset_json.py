"""What a data set's dataset.json says: the names of channels and labels, as the Decathlon and nnU-Net write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncafast.utils.json_files import read_json
from ncafast.utils.texts import printable

NAME = "dataset.json"
_TODO = "correct it, or rename it to go on without it"


@dataclass(frozen=True, slots=True)
class Facts:
    """The contents of a dataset.json. Everything is empty where there is no such file."""

    path: Path | None = None
    channels: tuple[str, ...] = ()
    """Names by channel number."""
    labels: tuple[tuple[int, str], ...] = ()
    """Label values and their names, in the order of the values, without the background and the ignore label."""
    ignore: int | None = None
    """Value of nnU-Net's ignore label: voxels that nobody annotated."""
    regions: tuple[str, ...] = ()
    """Names of nnU-Net's regions, which consist of several label values."""


def read_facts(folder: Path) -> Facts:
    """Read dataset.json in ``folder``.

    Raises ValueError, one line that names the file, if it is corrupt, or describes files that are not NIfTI.
    """
    path = folder / NAME
    if not path.is_file():
        return Facts()
    content = read_json(path, _TODO)
    try:
        if not isinstance(content, dict):
            raise ValueError(f"must hold a JSON object, not a {type(content).__name__}; {_TODO}")
        suffix = content.get("file_ending", ".nii.gz")
        if suffix not in (".nii.gz", ".nii"):
            raise ValueError(f"file_ending is {suffix!r}, but only .nii.gz and .nii are read; convert the files")
        labels = content.get("labels", {})
        values = _values_by_name(labels)
        ignored = values.pop("ignore") if "ignore" in labels else []
        regions = tuple(name for name, numbers in values.items() if len(numbers) > 1)
        channels = _channels(content.get("channel_names", content.get("modality", {})))
        return Facts(path, channels, _labels(values), ignored[0] if ignored else None, regions)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _channels(names: Any) -> tuple[str, ...]:
    """{"0": "T1", "1": "T2"} or ["T1", "T2"] as a tuple of names."""
    if isinstance(names, (str, list)):
        names = dict(enumerate([names] if isinstance(names, str) else names))
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f'channel_names must map numbers to names, as {{"0": "T1", "1": "T2"}}; {_TODO}')
    by_number = {str(number): name for number, name in names.items()}
    numbers = [str(number) for number in range(len(names))]
    if sorted(by_number) != sorted(numbers):
        raise ValueError(f"its channels are numbered {', '.join(by_number)}, not from 0 without a gap; {_TODO}")
    return tuple(printable(by_number[number]) for number in numbers)


def _values_by_name(labels: Any) -> dict[str, list[int]]:
    """The label values under each name; of a region, several."""
    if not isinstance(labels, dict):
        raise ValueError(f'labels must be an object, as {{"background": 0, "tumour": 1}}; {_TODO}')
    if labels and all(_is_number(key) for key in labels):  # the Decathlon: {"1": "tumour"}
        if not all(isinstance(name, str) for name in labels.values()):
            raise ValueError(f"the name of a label must be text; {_TODO}")
        distinct = len(set(labels.values())) == len(labels)
        return {name if distinct else f"{name} {value}": [int(value)] for value, name in labels.items()}
    values = {name: value if isinstance(value, list) and value else [value] for name, value in labels.items()}
    for name, numbers in values.items():
        if not all(_is_number(number) for number in numbers):
            raise ValueError(f"label {name!r} has the value {labels[name]!r}; whole numbers from 0 are needed; {_TODO}")
    return {name: [int(number) for number in numbers] for name, numbers in values.items()}


def _labels(values: dict[str, list[int]]) -> tuple[tuple[int, str], ...]:
    """(value, name) of every label but the background, by their values."""
    names: dict[int, str] = {}
    for name, (value, *others) in values.items():
        if not others:
            if value in names:
                raise ValueError(f"{names[value]!r} and {name!r} share the value {value}; {_TODO}")
            names[value] = printable(name).strip() or f"label {value}"
    every = sorted({number for numbers in values.values() for number in numbers} - {0})
    return tuple((value, names.get(value, f"label {value}")) for value in every)


def _is_number(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return whole or (isinstance(value, str) and value.isascii() and value.isdigit())
