"""What the published models promise besides the numbers of one step: weights, fire rates, layouts, options, errors."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ncafast
from ncafast import models
from ncafast.bench import originals

Build = Callable[[], nn.Module]

PAIRS: dict[str, tuple[Build, Build]] = {
    "MaxNCA": (models.MaxNCA, originals.MaxNCA),
    "NCA2D": (lambda: models.NCA2D(k=7), lambda: originals.NCA2D(k=7)),
    "TextureNCA": (lambda: models.TextureNCA(8, 16), lambda: originals.TextureNCA(8, 16)),
    "GrowingNCA": (models.GrowingNCA, lambda: originals.GrowingNCA(16, 0.5)),
}
SINGLE: dict[str, Build] = {name: pair[0] for name, pair in PAIRS.items()}
SINGLE["SelfClassifyingNCA"] = models.SelfClassifyingNCA
every_single = pytest.mark.parametrize("build", SINGLE.values(), ids=SINGLE)


def lively(model: nn.Module) -> nn.Module:
    """The model with every weight random, so that a cell that fires also changes."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def state(model: nn.Module, batch: int, height: int, width: int) -> Tensor:
    """A living state in the model's layout."""
    channels = model.rule.channels
    x = 0.5 + torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(4))
    last = isinstance(model, (models.MaxNCA, models.GrowingNCA, models.SelfClassifyingNCA))
    return x.movedim(1, -1).contiguous() if last else x


def run(model: nn.Module, x: Tensor, steps: int, **options) -> tuple[Tensor, ...]:
    """What forward returns, as a tuple."""
    result = model(x, steps, **options)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(("ours", "original"), PAIRS.values(), ids=PAIRS)
def test_same_seed_gives_the_original_weights(ours: Build, original: Build) -> None:
    torch.manual_seed(21)
    have = ours().state_dict()
    torch.manual_seed(21)
    want = original().state_dict()
    assert list(have) == list(want)
    assert all(torch.equal(have[name], want[name]) for name in want)


@pytest.mark.parametrize(("ours", "original"), PAIRS.values(), ids=PAIRS)
def test_state_dicts_go_both_ways(ours: Build, original: Build) -> None:
    ours().load_state_dict(original().state_dict(), strict=True)
    original().load_state_dict(ours().state_dict(), strict=True)


@every_single
def test_params_are_what_the_rule_names(build: Build) -> None:
    model = build()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.params().items()}
    assert shapes == model.rule.param_shapes()


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (models.MaxNCA(hidden_size=8, fire_rate=0.3), {}),
        (models.NCA2D(h=8, k=3), {"fire_rate": 0.2}),
        (models.SelfClassifyingNCA(), {"cell_dropout_rate": 0.2}),
        (models.SelfClassifyingNCA(), {"training": False}),
    ],
    ids=["MaxNCA", "NCA2D", "SelfClassifyingNCA", "evaluation"],
)
def test_compiled_whole_it_follows_the_attributes(model: nn.Module, change: dict) -> None:
    """One graph without breaks, before and after a change of rate or mode."""
    torch.compiler.reset()
    compiled = torch.compile(lively(model), fullgraph=True, backend="eager")
    x = state(model, 2, 5, 6)
    for changes in ({}, change):
        for name, value in changes.items():
            setattr(model, name, value)
        assert torch.equal(run(compiled, x, 3, seed=1)[-1], run(model, x, 3, seed=1)[-1])


def changed(before: Tensor, after: Tensor, axis: int) -> float:
    """Fraction of cells of which any channel changed."""
    return (before != after).any(axis).double().mean().item()


@pytest.mark.parametrize(
    ("ours", "original", "call", "rate", "probability"),
    [
        (models.MaxNCA(), originals.MaxNCA(), {"steps": 1, "fire_rate": 0.1}, 0.5, 0.9),
        (models.MaxNCA(), originals.MaxNCA(), {"steps": 1}, 0.1, 0.5),
        (models.MaxNCA(), originals.MaxNCA(), {"steps": 1, "fire_rate": None}, 0.1, 0.9),
        (models.NCA2D(), originals.NCA2D(), {}, 0.1, 0.1),
        (models.TextureNCA(8, 16), originals.TextureNCA(8, 16), {"steps": 1}, 0.5, 0.5),
        (models.GrowingNCA(), originals.GrowingNCA(16, 0.5), {"fire_rate": 0.1}, 0.5, 0.9),
        (models.GrowingNCA(), originals.GrowingNCA(16, 0.5), {}, 0.1, 0.9),
    ],
    ids=["MaxNCA", "MaxNCA default", "MaxNCA own", "NCA2D", "TextureNCA", "GrowingNCA", "GrowingNCA own"],
)
def test_fire_rate_means_what_it_means_in_the_original(
    ours: nn.Module, original: nn.Module, call: dict, rate: float, probability: float
) -> None:
    """Both change the expected fraction of 16384 cells, to 5 sigma; `rate` is set after construction."""
    sigma = (probability * (1 - probability) / 16384) ** 0.5
    x = state(ours, 4, 64, 64)
    torch.manual_seed(5)
    for model in (lively(ours), lively(original)):
        model.fire_rate = rate
        after = model(x, **call)
        after = after[1] if isinstance(after, tuple) else after
        axis = 1 if x.shape[1] != 64 else -1
        assert changed(x, after, axis) == pytest.approx(probability, abs=5 * sigma)


@every_single
def test_a_seed_draws_the_masks_of_fire_mask(build: Build) -> None:
    model = lively(build())
    x = state(model, 2, 6, 9)
    shape, rate = (2, 1, 6, 9), model.rule.fire_rate
    masks = torch.stack([ncafast.fire_mask(shape, rate, seed=77, step=5 + t) for t in range(4)])
    drawn = run(model, x, 4, seed=77, first_step=5)
    given = run(model, x, 4, fire_mask=masks)
    assert all(torch.equal(a, b) for a, b in zip(drawn, given, strict=True))


@every_single
def test_torch_manual_seed_governs_the_masks(build: Build) -> None:
    model = lively(build())
    x = state(model, 2, 6, 9)
    results = []
    for seed in (8, 8, 9):
        torch.manual_seed(seed)
        results.append(run(model, x, 4)[-1])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@every_single
def test_states_are_the_steps_in_the_layout_of_the_result(build: Build) -> None:
    model = lively(build())
    x = state(model, 2, 6, 9)
    *_, last, kept = run(model, x, 6, seed=1, states=2)
    assert kept.shape == (3, *x.shape)
    assert torch.equal(kept[-1], last)
    walked = x
    for step in range(6):
        # One call per step, the way the notebooks loop.
        walked = run(model, walked, 1, seed=1, first_step=step)[-1]
        if step % 2:
            torch.testing.assert_close(kept[step // 2], walked, rtol=1e-5, atol=1e-5)


@every_single
def test_result_is_contiguous_and_input_untouched(build: Build) -> None:
    model = lively(build())
    x = state(model, 2, 6, 9)
    before = x.clone()
    result = run(model, x, 2)[-1]
    assert result.is_contiguous()
    assert result.shape == x.shape
    assert torch.equal(x, before)


@every_single
def test_memory_changes_nothing_but_memory(build: Build) -> None:
    model = lively(build()).double()
    x = state(model, 2, 6, 9).double()
    found = []
    for memory in ("states", "sqrt", 4):
        model.zero_grad()
        run(model, x, 9, seed=1, memory=memory)[-1].square().sum().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        found.append(torch.cat([grad.flatten() for grad in grads]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-10, atol=1e-10 * found[0].abs().max().item())


@every_single
def test_a_copy_runs_alike(build: Build) -> None:
    model = lively(build())
    x = state(model, 1, 5, 6)
    assert torch.equal(run(copy.deepcopy(model), x, 3, seed=2)[-1], run(model, x, 3, seed=2)[-1])


@every_single
def test_an_empty_batch_stays_empty(build: Build) -> None:
    model = build()
    assert run(model, state(model, 0, 5, 6), 3)[-1].shape[0] == 0


@pytest.mark.parametrize("build", [models.MaxNCA, lambda: models.NCA2D(k=3)], ids=["MaxNCA", "NCA2D"])
def test_batch_norm_uses_the_batch_in_evaluation_too(build: Build) -> None:
    model = lively(build())
    x = state(model, 2, 6, 9)
    training = run(model, x, 5, seed=3)[-1]
    model.eval()
    assert torch.equal(run(model, x, 5, seed=3)[-1], training)
    # One sample alone has other statistics, in evaluation as well.
    alone = run(model, x[:1], 5, seed=3)[-1]
    assert not torch.allclose(alone, training[:1], atol=1e-3)


def test_image_channels_never_change() -> None:
    rgb, scan = lively(models.MaxNCA()), lively(models.NCA2D(c=8, k=3, input_channels=2))
    x, y = state(rgb, 2, 6, 9), state(scan, 2, 6, 9)
    assert torch.equal(rgb(x, 5)[1][..., :3], x[..., :3])
    assert torch.equal(scan(y, 5)[:, :2], y[:, :2])
    assert (rgb(x, 5)[1][..., 3:] != x[..., 3:]).any()
    assert (scan(y, 5)[:, 2:] != y[:, 2:]).any()


def test_maxnca_has_as_many_logits_as_asked_for() -> None:
    logits, _ = models.MaxNCA(num_classes=5, hidden_size=8)(torch.rand(2, 5, 6, 16), 2)
    assert logits.shape == (2, 5)


def test_growing_grows_from_a_seed_and_leaves_the_dead_alone() -> None:
    """After n steps at most the cells within n + 1 of the seed may be alive."""
    model = lively(models.GrowingNCA())
    x = torch.zeros(1, 15, 17, 16)
    x[0, 7, 8, 3:] = 1.0
    grown = model(x, 4, fire_rate=0.0)
    far = torch.ones(15, 17, dtype=torch.bool)
    far[3:12, 4:13] = False
    assert grown.abs().sum() > 0
    assert not grown[0, far].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.MaxNCA()(torch.rand(2, 16, 8, 9)), r"MaxNCA takes x as \[B, H, W, 16\].*last axis"),
        (lambda: models.GrowingNCA()(torch.rand(8, 9, 16)), r"GrowingNCA takes x as \[B, H, W, 16\]"),
        (lambda: models.NCA2D()(torch.rand(2, 8, 9, 16)), "16"),
        (lambda: models.MaxNCA(fire_rate=1.5), "fire_rate=1.5 is not allowed: it must be 0 to 1"),
        (lambda: models.MaxNCA()(torch.rand(1, 5, 5, 16), 1, fire_rate=-0.5), "fire_rate=-0.5"),
        (lambda: models.GrowingNCA(fire_rate=2.0), "fire_rate=2.0"),
        (lambda: models.NCA2D(fire_rate=float("nan")), "fire_rate=nan"),
        (lambda: models.SelfClassifyingNCA(cell_dropout_rate=-1.0), "cell_dropout_rate=-1.0"),
        (lambda: models.NCA2D(k=4), "^k=4 is even"),
        (lambda: models.NCA2D(c=4, input_channels=4), "input_channels=4 is not allowed: it must be 0 to 3"),
        (lambda: models.MaxNCA(input_channels=99), "input_channels=99 is not allowed: it must be 0 to 15"),
        (lambda: models.GrowingNCA(channel_n=3), "channel_n=3 is not allowed: it must be >= 4"),
        (lambda: models.TextureNCA(0, 8), "num_channels=0"),
        (lambda: models.SelfClassifyingNCA(hidden_layer_sizes=()), r"hidden_layer_sizes=\(\)"),
        (lambda: models.MaxNCA(device="foo"), "device='foo' is not a device"),
    ],
)
def test_mistakes_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.MaxNCA(fire_rate="x"), "fire_rate must be a number, got str 'x'"),
        (lambda: models.NCA2D(fire_rate=None), "fire_rate must be a number, got NoneType"),
        (lambda: models.GrowingNCA()(torch.rand(1, 5, 5, 16), 1, "x"), "fire_rate must be a number, got str 'x'"),
        (lambda: models.SelfClassifyingNCA(cell_dropout_rate=[]), "cell_dropout_rate must be a number, got list"),
        (lambda: models.MaxNCA()(np.zeros((1, 5, 5, 16))), "x must be a torch.Tensor, got ndarray"),
        (lambda: models.GrowingNCA()(np.zeros((1, 5, 5, 16))), "x must be a torch.Tensor, got ndarray"),
        (lambda: models.NCA2D()(np.zeros((1, 16, 5, 5))), "x must be a torch.Tensor, got ndarray"),
        (lambda: models.SelfClassifyingNCA()(np.zeros((1, 5, 5, 20))), "state must be a torch.Tensor, got ndarray"),
        (lambda: models.TextureNCA(8.0, 16), "num_channels must be an int, got float"),
    ],
)
def test_wrong_kinds_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_numbers_of_numpy_become_plain_ones() -> None:
    """A checkpoint holds them as JSON."""
    model = models.MaxNCA(np.int64(8), np.float32(0.25), hidden_size=np.int64(6))
    config = model.config()
    assert (config["channel_n"], config["hidden_size"], config["fire_rate"]) == (8, 6, 0.25)
    assert {type(config[name]) for name in ("channel_n", "hidden_size", "fire_rate")} == {int, float}


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="sed"):
        models.NCA2D()(torch.rand(1, 16, 4, 4), 1, sed=1)
