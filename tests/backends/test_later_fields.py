"""Fields of Rule that came later: who has them, what older files and versions see of them, and their edges."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from cases import CASES, make_extra, make_masks, make_params, make_state
from parity import run

from ncafast import NCA, Alive, Rule, backends, rollout

# Text of a rule as the first release wrote it.
EARLIER = (
    '{"activation":"relu","alive":{"channel":3,"pool":3,"post":true,"pre":true,"threshold":0.1},"channels":16,'
    '"dense_activation":"identity","dense_channels":0,"extra":0,"filter_bias":false,"fire_in_eval":true,'
    '"fire_rate":0.5,"fire_rescale":false,"hidden":[128],"identity":true,"kernel_size":[3,3],"mutable":null,"ndim":2,'
    '"negative_slope":0.01,"noise":"none","noise_std":0.0,"norm":"none","norm_affine":true,"norm_eps":1e-05,'
    '"norm_groups":1,"num_filters":2,"padding":"zeros","perception":"depthwise","restore":null,"step_size":1.0,'
    '"update_bias":false}'
)
LATER = {
    "clamp": {"clamp": (-1, 1)},
    "alive.wrap": {"alive": Alive(wrap=True)},
    "alive.gates": {"alive": Alive(post=False, gates="update")},
    "hidden_dropout": {"hidden_dropout": 0.2},
    "update_activation": {"update_activation": "tanh"},
}
WORDS = ("clamp", " update", "wraps", "dropout")  # of their cases
CASES_OF_LATER = [name for name in CASES if any(word in name for word in WORDS) and "noise" not in name]


def test_a_rule_without_later_fields_has_the_text_of_the_first_release():
    rule = Rule.from_json(EARLIER)
    assert rule.alive == Alive() and rule.to_json() == EARLIER
    for changes in LATER.values():
        later = rule.replace(**changes)
        assert later.to_json() != EARLIER and Rule.from_json(later.to_json()) == later


@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("field", LATER)
def test_gpu_backends_say_what_they_lack(field, backend):
    on_gpu = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32, shape=(2, 16, 9, 7))
    reason = backends.get(backend).can_run(Rule().replace(**LATER[field]), on_gpu)
    assert reason.startswith(f"{field}=") and reason.endswith(" is fused on the CPU only")


@pytest.mark.parametrize("name", CASES_OF_LATER)
def test_what_is_kept_and_how_many_threads_run_changes_no_bit(name):
    rule, size = CASES[name]
    x, params, masks = (
        make_state(rule, size, torch.float32),
        make_params(rule, torch.float32),
        make_masks(rule, 7, size),
    )
    weight, extra = torch.linspace(-1, 1, 7 * x.numel()).view(7, *x.shape), make_extra(rule, size, torch.float32)
    want = run("cpu", rule, x, params, masks, extra, weight, seed=3)
    for memory in ("sqrt", 1, 2, 3):
        got = run(
            "cpu", rule, x.mT.contiguous().mT if x.dim() > 3 else x, params, masks, extra, weight, seed=3, memory=memory
        )
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True)), memory


def test_gradients_pass_at_the_limits_of_a_clamp_and_not_beyond():
    rule = Rule(channels=1, ndim=1, num_filters=0, hidden=1, activation="identity", clamp=(-0.3, 0.7))
    params = {"hidden.weight": torch.ones(1, 1), "hidden.bias": torch.zeros(1), "update.weight": torch.ones(1, 1)}
    x = torch.tensor([-0.3, 0.7, 0.1, 0.2, 0.36, -0.31, 0.71, torch.nan])[None, None].requires_grad_()
    fires = torch.tensor([0, 0, 1, 1, 1, 0, 0, 0])[None, None, None].expand(2, 1, 1, 8)
    for backend in ("reference", "cpu"):
        got = rollout(x, rule, params, 2, fire_mask=fires, backend=backend)
        want = torch.tensor([-0.3, 0.7, 0.4, 0.7, 0.7, -0.3, 0.7, torch.nan])[None, None]
        torch.testing.assert_close(got, want, equal_nan=True)
        grad = torch.autograd.grad(got.sum(), x)[0]
        assert grad.flatten().tolist() == [1, 1, 4, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("pool", [3, 5, 63])
def test_a_torus_has_no_edge(pool):
    """Everything rolled gives everything rolled, also where a dead cell counts for a living one across the edge."""
    rule = Rule(channels=4, hidden=5, padding="circular", alive=Alive(3, 0.9, pool, wrap=True))
    params = make_params(rule, torch.float32)
    x, masks = make_state(rule, (9, 11), torch.float32), make_masks(rule, 1, (9, 11))
    x[:, 3, :, 2:] = -1.0
    out = rollout(x, rule, params, 1, fire_mask=masks, backend="cpu")
    assert pool == 63 or 0 < (out == 0).sum() < out.numel()
    for by in ((0, 5), (3, 9), (8, 1)):
        moved = rollout(x.roll(by, (2, 3)), rule, params, 1, fire_mask=masks.roll(by, (3, 4)), backend="cpu")
        torch.testing.assert_close(moved, out.roll(by, (2, 3)), rtol=1e-5, atol=1e-6)
        assert torch.equal(moved == 0, out.roll(by, (2, 3)) == 0)


def test_an_nca_drops_units_in_training_only():
    torch.manual_seed(0)
    nca, x = NCA(5, 9, hidden_dropout=0.4, zero_init=False), torch.rand(2, 5, 6, 7)
    trained, again, other = (nca(x, 3, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(trained, again) and not torch.equal(trained, other)
    assert not torch.equal(trained, nca.eval()(x, 3, seed=4))
    plain = NCA.from_rule(nca.rule.replace(hidden_dropout=0.0))
    plain.load_state_dict(nca.state_dict())
    assert torch.equal(nca(x, 3, seed=4), plain(x, 3, seed=4))
