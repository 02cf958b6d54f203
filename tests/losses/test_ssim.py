"""Structural similarity against Wang et al.'s formula, written out with explicit windows."""

from __future__ import annotations

import sys

import pytest
import torch

from ncafast.losses import SSIM, SSIMLoss


def written_out(a, b, data_range):
    """One image [H, W] in float64: the mean over a window of 11 x 11 around each pixel, reflected past the edge."""
    a, b = (torch.nn.functional.pad(each[None], (5,) * 4, "reflect")[0] for each in (a, b))
    line = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    window = line.outer(line) / line.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            both = (window * (x - mx) * (y - my)).sum()
            values.append((2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return torch.stack(values).mean()


def test_ssim_is_the_papers_formula():
    pytest.importorskip("torchmetrics")
    a, b = 3 * torch.rand(2, 2, 6, 8, dtype=torch.float64), 3 * torch.rand(2, 2, 6, 8, dtype=torch.float64)
    expected = torch.stack([written_out(a[n, c], b[n, c], 3.0) for n in range(2) for c in range(2)]).mean()
    assert torch.isclose(SSIM(3.0)(a, b), expected, rtol=1e-6)
    assert torch.isclose(SSIMLoss(3.0)(a, b), 1 - expected, rtol=1e-6)


def test_it_can_be_learned_from():
    pytest.importorskip("torchmetrics")
    image, target = torch.rand(1, 1, 16, 16, requires_grad=True), torch.rand(1, 1, 16, 16)
    loss = SSIMLoss()
    before = loss(image, target)
    (slope,) = torch.autograd.grad(before, image)
    assert loss(image - 5 * slope, target) < before
    assert loss(target, target).item() == pytest.approx(0, abs=1e-5)


def test_wrong_images_are_named():
    pytest.importorskip("torchmetrics")
    with pytest.raises(ValueError, match=r"shape \[1, 1, 5, 16\] are too small: each side must be above 5"):
        SSIM()(torch.rand(1, 1, 5, 16), torch.rand(1, 1, 5, 16))
    with pytest.raises(ValueError, match="both must be"):
        SSIM()(torch.rand(1, 16, 16), torch.rand(1, 16, 16))


def test_without_torchmetrics_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ncafast\[tasks\]'"):
        SSIM()
