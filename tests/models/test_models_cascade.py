"""CascadeNCA against the same levels written out as rollouts of their own, forward and backward."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ncafast
from ncafast import NCA, models
from ncafast.models import CascadeNCA


def random(model: nn.Module) -> nn.Module:
    """The model in float64 with random weights."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model.double()


def cell(ndim: int = 2, **arguments) -> NCA:
    return NCA(6, 8, ndim=ndim, immutable=2, **{"filters": "learned", "norm": "group", "norm_groups": 2, **arguments})


def grids(size, scales, up: bool = False) -> list[tuple[int, ...]]:
    return [tuple(-(-side // scale) if up else side // scale for side in size) for scale in scales]


def written_out(model: CascadeNCA, image: Tensor, steps, seed: int, first: int = 0) -> Tensor:
    """Level after level, each a rollout with the masks of its absolute steps."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[image.dim() - 2]
    state = None
    for number, (size, count) in enumerate(zip(grids(image.shape[2:], model.scales), steps, strict=True)):
        small = F.interpolate(image, size=size, mode=mode) if model.scales[number] > 1 else image
        if state is None:
            hidden = torch.zeros(image.shape[0], 4, *size, dtype=image.dtype)
        else:
            hidden = F.interpolate(state[:, 2:], size=size, mode="nearest" if model.enlarge == "nearest" else mode)
        level = model.levels[0 if model.single_model else number]
        shape = (image.shape[0], 1, *size)
        masks = [ncafast.fire_mask(shape, level.rule.fire_rate, seed, step=first + step) for step in range(count)]
        state = ncafast.rollout(
            torch.cat((small, hidden), 1), level.rule, level.params(), count, fire_mask=torch.stack(masks)
        )
        first += count
    return state


@pytest.mark.parametrize(
    ("size", "scales", "shared", "enlarge"),
    [
        ((12, 20), (4, 2, 1), True, "nearest"),
        ((12, 20), (4, 2, 1), False, "linear"),
        ((13, 19), (4, 2, 1), False, "nearest"),
        ((11, 7), (3, 2, 1), True, "linear"),
        ((9,), (2, 1), False, "nearest"),
        ((6, 5, 7), (2, 1), True, "linear"),
    ],
)
def test_it_is_its_levels_one_after_the_other(size, scales, shared, enlarge) -> None:
    steps = (3, 2, 2)[: len(scales)]
    model = random(CascadeNCA(cell(len(size)), scales, steps, shared, enlarge=enlarge))
    assert len(model.levels) == (1 if shared else len(scales))
    image = torch.rand(2, 2, *size, dtype=torch.float64)
    found = []
    for run in (lambda x: model(x, seed=9, first_step=4), lambda x: written_out(model, x, steps, 9, 4)):
        leaf = image.clone().requires_grad_()
        model.zero_grad()
        state = run(leaf)
        state.square().mean().backward()
        found.append([state, leaf.grad, *(parameter.grad for parameter in model.parameters())])
    assert found[0][0].shape == (2, 6, *size)
    for have, want in zip(*found, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.NCA2D(6, 8, 3, input_channels=2),
        lambda: models.BasicNCA(6, 0.3, hidden_size=8, input_channels=2),
        lambda: models.BackboneNCA(6, 0.3, hidden_size=8, input_channels=2),
        lambda: models.BasicNCA2DFast(6, 0.6, hidden_size=8, input_channels=2),
    ],
    ids=["NCA2D", "BasicNCA", "BackboneNCA", "BasicNCA2DFast"],
)
def test_published_automata_run_as_they_do_alone(make) -> None:
    """Those with the channels last see the same axes as in a call of their own."""
    level = random(make())
    model, image = CascadeNCA(level, (2, 1), (3, 2)), torch.rand(2, 2, 8, 10, dtype=torch.float64)
    last = not isinstance(level, models.NCA2D)
    options = {"fire_rate": None} if isinstance(level, (models.BasicNCA, models.BackboneNCA)) else {}

    def alone(state: Tensor, steps: int, first: int) -> Tensor:
        state = state.movedim(1, -1) if last else state
        state = level(state, steps, seed=3, first_step=first, **options)
        return state.movedim(-1, 1) if last else state

    coarse = alone(F.pad(F.interpolate(image, size=(4, 5), mode="bilinear"), (0, 0, 0, 0, 0, 4)), 3, 0)
    hidden = F.interpolate(coarse[:, 2:], scale_factor=2.0)
    expected = alone(torch.cat((image, hidden), 1), 2, 3)
    assert torch.equal(model(image, seed=3), expected)


def test_mednca_and_m3dnca_are_cascades() -> None:
    """To the same bits, also where the scale does not divide the image."""
    flat = random(models.MedNCA(6, 8, steps=(3, 2), scale=4, image_channels=2, classes=2))
    again = CascadeNCA([flat.model1, flat.model2], (4, 1), (3, 2), enlarge="linear")
    image = torch.rand(2, 2, 13, 18, dtype=torch.float64)
    assert torch.equal(again(image, seed=1)[:, 2:4], flat(image, seed=1))
    deep = random(models.M3DNCA(6, steps=(2, 1, 2), hidden_size=8, scale_factor=2, levels=3, kernel_size=3))
    again = CascadeNCA(list(deep.model), (4, 2, 1), (2, 1, 2), shrink="max")
    volume = torch.rand(2, 9, 10, 13, 1, dtype=torch.float64)
    assert torch.equal(again(volume.movedim(-1, 1), seed=1)[:, 1:2].movedim(1, -1), deep(volume, seed=1))


def test_states_of_every_level() -> None:
    model, image = random(CascadeNCA(cell(), (4, 2, 1), (4, 2, 2), False)), torch.rand(2, 2, 9, 14).double()
    state, kept = model(image, seed=2, states=2)
    assert [tuple(each.shape) for each in kept] == [(2, 2, 6, 2, 3), (1, 2, 6, 4, 7), (1, 2, 6, 9, 14)]
    assert torch.equal(kept[-1][-1], state) and torch.equal(state, model(image, seed=2))
    for each, size in zip(kept, grids((9, 14), (4, 2)), strict=False):
        assert torch.equal(each[-1][:, :2], F.interpolate(image, size=size, mode="bilinear"))
    assert torch.equal(state[:, :2], image)


def test_a_whole_state_starts_with_its_own_channels() -> None:
    model, state = random(CascadeNCA(cell(), (2, 1), (0, 0))), torch.rand(1, 6, 4, 6).double()
    hidden = F.interpolate(state[:, 2:], size=(2, 3), mode="bilinear")
    assert torch.equal(model(state), torch.cat((state[:, :2], F.interpolate(hidden, scale_factor=2.0)), 1))


@pytest.mark.parametrize("shrink", ["nearest", "area", "max"])
def test_how_the_image_is_shrunk(shrink) -> None:
    model, image = random(CascadeNCA(cell(), (3, 1), (1, 0), shrink=shrink)), torch.rand(1, 2, 7, 10).double()
    _, (coarse, _) = model(image, states="all")
    if shrink == "max":
        expected = F.max_pool2d(image, 3, ceil_mode=True)
    else:
        expected = F.interpolate(image, size=(2, 3), mode=shrink)
    assert torch.equal(coarse[0][:, :2], expected)


def test_steps_may_differ_from_call_to_call() -> None:
    model, image = random(CascadeNCA(cell(), (2, 1), (20, 3))), torch.rand(1, 2, 6, 8).double()
    drawn = {model.jittered(torch.Generator().manual_seed(number)) for number in range(60)}
    assert {count for count, _ in drawn} == set(range(16, 25)) and {count for _, count in drawn} == {3}
    assert model.jittered(torch.Generator(), share=0.0) == (20, 3)
    torch.testing.assert_close(model(image, (2, 1), seed=4), written_out(model, image, (2, 1), 4))


@pytest.mark.parametrize("kind", ["linear", "sincos"])
def test_a_time_code_counts_the_steps_of_all_levels(tmp_path, kind) -> None:
    model = random(CascadeNCA(cell(time_code=kind, max_steps=7), (2, 1), (4, 3), single_model=False)).eval()
    image, code = torch.rand(2, 2, 7, 6).double(), ncafast.time_code.TimeCode(kind, 7)
    small = F.interpolate(image, size=(3, 3), mode="bilinear")
    state = torch.cat((small, small.new_zeros(2, 4, 3, 3)), 1)
    for number, (count, first) in enumerate(((4, 0), (3, 4))):
        level = model.levels[number]
        if number:
            state = torch.cat((image, F.interpolate(state[:, 2:], size=(7, 6))), 1)
        where = {"extra": code.of(state, first, count), "first_step": first, "seed": 9}
        state = ncafast.rollout(state, level.rule, level.params(), count, **where)
    torch.testing.assert_close(model(image, seed=9), state)
    ncafast.save(tmp_path / "a.safetensors", model)
    assert torch.equal(ncafast.load(tmp_path / "a.safetensors")(image, seed=9), model(image, seed=9))
    until = model.predict(image, seed=9, until=ncafast.Convergence(0.0, min_steps=9))
    torch.testing.assert_close(until.state, state)


def test_the_coarsest_level_may_start_from_noise() -> None:
    model = random(CascadeNCA(cell(pad_noise=True), (2, 1), (0, 0)))
    image = torch.rand(3, 2, 8, 6).double()
    small = F.interpolate(image, size=(4, 3), mode="bilinear")
    expected = F.interpolate(ncafast.pad_input(small, 6, seed=5)[:, 2:], size=(8, 6))
    assert torch.equal(model(image, seed=5), torch.cat((image, expected), 1)) and expected.std() > 0.1
    part = model(image[1:], seed=5, first_sample=1)  # each sample has its own
    assert torch.equal(part, model(image, seed=5)[1:])
    assert not torch.equal(model(image), model(image))
    state = torch.rand(1, 6, 8, 6).double()
    assert torch.equal(model(state, seed=5)[:, :2], state[:, :2])
    model.steps = (3, 2)
    assert torch.equal(model(image, seed=5), model.predict(image, seed=5).state)


@pytest.mark.parametrize("shared", [True, False])
def test_it_is_saved_and_built_again(tmp_path, shared) -> None:
    model = random(CascadeNCA(cell(filters=["sobel", "laplacian"]), (2, 1), (2, 1), shared, enlarge="linear")).eval()
    ncafast.save(tmp_path / "a.safetensors", model)
    again, image = ncafast.load(tmp_path / "a.safetensors"), torch.rand(1, 2, 6, 8).double()
    assert again.config() == model.config() and torch.equal(again(image, seed=1), model(image, seed=1))
    mixed = CascadeNCA([models.NCA2D(6, 8, 7), models.NCA2D(6, 8, 3)], (2, 1), (2, 1))
    ncafast.save(tmp_path / "b.safetensors", mixed)
    assert ncafast.load(tmp_path / "b.safetensors").levels[0].k == 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CascadeNCA(cell(), (2, 4, 1)), "give numbers that fall to 1"),
        (lambda: CascadeNCA(cell(), (4, 2), (1, 1)), "give numbers that fall to 1"),
        (lambda: CascadeNCA(cell(), (2, 1)), r"steps=\(16, 8, 8\) is not allowed: give 2 numbers"),
        (lambda: CascadeNCA([cell()] * 2), "wrapped holds 2 automata, but there are 3 scales"),
        (lambda: CascadeNCA([cell(), NCA(7)], (2, 1), (1, 1)), "different channels or axes"),
        (lambda: CascadeNCA(NCA(6)), "image_channels is needed"),
        (lambda: CascadeNCA(NCA(6), image_channels=6), "image_channels=6 is not allowed: 1 to 5 are"),
        (lambda: CascadeNCA(cell(), shrink="min"), "shrink='min' is not allowed: it must be one of linear, nearest"),
        (lambda: CascadeNCA(models.PENCA(6, 8)), "a PENCA that takes extra channels"),
        (lambda: CascadeNCA(cell(extra=1, time_code="linear")), "an? NCA that takes extra channels"),
        (lambda: CascadeNCA(models.SelfClassifyingNCA()), "keeps its image in other channels than the first"),
        (lambda: CascadeNCA(cell())(torch.rand(1, 3, 8, 8)), r"images \[B, 2, H, W\] or states \[B, 6, H, W\]"),
        (lambda: CascadeNCA(cell())(torch.rand(1, 2, 3, 8)), "an image of 3 x 8 cells is too small"),
        (lambda: CascadeNCA(cell())(torch.rand(1, 2, 8, 8), fire_masks=[torch.ones(1)]), "fire_masks has 1 masks"),
    ],
)
def test_what_cannot_be_a_cascade_is_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_other_modules_and_hooks_are_refused() -> None:
    class Own(models.NCA2D):
        def forward(self, x: Tensor) -> Tensor:
            return x

    for wrapped in (nn.Identity(), Own(6, 8, 3), models.MedNCA()):
        with pytest.raises(TypeError, match="wrapped must be an NCA or an automaton of ncafast.models"):
            CascadeNCA(wrapped)
    model = CascadeNCA(models.NCA2D(6, 8, 3), (2, 1), (1, 1))
    model.levels[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="levels.0 has a forward hook"):
        model(torch.rand(1, 1, 8, 8))
