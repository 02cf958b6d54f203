"""to_nca: an accelerated module's steps as an NCA, with the same results; or one line that says why not."""

from __future__ import annotations

import copy

import pytest
import torch
from foreign_steps import Growing, Octree, Swapped, Texture, Volume
from named_modules import medical
from torch import nn

import ncafast


class Learned(nn.Module):
    """Learned filters, and a filter bank that is not."""

    def __init__(self, fixed=False):
        super().__init__()
        self.see = nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False).requires_grad_(not fixed)
        self.one, self.two = nn.Conv2d(18, 10, 1), nn.Conv2d(10, 6, 1)

    def forward(self, x, steps=4):
        for _ in range(steps):
            x = x + self.two(torch.relu(self.one(torch.cat([x, self.see(x)], 1)))) * (torch.rand_like(x[:, :1]) < 0.5)
        return x


class Labelled(Learned):
    def forward(self, x, label, steps=4):
        return super().forward(x, steps)


class Placed(nn.Module):
    """Cells see where they are."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(7, 10, 1), nn.Conv2d(10, 6, 1)

    def forward(self, x, steps=4):
        place = torch.linspace(0, 1, x.shape[-1]).expand_as(x[:, :1])
        for _ in range(steps):
            x = x + self.two(torch.relu(self.one(torch.cat([x, place], 1))))
        return x


@pytest.mark.parametrize("fixed", [False, True])
def test_an_accelerated_module_becomes_an_nca_that_does_the_same(fixed, tmp_path):
    model = ncafast.accelerate(Learned(fixed), quiet=True)
    with torch.no_grad():
        model.two.weight.mul_(2)  # the present numbers count
    nca = ncafast.to_nca(model)
    x = torch.randn(2, 6, 9, 8)
    with torch.no_grad():
        for steps in ((), (7,)):
            torch.manual_seed(4)
            want = model(x, *steps)
            torch.manual_seed(4)
            assert torch.allclose(nca(x, *steps), want, atol=1e-6)
    assert ("perceive.weight" in dict(nca.named_parameters())) == (not fixed) and nca.steps == 4
    ncafast.save(tmp_path / "mine.safetensors", nca)
    again = ncafast.load(tmp_path / "mine.safetensors")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in nca.state_dict().items())
    nca.update.weight.data.zero_()
    assert model.two.weight.abs().sum() > 0


@pytest.mark.parametrize("make", [Growing, Octree, Swapped, Texture, Volume])
def test_layouts_masks_and_norms_of_others_are_kept(make):
    torch.manual_seed(2)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    ncafast.accelerate(model, quiet=True)
    nca = ncafast.to_nca(model)
    patch = next(value for value in vars(model).values() if hasattr(type(value), "replaces_a_method"))
    grid = patch.find().grid
    x = torch.rand(2, nca.rule.channels, *(10, 9, 8)[: nca.rule.ndim])
    steps = () if patch.entry.steps is None else (3,)
    with torch.no_grad():
        torch.manual_seed(4)
        want = getattr(model, patch.entry.method)(grid.outward(x), *steps)
        torch.manual_seed(4)
        found = nca(x, 3 if steps else 1)
    assert torch.allclose(grid.outward(found), want, atol=1e-5)


def test_what_cannot_become_an_nca_is_one_line():
    with pytest.raises(ValueError, match=r"this Learned is not accelerated; call ncafast.accelerate\(model\) first"):
        ncafast.to_nca(Learned())
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got int"):
        ncafast.to_nca(3)
    cascade = ncafast.accelerate(medical.MedNCA(), quiet=True)
    said = r"only parts of this MedNCA .*to_nca\(model.backbone_lowres\), to_nca\(model.backbone_highres\)"
    with pytest.raises(ValueError, match=said):
        ncafast.to_nca(cascade)
    assert isinstance(ncafast.to_nca(cascade.backbone_lowres), ncafast.NCA)
    with pytest.raises(ValueError, match="sees 1 channels beside the state"):
        ncafast.to_nca(ncafast.accelerate(Placed(), quiet=True))
    labelled = ncafast.accelerate(Labelled(), torch.rand(1, 6, 9, 8), torch.zeros(()), quiet=True)
    with pytest.raises(ValueError, match="Labelled.forward takes label beside the state"):
        ncafast.to_nca(labelled)
    assert isinstance(ncafast.to_nca(copy.deepcopy(ncafast.accelerate(Learned(), quiet=True))), ncafast.NCA)
