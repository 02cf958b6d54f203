"""Med-NCA reads real volumes. Runs where the environment variable NCAFAST_DATA names a folder that has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ncafast.tasks.mednca import TrainConfig
from ncafast.tasks.mednca.data import load_volumes
from ncafast.tasks.mednca.pairs import find_pairs, list_nifti, resolve_folders
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.volumes import read_image, read_label

DATA = Path(os.environ.get("NCAFAST_DATA", "no data"))


@pytest.mark.parametrize(("name", "axis", "count"), [("nifti_misc", "axial", 4), ("nifti_hippocampus", "coronal", 120)])
def test_every_pair_is_used(tmp_path, name, axis, count):
    if not (DATA / name).is_dir():
        pytest.skip(f"$NCAFAST_DATA/{name} is absent")
    pairs, skipped = find_pairs(*resolve_folders(DATA / name, None, None))
    assert len(pairs) == count
    assert skipped == []
    volumes, skipped = load_volumes(pairs, Recipe(axis), TrainConfig(cache=tmp_path, progress=False))
    assert not skipped
    assert all(sum(volume.foreground) > 0 for volume in volumes)


def test_prostate_images_and_labels_are_read():
    folder = DATA / "nifti_prostate"
    if not folder.is_dir():
        pytest.skip("$NCAFAST_DATA/nifti_prostate is absent")
    for path in list_nifti(folder):
        channels = (0, 1) if "4d" in path.name else (0,)
        volume = read_image(path, channels)
        assert volume.data.shape[0] == len(channels)
        assert volume.spacing[2] == pytest.approx(3, abs=0.01)
    for path in list_nifti(folder / "msd_task05_labels"):
        assert read_label(path).data.max() in (1, 2)
