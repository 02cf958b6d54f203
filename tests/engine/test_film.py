"""Scale and shift of hidden units per sample, against a step written here, and against the norm's own layers."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, make_extra, make_masks, make_params, make_state
from oracle import activate, perceive

from ncafast import NCA, Rule, rollout

BATCH, STEPS = 3, 3
NORMS = {
    "none": lambda z, rule, p: z,
    "running": lambda z, rule, p: _affine(
        (z - _column(p["norm.running_mean"])) / (_column(p["norm.running_var"]) + rule.norm_eps).sqrt(), p
    ),
    "instance": lambda z, rule, p: _affine(_whitened(z, rule, 2), p),
    "layer": lambda z, rule, p: _affine(_whitened(z, rule, 1), p),
}


def _column(v):
    return v[:, None]


def _whitened(z, rule, axis):
    mean = z.mean(axis, keepdim=True)
    return (z - mean) / ((z - mean).square().mean(axis, keepdim=True) + rule.norm_eps).sqrt()


def _affine(z, p):
    return z * _column(p["norm.weight"]) + _column(p["norm.bias"])


def stepped(rule, x, p, masks, scale, shift):
    """All steps in plain PyTorch."""
    for mask in masks:
        z = torch.einsum("hp,bpn->bhn", p["hidden.weight"], perceive(rule, x, p, None).flatten(2))
        z = NORMS[rule.norm](z + _column(p["hidden.bias"]), rule, p)
        a = activate(rule, z * scale[:, :, None] + shift[:, :, None], rule.activation)
        x = x + mask * torch.einsum("mh,bhn->bmn", p["update.weight"], a).unflatten(2, x.shape[2:])
    return x


def inputs(rule, size, dtype):
    noise = torch.Generator().manual_seed(2)
    x, params = make_state(rule, size, torch.float32, BATCH), make_params(rule, torch.float32)
    film = [torch.randn(BATCH, sum(rule.hidden), generator=noise) for _ in range(2)]
    tensors = [x, *params.values(), *film]
    x, *tensors = (t.to(dtype).requires_grad_() for t in tensors)
    return x, dict(zip(params, tensors[:-2], strict=True)), tensors[-2:]


@pytest.mark.parametrize("padding", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("backend", "dtype"), [("reference", torch.float64), ("cpu", torch.float32)])
def test_scale_and_shift_stand_before_the_activation(norm, padding, backend, dtype):
    rule = Rule(channels=5, hidden=9, norm=norm, padding=padding, activation="tanh")
    size = (5, 8)
    masks = make_masks(rule, STEPS, size, BATCH)
    results = []
    for kind in (dtype, torch.float64):
        x, params, film = inputs(rule, size, kind)
        leaves = [x, *film, *(p for name, p in params.items() if "running" not in name)]
        if kind is dtype and len(results) == 0:
            out = rollout(
                x.mT.contiguous().mT, rule, params, STEPS, fire_mask=masks, film=film, backend=backend, memory=2
            )
        else:
            out = stepped(rule, x, params, masks, *film)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    tolerance = 1e-9 if dtype is torch.float64 else 2e-4
    largest = max(
        want.abs().max().item() for want in results[1]
    )  # of a bias that a norm takes away, only rounding is left
    for got, want in zip(*results, strict=True):
        scale = want.abs().max().item() if want.abs().max() > 1e-9 * largest else largest
        torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance * scale)


def test_hidden_layers_stand_side_by_side():
    """Scale 1 and shift 0 in one layer leave it as it is."""
    rule, size = CASES["three hidden"]
    x, params, film = inputs(rule, size, torch.float32)
    masks, extra = make_masks(rule, STEPS, size, BATCH), make_extra(rule, size, torch.float32)
    scale, shift = (torch.full((BATCH, sum(rule.hidden)), value) for value in (1.0, 0.0))
    scale[:, 5:9], shift[:, 5:9] = film[0][:, 5:9].detach(), film[1][:, 5:9].detach()
    own = params | {
        "hidden2.weight": scale[:, 5:9, None] * params["hidden2.weight"],
        "hidden2.bias": scale[:, 5:9] * params["hidden2.bias"] + shift[:, 5:9],
    }
    got, want = (
        rollout(x, rule, p, STEPS, fire_mask=masks, extra=extra, film=f)
        for p, f in ((params, (scale, shift)), (own, None))
    )
    torch.testing.assert_close(got, want)


def test_a_module_takes_it_and_compiles():
    torch.manual_seed(1)
    nca, x = NCA(4, 6, norm="group", norm_groups=2, zero_init=False), torch.randn(2, 4, 5, 7)
    film = (torch.randn(2, 6, requires_grad=True), torch.randn(2, 6))

    def run(x):
        return nca(x, steps=3, seed=4, film=film)

    want = rollout(x, nca.rule, nca.params(), 3, seed=4, film=film)
    for step in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        torch.testing.assert_close(step(x), want)
        got = torch.autograd.grad(step(x).square().sum(), film[0])
        torch.testing.assert_close(got, torch.autograd.grad(want.square().sum(), film[0], retain_graph=True))


@pytest.mark.parametrize(
    ("film", "kind", "said"),
    [
        (torch.ones(2, 6), TypeError, "pair"),
        ((torch.ones(2, 6),), TypeError, "pair"),
        ((torch.ones(2, 6), torch.ones(6)), ValueError, r"shift has shape \[6\]; allowed is \[B=2, H=6\]"),
        ((torch.ones(1, 6), torch.ones(2, 6)), ValueError, r"scale has shape \[1, 6\]"),
        ((torch.ones(2, 6).double(), torch.ones(2, 6)), TypeError, "scale is torch.float64"),
    ],
)
def test_wrong_pairs(film, kind, said):
    nca = NCA(4, 6)
    with pytest.raises(kind, match=said):
        nca(torch.zeros(2, 4, 5, 5), steps=1, film=film)


def test_a_norm_without_weight_is_refused():
    with pytest.raises(ValueError, match="norm='layer' needs norm_affine=True"):
        NCA(4, 6, norm="layer", norm_affine=False)(torch.zeros(2, 4, 5, 5), film=(torch.ones(2, 6), torch.ones(2, 6)))


def test_norms_over_the_batch_are_refused():
    film = (torch.ones(2, 6), torch.zeros(2, 6))
    for norm in ("batch", "running"):
        nca = NCA(4, 6, norm=norm)
        with pytest.raises(ValueError, match="norm='batch' takes statistics over all samples"):
            nca(torch.zeros(2, 4, 5, 5), steps=1, film=film)
    assert nca.eval()(torch.zeros(2, 4, 5, 5), steps=1, film=film).shape == (2, 4, 5, 5)
