"""What calls of the variants promise beside the numbers of a step: seeds, kept states, saving, first states, errors."""

from __future__ import annotations

import pytest
import torch
from test_models_variants import CASES, given, several, weights
from torch import Tensor, nn

import ncafast
from ncafast import models
from ncafast.models.filterbank import cell_positions

SOME = ["BasicNCA", "BackboneNCA", "WBCMaxNCA", "2-D fast batch", "PENCA", "Cells2PixelsNCA positions", "DyNCA"]


def lively(name: str) -> nn.Module:
    model = CASES[name].ours().double()
    model.load_state_dict(weights(CASES[name]))
    return model


def states_in(found: Tensor | tuple[Tensor, ...], x: Tensor) -> Tensor:
    """The state among the results."""
    return next(one for one in several(found) if one.shape == x.shape)


@pytest.mark.parametrize("name", SOME)
def test_a_seed_draws_its_masks_and_kept_states_are_the_steps(name: str) -> None:
    model, (x, _), case = lively(name), given(CASES[name]), CASES[name]
    masks = [ncafast.fire_mask((2, 1, *case.grid), 0.5, seed=5, step=3 + t) for t in range(4)]
    if hasattr(model, "fire_rate"):
        model.fire_rate = 0.5
    drawn = several(model(x, steps=4, seed=5, first_step=3, states=2))
    walked, seen = x, []
    for mask in masks:
        walked = states_in(model(walked, steps=1, fire_mask=mask[None]), x)
        seen.append(walked)
    torch.testing.assert_close(drawn[-1], torch.stack(seen[1::2]), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(states_in(drawn, x), walked, rtol=1e-10, atol=1e-10)
    five = several(model(x, steps=5, seed=5, first_step=3, states=2))
    torch.testing.assert_close(five[-1], drawn[-1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_model_comes_back_as_it_was(name: str, tmp_path) -> None:
    model, (x, masks) = lively(name).eval(), given(CASES[name])
    ncafast.save(tmp_path / "model.safetensors", model)
    again = ncafast.load(tmp_path / "model.safetensors")
    for have, want in zip(
        several(CASES[name].run(again, x, masks)), several(CASES[name].run(model, x, masks)), strict=True
    ):
        assert torch.equal(have, want)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("BasicNCA", "fc0"), ("BackboneNCA", "p1"), ("2-D fast batch", "bn"), ("PENCA", "w1"), ("DyNCA", "w2")],
)
def test_hooks_are_refused_by_name(name: str, layer: str) -> None:
    model, (x, _) = lively(name), given(CASES[name])
    model.get_submodule(layer).register_forward_hook(print)
    with pytest.raises(ValueError, match=f"^{layer} has a forward hook"):
        model(x, steps=2)


def test_positions_are_whole_in_half_precision() -> None:
    wide = torch.zeros(1, 4, 1, 5000)
    assert torch.equal(cell_positions(wide.half()), cell_positions(wide).half())
    with pytest.raises(TypeError, match="PENCA has no option 'extra': its extra channels are the positions"):
        models.PENCA(4, 6)(wide, extra=wide)


def test_dynca_returns_the_images_of_all_steps() -> None:
    model, (x, _) = lively("DyNCA"), given(CASES["DyNCA"])
    state, image, middle = model.forward_nsteps(x, 3, 0.4, return_middle_feature=True, seed=2)
    assert torch.equal(state, model.forward_nsteps(x, 3, 0.4, seed=2)[0])
    assert len(middle) == 3 and torch.equal(middle[-1], image) and torch.equal(image, 2 * state[:, :3])


def test_seeds_to_start_from() -> None:
    noise = models.NoiseNCA(4, 6, noise_level=0.2).seed(3, 50, 60)
    assert noise.shape == (3, 4, 50, 60) and 0.099 < noise.abs().max() <= 0.1
    assert not models.PENCA(4, 6).seed(1, 5, 6).any()
    one = models.DyNCA(4, 3, 6, seed_mode="center_on").seed(2, (6, 8))
    assert one.shape == (2, 4, 8, 6) and one[:, :, 4, 3].all() and one.sum() == 8
    torch.manual_seed(42)
    wanted = torch.rand(1, 4, 5, 5) - 0.5
    assert torch.equal(models.DyNCA(4, 3, 6, seed_mode="random").seed(2, 5), wanted.expand(2, -1, -1, -1))


@pytest.mark.parametrize("name", SOME)
def test_compiled_whole_it_is_the_same(name: str) -> None:
    """One graph without breaks."""
    torch.compiler.reset()
    model, (x, _) = lively(name), given(CASES[name])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for have, want in zip(several(compiled(x, steps=3, seed=1)), several(model(x, steps=3, seed=1)), strict=True):
        torch.testing.assert_close(have, want, rtol=1e-12, atol=1e-12)


def replaced(kind: str) -> tuple[nn.Module, nn.Module]:
    """A model and its original, both with another layer in the same place."""
    case = CASES[kind]
    pair = case.ours().double(), case.original().double()
    torch.manual_seed(8)
    for model in pair:
        model.load_state_dict(weights(case))
    if kind == "PENCA":
        layer: nn.Module = nn.Conv2d(12, 5, 1).double()
        pair[0].w2 = pair[1].w2 = layer
    else:
        layer = nn.GroupNorm(5, 10).double()
        pair[0].bn = pair[1].bn = layer
    return pair


@pytest.mark.parametrize("name", ["PENCA", "2-D fast batch", "3-D fast none"])
def test_replaced_layers_count(name: str) -> None:
    ours, original = replaced(name)
    x, masks = given(CASES[name])
    have, want = several(CASES[name].run(ours, x, masks)), several(CASES[name].run_original(original, x, masks))
    torch.testing.assert_close(have, want, rtol=1e-9, atol=1e-9)


def test_group_norm_with_one_group_normalises_each_sample() -> None:
    """Samples do not see each other, unlike under batch norm."""
    for name, same in (("2-D fast group", True), ("2-D fast batch", False)):
        model, (x, masks) = lively(name), given(CASES[name])
        together, alone = CASES[name].run(model, x, masks), CASES[name].run(model, x[:1], [m[:1] for m in masks])
        assert torch.allclose(together[:1], alone, rtol=1e-9, atol=1e-9) is same


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.BasicNCA(8, 0.5)(torch.rand(1, 8, 5, 6)), r"BasicNCA takes x as \[B, H, W, 8\].*last axis"),
        (lambda: models.BackboneNCA(8, 0.5, kernel_size=4), "kernel_size=4 is even"),
        (lambda: models.BackboneNCA(8, 1.5), "fire_rate=1.5"),
        (lambda: models.BasicNCA(8, 0.5, init_method="he"), "init_method='he'"),
        (lambda: models.BasicNCA2DFast(8, 0.5, normalization="layer"), "normalization='layer' is not allowed.*group"),
        (lambda: models.BasicNCA3DFast(8, 0.5, input_channels=8), "input_channels=8"),
        (lambda: models.PENCA(4, 6)(torch.rand(1, 4, 5, 6), integrator="rk4"), "integrator='rk4'.*Euler"),
        (lambda: models.NoiseNCA(4, 6)(torch.rand(1, 4, 5, 6), dx=torch.rand(1, 5, 6)), "dx has shape .1, 5, 6."),
        (lambda: models.VanillaNCA(4, 6, "zero"), "padding='zero' is not allowed"),
        (lambda: models.VanillaNCA(4, 6, perception_kernels=5), "perception_kernels=5"),
        (lambda: models.DyNCA(4, 3, perception_scales=[0, 1]), r"perception_scales=\[0, 1\].*one scale"),
        (lambda: models.DyNCA(4, 3)(torch.rand(1, 4, 5, 6), 1.5), "update_rate=1.5"),
        (lambda: models.DyNCA(4, 5), "c_out=5"),
    ],
)
def test_mistakes_are_named(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
