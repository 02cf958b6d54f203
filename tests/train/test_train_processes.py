"""Two processes under torchrun train as one process with the doubled batch does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from short_pool import Still, pool_settings
from short_training import STATES, nca, quiet_loss, settings
from small_tasks import TASKS, train_volumes, write_inputs

from ncafast import NCA, checkpoint
from ncafast.tasks.growing import job as growing_job
from ncafast.tasks.selfclassify import job as digits_job
from ncafast.train import Settings, fit, run
from ncafast.train.distributed import Ranks, check_norm

ROOT = Path(__file__).resolve().parents[2]
PATHS = [str(ROOT / "tests" / "helpers"), str(ROOT)]
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from short_pool import Still, pool_settings
from short_training import STATES, nca, quiet_loss, settings
from ncafast.train import fit, run
out = Path({out!r})
fit(nca(), STATES, quiet_loss, settings(out / "plain", batch_size=2, epochs=3), validate=lambda m: {{"val_x": 1.0}})
run(job := Still(), pool_settings(out / "pool", batch_size=2))
import torch, torch.distributed as dist, os
torch.save(job.pool.states, out / f"pool_{{os.environ['RANK']}}.pt")
from small_tasks import TASKS, train_volumes
for name, task in TASKS.items():
    task(out / "inputs", out / name, 2)
try:
    fit(nca(norm="batch"), STATES, quiet_loss, settings(out / "norm", epochs=1))
except ValueError as error:
    (out / f"said_{{os.environ['RANK']}}").write_text(str(error))
fit(nca(norm="batch"), STATES, quiet_loss, settings(out / "local", epochs=1, local_norm=True))
fit(nca(norm="batch"), STATES, quiet_loss, settings(out / "shared", epochs=2, domain_parallel=2))
train_volumes(out / "inputs", out / "volumes", 2)
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left."""
    folder = tmp_path_factory.mktemp("processes")
    write_inputs(folder / "inputs")
    script = folder / "script.py"
    script.write_text(SCRIPT.format(paths=PATHS, out=str(folder)))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("epoch 3: loss") == 1  # one of them speaks
    return folder


def test_two_processes_that_share_each_rollout_are_one(out, tmp_path):
    """With batch norm, which is over all cells; and a model of several levels on whole volumes."""
    fit(nca(norm="batch"), STATES, quiet_loss, settings(tmp_path / "shared", epochs=2))
    train_volumes(out / "inputs", tmp_path / "volumes", 1)
    for name in ("shared", "volumes"):
        two, one = (json.loads((folder / name / "history.json").read_text()) for folder in (out, tmp_path))
        assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-5)
    with pytest.raises(
        ValueError, match="domain_parallel=2 must be 1, or the number of processes under torchrun, now 1"
    ):
        fit(nca(), STATES, quiet_loss, settings(tmp_path / "alone", epochs=1, domain_parallel=2))


def test_two_processes_are_one_with_the_doubled_batch(out, tmp_path):
    one = fit(nca(), STATES, quiet_loss, settings(tmp_path, epochs=3), validate=lambda m: {"val_x": 1.0})
    history = json.loads((out / "plain" / "history.json").read_text())
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in one.history], rel=1e-5)
    assert [row["val_x"] for row in history] == [1.0] * 3
    two = load_file(out / "plain" / "last.safetensors")
    for name, tensor in load_file(one.last).items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_in_two_processes_is_one_with_the_doubled_batch(out, tmp_path, name):
    """Also where samples come from a pool, start anew, are damaged, or get other digits."""
    with pytest.MonkeyPatch.context() as patch:  # epochs of a few steps
        patch.setattr(growing_job.FromPool, "epoch_length", 3)
        patch.setattr(digits_job.SelfClassifying, "epoch_length", 3)
        TASKS[name](out / "inputs", tmp_path / "one", 4)
    histories = [json.loads((folder / "history.json").read_text()) for folder in (out / name, tmp_path / "one")]
    for two, one in zip(*histories, strict=True):
        for key in set(one) - {"seconds"}:
            assert two[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5), key
    states = [
        checkpoint.load_resume(folder / "resume.pt")["job"]["states"] for folder in (out / name, tmp_path / "one")
    ]
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)
    expected = load_file(tmp_path / "one" / "last.safetensors")
    for key, tensor in load_file(out / name / "last.safetensors").items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-3, atol=1e-4)


def test_both_have_the_pool_that_one_would_have(out, tmp_path):
    run(job := Still(), pool_settings(tmp_path))
    first, second = (torch.load(out / f"pool_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(first, second)
    torch.testing.assert_close(first, job.pool.states, rtol=1e-4, atol=1e-5)


def test_batch_norm_is_refused_with_the_way_out(out):
    for rank in (0, 1):
        said = (out / f"said_{rank}").read_text()
        assert "normalises by the statistics of its batch" in said and "--local-norm" in said
    assert (out / "local" / "last.safetensors").exists()
    check_norm(NCA(4, 8, norm="group", norm_groups=2), Ranks(0, 2), local_norm=False)  # a sample's own is fine
    check_norm(NCA(4, 8, norm="batch"), Ranks(), local_norm=False)


@pytest.mark.parametrize(("samples", "count", "accumulate"), [(10, 2, 2), (3, 2, 2), (1, 3, 1), (8, 2, 1)])
def test_parts_are_the_batch_in_order(samples, count, accumulate):
    parts = [part for rank in range(count) for part in Ranks(rank, count).micro_batches(samples, accumulate)]
    assert [place for part in parts for place in part] == list(range(samples))
    assert all(parts)


def test_a_single_process_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    fit(NCA(4, 8), torch.rand(2, 4, 5, 5), lambda m, b, at: m(b, 1, **at.options).square().mean(),
        Settings(output=tmp_path, epochs=1, tensorboard=False, progress=False))  # fmt: skip
    assert not torch.distributed.is_initialized()
