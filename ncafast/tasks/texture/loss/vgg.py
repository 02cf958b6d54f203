"""VGG16 features (Simonyan and Zisserman, 2014) from torchvision, with a weights file that is already on this machine.

Nothing is downloaded. The file may be torchvision's own, or hold only the first layers, in any floating-point type.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.tasks.texture.weights import fitting, read_weights, torchvision_models

LAYERS = (1, 6, 11, 18, 25)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1: those of Self-Organising Textures
_FILE = "vgg16-397923af.pth"  # as torchvision.models.VGG16_Weights.IMAGENET1K_V1 calls it
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the same weights' `transforms()`
_KEY = re.compile(r"^(?:features\.)?(\d+\.(?:weight|bias))$")


class VGGFeatures(nn.Module):
    """Images [B, 3, H, W] with values 0 to 1 -> {layer number: features [B, C, h, w]}, after the ReLU of each layer.

    Layers that the weights do not reach are left out.

    Args:
        weights: a file of VGG16 weights, with torchvision's names.

    Raises:
        ModuleNotFoundError: torchvision cannot be imported; the message says how to get it.
        ValueError: the file is no such file; one line that names it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        tensors = _read(weights)
        with torch.device("meta"):  # the architecture alone: 138 million numbers would be drawn at random otherwise
            whole = _torchvision().vgg16(weights=None).features
        self.layers = tuple(layer for layer in LAYERS if _reaches(whole, layer, tensors))
        if not self.layers:
            raise ValueError(f"--weights {weights}: holds no first layer of VGG16 (features.0.weight and .bias)")
        self.net = whole[: self.layers[-1] + 1]
        where, advice = f"--weights {weights}: features.", "give a VGG16 file"
        fits = fitting(tensors, self.net.state_dict(), where, "VGG16", advice)
        self.net.load_state_dict({name: tensor.float() for name, tensor in fits.items()}, assign=True)
        for module in self.net:
            if isinstance(module, nn.ReLU):
                module.inplace = False  # features are kept while the net goes on
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """See the class."""
        x = (images - self.mean) / self.std
        found = {}
        for number, module in enumerate(self.net):
            x = module(x)
            if number in self.layers:
                found[number] = x
        return found


def find_weights(given: Path | None) -> Path | None:
    """The weights file: the one given, else torchvision's own in torch's cache, else None.

    Raises ValueError if the one given is no file.
    """
    if given is not None:
        if not given.is_file():
            raise ValueError(f"--weights {given}: is no file; give a file of VGG16 weights, such as {_FILE}")
        return given
    cached = Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    return cached if cached.is_file() else None


def unavailable() -> str | None:
    """Why torchvision cannot be used, or None."""
    try:
        _torchvision()
    except ModuleNotFoundError as error:
        return str(error)
    return None


def _torchvision() -> Any:
    return torchvision_models("a loss on VGG16 features", "use --loss patches")


def _read(path: Path) -> dict[str, Tensor]:
    """The convolutions' tensors by their name inside `features`, such as "0.weight"."""
    tensors = read_weights(path, "--weights", "VGG16", lambda name: _KEY.sub(r"\1", name) if _KEY.match(name) else None)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise ValueError(f"--weights {path}: {name} holds NaN, infinite or whole numbers; give another file")
    return tensors


def _reaches(net: nn.Sequential, layer: int, tensors: dict[str, Tensor]) -> bool:
    """Whether the tensors suffice for the net up to this layer."""
    return all(name in tensors for name in net[: layer + 1].state_dict())
