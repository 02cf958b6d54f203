"""Slabs of a grid on several processes against the whole grid on one: states, masks and every gradient."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from slab_cases import CASES, SHARED, WRONG, cascade, cascade_inputs, module, module_inputs, whole

from ncafast import checkpoint

HELPERS = Path(__file__).resolve().parents[1] / "helpers"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What four processes have left."""
    folder = tmp_path_factory.mktemp("slabs")
    paths = os.pathsep.join([str(HELPERS.parents[1]), str(HELPERS)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    words = [sys.executable, str(HELPERS / "slab_ranks.py"), str(folder)]
    ranks = [subprocess.Popen([*words, str(rank)], env=environment, stderr=subprocess.PIPE) for rank in range(4)]
    said = [rank.communicate()[1].decode()[-3000:] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0, 1, 0], "\n".join(said)  # the third is made to die
    return folder


@pytest.fixture(scope="module")
def results(folder):
    """Of each process by case."""
    return [torch.load(folder / f"rank_{rank}.pt") for rank in range(4)]


@pytest.mark.parametrize("name", CASES)
def test_slabs_equal_the_whole(results, name):
    case, wanted = CASES[name], whole(CASES[name])
    ranks = [rank[name] for rank in results if name in rank]
    assert len(ranks) == len(case.sizes)
    for number, want in enumerate(wanted):
        cut = number < 2 or (case.rule.extra and number == len(wanted) - 1)
        bound = (1e-10 if case.dtype is torch.float64 else 1e-5) * max(1.0, want.abs().max().item())
        for rank, found in enumerate(ranks):
            torch.testing.assert_close(found[number], case.slab(want, rank) if cut else want, rtol=0, atol=bound)
            assert cut or torch.equal(found[number], ranks[0][number])


@pytest.mark.parametrize("name", SHARED)
def test_a_rollout_inside_sharding_is_that_of_one_device(results, name):
    for number, want in enumerate(whole(CASES[name])):
        bound = 1e-10 * max(1.0, want.abs().max().item())
        for rank in results[:3]:
            torch.testing.assert_close(rank["shared"][name][number], want, rtol=0, atol=bound)
            assert torch.equal(rank["shared"][name][number], results[0]["shared"][name][number])


def test_cells_that_fire_are_those_of_the_whole_bit_for_bit(results):
    """A state that counts how often each cell has fired."""
    case = CASES["count"]
    found = torch.cat([rank["count"][0] for rank in results if "count" in rank], case.dim)
    assert torch.equal(found, whole(case)[0])


def test_two_runs_give_equal_bits(results):
    for rank in results[:2]:
        assert all(torch.equal(a, b) for a, b in zip(rank["again"], rank["float32, batch"], strict=True))


def test_batches_and_slabs_on_one_mesh(results, folder):
    """DDP and FSDP over two batches of two slabs: the mean of the batches' gradients, and each batch's statistics."""
    x, weight = module_inputs()
    models = [module(), module()]
    for batch, nca in enumerate(models):
        mine = slice(2 * batch, 2 * batch + 2)
        out = nca(x[mine], 3, seed=5, first_sample=2 * batch)
        (out * weight[mine]).sum().backward()
        for rank in results[2 * batch : 2 * batch + 2]:
            torch.testing.assert_close(rank["mesh"]["out"], out, rtol=0, atol=1e-5)
            torch.testing.assert_close(rank["mesh"]["state"], nca.state_dict(), rtol=1e-5, atol=1e-6)
    gradients = [{name: p.grad for name, p in nca.named_parameters()} for nca in models]
    mean = {name: (gradient + gradients[1][name]) / 2 for name, gradient in gradients[0].items()}
    for rank in results:
        torch.testing.assert_close(rank["mesh"]["gradients"], mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(rank["mesh"]["fsdp"], mean, rtol=1e-4, atol=1e-5)
    nca = checkpoint.load(folder / "sharded.safetensors")  # the file that one device writes
    torch.testing.assert_close(nca.state_dict(), models[0].state_dict(), rtol=1e-5, atol=1e-6)
    placed = torch.cat([nca.eval()(x[2 * n :][:2], 3, seed=5, first_sample=2 * n) for n, nca in enumerate(models)])
    torch.testing.assert_close(results[0]["mesh"]["placed"], placed, rtol=1e-5, atol=1e-5)


def test_levels_of_a_model_run_on_slabs(results):
    model, (x, weight) = cascade(), cascade_inputs()
    logits = model(x, seed=5)
    (logits * weight).sum().backward()
    for rank in results:
        for found, gradients in ("logits", "levels"), ("shared logits", "shared"):
            torch.testing.assert_close(rank["mesh"][found], logits, rtol=0, atol=1e-5)
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(rank["mesh"][gradients][name], parameter.grad, rtol=1e-4, atol=1e-4)
                assert torch.equal(rank["mesh"][gradients][name], results[0]["mesh"][gradients][name])


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_of_one_rank_ends_all(results, name):
    _, line = WRONG[name]
    found = [rank["wrong"][name] for rank in results[:3]]
    assert all(text is not None and "\n" not in text for text in found)
    assert any(line in text for text in found)
    assert all(line in text or "was called with a wrong argument" in text for text in found)


def test_a_rank_that_dies_ends_the_others(folder):
    for rank in (0, 1):
        text = (folder / f"lost_{rank}").read_text()
        assert re.fullmatch(rf"RuntimeError: step 1\d: rank {rank} of 3 lost contact with the other ranks \(.*\)", text)
