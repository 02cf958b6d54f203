"""Optical flow and motion strength: pictures whose motion is known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ncafast.tasks.texture.motion import lucas_kanade, make_flow, motion_strength
from ncafast.tasks.texture.motion.lucas_kanade import warped
from ncafast.tasks.texture.motion.spynet import SpyNet
from ncafast.tasks.texture.weights import torchvision_models

CPU = torch.device("cpu")


def noise(height: int, width: int, count: int = 1) -> torch.Tensor:
    """Smooth random pictures [count, 3, height, width] on a torus, values 0 to 1."""
    spectrum = torch.fft.fft2(torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)))
    y, x = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)
    image = torch.fft.ifft2(spectrum * torch.exp(-150 * (y**2 + x**2))).real
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low)


def moved(image: torch.Tensor, right: float, down: float) -> torch.Tensor:
    """The picture moved on its torus, exactly, by the shift theorem."""
    y, x = torch.fft.fftfreq(image.shape[-2])[:, None], torch.fft.fftfreq(image.shape[-1])
    turn = torch.exp(-2j * torch.pi * (x * right + y * down))
    return torch.fft.ifft2(torch.fft.fft2(image) * turn).real


@pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (1.0, 0.0), (0.35, -0.6), (-2.5, 3.25), (6.0, -5.0)])
@pytest.mark.parametrize("size", [(64, 64), (47, 70)])
def test_lucas_kanade_finds_a_known_shift(right, down, size):
    first = noise(*size, count=2)
    flow = lucas_kanade(first, moved(first, right, down))
    assert flow.shape == (2, 2, *size)
    error = (flow - torch.tensor([right, down]).view(1, 2, 1, 1)).norm(dim=1)
    assert error.mean() < 0.03 + 0.02 * (abs(right) + abs(down))


def test_lucas_kanade_sees_both_halves_move_apart():
    image = noise(64, 64)
    second = image.clone()
    second[..., :32, :] = image.roll(2, -1)[..., :32, :]
    second[..., 32:, :] = image.roll(-1, -1)[..., 32:, :]
    flow = lucas_kanade(image, second)[0, 0]
    assert flow[8:24].mean() == pytest.approx(2, abs=0.15)
    assert flow[40:56].mean() == pytest.approx(-1, abs=0.15)


def test_nothing_to_see_is_no_motion():
    grey = torch.full((1, 3, 32, 32), 0.5)
    assert torch.equal(lucas_kanade(grey, grey + 0.1), torch.zeros(1, 2, 32, 32))


def test_warped_reads_the_torus():
    image = torch.rand(2, 3, 6, 9)
    flow = torch.zeros(2, 2, 6, 9)
    flow[:, 0], flow[:, 1] = 2, -1
    torch.testing.assert_close(warped(image, flow), image.roll((1, -2), (2, 3)))
    flow[:, 0] = 0.5
    expected = (image.roll((1, 0), (2, 3)) + image.roll((1, -1), (2, 3))) / 2
    torch.testing.assert_close(warped(image, flow), expected)


def test_motion_strength_is_the_mean_length_of_the_flow():
    image = noise(64, 64)
    frames = [moved(image, 3 * k, 4 * k).clamp(0, 1) for k in range(4)]
    assert motion_strength(iter(frames), lucas_kanade) == pytest.approx(5, rel=0.1)
    given = [torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)]
    assert motion_strength(frames[:3], lambda a, b: given.pop()) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="two frames"):
        motion_strength(frames[:1], lucas_kanade)


def by_the_paper(net: SpyNet, first: torch.Tensor, second: torch.Tensor, level: int = 0) -> torch.Tensor:
    """SpyNet as its paper puts it: the flow of the halved pictures, enlarged, and a correction to it."""
    if level == 0:
        first, second = ((x - net.mean) / net.std for x in (first, second))
    height, width = first.shape[-2:]
    depth = max(0, (max(height, width) - 1).bit_length() - 5)
    if depth == 0:
        flow = torch.zeros(first.shape[0], 2, height, width)
    else:
        flow = by_the_paper(net, F.avg_pool2d(first, 2), F.avg_pool2d(second, 2), level + 1)
        flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
    place = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"))[None] + flow
    size = torch.tensor([width, height]).view(1, 2, 1, 1)
    grid = ((place + 0.5) / size * 2 - 1).permute(0, 2, 3, 1)
    seen = F.grid_sample(second, grid, padding_mode="border", align_corners=False)
    return flow + net.levels[depth](torch.cat([first, seen, flow], 1))


def test_spynet_is_the_pyramid_of_its_paper_with_the_ports_names(tmp_path):
    net = SpyNet()
    names = {}
    for name, tensor in net.state_dict().items():
        _, level, layer, kind = name.split(".")
        names[f"moduleBasic.{level}.moduleBasic.{layer}.{kind}"] = tensor
    torch.save(names, tmp_path / "spynet.pytorch")
    flow = make_flow("spynet", tmp_path / "spynet.pytorch", CPU)
    first, second = torch.rand(2, 3, 64, 96), torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(flow(first, second), by_the_paper(net, first, second), rtol=1e-4, atol=1e-5)
    assert flow(first[..., :50, :70], second[..., :50, :70]).shape == (2, 2, 50, 70)
    del names["moduleBasic.3.moduleBasic.4.bias"]
    torch.save(names, tmp_path / "spynet.pytorch")
    with pytest.raises(ValueError, match="spynet.pytorch: levels.3.4.bias is missing"):
        make_flow("spynet", tmp_path / "spynet.pytorch", CPU)


@pytest.mark.parametrize(
    ("flow", "name", "said"),
    [
        ("lucas-kanade", "x.pth", "takes no weights"),
        ("spynet", None, "--flow-weights"),
        ("spynet", "none.pth", "cannot be read"),
    ],
)
def test_bad_flow_weights_are_one_line(tmp_path, flow, name, said):
    with pytest.raises(ValueError, match=said):
        make_flow(flow, None if name is None else tmp_path / name, CPU)


def test_raft_runs_on_the_torus(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    try:
        models = torchvision_models("RAFT", "use another")
    except ModuleNotFoundError as error:
        with pytest.raises(ModuleNotFoundError, match="--flow lucas-kanade"):
            make_flow("raft", None, CPU)
        pytest.skip(str(error))
    with pytest.raises(ValueError, match="--flow-weights"):
        make_flow("raft", None, CPU)
    torch.save(models.optical_flow.raft_small().state_dict(), tmp_path / "raft.pth")
    flow = make_flow("raft", tmp_path / "raft.pth", CPU)
    first, second = noise(40, 56), noise(40, 56).roll(3, -1)
    found = flow(first, second)
    assert found.shape == (1, 2, 40, 56)
    assert torch.isfinite(found).all()
    torch.save({"a": torch.rand(3)}, tmp_path / "raft.pth")
    with pytest.raises(ValueError, match="raft.pth: feature_encoder.* is missing, raft_small needs"):
        make_flow("raft", tmp_path / "raft.pth", CPU)
