"""The model of slabs on GPUs: what it counts is right, and the page has what it says."""

from pathlib import Path

import pytest
import torch

from bench import slab_model
from bench.slab_model import NORMS, Machine, step
from ncafast.bench import work

SHARING = Path(__file__).resolve().parents[2] / "docs" / "sharding.md"


def test_the_page_has_the_table_of_the_model():
    assert slab_model.table(Machine()) in SHARING.read_text(encoding="utf-8")


def test_cells_and_bytes_are_those_of_slab_and_halo():
    """On a machine that computes for free, and on one that sends for free."""
    rule = NORMS["no norm"].fused().rule
    slow = Machine(flops=1.0, share_flops=1.0, memory=1e30, inside=1e30, between=1e30, hop_inside=0.0, hop_between=0.0)
    eight = step(rule, (1024, 64, 32), 8, slow)
    assert eight.per_exchange == 16  # 128 planes may have 32 of halo
    assert eight.seconds == pytest.approx(work.forward(rule).flop * (128 + 2 * 16) * 64 * 32)
    assert eight.halo_bytes == 2 * 64 * 32 * rule.channels * 4
    batch = NORMS["batch norm"].fused().rule
    assert step(batch, (1024, 64, 32), 8, slow).per_exchange == 1
    assert step(batch, (1024, 64, 32), 8, slow).reduce_bytes == 8 * (32 + 32 * 32)


def test_every_operation_in_plain_pytorch_counts_what_it_reads_and_writes():
    x = torch.zeros(10, device="meta")
    assert slab_model._traffic(lambda: (x + x).view(2, 5).sum()) == 40 * 3 + 40 + 4
