"""The sample pool: what is taken, replaced, damaged and put back, and that a stopped run finds it again."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from short_pool import Still, pool_settings

from ncafast.train import Pool, run
from ncafast.train.damage import damage


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(9,), (8, 11), (6, 7, 5)])
@pytest.mark.parametrize("kind", ["circles", "rectangles"])
def test_a_hole_is_a_ball_or_a_box(kind, shape):
    states = torch.rand(40, 3, *shape) + 1
    hurt = damage(states, kind, random(), keep=1, least=0.3, most=0.6)
    assert torch.equal(hurt[:, :1], states[:, :1])
    gone = hurt[:, 1] == 0
    assert torch.equal(hurt[:, 2] == 0, gone)
    assert torch.equal(torch.where(gone[:, None], states[:, 1:], hurt[:, 1:]), states[:, 1:])
    assert gone.flatten(1).any(1).float().mean() > 0.9 and not gone.flatten(1).all(1).any()
    assert len({own.numpy().tobytes() for own in gone}) > 10  # each its own
    axes = [torch.linspace(-1, 1, n) for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    for own in gone[gone.flatten(1).sum(1) > 1]:
        if kind == "rectangles":
            spans = [own.movedim(k, 0).reshape(shape[k], -1).any(1).nonzero().flatten() for k in range(len(shape))]
            box = torch.zeros_like(own)
            box[tuple(slice(int(s[0]), int(s[-1]) + 1) for s in spans)] = True
            assert torch.equal(own, box)
        else:  # no cell outside is nearer to the middle of the hole than its own farthest one, give or take a cell
            middle = grid[own].mean(0)
            distance = (grid - middle).norm(dim=-1)
            cell = 2 * max(2 / (n - 1) for n in shape)
            assert distance[own].max() <= distance[~own].min() + cell
    assert torch.equal(damage(states, kind, random(), keep=1, least=0.3, most=0.6), hurt)
    assert not torch.equal(damage(states, kind, random(1), keep=1, least=0.3, most=0.6), hurt)


def test_wrong_damage_is_refused():
    with pytest.raises(ValueError, match="kind='stars' is not allowed; give circles or rectangles"):
        damage(torch.rand(1, 1, 4, 4), "stars", random())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="from 0.5 to 0.2 is not allowed"):
        damage(torch.rand(1, 1, 4, 4), "circles", random(), least=0.5, most=0.2)


def test_taking_and_putting_back():
    pool = Pool.create(6, lambda numbers: torch.tensor([[[float(n)]] for n in numbers]))
    places = pool.draw(4, 1, "x")
    assert len(set(places)) == 4 and places == pool.draw(4, 1, "x") != pool.draw(4, 2, "x")
    taken = pool.take(places)
    assert taken.flatten().tolist() == places
    taken += 10  # a copy
    assert pool.states.max() == 5
    pool.put(places[:2], taken[:2])
    expected = [n + 10.0 if n in places[:2] else float(n) for n in range(6)]
    assert pool.states.flatten().tolist() == expected
    losses = torch.tensor([0.5, float("nan"), 0.7, 0.1])
    assert pool.worst(places, losses, 2) == [places[1], places[2]]
    assert pool.best(places, losses, 2) == [places[3], places[0]]
    for wrong in (
        lambda: pool.draw(7, 0),
        lambda: pool.put([0], torch.zeros(2, 1, 1)),
        lambda: Pool(torch.zeros(0, 1, 1)),
    ):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ValueError, match="pool size=0"):
        Pool.create(0, lambda numbers: torch.zeros(0, 1, 1))


def test_the_worst_is_replaced_and_the_best_are_damaged(tmp_path):
    job = Still()
    run(job, pool_settings(tmp_path))
    assert len(job.log) == 8
    assert any(len(changed) == 3 for _, changed, _ in job.log)  # a hole may lie between cells
    for step, changed, ranked in job.log:
        expected = {ranked[-1]} | (set(ranked[:2]) if step >= 2 else set())
        assert set(changed) <= expected and ranked[-1] in changed


def test_what_ran_goes_back_in_order_whatever_the_parts(tmp_path):
    whole, parts = Still(), Still()
    run(whole, pool_settings(tmp_path / "a"))
    run(parts, pool_settings(tmp_path / "b", batch_size=1, accumulate=4))
    torch.testing.assert_close(parts.pool.states, whole.pool.states, rtol=1e-4, atol=1e-5)


def test_a_stopped_run_finds_its_pool_again(tmp_path):
    class PowerCut(Exception):
        pass

    class Stopping(Still):
        def begin_step(self, at):
            if at.step == 5 and not (tmp_path / "once").exists():
                (tmp_path / "once").touch()
                raise PowerCut
            super().begin_step(at)

    own = pool_settings(tmp_path / "a", save_every=1)
    with pytest.raises(PowerCut):
        run(Stopping(), own)
    done = run(again := Stopping(), own)
    whole = run(undisturbed := Still(), dataclasses.replace(own, output=tmp_path / "b"))
    assert torch.equal(again.pool.states, undisturbed.pool.states)
    for name, tensor in load_file(whole.last).items():
        assert torch.equal(load_file(done.last)[name], tensor)


def test_a_pool_that_is_too_small_or_forgotten_is_named(tmp_path):
    with pytest.raises(ValueError, match="a batch of 10 does not fit a pool of 9; give a larger pool"):
        run(Still(), pool_settings(tmp_path / "a", batch_size=10))

    class Forgets(Still):
        def losses(self, batch, at):
            return (self.model(batch, at.steps, **at.options) - batch).square().mean()

    with pytest.raises(ValueError, match=r"Forgets.losses must give its final states to at.keep"):
        run(Forgets(), pool_settings(tmp_path / "b"))
