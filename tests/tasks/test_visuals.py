"""Pictures for TensorBoard: every task shows input, truth, prediction, error and hidden channels, as it finds them."""

from __future__ import annotations

import dataclasses
import gzip

import blobs
import cells
import nifti
import numpy as np
import pytest
import scenes
import small_digits
import small_growing
import small_texture
import torch
from PIL import Image

from ncafast.tasks.classification.task import TASK as CLASSIFICATION
from ncafast.tasks.depth.task import TASK as DEPTH
from ncafast.tasks.growing.task import TASK as GROWING
from ncafast.tasks.mednca.inference import segment_slices
from ncafast.tasks.mednca.task import TASK as MEDNCA
from ncafast.tasks.segmentation.task import TASK as SEGMENTATION
from ncafast.tasks.selfclassify.task import TASK as SELFCLASSIFY
from ncafast.tasks.texture.task import TASK as TEXTURE
from ncafast.viz.views import class_picture

PARTS = ["input", "truth", "prediction", "error"]
TASKS = ("classification", "mednca", "mednca-3d", "texture", "growing", "selfclassify", "segmentation", "depth")


def make(name, folder):
    """The job of a small training."""
    out = folder / "run"
    if name == "classification":
        return CLASSIFICATION, cells.tiny(cells.write_npz(folder / "a.npz"), out, pictures=2)
    if name.startswith("mednca"):
        nifti.write_set(folder / "v", 4)
        more = {"dims": 3, "crop": 512, "batch_size": 2} if name == "mednca-3d" else {}
        return MEDNCA, nifti.tiny(folder / "v", out, pictures=2, **more)
    if name == "texture":
        return TEXTURE, small_texture.tiny(small_texture.picture(folder / "a.png"), out)
    if name == "growing":
        image = Image.new("RGBA", (12, 12))
        image.paste((30, 60, 230, 255), (2, 3, 9, 11))
        image.save(folder / "disc.png")
        return GROWING, small_growing.options(folder / "disc.png", out)
    if name == "selfclassify":
        for kind, values in zip(("images-idx3", "labels-idx1"), small_digits.bars(60, seed=60), strict=True):
            path = folder / f"train-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(small_digits.idx(np.asarray(values))))
        return SELFCLASSIFY, small_digits.options(folder, out)
    if name == "segmentation":
        return SEGMENTATION, blobs.tiny(blobs.write_folders(folder / "b"), out, pictures=2)
    return DEPTH, dataclasses.replace(scenes.tiny(scenes.write_folders(folder / "s"), out), pictures=2)


def labels_of_a_slice(job, volume):
    """In the slice in which most is labelled, upright."""
    images, truth = volume.read(slice(None))
    found = segment_slices(job.model, job.spec, images.numpy(), volume.spacing, seed=job.config.seed).labels
    return class_picture(found[int(truth.flatten(1).count_nonzero(1).argmax())].T[::-1])


# What validation finds in the first held-out sample.
FOUND = {
    "depth": lambda job, one: job.estimator.metres(job.estimator.moments(one.pixels, seed=job.config.seed)),
    "segmentation": lambda job, one: class_picture(job.segmenter.labels(one.pixels, seed=job.config.seed)),
    "mednca-3d": labels_of_a_slice,
}


@pytest.fixture(params=TASKS)
def shown(request, tmp_path):
    task, config = make(request.param, tmp_path)
    job = task.job(task.resolved(config))
    for parameter in job.model.parameters():  # none is at rest
        torch.nn.init.normal_(parameter, 0, 0.05, generator=torch.Generator().manual_seed(parameter.numel()))
    job.model.eval()
    with torch.no_grad():
        return request.param, job, list(job.visuals())


def test_a_task_shows_how_its_samples_are_handled(shown):
    name, job, visuals = shown
    assert len({visual.name for visual in visuals}) == len(visuals) > 0
    if name in FOUND:
        sample = next(iter(job.held_out))
        (panel,) = (view for view in visuals[0].views if view.title == "prediction")
        np.testing.assert_allclose(np.asarray(panel.pixels, float), FOUND[name](job, sample), rtol=1e-4)
    for visual in visuals:
        titles = [view.title for view in visual.views]
        assert titles == (["input", "probability (green: the truth)"] if name == "classification" else PARTS)
        values = {view.title: np.asarray(getattr(view, "pixels", 0)) for view in visual.views}
        sizes = {plane.shape[:2] for plane in values.values() if plane.ndim}
        if name != "texture":  # whose sample has a size of its own
            assert sizes == {tuple(visual.hidden.shape[1:])}
        assert len(visual.hidden) >= 1 and torch.isfinite(visual.hidden).all()
    picture = visuals[0].draw()
    assert picture.dtype == np.uint8 and picture.ndim == 3
    picture[3:-3, 3:-3] = 255
    assert (picture == 255).all()  # nothing is cut off at the edges
