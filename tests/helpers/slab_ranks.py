"""One of four processes that hold slabs of grids: runs all cases and leaves its results in a file."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from slab_cases import CASES, SHARED, WRONG, cascade, cascade_inputs, module, module_inputs, slab_results, whole
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from ncafast import checkpoint
from ncafast.volume import gather, scatter, shard, sharding, slabs
from ncafast.volume.dtensor import rollout_dtensor


def said(rank, group, **changes):
    """The error of a call in which one rank differs."""
    case = CASES["zeros"]
    try:
        slab_results(case, rank, group, **changes)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def on_a_mesh(folder):
    """A module on a mesh of 2 batches x 2 slabs, under DDP and FSDP, and a DTensor."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("ddp", "domain"))
    nca, (x, weight) = module(), module_inputs()
    batch = mesh.get_local_rank("ddp")
    mine = scatter(x[2 * batch :][:2] if mesh.get_local_rank("domain") == 0 else None, mesh, sizes=(5, 4))
    model = DistributedDataParallel(shard(nca, mesh), process_group=mesh.get_group("ddp"))
    out = model(mine, 3, seed=5)
    weights = weight[2 * batch :][:2].split((5, 4), 2)[mesh.get_local_rank("domain")]
    (out * weights).sum().backward()
    parted = fully_shard(shard(module(), mesh), mesh=mesh["ddp"])
    (parted(mine, 3, seed=5) * weights).sum().backward()
    if dist.get_rank() == 0:
        checkpoint.save(folder / "sharded.safetensors", model)
    levels, (volume, per_cell) = cascade(), cascade_inputs()
    place = volume.tensor_split((4,), 1), per_cell.tensor_split((4,), 1)
    x_slab, weight_slab = (parts[mesh.get_local_rank("domain")] for parts in place)
    logits = shard(levels, mesh)(x_slab, seed=5, first_sample=0)
    (logits * weight_slab).sum().backward()
    with sharding(mesh):
        shared = cascade()
        shared_logits = shared(volume, seed=5)
    (shared_logits * per_cell).sum().backward()
    placed = distribute_tensor(x, mesh, [Shard(0), Shard(3)])
    placed = rollout_dtensor(placed, nca.eval().rule, nca.params(), 3, seed=5)
    return {
        "out": gather(out, mesh), "gradients": {name: p.grad for name, p in nca.named_parameters()},
        "shared logits": shared_logits, "shared": {name: p.grad for name, p in shared.named_parameters()},
        "logits": gather(logits, mesh, dim=1), "levels": {name: p.grad for name, p in levels.named_parameters()},
        "fsdp": {name: p.grad.full_tensor() for name, p in parted.named_parameters()},
        "state": nca.state_dict(), "placed": placed.full_tensor().detach(),
    }  # fmt: skip


def shared(case, group):
    """The rollout of one device inside sharding()."""
    with sharding(DeviceMesh.from_group(group, "cpu", mesh_dim_names=("domain",))):
        return whole(case)


def lost(rank, group):
    """What a rank says when another one dies in the middle of a rollout."""
    calls, whole = [], slabs.trace_at_once

    def dying(*arguments):
        calls.append(1)
        if rank == 2 and len(calls) == 3:
            os._exit(1)
        return whole(*arguments)

    slabs.trace_at_once = dying
    return said(rank, group, steps=50)


def main():
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=4, timeout=timedelta(minutes=5))
    groups = {size: dist.new_group(list(range(size))) for size in (1, 2, 3)}
    results = {}
    for name, case in CASES.items():
        if rank < len(case.sizes):
            results[name] = slab_results(case, rank, groups[len(case.sizes)])
    results["again"] = slab_results(CASES["float32, batch"], rank, groups[2]) if rank < 2 else None
    results["shared"] = {name: shared(CASES[name], groups[3]) for name in SHARED} if rank < 3 else None
    results["mesh"] = on_a_mesh(folder)
    if rank < 3:
        results["wrong"] = {name: said(rank, groups[3], **changes(rank)) for name, (changes, _) in WRONG.items()}
    torch.save(results, folder / f"rank_{rank}.pt")
    if rank < 3:
        (folder / f"lost_{rank}").write_text(lost(rank, groups[3]))
    os._exit(0)  # a group that has lost a rank cannot be taken down


if __name__ == "__main__":
    main()
