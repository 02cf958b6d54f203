"""docs/from-ncalab.md is true: every name in it is there, and no row claims what is not."""

from __future__ import annotations

import re

import pytest
from test_docs import DOCS
from test_map import resolve

PAGE = (DOCS / "from-ncalab.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| NCALab")
]


@pytest.mark.parametrize("name", sorted({row[1].strip("`") for row in ROWS if row[1] != "—"}))
def test_every_name_can_be_imported(name):
    assert name.startswith("ncafast.") and resolve(name) is not None


def test_a_row_without_a_name_says_why():
    for theirs, ours, line in ROWS:
        if ours == "—":
            assert re.search("still missing|not needed|further ones", line), theirs


def test_every_class_of_theirs_has_a_row():
    names = """AutoStepper GrowingNCADataset DiceScore DiceLoss DiceBCELoss FocalLoss AbstractNCAModel AbstractNCAHead
        BasicNCAPerception AbstractNCARule MLPNCARule CascadeNCA ClassificationNCAModel ClassificationNCAHead
        DepthNCAModel GrowingNCAModel SegmentationNCAModel Prediction BasicNCATrainer ParameterSet ParameterSearch Pool
        TrainingHistory EarlyStopping TrainValRecord SplitDefinition KFoldCrossValidationTrainer UncertaintyEstimator
        NQM MCMC AnimatorStyle Animator Visual VisualBinaryImageClassification VisualRGBImageClassification
        VisualMultiImageClassification VisualBinaryImageSegmentation VisualDepthEstimation VisualGrowing
        get_compute_device pad_input print_NCALab_banner print_mascot fix_random_seed unwrap intepret_range_parameter
        draw_segmentation_overlay abbreviate_label show_image_row finetune predict record validate
        num_trainable_parameters save load to_dict from_dict DEFAULT_RANDOM_SEED ROOT_PATH WEIGHTS_PATH TASK_PATH
        animator_styles animator_style_dark classify make_seed grow freeze prepare_input post_prediction
        image_channels hidden_channels output_channels plot_function validation_metric lambda_hidden
        pixel_wise_loss batch_repeat gradient_clipping use_temporal_encoding pad_noise"""
    theirs = set(re.findall(r"`(\w+)[`=(]", " ".join(row[0] for row in ROWS)))
    assert not set(names.split()) - theirs
