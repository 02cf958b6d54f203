"""What stands around accelerated modules works as before: cascades, wrappers, copies, compilers, checkpoints."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from foreign_steps import Octree
from named_modules import medical, octree
from torch import nn

import ncafast
from ncafast.acceleration import NotAcceleratedWarning


def filled(make: Callable[[], nn.Module]) -> nn.Module:
    """A module with weights that are nowhere zero, the same ones every time."""
    torch.manual_seed(3)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


def trained(model: nn.Module, *inputs) -> list[torch.Tensor]:
    """The result of a call, and all gradients."""
    torch.manual_seed(5)
    model.zero_grad()
    out = model(*inputs)
    out.square().sum().backward()
    return [out.detach(), *(p.grad.clone() for p in model.parameters())]


def assert_close(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())


CASCADES = {
    "two modules at two sizes": (medical.MedNCA, (16, 24), ["backbone_lowres", "backbone_highres"]),
    "one module at three sizes": (octree.Pyramid, (16, 20), ["backbone_nca"]),
    "a module for each size": (
        lambda: octree.Pyramid(separate=True),
        (16, 20),
        ["backbone_ncas.0", "backbone_ncas.1", "backbone_ncas.2"],
    ),
}


@pytest.mark.filterwarnings("error::ncafast.acceleration.NotAcceleratedWarning")
@pytest.mark.parametrize("name", CASCADES)
def test_in_a_cascade_each_level_is_accelerated_and_the_cascade_runs_as_it_is(name, capsys):
    make, size, levels = CASCADES[name]
    model = filled(make)
    plain = copy.deepcopy(model)
    ncafast.accelerate(model, masks="torch")
    report = capsys.readouterr().err
    parts = "a part of it is" if len(levels) == 1 else f"{len(levels)} parts of it are"
    assert f"not accelerated as a whole, but {parts}" in report and all(f"{level} (" in report for level in levels)
    assert [name for name, part in model.named_modules() if "forward" in vars(part)] == levels
    image = torch.rand(2, 1, *size)
    assert_close(trained(model, image), trained(plain, image))


def ddp_worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(filled(Octree))
    ncafast.accelerate(model, quiet=True)
    model.module.fire_rate = 1.0  # no draws, so that one process gives the same
    x = torch.load(f"{folder}/x.pt")
    model(x[2 * rank : 2 * rank + 2], 3).square().mean().backward()
    torch.save([p.grad for p in model.module.parameters()], f"{folder}/grads{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_with_ddp_give_the_gradients_of_one(tmp_path):
    x = torch.randn(4, 9, 8, 10)
    torch.save(x, tmp_path / "x.pt")
    torch.multiprocessing.spawn(ddp_worker, (str(tmp_path),), nprocs=2)
    model = filled(Octree)
    model.fire_rate = 1.0
    model(x, 3).square().mean().backward()
    for rank in range(2):
        assert_close(torch.load(tmp_path / f"grads{rank}.pt"), [p.grad for p in model.parameters()])


def test_data_parallel_runs_the_module_and_its_replicas_their_own_code():
    model = filled(Octree)
    parallel = ncafast.accelerate(nn.DataParallel(model), masks="torch", quiet=True)
    x = torch.randn(2, 9, 8, 10)
    assert_close(trained(parallel, x, 3), trained(ncafast.restore(copy.deepcopy(model)), x, 3))
    with pytest.warns(NotAcceleratedWarning, match="a replica of nn.DataParallel"):
        replica = model._replicate_for_data_parallel()  # as for each of several GPUs
    assert "forward" not in vars(replica) and "forward" in vars(model)


def test_a_model_around_an_accelerated_module_can_be_compiled():
    model = filled(medical.MedNCA)
    plain = copy.deepcopy(model)
    ncafast.accelerate(model, masks="torch", quiet=True)
    image = torch.rand(1, 1, 16, 16)
    compiled = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        assert_close(trained(compiled, image), trained(plain, image))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="one operator already"):
        torch.compile(model, backend="eager", fullgraph=True)(image)


def test_checkpoints_of_the_users_own_code_are_as_before():
    model = filled(octree.Pyramid)
    before = copy.deepcopy(model.state_dict())
    ncafast.accelerate(model, quiet=True)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "epoch": 3}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)["model"]
    assert list(saved) == list(before) and all(torch.equal(saved[name], before[name]) for name in before)
    octree.Pyramid().load_state_dict(saved)
    model.load_state_dict(saved)


def test_copies_of_a_model_with_accelerated_parts_are_accelerated_and_restored_apart():
    model = ncafast.accelerate(filled(medical.MedNCA), masks="torch", quiet=True)
    image = torch.rand(1, 1, 16, 16)
    want = trained(model, image)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.backbone_lowres.forward.module is other.backbone_lowres
        assert_close(trained(other, image), want)
        ncafast.restore(other)
        assert "forward" not in vars(other.backbone_lowres) and "forward" in vars(model.backbone_lowres)
        plain = filled(medical.MedNCA)
        for a, b in zip(trained(other, image), trained(plain, image), strict=True):
            assert torch.equal(a, b)
