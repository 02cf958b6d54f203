"""Variants of published models against transcriptions: same keys and weights, same masks, forward and all gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import published_variants as originals
import pytest
import torch
from torch import Tensor, nn

from ncafast import models

Build = Callable[[], nn.Module]
Call = Callable[..., tuple[Tensor, ...]]


class Case(NamedTuple):
    """One model beside its original: builders, shape of a state, grid, what is called on both, rate and who fires."""

    ours: Build
    original: Build
    shape: tuple[int, ...]
    grid: tuple[int, ...]
    probability: float
    run: Call = lambda m, x, masks, **options: m(x, len(masks), fire_mask=torch.stack(masks), **options)
    run_original: Call = lambda m, x, masks: m(x, len(masks), masks=masks)


def steps_of(**given) -> Call:
    """A call of one of the models whose module does one step."""
    return lambda m, x, masks, **options: m(x, steps=len(masks), fire_mask=torch.stack(masks), **given, **options)


def original_steps(**given) -> Call:
    return lambda m, x, masks: m(x, masks=masks, steps=len(masks), **given)


def fast(ndim: int, normalization: str, inputs: int = 1, kernel: int = 3) -> Case:
    ours = models.BasicNCA2DFast if ndim == 2 else models.BasicNCA3DFast
    given = {"hidden_size": 10, "input_channels": inputs, "kernel_size": kernel, "normalization": normalization}
    grid = (7, 10) if ndim == 2 else (5, 6, 4)
    return Case(lambda: ours(6, 0.3, **given), lambda: originals.Fast(ndim, 6, 0.3, **given), (2, *grid, 6), grid, 0.3)


NOISE = {"run_original": original_steps()}
CONDITION = torch.linspace(-1, 1, 3 * 7 * 9).view(1, 3, 7, 9).double()
CASES = {
    "BasicNCA": Case(
        lambda: models.BasicNCA(6, 0.2, hidden_size=12),
        lambda: originals.Swapping(6, 0.2, 12),
        (2, 6, 9, 6),
        (6, 9),
        0.5,
    ),
    "BackboneNCA": Case(
        lambda: models.BackboneNCA(5, 0.2, hidden_size=12),
        lambda: originals.Dense(5, 0.2, 12),
        (2, 9, 6, 5),
        (9, 6),
        0.5,
    ),
    "BasicNCA norm": Case(
        lambda: models.BasicNCA(6, 0.2, None, 12, 2, batch_norm=True),
        lambda: originals.Swapping(6, 0.2, 12, 2, norm=True),
        (2, 6, 9, 6),
        (6, 9),
        0.5,
    ),
    "BackboneNCA k=5 norm": Case(
        lambda: models.BackboneNCA(5, 0.2, None, 12, 2, 5, batch_norm=True),
        lambda: originals.Dense(5, 0.2, 12, 2, 5, norm=True),
        (2, 6, 8, 5),
        (6, 8),
        0.5,
    ),
    "WBCMaxNCA": Case(
        lambda: models.WBCMaxNCA(8, 0.2, "cpu", 12),
        lambda: originals.BloodCells(8, 0.2, 12),
        (2, 6, 9, 8),
        (6, 9),
        0.5,
    ),
    "2-D fast batch": fast(2, "batch", 2, 7),
    "2-D fast group": fast(2, "group"),
    "2-D fast instance": fast(2, "instance"),
    "2-D fast none": fast(2, "none"),
    "3-D fast batch": fast(3, "batch"),
    "3-D fast group": fast(3, "group", 2),
    "3-D fast none": fast(3, "none", 1, 5),
    "VanillaNCA": Case(
        lambda: models.VanillaNCA(5, 12, update_prob=0.3),
        lambda: originals.Noise(5, 12, update_prob=0.3),
        (2, 5, 7, 9),
        (7, 9),
        0.3,
        lambda *a, **o: (steps_of()(*a, **o),),
        lambda *a: original_steps()(*a)[:1],
    ),
    "VanillaNCA stretched": Case(
        lambda: models.VanillaNCA(5, 12, "reflect"),
        lambda: originals.Noise(5, 12, "reflect"),
        (2, 5, 7, 9),
        (7, 9),
        0.5,
        lambda *a, **o: (steps_of(dx=0.7, dy=1.3, dt=0.5)(*a, **o),),
        lambda *a: original_steps(dx=0.7, dy=1.3, dt=0.5)(*a)[:1],
    ),
    "VanillaNCA condition": Case(
        lambda: models.VanillaNCA(5, 12, "constant", cond_chn=3),
        lambda: originals.Noise(5, 12, "constant", 3),
        (2, 5, 7, 9),
        (7, 9),
        0.5,
        lambda *a, **o: (steps_of(extra=CONDITION.expand(1, -1, -1, -1))(*a, **o),),
        lambda *a: original_steps(condition=CONDITION.expand(2, -1, -1, -1))(*a)[:1],
    ),
    "NoiseNCA": Case(
        lambda: models.NoiseNCA(5, 12, 0.25),
        lambda: originals.Noise(5, 12, noise=0.25, update_prob=1.0),
        (2, 5, 7, 9),
        (7, 9),
        1.0,
        lambda *a, **o: (steps_of()(*a, **o),),
        lambda *a: original_steps()(*a)[:1],
    ),
    "PENCA": Case(
        lambda: models.PENCA(5, 12, "replicate"),
        lambda: originals.Noise(5, 12, "replicate", 2),
        (2, 5, 7, 9),
        (7, 9),
        0.5,
        lambda *a, **o: (steps_of()(*a, **o),),
        lambda *a: original_steps()(*a)[:1],
    ),
    "Cells2PixelsNCA": Case(
        lambda: models.Cells2PixelsNCA(5, 12),
        lambda: originals.Noise(5, 12),
        (2, 5, 7, 9),
        (7, 9),
        0.5,
        steps_of(dx=0.8),
        original_steps(dx=0.8),
    ),
    "Cells2PixelsNCA positions": Case(
        lambda: models.Cells2PixelsNCA(5, 12, "replicate", noise_level=0.0, positions=True),
        lambda: originals.Noise(5, 12, "replicate", 2, noise=0.0),
        (2, 5, 7, 9),
        (7, 9),
        0.5,
        steps_of(),
        original_steps(),
    ),
    "Cells2PixelsNCA alive": Case(
        lambda: models.Cells2PixelsNCA(5, 12, alive=True),
        lambda: originals.Noise(5, 12, alive=True),
        (2, 5, 7, 9),
        (7, 9),
        0.5,
        steps_of(),
        original_steps(),
    ),
    "DyNCA": Case(
        lambda: models.DyNCA(6, 3, 10),
        lambda: originals.Dynamic(6, 3, 10),
        (2, 6, 7, 9),
        (7, 9),
        0.5,
        steps_of(return_perception=True),
        original_steps(),
    ),
    "DyNCA without positions": Case(
        lambda: models.DyNCA(6, 3, 10, "circular", pos_emb=None),
        lambda: originals.Dynamic(6, 3, 10, "circular", None),
        (2, 6, 7, 9),
        (7, 9),
        0.5,
        steps_of(return_perception=True),
        original_steps(),
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def weights(case: Case) -> dict[str, Tensor]:
    """A state_dict of the original whose parameters are all random."""
    generator = torch.Generator().manual_seed(6)
    model = case.original().double()
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model.state_dict()


def given(case: Case, steps: int = 4) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(7)
    x = torch.rand(case.shape, generator=generator, dtype=torch.float64)
    masks = [torch.rand(2, 1, *case.grid, generator=generator) < 0.5 for _ in range(steps)]
    return x, masks if case.probability < 1 else [torch.ones_like(mask) for mask in masks]


def several(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def results(model: nn.Module, run: Call, x: Tensor, masks: list[Tensor]) -> dict[str, Tensor]:
    """Results and gradients of the state and of every parameter, by name."""
    x = x.clone().requires_grad_()
    outputs = several(run(model, x, masks))
    sum((out * torch.arange(out.numel()).view(out.shape).sin()).sum() for out in outputs).backward()
    found = {f"result {n}": out.detach() for n, out in enumerate(outputs)}
    return found | {"x": x.grad} | {name: p.grad for name, p in model.named_parameters()}


@every_case
def test_one_seed_gives_the_original_weights(case: Case) -> None:
    torch.manual_seed(21)
    have = case.ours().state_dict()
    torch.manual_seed(21)
    want = case.original().state_dict()
    assert list(have) == list(want)
    assert all(torch.equal(have[name], want[name]) for name in want)


@every_case
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_result_and_all_gradients_are_the_originals(case: Case, training: bool) -> None:
    found = []
    for build, run in ((case.ours, case.run), (case.original, case.run_original)):
        model = build().double().train(training)
        model.load_state_dict(weights(case), strict=True)
        found.append(results(model, run, *given(case)))
    ours, wanted = found
    assert ours.keys() == wanted.keys()
    largest = max(float(value.abs().max()) for value in wanted.values() if value is not None)
    assert (wanted["result 0"] != 0).any()
    for name, want in wanted.items():
        torch.testing.assert_close(ours[name], want, rtol=1e-9, atol=1e-11 * largest, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", [c for n, c in CASES.items() if "condition" not in n])
def test_as_many_cells_change_as_in_the_original(case: Case) -> None:
    """Without masks both draw; the fraction of cells that change is the same, to 5 sigma of 8192 cells."""
    axis = -1 if case.shape[1:-1] == case.grid else 1
    for build in (case.ours, case.original):
        model = build().double()
        model.load_state_dict(weights(case))
        x = torch.rand((8192 // 64, *case.shape[1:]), dtype=torch.float64)
        after = [one for one in several(model(x, steps=1)) if one.shape == x.shape][0]
        changed = (after != x).any(axis).double()
        assert abs(float(changed.mean()) - case.probability) <= 5 * (0.25 / changed.numel()) ** 0.5
