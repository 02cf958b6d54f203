"""The NIfTI reader on odd and corrupt files: one line that names the file, or what nibabel and gzip read."""

from __future__ import annotations

import gzip
import os
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import odd_nifti

from ncafast.nifti import VolumeError
from ncafast.tasks.mednca.volumes import Volume, read_channels, read_grid, read_image, read_label

COUNT = int(os.environ.get("NCAFAST_ODD_FILES", "345"))
_MM = {1: 1000.0, 3: 0.001}
_MANY = 10**6  # voxels; none of the files holds as many


def _oracle(path: Path, channel: int) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """The image as nibabel reads it, and one channel float32 in canonical orientation as nibabel turns it."""
    if path.suffix == ".gz":
        gzip.decompress(path.read_bytes())
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        image = nib.load(path)
        assert np.prod([float(size) for size in image.shape]) < _MANY
        data = np.asarray(image.dataobj)[(..., channel) if image.ndim > 3 else ...]
        data = data.reshape((*image.shape[:3], 1)[:3]).astype(np.float32)
        return image, nib.as_closest_canonical(nib.Nifti1Image(data, image.affine))


def _read(read, path: Path, *options) -> Volume | None:
    """What a reader gives, None for a VolumeError, whose text is looked at."""
    try:
        return read(path, *options)
    except VolumeError as error:
        assert len(str(error).splitlines()) == 1 and str(path) in str(error), repr(str(error))
        return None


def _check_place(path: Path, image: nib.Nifti1Image, canonical: nib.Nifti1Image, volume: Volume) -> None:
    np.testing.assert_allclose(volume.position.affine, canonical.affine, rtol=1e-12)
    unit = _MM.get(int(image.header["xyzt_units"]) & 7, 1.0)
    np.testing.assert_allclose(volume.spacing, np.linalg.norm(canonical.affine[:3, :3], axis=0) * unit, rtol=1e-9)
    assert volume.data.shape[1:] == canonical.shape
    assert read_grid(path) == (volume.shape, volume.spacing)


def _check_image(odd: odd_nifti.Odd) -> bool:
    """Whether the file was read; fails for anything that is neither right nor one line."""
    channels = (max(read_channels(odd.path) or 1, 1) - 1, 0)
    volume = _read(read_image, odd.path, channels)
    assert volume is not None or not odd.whole
    if volume is None:
        return False
    assert volume.data.dtype == np.float32
    for ours, channel in zip(volume.data, channels, strict=True):
        image, canonical = _oracle(odd.path, channel)
        np.testing.assert_array_equal(ours, np.asarray(canonical.dataobj))
    _check_place(odd.path, image, canonical, volume)
    return True


def _check_label(odd: odd_nifti.Odd) -> bool:
    volume = _read(read_label, odd.path)
    if volume is None:
        return False
    _, canonical = _oracle(odd.path, 0)
    exact = np.asarray(canonical.dataobj).astype(np.float64)
    np.testing.assert_allclose(volume.data[0], exact, atol=1e-3, rtol=0)
    stored = np.asarray(nib.load(odd.path).dataobj)
    assert abs(stored.astype(object).max()) < 2**24 and abs(stored.astype(object).min()) < 2**24
    return True


def test_every_odd_file_is_read_as_nibabel_reads_it_or_refused_in_one_line(tmp_path):
    read = {"image": 0, "label": 0}
    for seed in range(COUNT):
        odd = odd_nifti.make(tmp_path, seed)
        try:
            read["image"] += _check_image(odd)
            read["label"] += _check_label(odd)
            _read(read_image, odd.path, (0,), "qform")
        except Exception as error:
            raise AssertionError(f"{odd.path.name}: {odd.how}: {type(error).__name__}: {error}") from error
        odd.path.unlink()
    assert COUNT // 4 < read["image"] < 3 * COUNT // 4 and read["label"] > COUNT // 20, read
