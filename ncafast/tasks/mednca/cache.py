"""Prepared slices on disk, one safetensors file per volume, so that reading and normalising happens once.

A file's name carries a hash of the sources' sizes and dates and of the recipe: whatever changes makes a new file. Its
content carries a checksum; a corrupt file is made again.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from ncafast.files import replacing
from ncafast.tasks.mednca.pairs import Pair
from ncafast.tasks.mednca.reading import Waived, read_case, read_truth
from ncafast.tasks.mednca.slices import Recipe

_VERSION = 4


@dataclass(frozen=True, slots=True)
class CachedVolume:
    """The slices of one volume; they stay on disk until asked for."""

    name: str
    path: Path
    shape: tuple[int, int, int]  # slices, rows, columns
    spacing: tuple[float, float, float]  # mm along slices, rows, columns
    foreground: tuple[int, ...]  # labelled pixels in each slice
    labels: tuple[int, ...]  # label values that occur, background left out
    waived: Waived  # what --ignore-affine changed for the label map
    overlap: str  # which masks of a structure each overlap, in words
    blank: bool  # whether the image, or a channel of it, is the same everywhere
    checksum: int  # of the slices' content

    def __len__(self) -> int:
        return len(self.foreground)

    def read(self, index: int | slice) -> tuple[Tensor, Tensor]:
        """Images [n, C, H, W] float32 and class numbers [n, H, W] uint8 of some slices; an int gives n = 1."""
        where = slice(index, index + 1) if isinstance(index, int) else index
        with safe_open(self.path, "numpy") as file:
            image, label = file.get_slice("image")[where], file.get_slice("label")[where]
        return torch.from_numpy(image.astype(np.float32)), torch.from_numpy(label.copy())


def prepare(pair: Pair, recipe: Recipe, folder: Path, ignore_affine: bool = False) -> CachedVolume:
    """The volume's slices from the cache, or from its files.

    Raises VolumeError if the files cannot be used.
    """
    path = folder / f"{pair.name}-{_key(pair, recipe, ignore_affine)}.safetensors"
    cached = _open(pair.name, path)
    if cached is None:
        _build(pair, recipe, path, ignore_affine)
        cached = _open(pair.name, path)
    if cached is None:
        raise OSError(f"{path}: cannot be read back after writing; is the disk full or failing?")
    return cached


def _key(pair: Pair, recipe: Recipe, ignore_affine: bool) -> str:
    sources = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in pair.sources]
    content = json.dumps([_VERSION, sources, recipe.to_json(), ignore_affine])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _build(pair: Pair, recipe: Recipe, path: Path, ignore_affine: bool) -> None:
    image = read_case(pair.images, recipe.channels, recipe.geometry)
    truth = read_truth(pair, image, recipe.geometry, ignore_affine)
    tensors = {"image": recipe.slices_of(image), "label": recipe.label_slices(truth.data)}
    header = {
        "spacing": recipe.slice_spacing(image.spacing),
        "foreground": np.count_nonzero(tensors["label"], axis=(1, 2)).tolist(),
        "labels": [int(value) for value in np.unique(truth.data) if value != 0],
        "waived": truth.waived,
        "overlap": truth.overlap,
        "blank": any(not (channel != channel.flat[0]).any() for channel in image.data),
        "checksum": _checksum(tensors),
    }
    data = save(tensors, {"ncafast": json.dumps(header)})
    with replacing(path, size=len(data)) as scratch:
        scratch.write_bytes(data)


def _open(name: str, path: Path) -> CachedVolume | None:
    """The cached volume, or None if the file is missing or corrupt."""
    try:
        with safe_open(path, "numpy") as file:
            header = json.loads(file.metadata()["ncafast"])
            tensors = {key: file.get_tensor(key) for key in ("image", "label")}
        if header["checksum"] != _checksum(tensors):
            return None
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in header.items()
        }
        return CachedVolume(name, path, tensors["label"].shape, **fields)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def _checksum(tensors: dict[str, np.ndarray[Any, Any]]) -> int:
    return zlib.crc32(tensors["label"].tobytes(), zlib.crc32(tensors["image"].tobytes()))
