"""The options of the Med-NCA task, as typed dataclasses. The text under a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ncafast.tasks.options import Animation, Progress, Runtime, UntilConverged
from ncafast.training_options import BaseSettings, Schedule

Axis = Literal["sagittal", "coronal", "axial"]
Geometry = Literal["sform", "qform"]
Suffix = Literal["auto", "modality", "name"]


@dataclass(kw_only=True)
class _Labelled:
    """What training and evaluation take, which read label maps."""

    images: Path | None = None
    """Folder with the images; needs --labels. Left out: they are under --data."""

    labels: Path | None = None
    """Folder with the label maps: same file names as the images. Left out: they are under --data."""

    suffix: Suffix = "auto"
    """What an ending such as _0001 of an image's name means: modality, a channel of the case; or name, a part of the
    case's name. auto: a modality, unless the label map's name has it too."""

    ignore_affine: bool = False
    """Take the image's affine for its label map, whatever the label's header says: their voxels belong together by
    their index in the files, which must have the same shape."""


@dataclass(kw_only=True)
class _Reading:
    """How a trained model reads images."""

    channels: tuple[int, ...] | None = None
    """Which channels of a 4-D image, or which of a case's files, to use, counted from 0. Left out: those that training
    used; a model of 3-D images then takes no 4-D ones."""

    geometry: Geometry | None = None
    """What of a NIfTI header says where its voxels lie and how large they are, where it holds both: sform, or qform
    with pixdim. Left out: as the model was trained."""


@dataclass(kw_only=True)
class _NewImages(_Reading):
    suffix: Suffix = "auto"
    """What an ending such as _0001 of an image's name means: modality, a channel of the case; or name, a part of the
    case's name. auto: a modality where the model was trained on such files, or where a few files differ in nothing
    else and share one geometry."""


@dataclass
class TrainConfig(BaseSettings, _Labelled):
    """Train a Med-NCA, or with --dims 3 an M3D-NCA, on NIfTI images and their label maps.

    Runs until all epochs are done. If the run is stopped, even by a power cut, give the same command again: it goes on
    where it was and ends with the same weights.
    """

    data: Path | None = None
    """Folder with the training set: either imagesTr/ and labelsTr/ (or images/ and labels/) inside
    it, or files named like case1_image.nii.gz and case1_label.nii.gz side by side, or a folder per case with ct.nii.gz
    or mri.nii.gz and a mask per structure in segmentations/. Images case_0000.nii.gz, case_0001.nii.gz and so on are
    the channels of one case. dataset.json, where there is one, names channels and labels. Left out: --images and
    --labels say where they are."""

    dims: Literal[2, 3] = 2
    """2 segments slice by slice (Med-NCA), 3 whole volumes (M3D-NCA)."""

    output: Path = Path("mednca-run")

    cache: Path | None = None
    """Folder for the prepared slices; safe to delete. Left out: cache/ inside --output."""

    axis: Axis | Literal["auto"] = "auto"
    """Which slices to cut, in the patient's frame whatever the file's own orientation is. auto:
    those in which the volumes are sharpest; coronal, if they are about as sharp in all directions.
    With --dims 3 nothing is cut.
    """

    channels: tuple[int, ...] | None = None
    """Which channels of a 4-D image, or which of a case's files, to use, counted from 0. Left out: all files; of a 4-D
    image all channels if dataset.json names as many, otherwise channel 0."""

    classes: tuple[int, ...] = ()
    """Label values to tell apart, for example 1 2. Left out: those that dataset.json names, if they are several;
    otherwise every label above 0 is one class."""

    merge_labels: bool = False
    """Learn every label above 0 as one class, also where dataset.json names several."""

    structures: tuple[str, ...] = ()
    """Names of the masks to learn, where every case has one per structure. Left out: all."""

    percentiles: tuple[float, float] = (0.5, 99.5)
    """Intensities at these percentiles of each volume's non-zero voxels become 0 and 1; the rest is clipped."""

    geometry: Geometry = "sform"
    """What of a NIfTI header says where its voxels lie and how large they are, where it holds both: sform, or qform
    with pixdim. Where there is no qform, qform takes the sform's directions and pixdim's voxel sizes."""

    val_fraction: float = 0.2
    """Part of the volumes held out to measure progress. Whole volumes are held out, never single slices."""

    train_list: Path | None = None
    """Text file with the names of the training volumes, one per line. Left out: split by
    --val-fraction."""

    val_list: Path | None = None
    """Text file with the names of the held-out volumes, one per line. Left out: those not in --train-list;
    without that, --val-fraction of all."""

    skip_empty: bool = False
    """Leave training slices (volumes with --dims 3) out that hold no label at all."""

    crop: int | None = None
    """Train on random squares with sides of this many pixels; saves time on large slices.
    Left out: whole slices. With --dims 3, the side in voxels of the random cubes that all levels but the
    coarsest train on; left out: 32. Where they are much smaller than the volumes, the model finds too much."""

    flip: bool = False
    """Mirror training slices or volumes at random along each side."""

    state_channels: int = 16
    """Numbers each cell keeps, the image's channels included."""

    hidden: int = 64
    """Width of the hidden layer of the update rule."""

    levels: int = 2
    """Number of levels, from coarse to fine. 2-D has 2."""

    kernel_sizes: tuple[int, ...] | None = None
    """Width of the perception on each level, from coarse to fine, in pixels (voxels with --dims 3; odd numbers). Left
    out: 7 on the coarsest level, 3 on the others."""

    steps: tuple[int, ...] | None = None
    """Steps of the automaton on each level, the coarsest first: as many numbers as there are levels, such as 20 20.
    Left out: 20 on each, with --dims 3 10."""

    step_jitter: float = 0.0
    """Vary the steps of each level in training by up to this share."""

    scale: int = 2
    """How many times smaller a level is than the next. 4 suits images of some 200 pixels and more."""

    fire_rate: float = 0.5
    """Probability that a cell updates in a step."""

    epochs: int | None = None
    """Passes over the training slices or volumes. Left out: as many as make 1500 training steps
    (with --dims 3 500), at least 3."""

    batch_size: int | None = None
    """Slices or volumes per training step. Left out: 8 slices, 4 volumes."""

    lr: float = 2e-3

    schedule: Schedule = "step"

    lr_step: int | None = None
    """Epochs between two falls of the step schedule. Left out: every third of them."""

    lr_gamma: float = 0.4

    ema: float | None = None
    """Measure and save weights averaged over the last training steps: 0.98 averages about 50, 0
    switches this off. Left out: 0, with --dims 3 0.98."""

    predict_batch: int = 16
    """Slices of one volume that are segmented together. They share the statistics of the
    normalisation. With --dims 3 a volume is segmented whole."""

    pictures: int = 3
    """Held-out volumes of which a picture is drawn after every epoch, or less often where pictures would take more than
    a tenth of the time."""


@dataclass
class PredictConfig(Runtime, _NewImages, UntilConverged, Progress):
    """Segment NIfTI images, or one in a zarr store, with a trained Med-NCA or M3D-NCA."""

    input: Path
    """A NIfTI image, or a folder of them. Images case_0000.nii.gz, case_0001.nii.gz and so on are the channels of one
    case, if the model takes several; one of them finds the others. Or a zarr store NAME.zarr: an array (y, x) or
    (z, y, x), or an OME-NGFF image of any size, which is read and segmented piece by piece."""

    output: Path = Path("<model>/predictions")
    """Folder for the results; for a single image it may also be a file name ending in .nii or .nii.gz, for a zarr store
    one ending in .zarr."""

    runs: int | None = None
    """Segment this many times with different firing cells and average the probabilities. Left out:
    once, with --uncertainty 10 times."""

    overlay: bool = True
    """Also write a picture: of the slice with most labels, and of several such slices the one with the largest
    segmented area; or of three planes through the middle of what a 3-D model segmented."""

    masks: bool = field(default=False, metadata={"group": "output"})
    """Also write one binary mask per label, NAME/LABEL.nii.gz beside NAME.nii.gz."""

    uncertainty: bool = False
    """Also write where the model is unsure, into the folder uncertainty/ inside --output, or NAME-uncertainty/ beside a
    file NAME.nii.gz. NAME_runs.nii.gz holds at each voxel the variance of the probability over the runs, a number from
    0 to 0.25 without unit; NAME_steps.nii.gz that over the last steps of the automaton; NAME.png shows both as standard
    deviations, their square roots, from 0 to 0.5. report.json has the quality score of M3D-NCA (NQM; high means
    doubtful)."""

    last_steps: int | None = None
    """Steps at the end over which --uncertainty takes the variance of NAME_steps.nii.gz. Left out: 5, or all where the
    model takes fewer."""


@dataclass
class EvaluateConfig(Runtime, _Reading, _Labelled, Progress):
    """Score a trained Med-NCA or M3D-NCA on NIfTI images with known labels: Dice, IoU and Hausdorff distance
    per volume."""

    data: Path | None = None
    """Folder with images and labels, laid out as for training. Left out: --images and --labels say where they are."""

    subset: Literal["auto", "val", "train", "all"] = "auto"
    """Which volumes to score. auto: those held out, if the model was trained on this data; otherwise all."""

    output: Path = Path("<model>/evaluation")
    """Folder for scores.csv and the overlays of the worst, the middle and the best volume."""

    structures: tuple[str, ...] = ()
    """Names of the masks to compare with, in the order of the model's labels, where every case has one per structure.
    Left out: those that the model was trained on."""

    runs: int | None = None
    """Segment this many times with different firing cells and average the probabilities. From 2 on, scores.csv also has
    the quality score of M3D-NCA (NQM; high means doubtful), and quality.png shows it beside the Dice score. Left out:
    once, with --uncertainty 10 times."""

    uncertainty: bool = False
    """Also say whether the model is unsure where it is wrong: the rank correlation of NQM and 1 - Dice over the
    volumes, that of the standard deviation over the runs and the error over the voxels of each, and how well the
    standard deviation finds wrong voxels (AUROC). They are printed, and written to uncertainty.json."""


@dataclass
class AnimateConfig(Runtime, _NewImages, Animation):
    """Make a film of one slice of an image: the segmentation as it appears, on the coarse level first."""

    input: Path
    """A NIfTI image. One of case_0000.nii.gz, case_0001.nii.gz and so on finds the others, if the model takes several.
    """

    output: Path = Path("<model>/animation.gif")
    """The film: a file name ending in .gif or .mp4."""

    slice: int | None = None
    """Which slice, counted from 0 along the axis that the model was trained on. Left out: the one with most
    labels, and of several such slices the one with the largest segmented area."""

    label: int | None = None
    """The label value whose probability is shown. Left out: the first one that the model knows."""

    show: Literal["segmentation", "channels"] = "segmentation"
    """segmentation: the probability over the image; channels: all channels of the cells as tiles, blue below 0, red
    above."""

    every: int = 1
    """Steps from one frame to the next."""

    fps: float = 8.0
    """Frames per second."""

    zoom: int = 3
    """Pixels along each side of a cell, for --show channels."""
