"""BasicNCA3D and M3DNCA against the published class written out step by step, and the windows of training."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ncafast
from ncafast import models
from ncafast.models import cascade


class Original(nn.Module):
    """The published automaton, with its swapped axes and its parameters' names; masks are given."""

    def __init__(self, c: int, hidden: int, k: int, image: int) -> None:
        super().__init__()
        self.image = image
        self.fc0 = nn.Linear(2 * c, hidden)
        self.fc1 = nn.Linear(hidden, c, bias=False)
        self.p0 = nn.Conv3d(c, c, k, padding=k // 2, padding_mode="reflect", groups=c)
        self.bn = nn.BatchNorm3d(hidden, track_running_stats=False)

    def forward(self, x: Tensor, masks: Tensor) -> Tensor:  # [B, X, Y, Z, C], [T, B, 1, X, Y, Z]
        for mask in masks:
            swapped = x.transpose(1, 4)
            seen = torch.cat((swapped, self.p0(swapped)), 1).transpose(1, 4)
            hidden = self.bn(self.fc0(seen).transpose(1, 4)).transpose(1, 4)
            update = self.fc1(F.relu(hidden)) * mask.movedim(1, -1).to(x.dtype)
            x = torch.cat((x[..., : self.image], (x + update)[..., self.image :]), -1)
        return x


def random(model: nn.Module) -> nn.Module:
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape))
    return model.double()


def small(**arguments) -> models.M3DNCA:
    options = {"channel_n": 5, "hidden_size": 8, "steps": [3, 2], "scale_factor": 2, "kernel_size": 3}
    model = random(models.M3DNCA(**{**options, **arguments}))
    assert isinstance(model, models.M3DNCA)
    return model


def masks(size: tuple[int, ...], steps: range, seed: int, batch: int = 2) -> Tensor:
    return torch.stack([ncafast.fire_mask((batch, 1, *size), 0.5, seed, step=step) for step in steps])


@pytest.mark.parametrize(("k", "image"), [(3, 1), (7, 2)])
def test_one_level_is_the_original_forward_and_backward(k: int, image: int) -> None:
    original = random(Original(5, 8, k, image))
    ours = models.BasicNCA3D(5, 0.5, hidden_size=8, input_channels=image, kernel_size=k).double()
    assert {n: t.shape for n, t in ours.state_dict().items()} == {n: t.shape for n, t in original.state_dict().items()}
    ours.load_state_dict(original.state_dict())
    x = torch.rand(2, 4, 5, 6, 5, dtype=torch.float64)
    drawn = masks((4, 5, 6), range(3), 1)
    weight = torch.rand(2, 4, 5, 6, 5, dtype=torch.float64)
    found, expected = ours(x, 3, fire_mask=drawn), original(x, drawn)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for (name, own), other in zip(ours.named_parameters(), original.parameters(), strict=True):
        assert own.grad is not None and other.grad is not None
        if name == "fc1.weight":  # the original's rows for the image change nothing that stays
            assert not own.grad[:image].any()
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-8, atol=1e-8)


def test_the_fused_backend_agrees_with_the_reference() -> None:
    for k in (3, 7):
        level = random(models.BasicNCA3D(5, 0.5, hidden_size=8, kernel_size=k)).float()
        x = torch.rand(2, 5, 6, 7, 5)
        found = [level(x, 4, seed=3, backend=name) for name in ncafast.backends.available() if name != "triton"]
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-4)


def by_hand(model: models.M3DNCA, x: Tensor, seed: int) -> Tensor:
    """The published inference: max-pool, run, enlarge by repeating, put the image back."""
    sizes = cascade.level_sizes(x.shape[1:4], model.scale_factor, model.levels)
    step, state = 0, None
    for number, size in enumerate(sizes):
        image = x.movedim(-1, 1)
        for _ in range(model.levels - 1 - number):
            image = F.max_pool3d(image, model.scale_factor, ceil_mode=True)
        full = torch.zeros(x.shape[0], model.channel_n, *size, dtype=x.dtype)
        if state is not None:
            for axis in (2, 3, 4):
                state = state.repeat_interleave(model.scale_factor, axis)
            full = state[:, :, : size[0], : size[1], : size[2]].clone()
        full[:, : model.input_channels] = image
        steps = range(step, step + model.steps[number])
        step = steps.stop
        level = model.model[number]
        state = level(full.movedim(1, -1), len(steps), fire_mask=masks(size, steps, seed, len(x))).movedim(-1, 1)
    assert state is not None
    first = model.input_channels
    return state[:, first : first + model.output_channels].movedim(1, -1)


@pytest.mark.parametrize("size", [(8, 12, 8), (7, 9, 5), (5, 6, 13)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_inference_is_the_published_cascade_at_any_size(size: tuple[int, ...], levels: int) -> None:
    model = small(levels=levels, steps=[2, 3, 1][:levels], input_channels=2, output_channels=2)
    x = torch.rand(2, *size, 2, dtype=torch.float64)
    torch.testing.assert_close(model(x, seed=4), by_hand(model, x, 4), rtol=1e-12, atol=1e-12)


def test_keys_and_defaults_are_the_originals() -> None:
    model = models.M3DNCA()
    assert {name.rsplit(".", 2)[0] for name in model.state_dict()} == {"model.0", "model.1"}
    assert model.model[0].state_dict().keys() == Original(16, 128, 7, 1).state_dict().keys()
    assert [rule.kernel_size for rule in model.rules] == [(7, 7, 7), (3, 3, 3)]
    assert (model.channel_n, model.steps, model.scale_factor) == (16, (64, 64), 4)
    assert not any(level.fc1.weight.any() for level in model._levels)


def test_a_checkpoint_brings_the_model_back(tmp_path) -> None:
    model = small(levels=3, steps=[1, 2, 1], kernel_size=[5, 3, 1])
    ncafast.save(tmp_path / "m.safetensors", model)
    again = ncafast.load(tmp_path / "m.safetensors")
    x = torch.rand(1, 12, 12, 13, 1, dtype=torch.float64)
    assert torch.equal(again(x, seed=1), model(x, seed=1))


def windows_of(size, levels, patch, batch, scale=2, real=None, seed=0) -> cascade.Windows:
    return cascade.draw_windows(
        size,
        scale=scale,
        levels=levels,
        patch=patch,
        real=real or [size] * batch,
        generators=[torch.Generator().manual_seed(seed + number) for number in range(batch)],
    )


@pytest.mark.parametrize(("levels", "scale", "size"), [(2, 2, (8, 10, 6)), (3, 2, (8, 8, 8)), (2, 3, (9, 6, 12))])
def test_windows_show_what_the_whole_shows(levels: int, scale: int, size: tuple[int, ...]) -> None:
    """Without steps on the finer levels a window is cut from the whole volume's result, exactly; stitched, windows are
    that result."""
    model = small(levels=levels, steps=[3, *[0] * (levels - 1)], scale_factor=scale)
    x = torch.rand(1, *size, 1, dtype=torch.float64)
    whole = model(x, seed=4)
    stitched, seen = torch.zeros_like(whole), torch.zeros(size, dtype=torch.bool)
    for seed in range(1000):
        windows = windows_of(size, levels, (5, 4, 3), 1, scale, seed=seed)
        (start,) = windows.starts[-1]
        where = tuple(slice(s, s + n) for s, n in zip(start, windows.sizes[-1], strict=True))
        if seen[where].all():
            continue
        part = model(x, seed=4, windows=windows)
        assert torch.equal(part, model.cut(whole, windows))
        stitched[(0, *where)], seen[where] = part[0], True
    assert seen.all(), "the windows do not cover the volume"
    assert torch.equal(stitched, whole)


def test_a_window_of_the_whole_volume_changes_nothing() -> None:
    model, x = small(), torch.rand(2, 6, 8, 10, 1, dtype=torch.float64)
    windows = windows_of((6, 8, 10), 2, (99, 99, 99), 2)
    assert windows.sizes == ((6, 8, 10),)
    assert torch.equal(model(x, seed=4, windows=windows), model(x, seed=4))


def test_windows_lie_inside_each_other_and_off_the_padding() -> None:
    size, real = (16, 12, 20), [(16, 12, 20), (9, 11, 13), (3, 12, 5)]
    for seed in range(30):
        windows = windows_of(size, 3, (4, 5, 4), 3, real=real, seed=seed)
        assert windows.sizes == ((4, 5, 4), (4, 5, 4))
        for sample, inside in enumerate(real):
            coarse, fine = windows.starts[0][sample], windows.starts[1][sample]
            for axis in range(3):
                n = windows.sizes[1][axis]
                assert 2 * coarse[axis] <= fine[axis] <= fine[axis] + n <= 2 * (coarse[axis] + windows.sizes[0][axis])
                assert fine[axis] + n <= size[axis]
                if inside[axis] >= n and -(-inside[axis] // 2) >= windows.sizes[0][axis]:
                    assert fine[axis] + n <= inside[axis]


def test_windows_are_trained_through() -> None:
    """The gradient of a window's logits reaches the coarse level as the whole volume's does."""
    model = small(steps=[2, 0])
    x = torch.rand(1, 6, 8, 6, 1, dtype=torch.float64)
    windows = windows_of((6, 8, 6), 2, (3, 5, 4), 1, seed=2)
    found = []
    for logits in (model(x, seed=4, windows=windows), model.cut(model(x, seed=4), windows)):
        model.zero_grad()
        logits.square().sum().backward()
        found.append([p.grad.clone() for p in model.model[0].parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_training_with_targets_draws_windows_as_the_original_does() -> None:
    model = small().train()
    x = torch.rand(2, 8, 6, 12, 1, dtype=torch.float64)
    torch.manual_seed(1)
    logits, target = model(x, x, batch_duplication=2, seed=3)
    assert logits.shape == (4, 4, 3, 6, 1) and target.shape == logits.shape
    cells = {tuple(corner) for corner in itertools.product(range(5), range(4), range(7))}
    for sample in range(4):
        found = [
            c
            for c in cells
            if torch.equal(x[sample % 2, c[0] : c[0] + 4, c[1] : c[1] + 3, c[2] : c[2] + 6], target[sample])
        ]
        assert len(found) == 1
    logits, target = model.eval()(x, x, seed=3)
    assert logits.shape == (2, 8, 6, 12, 1) and target is x


@pytest.mark.parametrize("masked", [False, True])
def test_the_last_steps_are_those_of_the_states(masked: bool) -> None:
    for model, x in (
        (small(steps=[2, 5]), torch.rand(2, 6, 5, 4, 1, dtype=torch.float64)),
        (random(models.MedNCA(5, 8, (3, 3), (2, 5), scale=2)), torch.rand(2, 1, 6, 5, dtype=torch.float64)),
    ):
        size = tuple(x.shape[1:4]) if x.dim() == 5 else tuple(x.shape[2:])
        coarse = tuple(-(-n // 2) if x.dim() == 5 else n // 2 for n in size)
        options: dict = {"seed": 4}
        if masked:
            options = {"fire_masks": (masks(coarse, range(2), 8), masks(size, range(2, 7), 8))}
        logits, last = model(x, last_steps=3, **options)
        whole, states = model(x, states="all", **options)
        assert torch.equal(logits, whole)
        read = states[-1][-3:]
        read = read[..., 1:2] if x.dim() == 5 else read[:, :, 1:2]
        assert torch.equal(last, read)
        assert torch.equal(last[-1], logits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": [1]}, "steps has 1 values, but there are levels=2"),
        ({"kernel_size": [3, 3, 3]}, "kernel_size has 3 values"),
        ({"kernel_size": 4}, "kernel_size=4 is even"),
        ({"output_channels": 5}, "output_channels=5 is not allowed: 1 to 4 fit beside input_channels=1"),
        ({"input_channels": 5}, "input_channels=5"),
        ({"levels": 0}, "levels=0"),
        ({"levels": 11}, "levels=11 is not allowed: it must be 1 to 10"),
        ({"fire_rate": 2.0}, "fire_rate=2"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_wrong_calls_are_named() -> None:
    model = small()
    x = torch.rand(1, 6, 6, 6, 1)
    for call, message in (
        (lambda: model(torch.rand(1, 1, 6, 6, 6)), r"takes x as \[B, X, Y, Z, input_channels=1\]"),
        (lambda: model(x.double(), x[:, :5].double()), "y must be"),
        (lambda: model(x.double(), last_steps=3), "last_steps=3 is not allowed: the finest level takes 2"),
        (lambda: model(x.double(), last_steps=1, states="all"), "either states= or last_steps="),
        (lambda: small(kernel_size=7)(x.double()), "spatial axis 0 has only 3"),
        (lambda: windows_of((7, 8, 8), 2, (4, 4, 4), 1), "pad each side to a multiple of 2"),
        (lambda: models.BasicNCA3D(4, 0.5, init_method="no"), "standard or xavier"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
