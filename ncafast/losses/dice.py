"""How far two masks overlap: the Dice score, as a loss, and with cross-entropy."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ncafast.losses.arguments import maps, mean_over
from ncafast.values import flag, number

SMOOTH = 1e-5


class DiceScore(nn.Module):
    """Dice score of masks or probabilities: (2 sum(p t) + smooth) / (sum(p) + sum(t) + smooth), mean over classes.

    Sums run over the batch and all cells, as with MONAI's `DiceLoss(batch=True)`; or over the cells of each sample, as
    is its default.

    Args:
        smooth: keeps a class that neither has at a score of 1.
        per_sample: sum over each sample's cells, then take the mean over samples and classes.
    """

    def __init__(self, smooth: float = SMOOTH, *, per_sample: bool = False) -> None:
        super().__init__()
        self.smooth = number("smooth", smooth, 0.0)
        self.per_sample = flag("per_sample", per_sample)

    def forward(
        self,
        prediction: Tensor,  # [B, K, *S] 0 to 1, or bool
        target: Tensor,  # [B, K, *S] 0 or 1
        valid: Tensor | None = None,  # [B, 1, *S] 0 where nothing counts
    ) -> Tensor:  # []
        """The score, 0 to 1; 1 is the same mask."""
        prediction = prediction if prediction.is_floating_point() else prediction.float()
        return self.scores(*maps("prediction", prediction, target, valid), valid).mean()

    def scores(self, prediction: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        """Of each class [K], or of each sample and class [B, K]."""
        if valid is not None:
            prediction, target = prediction * valid, target * valid
        if prediction.dim() == 2:  # classes of samples without cells
            prediction, target = prediction[..., None], target[..., None]
        over = (*(() if self.per_sample else (0,)), *range(2, prediction.dim()))
        overlap, total = (prediction * target).sum(over), prediction.sum(over) + target.sum(over)
        return (2 * overlap + self.smooth) / (total + self.smooth)

    def extra_repr(self) -> str:
        """The options."""
        return f"smooth={self.smooth:g}, per_sample={self.per_sample}"


class DiceLoss(DiceScore):
    """1 - Dice score of sigmoid(logits)."""

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Logits and target [B, K, *S], `valid` as for `DiceScore`: a scalar from 0 to 1."""
        logits, target = maps("logits", logits, target, valid)
        return (1 - self.scores(logits.sigmoid(), target, valid)).mean()


class DiceBCELoss(DiceLoss):
    """Dice loss plus binary cross-entropy of the same logits.

    As Kalkhof et al., "Med-NCA: Robust and Lightweight Segmentation with Neural Cellular Automata" (2023), train with.
    """

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Logits and target [B, K, *S], `valid` as for `DiceScore`: a scalar."""
        dice, entropy = self.terms(logits, target, valid)
        return dice + entropy

    def terms(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The two scalars that `forward` adds: Dice loss, and mean cross-entropy over valid cells and classes."""
        logits, target = maps("logits", logits, target, valid)
        entropy = binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (1 - self.scores(logits.sigmoid(), target, valid)).mean(), mean_over(entropy, valid)
