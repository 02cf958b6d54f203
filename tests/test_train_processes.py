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

from ncafast import NCA, checkpoint
from ncafast.tasks import growing, selfclassify, texture
from ncafast.train import Settings, fit
from ncafast.train.distributed import Ranks, check_norm

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
from test_train_processes import TASKS
for name, task in TASKS.items():
    task(out / "inputs", out / name, 2)
try:
    fit(nca(norm="batch"), STATES, quiet_loss, settings(out / "norm", epochs=1))
except ValueError as error:
    (out / f"said_{{os.environ['RANK']}}").write_text(str(error))
fit(nca(norm="batch"), STATES, quiet_loss, settings(out / "local", epochs=1, local_norm=True))
"""


def train_texture(inputs: Path, out: Path, batch: int) -> None:
    from test_texture import tiny

    texture.train(tiny(inputs / "stripes.png", out, epochs=1, batch_size=batch))


def train_growing(inputs: Path, out: Path, batch: int) -> None:
    from test_growing import job, options

    job.FromPool.epoch_length = 3
    growing.train(options(inputs / "disc.png", out, epochs=1, batch_size=batch))


def train_selfclassify(inputs: Path, out: Path, batch: int) -> None:
    from test_selfclassify import job, options

    job.SelfClassifying.epoch_length = 3
    selfclassify.train(options(inputs / "digits", out, epochs=1, batch_size=batch))


TASKS = {"texture": train_texture, "growing": train_growing, "selfclassify": train_selfclassify}


def write_inputs(folder: Path) -> None:
    """A texture, an image to grow, and digits."""
    import gzip

    import numpy as np
    from PIL import Image
    from test_selfclassify import bars, idx
    from test_texture import picture

    (folder / "digits").mkdir(parents=True)
    picture(folder / "stripes.png")
    image = Image.new("RGBA", (12, 12))
    image.paste((30, 60, 230, 255), (2, 3, 9, 11))
    image.save(folder / "disc.png")
    for name, values in zip(("images-idx3", "labels-idx1"), bars(60, seed=60), strict=True):
        (folder / "digits" / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(idx(np.asarray(values))))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left."""
    folder = tmp_path_factory.mktemp("processes")
    write_inputs(folder / "inputs")
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=str(ROOT / "tests"), root=str(ROOT), out=str(folder)))
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=1800)
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


@pytest.mark.parametrize("name", TASKS)
def test_a_task_in_two_processes_is_one_with_the_doubled_batch(out, tmp_path, name):
    """Also where samples come from a pool, start anew, are damaged, or get other digits."""
    with pytest.MonkeyPatch.context() as patch:  # epochs of a few steps
        from test_growing import job as growing_job
        from test_selfclassify import job as digits_job

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
