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

from ncafast import NCA
from ncafast.train import Settings, fit
from ncafast.train.ranks import Ranks, check_norm

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
from test_train_pool import Still, settings as pool_settings
from test_train_loop import STATES, nca, quiet_loss, settings
from ncafast.train import fit, run
out = Path({out!r})
fit(nca(), STATES, quiet_loss, settings(out / "plain", batch_size=2, epochs=3), validate=lambda m: {{"val_x": 1.0}})
run(job := Still(), pool_settings(out / "pool", batch_size=2))
import torch, torch.distributed as dist, os
torch.save(job.pool.states, out / f"pool_{{os.environ['RANK']}}.pt")
try:
    fit(nca(norm="batch"), STATES, quiet_loss, settings(out / "norm", epochs=1))
except ValueError as error:
    (out / f"said_{{os.environ['RANK']}}").write_text(str(error))
fit(nca(norm="batch"), STATES, quiet_loss, settings(out / "local", epochs=1, local_norm=True))
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left."""
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=str(ROOT / "tests"), root=str(ROOT), out=str(folder)))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("epoch 3: loss") == 1  # one of them speaks
    return folder


def test_two_processes_are_one_with_the_doubled_batch(out, tmp_path):
    from test_train_loop import STATES, nca, quiet_loss, settings

    one = fit(nca(), STATES, quiet_loss, settings(tmp_path, epochs=3), validate=lambda m: {"val_x": 1.0})
    history = json.loads((out / "plain" / "history.json").read_text())
    assert [row["loss"] for row in history] == pytest.approx([row["loss"] for row in one.history], rel=1e-5)
    assert [row["val_x"] for row in history] == [1.0] * 3
    two = load_file(out / "plain" / "last.safetensors")
    for name, tensor in load_file(one.last).items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6)


def test_both_have_the_pool_that_one_would_have(out, tmp_path):
    from test_train_pool import Still, run, settings

    run(job := Still(), settings(tmp_path))
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
    parts = [part for rank in range(count) for part in Ranks(rank, count).parts(samples, accumulate)]
    assert [place for part in parts for place in part] == list(range(samples))
    assert all(parts)


def test_a_single_process_needs_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    fit(NCA(4, 8), torch.rand(2, 4, 5, 5), lambda m, b, at: m(b, 1, **at.options).square().mean(),
        Settings(out=tmp_path, epochs=1, tensorboard=False, progress=False))  # fmt: skip
    assert not torch.distributed.is_initialized()
