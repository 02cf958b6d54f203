"""What masks are called: their folders, endings and columns."""

from __future__ import annotations

import re

from ncafast.tasks import image_pairs
from ncafast.tasks.image_pairs import Pairs, Targets
from ncafast.tasks.segmentation.options import EvaluateConfig, TrainConfig

_MASKS = Targets(
    "mask",
    "masks",
    ("masks", "mask", "labels", "label", "labelsTr", "annotations", "gt", "SegmentationClass"),
    re.compile(r"[_-](mask|masks|label|labels|seg|segmentation|gt)$", re.IGNORECASE),
    ("mask", "masks", "label", "segmentation", "annotation"),
)


def find_pairs(options: TrainConfig | EvaluateConfig) -> Pairs:
    """The images and masks that options name; see `ncafast.tasks.image_pairs.find_pairs`."""
    return image_pairs.find_pairs(options.data, options.images, options.masks, _MASKS)
