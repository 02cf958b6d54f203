"""NCA: parameters, initialisation, modes, statistics."""

from __future__ import annotations

import oracle
import pytest
import torch
from torch.nn.utils import prune
from torch.optim.swa_utils import update_bn

from ncafast import NCA, Alive, Rule, filters


def test_parameters_have_the_documented_names():
    nca = NCA(8, 16, filters="learned", filter_bias=True, norm="batch", update_bias=True)
    names = [
        "perceive.weight",
        "perceive.bias",
        "hidden.weight",
        "hidden.bias",
        "norm.weight",
        "norm.bias",
    ]
    assert [name for name, _ in nca.named_parameters()] == [*names, "update.weight", "update.bias"]
    assert {name: tuple(p.shape) for name, p in nca.named_parameters()} == nca.rule.param_shapes()


def test_fixed_filters_are_a_buffer():
    nca = NCA(8, 16)
    assert "perceive.weight" not in dict(nca.named_parameters())
    want = filters.bank("sobel", 2)[:, None].expand(2, 8, 3, 3)
    assert torch.equal(nca.state_dict()["perceive.weight"], want)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_sobel_in_every_dimension(ndim):
    nca = NCA(4, 8, ndim=ndim, zero_init=False).double()
    x = torch.randn(2, 4, *(4, 5, 6)[:ndim], dtype=torch.float64)
    want = oracle.rollout(nca.rule.replace(fire_rate=1.0), x, nca.params(), None, 2)[-1]
    mask = torch.ones(2, 1, 1, *x.shape[2:])
    torch.testing.assert_close(nca(x, steps=2, fire_mask=mask), want, rtol=1e-11, atol=1e-11)


def test_an_untrained_nca_stands_still():
    x = torch.randn(1, 8, 5, 5)
    assert torch.equal(NCA(8, 16)(x, steps=3), x)
    assert not torch.equal(NCA(8, 16, zero_init=False)(x, steps=3), x)


def test_initialisation_is_that_of_torchs_layers():
    nca = NCA(16, 4096, filters="learned", filter_bias=True, zero_init=False, kernel_size=5, num_filters=8)
    bounds = {"perceive": 1 / 5, "hidden": (16 * 9) ** -0.5, "update": 4096**-0.5}
    for module, bound in bounds.items():
        weight = getattr(nca, module).weight
        assert bound * 0.98 < weight.abs().max() <= bound
        assert abs(weight.std() / (bound / 3**0.5) - 1) < 0.05
    assert nca.hidden.bias.abs().max() <= bounds["hidden"]


def test_given_filters():
    kernel = torch.randn(3, 5, 5)
    assert NCA(4, 8, filters=kernel).rule.kernel_size == (5, 5)
    assert torch.equal(NCA(4, 8, filters=kernel).perceive.weight, kernel[:, None].expand(3, 4, 5, 5))
    per_channel = torch.randn(2, 4, 3, 3)
    assert torch.equal(NCA(4, 8, filters=per_channel).perceive.weight, per_channel)
    with pytest.raises(ValueError, match=r"filters has shape \[2, 5, 3, 3\], the rule needs \[2, 4, 3, 3\]"):
        NCA(4, 8, filters=torch.randn(2, 5, 3, 3))
    with pytest.raises(ValueError, match="allowed is"):
        NCA(4, 8, filters=torch.randn(3, 3))
    with pytest.raises(ValueError, match="num_filters=5 does not fit"):
        NCA(4, 8, filters="sobel", num_filters=5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"filters": []}, ValueError, "filters=[] names no filter"),
        ({"filters": None}, TypeError, "filters must be 'learned', one or several names, or a tensor, got None"),
        ({"filters": 3}, TypeError, "filters must be 'learned', one or several names, or a tensor, got 3"),
        ({"filters": ["sobel", ["x"]]}, TypeError, "filters must be 'learned', one or several names"),
        ({"filters": torch.full((1, 3, 3), float("nan"))}, ValueError, "filters has values that are not finite"),
        ({"filters": torch.ones(1, 3, 3, dtype=torch.float64) * 1e300}, ValueError, "not finite in float32"),
        ({"filters": torch.ones(1, 4, 4)}, ValueError, "filters has shape [1, 4, 4]; F must be at least 1, and k odd"),
        ({"filters": torch.ones(0, 3, 3)}, ValueError, "filters has shape [0, 3, 3]; F must be at least 1"),
        ({"filters": torch.ones(1, 3, 3).to_sparse()}, TypeError, "filters must be a dense tensor"),
        ({"kernel_size": 5}, ValueError, "kernel_size=5 does not fit filters='sobel', which are of size (3, 3)"),
        ({"filters": "laplacian", "num_filters": 2}, ValueError, "num_filters=2 does not fit filters='laplacian'"),
        ({"filters": torch.ones(3, 3, 3), "num_filters": 2}, ValueError, "does not fit filters=a tensor, which are 3"),
        ({"filters": "laplacian", "perception": "dense", "dense_channels": 3}, ValueError, "filters= goes with"),
        ({"zero_init": "no"}, TypeError, "zero_init must be True or False, got str 'no'"),
        ({"immutable": 5}, ValueError, "immutable=5 is not allowed: it must be 0 to 3"),
        ({"immutable": "a"}, TypeError, "immutable must be an int, got str 'a'"),
        ({"alive": (1, 2, 3, True, True, 4)}, ValueError, "alive=(1, 2, 3, True, True, 4) is not allowed"),
        ({"ndim": "2"}, TypeError, "ndim must be an int, got str '2'"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error) as raised:
        NCA(4, 6, **arguments)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_what_is_said_of_fixed_filters_may_agree_with_them():
    nca = NCA(4, 6, filters=torch.ones(2, 1, 5), num_filters=2, kernel_size=(1, 5))
    assert nca.rule.kernel_size == (1, 5) and nca.rule.num_filters == 2
    assert NCA(4, 6, kernel_size=3, num_filters=2).rule == NCA(4, 6).rule
    with pytest.raises(TypeError, match="zero_init must be True or False"):
        NCA.from_rule(Rule(channels=4, hidden=6), zero_init=None)


def test_running_statistics_are_those_of_batchnorm():
    """After a training rollout the buffers equal those of torch's own layer fed the same hidden values."""
    nca = NCA(4, 6, norm="running", zero_init=False).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    masks = torch.rand(3, 2, 1, 5, 6) < 0.5
    layer = torch.nn.BatchNorm2d(6, dtype=torch.float64)
    rule, params = nca.rule.replace(norm="batch"), nca.params()
    state = x
    for t in range(3):
        z = torch.einsum("hp,bp...->bh...", params["hidden.weight"], oracle.perceive(rule, state, params, None))
        layer(z + params["hidden.bias"].reshape(1, -1, 1, 1))
        state = oracle.one_step(rule, state, params, masks[t])
    torch.testing.assert_close(nca(x, steps=3, fire_mask=masks), state, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(nca.norm.running_mean, layer.running_mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(nca.norm.running_var, layer.running_var, rtol=1e-9, atol=1e-10)
    nca.eval()
    want = oracle.rollout(nca.rule, x, nca.params(), masks, 3)[-1]
    torch.testing.assert_close(nca(x, steps=3, fire_mask=masks), want, rtol=1e-10, atol=1e-10)


def test_cell_dropout_in_training_and_none_in_evaluation():
    nca = NCA(4, 6, fire_rescale=True, fire_in_eval=False, fire_rate=0.25, zero_init=False).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    everywhere = oracle.rollout(Rule(channels=4, hidden=6, fire_rate=1.0), x, nca.params(), None, 1)[-1]
    update = nca(x, steps=1, seed=1) - x
    scaled = 4 * (everywhere - x)
    fired = update.abs().sum(1, keepdim=True) > 0
    torch.testing.assert_close(update, torch.where(fired, scaled, 0), rtol=1e-10, atol=1e-12)
    assert 0 < fired.double().mean() < 0.5
    torch.testing.assert_close(nca.eval()(x, steps=1), everywhere, rtol=1e-10, atol=1e-12)


def test_options_reach_the_rule():
    nca = NCA(
        8,
        (16, 4),
        immutable=3,
        alive=(3, 0.2),
        step_size=0.5,
        extra=1,
        kernel_size=5,
        filters="learned",
    )
    assert nca.rule == Rule(
        channels=8,
        hidden=(16, 4),
        mutable=(3, 8),
        alive=Alive(3, 0.2),
        step_size=0.5,
        extra=1,
        kernel_size=5,
    )
    first = "channels=8, num_filters=2, kernel_size=(5, 5), extra=1, hidden=(16, 4), fire_rate=0.5, step_size=0.5"
    assert first in repr(nca) and "padding" not in repr(nca) and "steps=32" in repr(nca)
    with pytest.raises(TypeError, match="NCA has no option 'stepsize'"):
        NCA(8, stepsize=1)
    with pytest.raises(ValueError, match="not both"):
        NCA(8, immutable=3, mutable=(0, 3))


def test_a_printed_automaton_says_what_it_holds():
    nca = NCA(6, (16, 4), filters="sobel", norm="batch")
    shown = str(torch.nn.Sequential(nca, torch.nn.Flatten()))
    assert "Module()" not in shown
    assert "channels=6" in shown and "hidden=(16, 4)" in shown and "fire_rate=0.5" in shown and "num_filters=2" in shown
    for part in ("(perceive): weight [2, 6, 3, 3] fixed", "(hidden2): weight [4, 16]", "(update): weight [6, 4]"):
        assert part in shown
    assert "\n    (norm): BatchNorm2d(16" in shown
    assert shown.endswith("\n  )\n  (1): Flatten(start_dim=1, end_dim=-1)\n)")
    assert "(perceive): weight [3, 4, 3, 3], bias [3, 4]" in str(
        NCA(4, filters="learned", num_filters=3, filter_bias=True)
    )
    nca.update.register_forward_hook(print)  # such an automaton is refused when it is called
    assert "channels=6" in str(nca)


def test_steps_of_a_call_that_names_none():
    nca, x = NCA(4, 8, steps=3, zero_init=False), torch.rand(2, 4, 6, 5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        found = torch.nn.Sequential(nca, torch.nn.Flatten())(x)
        torch.manual_seed(1)
        assert torch.equal(found, nca(x, 3).flatten(1))
    assert "steps=3" in repr(nca) and NCA.from_config(**nca.config()).steps == 3
    assert "steps" not in NCA(4).config()  # a file that earlier versions read
    with pytest.raises(ValueError, match="steps"):
        NCA(4, steps=-1)


def test_from_rule():
    rule = Rule(channels=4, hidden=6, perception="dense", dense_channels=3)
    assert NCA.from_rule(rule).rule == rule
    fixed = NCA.from_rule(Rule(channels=4, hidden=6), filters="sobel")
    assert torch.equal(fixed.perceive.weight, NCA(4, 6).perceive.weight)
    with pytest.raises(TypeError, match=r"rule must be an ncafast.Rule, got dict"):
        NCA.from_rule({})


def test_training_learns():
    """Gradients do what gradients are for: the loss of a small regression falls by far."""
    nca = NCA(4, 16, filters="learned")
    optimiser = torch.optim.Adam(nca.parameters(), 1e-2)
    x = torch.zeros(4, 4, 8, 8)
    x[:, 0] = torch.rand(4, 8, 8)
    target = 1 - x[:, 0]
    losses = []
    for i in range(60):
        loss = (nca(x, steps=6, seed=i)[:, 1] - target).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.2 * losses[0]


def same_as_a_layer(nca: NCA, layer: torch.nn.Module) -> None:
    """After a training rollout the norm's buffers are those of a layer that was called once per step."""
    x, masks = torch.rand(2, 4, 5, 6, dtype=torch.float64), torch.ones(3, 1, 1, 5, 6)
    rule, params = nca.rule.replace(norm="batch"), {k: v for k, v in nca.params().items() if "running" not in k}
    state = x
    for t in range(3):
        z = torch.einsum("hp,bp...->bh...", params["hidden.weight"], oracle.perceive(rule, state, params, None))
        layer(z + params["hidden.bias"].reshape(1, -1, 1, 1))
        state = oracle.one_step(rule, state, params, masks[t])
    nca(x, steps=3, fire_mask=masks)
    for name, want in layer.named_buffers():
        torch.testing.assert_close(nca.norm.get_buffer(name), want)


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
def test_momentum_is_that_of_batchnorm(momentum):
    nca = NCA(4, 6, norm="running", zero_init=False).double()
    nca.momentum = momentum
    assert nca.norm.momentum == nca.momentum == momentum
    layer = torch.nn.BatchNorm2d(6, momentum=momentum, dtype=torch.float64)
    for _ in range(2):
        same_as_a_layer(nca, layer)
    assert nca.norm.num_batches_tracked == 6


def test_a_norm_in_evaluation_is_frozen():
    nca = NCA(4, 6, norm="running", zero_init=False).double()
    nca.norm.running_var.fill_(3.0)
    nca.norm.eval()
    x = torch.rand(2, 4, 5, 6, dtype=torch.float64)
    frozen = nca(x, steps=3, seed=1)
    assert torch.equal(nca.norm.running_var, torch.full((6,), 3.0, dtype=torch.float64))
    assert torch.equal(frozen, nca.eval()(x, steps=3, seed=1))


def test_update_bn_takes_the_mean_over_all_steps_and_batches():
    nca = NCA(4, 6, norm="running", zero_init=False).double()
    nca.norm.running_mean.fill_(100.0)
    update_bn([torch.rand(2, 4, 5, 6, dtype=torch.float64)] * 2, nca)
    assert nca.norm.running_mean.abs().max() < 10
    assert nca.norm.num_batches_tracked == 64 and nca.norm.momentum == 0.1


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        ("batch", torch.nn.BatchNorm2d),
        ("running", torch.nn.BatchNorm2d),
        ("group", torch.nn.GroupNorm),
        ("instance", torch.nn.InstanceNorm2d),
        ("layer", torch.nn.LayerNorm),
    ],
)
def test_norms_are_layers_of_torch_and_their_settings_are_followed(norm, kind):
    """So an optimiser that groups parameters by the kind of their module finds them."""
    nca = NCA(4, (6, 8), norm=norm, norm_groups=2 if norm == "group" else 1, norm_eps=0.01)
    assert type(nca.norm) is type(nca.norm2) is kind and nca.norm.eps == 0.01
    assert {type(m) for m in nca.modules() if type(m) is not torch.nn.Module} == {NCA, kind}
    assert [name for name, _ in nca.named_parameters()][2:6] == [
        "norm.weight",
        "norm.bias",
        "hidden2.weight",
        "hidden2.bias",
    ]
    nca.norm.eps = nca.norm2.eps = 0.5
    assert nca.rule == NCA.from_config(**nca.config()).rule
    assert nca.rule.norm == norm and nca.rule.norm_eps == 0.5
    nca.norm.eps = 0.1
    with pytest.raises(ValueError, match="norm2 is another norm than norm"):
        nca(torch.rand(1, 4, 5, 6))


def test_another_norm_may_be_put_in():
    nca = NCA(4, 6, norm="batch", zero_init=False).double()
    nca.norm = torch.nn.GroupNorm(3, 6).double()
    assert nca.rule.norm == "group" and nca.rule.norm_groups == 3
    x, masks = torch.rand(2, 4, 5, 6, dtype=torch.float64), torch.rand(2, 2, 1, 5, 6) < 0.5
    want = oracle.rollout(nca.rule, x, nca.params(), masks, 2)[-1]
    torch.testing.assert_close(nca(x, steps=2, fire_mask=masks), want, rtol=1e-10, atol=1e-10)
    synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(NCA(4, 6, norm="running"))
    with pytest.raises(ValueError, match="^norm is a SyncBatchNorm"):
        synchronised(torch.rand(1, 4, 5, 6))


def test_sub_modules_keep_the_contract_of_their_tensors():
    nca = NCA(4, 6, filters="learned", filter_bias=True, zero_init=False).double()
    torch.nn.utils.parametrizations.weight_norm(nca.hidden)
    nca.update = torch.nn.Linear(6, 4).double()
    nca.hidden.bias = nca.perceive.bias = None
    x, masks = torch.rand(2, 4, 5, 6, dtype=torch.float64), torch.rand(2, 2, 1, 5, 6) < 0.5
    assert nca.rule.update_bias and not nca.rule.filter_bias
    want = oracle.rollout(nca.rule, x, nca.params(), masks, 2)[-1]
    found = nca(x, steps=2, fire_mask=masks)
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-10)
    found.sum().backward()
    assert all(p.grad is not None for p in nca.parameters())
    prune.l1_unstructured(nca.perceive, "weight", 0.5)
    with pytest.raises(ValueError, match="^perceive has its weight computed by torch.nn.utils.prune"):
        nca(x)


def test_states_of_earlier_versions_load():
    """They have no num_batches_tracked."""
    nca = NCA(4, (6, 8), norm="running")
    earlier = {name: t for name, t in nca.state_dict().items() if not name.endswith("num_batches_tracked")}
    for assign in (False, True):
        NCA(4, (6, 8), norm="running").load_state_dict(dict(earlier), strict=True, assign=assign)
