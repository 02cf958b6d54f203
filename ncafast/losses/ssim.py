"""Structural similarity of images, as torchmetrics computes it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ncafast.losses.arguments import floats
from ncafast.values import number

_REACH = 5  # pixels from the middle of the window to its edge


class SSIM(nn.Module):
    """Structural similarity (Wang et al. 2004), the mean over pixels, channels and images.

    Every pixel has a Gaussian window of 11 x 11 pixels, deviation 1.5; past the edge the image is reflected.

    Args:
        data_range: what lies between the darkest and the brightest possible value.

    Raises:
        ModuleNotFoundError: torchmetrics is not installed.
    """

    def __init__(self, data_range: float = 1.0) -> None:
        super().__init__()
        self.data_range = number("data_range", data_range, 0.0)
        if not self.data_range:
            raise ValueError("data_range=0 is not allowed: give the brightest value minus the darkest")
        self._measure = _measure()

    def forward(
        self,
        prediction: Tensor,  # [B, C, H, W] or [B, C, D, H, W]
        target: Tensor,  # the same shape
    ) -> Tensor:  # []
        """The similarity; 1 is the same image. Differentiable."""
        prediction, target = floats("prediction", prediction), floats("target", target)
        if prediction.shape != target.shape or prediction.dim() not in (4, 5):
            shapes = f"{list(prediction.shape)} and {list(target.shape)}"
            raise ValueError(f"images of shapes {shapes} are not allowed: both must be [B, C, H, W] or [B, C, D, H, W]")
        if min(prediction.shape[2:]) <= _REACH:
            raise ValueError(
                f"images of shape {list(prediction.shape)} are too small: each side must be above {_REACH}"
            )
        result: Tensor = self._measure(prediction, target.to(prediction.dtype), data_range=self.data_range)
        return result

    def extra_repr(self) -> str:
        """The options."""
        return f"data_range={self.data_range:g}"


class SSIMLoss(SSIM):
    """1 - SSIM."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Images as for `SSIM`: a scalar from 0 to 2."""
        return 1 - super().forward(prediction, target)


def _measure() -> Any:
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"SSIM needs {error.name}; run: pip install 'ncafast[tasks]'", name=error.name
        ) from None
    return structural_similarity_index_measure
