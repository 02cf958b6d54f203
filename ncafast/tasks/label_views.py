"""Classes of pixels in pictures for TensorBoard: what is true, what is found, and how far the probabilities are off."""

from __future__ import annotations

from torch import Tensor

from ncafast.tasks.planes import decide
from ncafast.viz.views import View, class_picture


def label_views(
    truth: Tensor,  # [H, W] class numbers
    probability: Tensor,  # [K, H, W] of the classes 1 to K
) -> list[View]:
    """Truth, prediction and error, which is the largest of any class."""
    each = truth == 1 + truth.new_tensor(range(len(probability)))[:, None, None]
    error = (probability - each.float()).abs().amax(0)
    return [
        View("truth", class_picture(truth)),
        View("prediction", class_picture(decide(probability[None])[0])),
        View("error", error, "magma", (0.0, 1.0), "|p - truth|"),
    ]
