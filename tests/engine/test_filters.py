"""Filters against the numbers of the publications and against what a derivative is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ncafast import filters


def test_sobel_is_that_of_growing_nca():
    want = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])) / 8
    assert torch.equal(filters.bank("sobel", 2), torch.stack((want, want.T)))


def test_laplacian_is_that_of_texture_nca():
    want = torch.tensor([[1.0, 2.0, 1.0], [2.0, -12.0, 2.0], [1.0, 2.0, 1.0]]) / 4
    torch.testing.assert_close(filters.laplacian(2), want)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_derivatives_of_polynomials(ndim):
    """sobel gives the slope of a ramp, laplacian the sum of second derivatives of a parabola, x being the last axis."""
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[ndim]
    grid = torch.meshgrid(*[torch.arange(5.0)] * ndim, indexing="ij")
    ramp = sum((i + 2) * axis for i, axis in enumerate(grid))[None, None]
    for f, kernel in enumerate(filters.gradients(ndim)):
        slope = conv(ramp, kernel[None, None])
        torch.testing.assert_close(slope, torch.full_like(slope, ndim - 1 - f + 2.0))
    parabola = sum(axis**2 for axis in grid)[None, None]
    bend = conv(parabola, filters.laplacian(ndim)[None, None])
    torch.testing.assert_close(bend, torch.full_like(bend, 2.0 * ndim))
    torch.testing.assert_close(conv(ramp, filters.identity(ndim)[None, None]), ramp[(..., *[slice(1, -1)] * ndim)])


def test_banks():
    assert filters.bank(["sobel", "laplacian"], 3).shape == (4, 3, 3, 3)
    with pytest.raises(ValueError, match="filters='prewitt' is not known: choose from sobel"):
        filters.bank("prewitt", 2)
