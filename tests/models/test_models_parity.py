"""Every published model against its transcription: same weights, same masks, forward and all gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from ncafast import models
from ncafast.bench import originals

Run = Callable[[nn.Module, Tensor, list[Tensor]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """One model beside its original: how to build both, what to feed them, how to call them."""

    ours: Callable[[], nn.Module]
    original: Callable[[], nn.Module]
    state: Callable[[], Tensor]
    run_ours: Run
    run_original: Run
    last: str  # the layer that writes the update
    masks: tuple[tuple[int, int, int], ...]  # steps, H, W of each level
    spread: float = 0.1  # deviation of the last layer's random weights
    seed: int = 0  # one that keeps hidden and alive values away from their thresholds, which rounding may cross


class Cascade(nn.Module):
    """The notebook's two models under MedNCA's names."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.model1 = originals.NCA2D(h=hidden, k=7)
        self.model2 = originals.NCA2D(h=hidden, k=3)


def image_state(height: int, width: int, channels: int, image: int) -> Tensor:
    """[2, H, W, C]: noise in the first `image` channels, small noise in the others."""
    state = 0.1 * torch.randn(2, height, width, channels)
    state[..., :image] = torch.rand(2, height, width, image)
    return state


def digits(height: int, width: int) -> Tensor:
    """[2, H, W, 20]: blobs far from the alive threshold in the last channel, nothing near half of the cells."""
    state = 0.1 * torch.randn(2, height, width, 20)
    state[..., -1] = 0
    state[0, 2:7, 3:8, -1] = 0.6 + 0.3 * torch.rand(5, 5)
    state[1, 5:9, 6:10, -1] = 0.6 + 0.3 * torch.rand(4, 4)
    return state


def seeds(height: int, width: int) -> Tensor:
    """[2, H, W, 16]: a few living cells."""
    state = torch.zeros(2, height, width, 16)
    state[0, 5, 6, 3:] = 1.0
    state[1, 3:6, 8, :] = 0.7
    return state


def stacked(masks: list[Tensor]) -> Tensor:
    return torch.stack(masks)


def run_cascade(model: nn.Module, image: Tensor, masks: list[Tensor]) -> tuple[Tensor, ...]:
    return (model(image, fire_masks=(stacked(masks[:40]), stacked(masks[40:]))),)


def run_original_cascade(model: nn.Module, image: Tensor, masks: list[Tensor]) -> tuple[Tensor, ...]:
    return (originals.med_nca(model.model1, model.model2, image, (masks[:40], masks[40:])),)


def run_steps(model: nn.Module, x: Tensor, masks: list[Tensor]) -> tuple[Tensor, ...]:
    for mask in masks:
        x = model(x, mask)
    return (x,)


CASES = {
    "MaxNCA": Case(
        models.MaxNCA,
        originals.MaxNCA,
        lambda: image_state(9, 11, 16, 3),
        lambda m, x, masks: m(x, len(masks), fire_mask=stacked(masks)),
        lambda m, x, masks: m(x, len(masks), masks=masks),
        last="fc1",
        masks=((12, 9, 11),),
        seed=142,
    ),
    "NCA2D k=3": Case(
        lambda: models.NCA2D(k=3),
        lambda: originals.NCA2D(k=3),
        lambda: image_state(10, 7, 16, 1).movedim(-1, 1).contiguous(),
        lambda m, x, masks: (m(x, len(masks), fire_mask=stacked(masks)),),
        run_steps,
        last="fc2",
        masks=((20, 10, 7),),
        seed=88,
    ),
    "NCA2D k=7": Case(
        lambda: models.NCA2D(c=6, h=10, k=7),
        lambda: originals.NCA2D(c=6, h=10, k=7),
        lambda: image_state(10, 7, 6, 1).movedim(-1, 1).contiguous(),
        lambda m, x, masks: (m(x, len(masks), fire_mask=stacked(masks)),),
        run_steps,
        last="fc2",
        masks=((40, 10, 7),),
        seed=97,
    ),
    "MedNCA": Case(
        lambda: models.MedNCA(hidden=16),
        lambda: Cascade(16),
        lambda: torch.rand(2, 1, 12, 16),
        run_cascade,
        run_original_cascade,
        last="fc2",
        masks=((40, 3, 4), (20, 12, 16)),
        seed=114,
    ),
    "TextureNCA": Case(
        lambda: models.TextureNCA(12, 24),
        lambda: originals.TextureNCA(12, 24),
        lambda: torch.randn(2, 12, 9, 6),
        lambda m, x, masks: (m(x, len(masks), fire_mask=stacked(masks)),),
        lambda m, x, masks: (m(x, len(masks), masks=masks),),
        last="mlp.2",
        masks=((12, 9, 6),),
        seed=2,
        spread=0.02,
    ),
    "GrowingNCA": Case(
        models.GrowingNCA,
        lambda: originals.GrowingNCA(16, 0.5),
        lambda: seeds(12, 15),
        lambda m, x, masks: (m(x, len(masks), angle=20.0, fire_mask=stacked(masks)),),
        lambda m, x, masks: (m(x, len(masks), angle=20.0, masks=masks),),
        last="fc1",
        masks=((16, 12, 15),),
        seed=102,
        spread=0.05,
    ),
    "SelfClassifyingNCA": Case(
        models.SelfClassifyingNCA,
        originals.SelfClassifyingNCA,
        lambda: digits(12, 14),
        lambda m, x, masks: (m(x, len(masks), fire_mask=stacked(masks)),),
        lambda m, x, masks: (m(x, len(masks), masks=masks),),
        last="layers.1",
        masks=((12, 12, 14),),
        seed=124,
        spread=0.05,
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def weighted(case: Case) -> dict[str, Tensor]:
    """A state_dict of the original whose last layers are random, not zero."""
    torch.manual_seed(case.seed)
    weights = case.original().state_dict()
    for name in weights:
        if f"{case.last}." in name:
            weights[name] = case.spread * torch.randn(weights[name].shape)
    return weights


def drawn(case: Case) -> list[Tensor]:
    """Masks [2, 1, H, W] of every step, level after level; a third of the cells fire."""
    return [(torch.rand(2, 1, height, width) < 1 / 3) for steps, height, width in case.masks for _ in range(steps)]


def results(
    build: Callable[[], nn.Module], run: Run, weights: dict[str, Tensor], x: Tensor, masks: list[Tensor]
) -> dict[str, Tensor]:
    """Outputs and gradients of the input and of every parameter, by name, in x's dtype."""
    model = build().to(x.dtype)
    model.load_state_dict(weights)
    x = x.clone().requires_grad_()
    outputs = run(model, x, masks)
    torch.manual_seed(13)
    loss = sum((out * torch.randn(out.shape).to(out.dtype)).sum() for out in outputs)
    loss.backward()
    found = {f"output {n}": out.detach() for n, out in enumerate(outputs)}
    found |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    return found | {"gradient of the input": x.grad}


def scale(name: str, wanted: dict[str, Tensor]) -> float:
    """Largest value that this result is measured by: its own for an output, any gradient's for a gradient.

    A bias that a batch norm follows has the exact gradient 0, a sum of cancelling terms as large as the others.
    """
    kin = [name] if name.startswith("output") else [key for key in wanted if key.startswith("grad")]
    return max(1.0, *(wanted[key].abs().max().item() for key in kin))


@every_case
def test_float64_equals_the_original(case: Case) -> None:
    """In float64 rounding is out of the way: outputs and gradients agree to 1e-11 of the largest."""
    weights, x, masks = weighted(case), case.state().double(), drawn(case)
    ours = results(case.ours, case.run_ours, weights, x, masks)
    wanted = results(case.original, case.run_original, weights, x, masks)
    assert ours.keys() == wanted.keys()
    for name, want in wanted.items():
        assert (ours[name] - want).abs().max().item() <= 1e-11 * scale(name, wanted), name


@every_case
def test_float32_is_as_exact_as_the_original(case: Case) -> None:
    """Error against float64 at most twice the original's in float32, plus 1e-6 of the largest value."""
    weights, x, masks = weighted(case), case.state(), drawn(case)
    wanted = results(case.original, case.run_original, weights, x.double(), masks)
    ours = results(case.ours, case.run_ours, weights, x, masks)
    theirs = results(case.original, case.run_original, weights, x, masks)
    for name, want in wanted.items():
        error = (ours[name] - want).abs().max().item()
        allowed = (theirs[name] - want).abs().max().item()
        assert error <= 2 * allowed + 1e-6 * scale(name, wanted), name
