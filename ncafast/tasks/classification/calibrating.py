"""Whether a classifier is unsure where it is wrong: how much probabilities differ between runs, beside the error."""

from __future__ import annotations

import torch
from torch import Tensor

from ncafast.tasks.classification.inference import GROUP, Classifier
from ncafast.uncertainty import Calibration
from ncafast.uncertainty.result import Moments
from ncafast.utils.progress import Bar
from ncafast.utils.seeds import mix

RUNS = 10


@torch.no_grad()
def deviations(classifier: Classifier, images: Tensor, seed: int, bar: Bar) -> Tensor:
    """How unsure the classifier is of scaled images [N, 3, H, W]: [N] on the CPU.

    The standard deviation of each class's probability over `RUNS` runs with other firing cells, the mean over classes.
    """
    parts = [torch.zeros(0)]
    for group in images.split(GROUP):
        moments, here = Moments(), group.to(classifier.model.fc2.weight.device)
        for run in range(RUNS):
            moments.add(classifier.logits(here, mix("uncertainty", seed, run)).softmax(1)[None])
        parts.append(moments.variance.sqrt().mean(1).float().cpu())
        bar.advance({}, len(group))
    return torch.cat(parts)


def calibration(deviation: Tensor, probabilities: Tensor, labels: Tensor) -> Calibration:
    """Deviations [N] beside 1 - the probability [N, K] of the true classes [N]."""
    found = Calibration("deviation over runs", "1 - probability of the true class", "pixel")
    errors = 1 - probabilities.gather(1, labels[:, None])[:, 0]
    wrong = probabilities.argmax(1) != labels
    for spread, error, failed in zip(deviation.tolist(), errors.tolist(), wrong.tolist(), strict=True):
        found.add(spread, error, failed=failed)
    return found
