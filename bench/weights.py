"""The pictures of docs/bring-your-own-weights.md: one automaton with its weights read rightly, and with one mistake.

Its weights are random. A state starts as a disc with a bar, and is shown after some steps, three channels as colours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ncafast import Rule, rollout
from ncafast.filters import sobel

CHANNELS, HIDDEN, SIZE, STEPS, SEED = 6, 48, 56, 40, 5
Weights = dict[str, Tensor]
Shown = tuple[str, Callable[[], Tensor]]  # a title, and what gives the picture [H, W, 3]


def draw(folder: Path) -> list[Path]:
    """Draw every picture into a folder. Returns the files."""
    return [_picture(folder / f"weights-{name}.png", *TRAPS[name]) for name in TRAPS]


def automaton(**changes: object) -> tuple[Rule, Weights]:
    """A rule and its random weights: texture in the channels after the first, which is an image."""
    rule = Rule(channels=CHANNELS, hidden=(HIDDEN,), activation="tanh", mutable=(1, CHANNELS), padding="circular")
    drawn = torch.Generator().manual_seed(SEED)
    filters = torch.stack((sobel(2, -1), sobel(2, -2) * 0.3))[:, None].expand(-1, CHANNELS, -1, -1)
    update = 0.12 * torch.randn(CHANNELS - 1, HIDDEN, generator=drawn)
    hidden = 0.9 * torch.randn(HIDDEN, rule.perception_size, generator=drawn)
    hidden[: CHANNELS - 1] = torch.eye(CHANNELS - 1, rule.perception_size).roll(1, 1)  # these hold the state back
    update[:, : CHANNELS - 1] = -0.5 * torch.eye(CHANNELS - 1)
    weights = {"perceive.weight": filters, "hidden.weight": hidden, "hidden.bias": torch.zeros(HIDDEN)}
    return rule.replace(**changes), weights | {"update.weight": update}


def _start() -> Tensor:
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, SIZE)] * 2, indexing="ij")
    disc = ((rows - 0.1) ** 2 + (columns + 0.2) ** 2 < 0.15).float()
    bar = ((columns - 0.6).abs() < 0.06).float()
    x = torch.zeros(1, CHANNELS, SIZE, SIZE)
    x[0, 0] = torch.maximum(disc, bar)
    return x


def _run(rule: Rule, weights: Weights) -> Tensor:
    return rollout(_start(), rule, weights, STEPS, seed=1)[0]


def _texture(title: str, change: Callable[[Weights], Weights] = lambda w: w, **fields: object) -> Shown:
    def show() -> Tensor:
        rule, weights = automaton(**fields)
        return torch.sigmoid(2.5 * _run(rule, change(weights))[1:4]).movedim(0, -1)

    return title, show


def _columns(weights: Weights) -> Weights:
    """Columns channel by channel, taken for columns filter by filter."""
    mixed = weights["hidden.weight"].view(HIDDEN, 3, CHANNELS).transpose(1, 2).flatten(1)
    return weights | {"hidden.weight": mixed}


def _image(title: str, *, left_out: bool) -> Shown:
    """The image's channel, whose row of the last layer is left out or taken."""

    def show() -> Tensor:
        rule, weights = automaton()
        if not left_out:
            row = 0.12 * torch.randn(1, HIDDEN, generator=torch.Generator().manual_seed(SEED))
            weights = weights | {"update.weight": torch.cat((row, weights["update.weight"]))}
            rule = rule.replace(mutable=None)
        return torch.sigmoid(4 * (_run(rule, weights)[:1] - 0.5)).expand(3, -1, -1).movedim(0, -1)

    return title, show


RIGHT = _texture("as the original")
TRAPS: dict[str, tuple[Shown, Shown]] = {
    "axes": (
        RIGHT,
        _texture("filters not transposed", lambda w: w | {"perceive.weight": w["perceive.weight"].transpose(2, 3)}),
    ),
    "fire-rate": (
        _texture("fires with 1 - 0.9", fire_rate=0.1),
        _texture("fires with 0.9", fire_rate=0.9),
    ),
    "columns": (RIGHT, _texture("columns in the other order", _columns)),
    "scale": (
        RIGHT,
        _texture("filters 8 times as large", lambda w: w | {"perceive.weight": 8 * w["perceive.weight"]}),
    ),
    "rows": (_image("rows of the image left out", left_out=True), _image("all rows taken", left_out=False)),
    "padding": (_texture("zeros, as the original", padding="zeros"), _texture("circular, as it was set")),
}


def _picture(path: Path, *panels: Shown) -> Path:
    figure = Figure(figsize=(4.4, 2.45), dpi=100, layout="constrained")
    for axes, (title, show) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(show().clamp(0, 1).numpy(), interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    figure.savefig(path, metadata={"Software": None})
    return path
