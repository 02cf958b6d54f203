"""Inferer: windows give what the network gives on the whole grid, whatever their size, and it is called as MONAI's."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from ncafast import NCA
from ncafast.volume import Inferer


def nca(**fields):
    made = NCA(5, 8, zero_init=False, filters="learned", **fields)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(0.5)
    return made


@pytest.mark.parametrize("padding", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("roi", "at_once"), [((7, 6), 1), (9, 4), ((0, 5), 3)])
def test_an_nca_in_windows_gives_the_whole_rollout(padding, roi, at_once):
    module = nca(padding=padding, alive=(1, -0.5) if padding == "zeros" else None)
    x = torch.randn(2, 5, 23, 19)
    expected = module(x, steps=4, seed=7, first_step=3, first_sample=11)
    found = Inferer(roi, at_once)(x, module, steps=4, seed=7, first_step=3, first_sample=11)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_windows_know_the_time_and_pad_images_with_zeros():
    module, image = nca(time_code="sincos", immutable=2, eval_steps=4).eval(), torch.randn(2, 2, 17, 13)
    torch.testing.assert_close(Inferer(6)(image, module, seed=7, first_step=3), module(image, seed=7, first_step=3))


def test_volumes_masks_of_the_callers_own_and_steps_by_position_are_taken():
    module, x = nca(ndim=3), torch.randn(1, 5, 11, 9, 10)
    mask = torch.rand(3, 1, 1, 11, 9, 10) < 0.5
    torch.testing.assert_close(Inferer(4, 3)(x, module, 3, fire_mask=mask), module(x, 3, fire_mask=mask).detach())


def test_any_network_runs_with_its_halo_and_too_small_a_halo_differs():
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 5, padding=2, padding_mode="reflect"), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)
    )
    x = torch.randn(2, 2, 17, 21)
    expected = network(x).detach()
    torch.testing.assert_close(Inferer((6, 8), 2, halo=3)(x, network), expected)
    torch.testing.assert_close(Inferer((6, 8), 2, halo=(3, 3))(x, network), expected)
    assert (Inferer((6, 8), 2, halo=1)(x, network) - expected).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (lambda: nn.Conv2d(5, 5, 3, padding=1), {}, "halo= is needed for a Conv2d"),
        (lambda: nca(norm="batch"), {}, "norm='batch', pooled='none' take numbers of the whole grid"),
        (lambda: nca(noise="state", noise_std=0.1), {}, "cannot run in windows: noise"),
        (nca, {"states": "all"}, "states= is not cut into windows"),
        (nca, {"steps": -1}, "steps"),
        (nca, {"steps": (2, 4)}, r"for a range of steps \(2, 4\), drawn anew for each; give steps="),
    ],
)
def test_what_cannot_run_in_windows_is_refused(make, options, said):
    with pytest.raises(ValueError, match=said):
        Inferer(4)(torch.zeros(1, 5, 9, 9), make(), **options)


def test_wrong_arguments_and_results_are_refused():
    x = torch.zeros(1, 2, 9, 9)
    with pytest.raises(ValueError, match="mode='other' is not allowed"):
        Inferer(4, mode="other")
    with pytest.raises(ValueError, match="sw_batch_size=0"):
        Inferer(4, 0)
    with pytest.raises(ValueError, match="roi_size=.*is for 3 axes, and the inputs have 2"):
        Inferer((4, 4, 4), halo=0)(x, nn.Identity())
    with pytest.raises(ValueError, match="halo=-1"):
        Inferer(4, halo=-1)(x, nn.Identity())
    with pytest.raises(ValueError, match="have no cells"):
        Inferer(4, halo=0)(x[:0], nn.Identity())
    with pytest.raises(TypeError, match="the network returned a tuple"):
        Inferer(4, halo=0)(x, lambda window: (window,))
    with pytest.raises(ValueError, match=r"returned shape \[1, 2, 2, 2\] for windows of shape \[1, 2, 3, 3\]"):
        Inferer(4, halo=0)(x, lambda window: window[..., :2, :2])


def test_no_more_windows_run_at_once_than_asked_for():
    seen = []

    def network(windows):
        seen.append(tuple(windows.shape))
        return windows

    x = torch.randn(3, 1, 12, 8)
    assert torch.equal(Inferer(4, 5, halo=1)(x, network), x)
    assert sum(shape[0] for shape in seen) == 3 * 6
    assert max(shape[0] for shape in seen) == 5
    assert max(shape[2] for shape in seen) == max(shape[3] for shape in seen) + 1 == 6


def test_it_is_called_as_monais_and_agrees_where_nothing_is_blended():
    monai = pytest.importorskip("monai.inferers")
    theirs = monai.SlidingWindowInferer
    ours, given = (list(inspect.signature(kind.__init__).parameters) for kind in (Inferer, theirs))
    assert ours[:5] == given[:5]
    call, their_call = (list(inspect.signature(kind.__call__).parameters) for kind in (Inferer, theirs))
    assert call == their_call
    network, x = nn.Conv2d(2, 3, 1), torch.randn(2, 2, 21, 17)
    settings = {"roi_size": (8, 6), "sw_batch_size": 3, "overlap": 0.25}
    expected = theirs(**settings)(x, network)
    torch.testing.assert_close(Inferer(**settings, halo=0)(x, network), expected.detach(), rtol=1e-5, atol=1e-6)
    deep = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    whole = deep(x).detach()
    exact = (Inferer(**settings, halo=2)(x, deep) - whole).abs().max()
    assert exact < 1e-5 < (theirs(**settings)(x, deep) - whole).abs().max()
