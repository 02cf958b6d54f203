"""What a data set's dataset.json says: the names of channels and labels, as the Decathlon and nnU-Net write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncafast.utils.json_files import read_json
from ncafast.utils.texts import printable

NAME = "dataset.json"
_ENDINGS = (".nii.gz", ".nii")
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

    @property
    def values(self) -> tuple[int, ...]:
        """The label values."""
        return tuple(value for value, _ in self.labels)

    def name_of(self, value: int) -> str:
        """The name of a label value, or "label 3" where it has none."""
        return dict(self.labels).get(value, f"label {value}")


def read_facts(folder: Path) -> Facts:
    """Read dataset.json in ``folder``.

    Raises ValueError, one line that names the file, if it is corrupt, or describes files that are not NIfTI.
    """
    path = folder / NAME
    if not path.is_file():
        return Facts()
    content = read_json(path, _TODO)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a JSON object, not a {type(content).__name__}; {_TODO}")
    ending = content.get("file_ending", ".nii.gz")
    if ending not in _ENDINGS:
        raise ValueError(f"{path}: file_ending is {ending!r}, but only .nii.gz and .nii are read; convert the files")
    labels, ignore, regions = _labels(path, content.get("labels", {}))
    channels = _channels(path, content.get("channel_names", content.get("modality", {})))
    return Facts(path, channels, labels, ignore, regions)


def _channels(path: Path, found: Any) -> tuple[str, ...]:
    """{"0": "T1", "1": "T2"} or ["T1", "T2"] as a tuple of names."""
    if isinstance(found, str):
        found = [found]
    if isinstance(found, list):
        found = {str(number): name for number, name in enumerate(found)}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ValueError(f'{path}: channel_names must map numbers to names, as {{"0": "T1", "1": "T2"}}; {_TODO}')
    names = {str(number): name for number, name in found.items()}
    wanted = [str(number) for number in range(len(names))]
    if sorted(names) != sorted(wanted):
        raise ValueError(f"{path}: its channels are numbered {', '.join(names)}, not from 0 without a gap; {_TODO}")
    return tuple(printable(names[number]) for number in wanted)


def _labels(path: Path, found: Any) -> tuple[tuple[tuple[int, str], ...], int | None, tuple[str, ...]]:
    """(value, name) of every label, the ignore label, and the names of the regions."""
    if not isinstance(found, dict):
        raise ValueError(f'{path}: labels must be an object, as {{"background": 0, "tumour": 1}}; {_TODO}')
    if found and all(_is_number(key) for key in found):  # the Decathlon: {"1": "tumour"}
        if not all(isinstance(name, str) for name in found.values()):
            raise ValueError(f"{path}: the name of a label must be text; {_TODO}")
        parts = {name: [int(value)] for value, name in found.items()}
        if len(parts) < len(found):
            parts = {f"{name} {value}": [int(value)] for value, name in found.items()}
        return _sorted(path, parts), None, ()
    parts = {name: _values(path, name, value) for name, value in found.items()}
    ignored = parts.pop("ignore", None)
    return _sorted(path, parts), ignored[0] if ignored else None, tuple(n for n, v in parts.items() if len(v) > 1)


def _values(path: Path, name: str, found: Any) -> list[int]:
    values = found if isinstance(found, list) and found else [found]
    if not all(_is_number(value) for value in values):
        raise ValueError(f"{path}: label {name!r} has the value {found!r}; whole numbers from 0 are needed; {_TODO}")
    return [int(value) for value in values]


def _sorted(path: Path, parts: dict[str, list[int]]) -> tuple[tuple[int, str], ...]:
    names: dict[int, str] = {}
    for name, values in parts.items():
        if len(values) == 1:
            if values[0] in names:
                raise ValueError(f"{path}: {names[values[0]]!r} and {name!r} share the value {values[0]}; {_TODO}")
            names[values[0]] = printable(name).strip() or f"label {values[0]}"
    every = sorted({value for values in parts.values() for value in values} - {0})
    return tuple((value, names.get(value, f"label {value}")) for value in every)


def _is_number(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return whole or (isinstance(value, str) and value.isascii() and value.isdigit())
