"""Modules of public systems, written in plain PyTorch with the interfaces that their users call.

Steps, layouts, arguments, results and names of parameters are those of the systems, the code is our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from named_modules import blood, growing, medical, ncalab, octree, textures


@dataclass(frozen=True)
class Named:
    """A module as its users build and call it."""

    make: Callable[..., nn.Module]
    sizes: dict[str, int]  # of channels and widths in a test
    grid: tuple[int, ...]  # that its users run
    batch: int
    steps: int  # in a call that is measured
    channels_last: bool = False
    loops: bool = True  # forward takes the number of steps; else one call is one step
    result: Callable[[Any], Tensor] = lambda out: out  # the state in what forward returns
    options: dict[str, Any] = field(default_factory=dict)  # of the constructor, in a test and in use

    def build(self, small: bool = True) -> nn.Module:
        """The module with weights that are nowhere zero."""
        model = self.make(**self.options, **(self.sizes if small else {}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
        return model

    def state(self, model: nn.Module, batch: int, grid: tuple[int, ...]) -> Tensor:
        """A random state."""
        names = "num_channels", "channel_n", "chn", "c_in", "n_channels", "c"
        channels = next(getattr(model, name) for name in names if hasattr(model, name))
        x = torch.randn(batch, channels, *grid)
        return x.movedim(1, -1).contiguous() if self.channels_last else x

    def run(self, model: nn.Module, x: Tensor, steps: int) -> list[Tensor]:
        """The state after some steps, by the module's own interface, and the other tensors that it gives."""
        if self.loops:
            out = model(x, steps=steps)
        else:
            for _ in range(steps):
                out = model(x)
                x = self.result(out)
        state = self.result(out)
        parts = out if isinstance(out, tuple) else vars(out).values() if hasattr(out, "output_image") else ()
        return [state, *(part for part in parts if isinstance(part, Tensor) and part is not state)]


def _image(out: Any) -> Tensor:
    return out.output_image


def _first(out: Any) -> Tensor:
    return out[0]


def _second(out: Any) -> Tensor:
    return out[1]


_LAB = {"hidden_channels": 5, "hidden_size": 16}
_MED = {"channel_n": 8, "hidden_size": 16}
_IVRL = {"chn": 6, "fc_dim": 12}
_LAST = {"channels_last": True}
_FLAT, _SOLID = (128, 128), (32, 32, 26)

NAMED = {
    "NCALab growing": Named(ncalab.GrowingModel, _LAB, (72, 72), 2, 8, result=_image),
    "NCALab segmentation": Named(ncalab.SegmentationModel, _LAB, _FLAT, 2, 8, result=_image),
    "NCALab classification": Named(ncalab.ClassificationModel, _LAB, (64, 64), 2, 8, result=_image),
    "NCALab depth": Named(ncalab.DepthModel, _LAB, _FLAT, 2, 8, result=_image),
    "Med-NCA BackboneNCA": Named(medical.BackboneNCA, _MED, (64, 64), 2, 8, **_LAST),
    "M3D BasicNCA": Named(medical.BasicNCA, _MED, (64, 64), 2, 8, **_LAST),
    "M3D BasicNCA3D": Named(medical.BasicNCA3D, {**_MED, "kernel_size": 3}, _SOLID, 1, 4, **_LAST),
    "Octree 2-D, batch norm": Named(octree.Fast2D, _MED, (320, 320), 1, 4, **_LAST),
    "Octree 2-D, no norm": Named(octree.Fast2D, _MED, (320, 320), 1, 4, options={"norm": "none"}, **_LAST),
    "Octree 2-D, group norm": Named(octree.Fast2D, _MED, (320, 320), 1, 4, options={"norm": "group"}, **_LAST),
    "Octree 3-D, batch norm": Named(octree.Fast3D, _MED, _SOLID, 1, 4, **_LAST),
    "Octree 3-D, group norm": Named(octree.Fast3D, _MED, _SOLID, 1, 4, options={"norm": "group"}, **_LAST),
    "NoiseNCA": Named(textures.NoiseNCA, _IVRL, _FLAT, 2, 8, loops=False),
    "PENCA": Named(textures.PENCA, _IVRL, _FLAT, 2, 8, loops=False),
    "DyNCA, one scale": Named(textures.DyNCA, {"c_in": 6, "fc_dim": 12}, _FLAT, 2, 8, loops=False, result=_first),
    "Cells2Pixels growing": Named(textures.GrowingCells, _IVRL, (72, 72), 2, 8, loops=False, result=_first),
    "WBC-NCA MaxNCA": Named(blood.SwappedMaxNCA, {**_MED, "classes": 4}, (64, 64), 2, 8, result=_second, **_LAST),
    "tutorial MaxNCA": Named(blood.MaxNCA, {**_MED, "classes": 4}, (64, 64), 2, 8, result=_second, **_LAST),
    "tutorial segmentation": Named(medical.NCA2D, {"c": 6, "h": 12, "k": 5}, (80, 80), 1, 8, loops=False),
    "tutorial growing": Named(growing.NCAModel, {"n_channels": 8, "hidden": 16}, (64, 64), 2, 8),
    "CAModel": Named(growing.CAModel, _MED, (72, 72), 2, 8, **_LAST),
}
