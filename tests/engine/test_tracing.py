"""Modules under torch.jit.trace and TensorBoard's add_graph, and numpy's numbers under torch.compile."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ncafast import NCA, Rule, models

MODELS = {
    "NCA": (lambda: NCA(6, 8), (6, "S"), {"steps": 3}),
    "NCA, batch norm, reflect": (lambda: NCA(6, 8, norm="batch", padding="reflect"), (6, "S"), {"steps": 3}),
    "BackboneNCA": (lambda: models.BackboneNCA(6, 0.5, hidden_size=8), ("S", 6), {"steps": 3}),
    "BasicNCA2DFast": (lambda: models.BasicNCA2DFast(6, 0.5, None, 8, kernel_size=3), ("S", 6), {"steps": 3}),
    "BasicNCA3D": (lambda: models.BasicNCA3D(6, 0.5, "cpu", hidden_size=8), ("S3", 6), {"steps": 3}),
    "DyNCA": (lambda: models.DyNCA(6, 3, 8), (6, "S"), {"steps": 3}),
    "GrowingNCA": (lambda: models.GrowingNCA(device="cpu"), ("S", 16), {"steps": 3}),
    "M3DNCA": (lambda: models.M3DNCA(channel_n=6, hidden_size=8, kernel_size=3, steps=2, device="cpu"), ("S3", 1), {}),
    "MaxNCA": (lambda: models.MaxNCA(6, hidden_size=8, device="cpu"), ("S", 6), {"steps": 3}),
    "MedNCA": (lambda: models.MedNCA(6, 8, (3, 3), (2, 2), 2), (1, "S"), {}),
    "NCA2D": (lambda: models.NCA2D(6, 8, 3), (6, "S"), {"steps": 3}),
    "PENCA": (lambda: models.PENCA(6, 8), (6, "S"), {"steps": 3}),
    "SelfClassifyingNCA": (lambda: models.SelfClassifyingNCA(), ("S", 20), {}),
    "TextureNCA": (lambda: models.TextureNCA(6, 8), (6, "S"), {"steps": 3}),
}


class Seeded(nn.Module):
    """The first result of a module with its options filled in."""

    def __init__(self, module, options):
        super().__init__()
        self.module, self.options = module, options

    def forward(self, x):
        found = self.module(x, seed=1, **self.options)
        return found if isinstance(found, torch.Tensor) else found[0]


def state(layout, batch, *sides):
    sizes = []
    for part in layout:
        sizes += [part] if isinstance(part, int) else sides[: 3 if part == "S3" else 2]
    return torch.rand(batch, *sizes)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # models look at the shapes of their input
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_traced_module_works_at_other_sizes(name, training):
    make, layout, options = MODELS[name]
    module = Seeded(make(), options).train(training)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    other, x = copy.deepcopy(module), state(layout, 3, 20, 24, 16)
    graph = torch.jit.trace(module, state(layout, 1, 16, 16, 16), check_trace=False)
    assert torch.equal(graph(x), other(x))


def test_a_traced_module_checks_each_call():
    nca = NCA(4, 5, padding="reflect", kernel_size=7, filters="learned")
    graph = torch.jit.trace(Seeded(nca, {"steps": 1}), torch.rand(1, 4, 9, 9), check_trace=False)
    with pytest.raises(RuntimeError, match="padding='reflect' with kernel_size=7 reaches 3 cells past the edge"):
        graph(torch.rand(1, 4, 9, 3))


def test_a_traced_module_draws_its_masks_anew():
    nca, x = NCA(4, 5, zero_init=False), torch.rand(1, 4, 9, 9)
    graph = torch.jit.trace(nca, x, check_trace=False)
    torch.manual_seed(5)
    first, second = graph(x), graph(x)
    torch.manual_seed(5)
    assert torch.equal(nca(x), first) and torch.equal(nca(x), second) and not torch.equal(first, second)


def test_tensorboard_draws_the_graph(tmp_path):
    board = pytest.importorskip("torch.utils.tensorboard")
    with board.SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(NCA(4, 5), torch.rand(1, 4, 6, 7))
    (file,) = tmp_path.iterdir()
    assert b"ncafast::rollout" in file.read_bytes()


@pytest.mark.skipif(torch.__version__ < "2.12", reason="to torch.compile of 2.10 and 2.11 they are arrays")
@pytest.mark.parametrize("name", ["steps", "seed", "first_step", "first_sample", "memory", "states"])
def test_whole_numbers_of_numpy_are_taken_under_compile(name):
    nca, x = NCA(4, 5, zero_init=False), torch.rand(1, 4, 6, 7)
    options = {"steps": 3, "seed": 1}
    run = torch.compile(lambda x, value: nca(x, **options | {name: value}), fullgraph=True, backend="eager")
    found, expected = run(x, np.int64(2)), nca(x, **options | {name: 2})
    for mine, theirs in zip(*((r,) if isinstance(r, torch.Tensor) else r for r in (found, expected)), strict=True):
        assert torch.equal(mine, theirs)


def test_scalars_of_numpy_are_taken_by_rules():
    rule = Rule(channels=np.int32(4), hidden=(np.int64(5),), fire_rate=np.float32(0.5), identity=np.True_)
    assert rule == Rule(channels=4, hidden=(5,), fire_rate=0.5, identity=True)
    assert Rule.from_json(rule.to_json()) == rule
