"""A drop-in keeps its layers' contract: what calling them one by one would give is given, or refused by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import update_bn
from torch.utils.flop_counter import FlopCounterMode

import ncafast
from ncafast import models

STEPS = 3
QCONFIG = torch.ao.quantization.default_qat_qconfig
Change = Callable[[nn.Module], object]


def max_nca(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    d = m.fc1(F.relu(m.bn(m.fc0(torch.cat((x, m.p0(x), m.p1(x)), 1)))))
    return torch.cat((x[:, :3], x[:, 3:] + mask * d[:, 3:]), 1)


def nca_2d(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    d = m.fc2(F.relu(m.bn(m.fc1(torch.cat((m.perception(x), x), 1)))))
    return torch.cat((x[:, :1], x[:, 1:] + mask * d), 1)


def basic_nca_3d(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    filtered = m.p0(x.permute(0, 1, 3, 4, 2)).permute(0, 1, 4, 2, 3)  # the filters' axes are Y, Z, X
    hidden = m.bn(m.fc0(torch.cat((x, filtered), 1).movedim(1, -1)).movedim(-1, 1))
    d = m.fc1(F.relu(hidden).movedim(1, -1)).movedim(-1, 1)
    return torch.cat((x[:, :1], x[:, 1:] + mask * d[:, 1:]), 1)


def growing(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    alive = F.max_pool2d(x[:, 3:4], 3, 1, 1) > 0.1
    seen = torch.cat([x, *(F.conv2d(x, f.expand(16, 1, 3, 3), padding=1, groups=16) for f in m._filters)], 1)
    x = x + mask * m.fc1(F.relu(m.fc0(seen.movedim(1, -1)))).movedim(-1, 1)
    return x * (alive & (F.max_pool2d(x[:, 3:4], 3, 1, 1) > 0.1))


def texture(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    padded = F.pad(x, (1, 1, 1, 1), mode="circular")
    seen = F.conv2d(padded, m.conv_kernels.repeat(x.shape[1], 1, 1, 1), groups=x.shape[1])
    return x + mask * m.mlp(seen.movedim(1, -1)).movedim(-1, 1)


def digits(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    alive = F.max_pool2d(x[:, -1:], 3, 1, 1) > 0.1
    y = F.relu(m.perceive.conv(x))
    *hidden, last = m.update.layers
    for layer in hidden:
        y = F.relu(layer(y))
    new = x + 2 * mask * last(y)
    new = new * (alive & (F.max_pool2d(new[:, -1:], 3, 1, 1) > 0.1))
    return torch.cat((new[:, :-1], x[:, -1:]), 1)


KINDS = {
    "MaxNCA": (lambda: models.MaxNCA(hidden_size=12, device="cpu"), max_nca, (16, 6, 9)),
    "NCA2D": (lambda: models.NCA2D(c=6, h=10, k=3), nca_2d, (6, 7, 8)),
    "BasicNCA3D": (lambda: models.BasicNCA3D(4, 0.5, hidden_size=6, kernel_size=3), basic_nca_3d, (4, 5, 6, 7)),
    "GrowingNCA": (lambda: models.GrowingNCA(hidden_size=10), growing, (16, 6, 9)),
    "TextureNCA": (lambda: models.TextureNCA(4, 10), texture, (4, 6, 9)),
    "SelfClassifyingNCA": (lambda: models.SelfClassifyingNCA(8, 12, (10,)), digits, (8, 6, 9)),
}
LAST_AXIS = ("MaxNCA", "BasicNCA3D", "GrowingNCA", "SelfClassifyingNCA")


def built(kind: str, change: Change = lambda m: None) -> nn.Module:
    """The model in float64 with random weights and statistics, changed."""
    torch.manual_seed(5)
    model = KINDS[kind][0]()
    change(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model.double()


def drawn(kind: str) -> tuple[Tensor, Tensor]:
    """A state [2, C, *S] and masks."""
    channels, *size = KINDS[kind][2]
    return torch.rand(2, channels, *size).double(), (torch.rand(STEPS, 2, 1, *size) < 0.5).double()


def ours(kind: str, model: nn.Module, x: Tensor, masks: Tensor) -> Tensor:
    found = model(x.movedim(1, -1) if kind in LAST_AXIS else x, STEPS, fire_mask=masks)
    found = found[1] if isinstance(found, tuple) else found
    return found.movedim(-1, 1) if kind in LAST_AXIS else found


def plain(kind: str, model: nn.Module, x: Tensor, masks: Tensor) -> Tensor:
    for mask in masks:
        x = KINDS[kind][1](model, x, mask)
    return x


def compare(kind: str, model: nn.Module) -> None:
    """Result, buffers and all gradients equal those of the layers called one by one."""
    twin = copy.deepcopy(model)
    x, masks = drawn(kind)
    found = []
    for run, own in ((ours, model), (plain, twin)):
        leaf = x.clone().requires_grad_()
        out = run(kind, own, leaf, masks)
        (out.sin() * torch.arange(out.numel()).reshape(out.shape)).sum().backward()
        grads = {n: p.grad for n, p in own.named_parameters() if not n.startswith(("fc2.", "fc3.")) or kind == "NCA2D"}
        found.append({"out": out.detach(), "x": leaf.grad, **grads, **dict(own.named_buffers())})
    assert (found[1]["out"] - x).abs().max() > 1e-3
    for name, want in found[1].items():
        if want is not None:
            got = torch.zeros_like(want) if found[0][name] is None else found[0][name]
            torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9 * max(1.0, float(found[1]["x"].abs().max())))


def swap(name: str, build: Callable[[nn.Module], nn.Module]) -> Change:
    """Put another layer in the place of one."""

    def change(model: nn.Module) -> None:
        *path, leaf = name.split(".")
        owner = model.get_submodule(".".join(path))
        setattr(owner, leaf, build(getattr(owner, leaf)))

    return change


def both(**options) -> Change:
    """Other filters in MaxNCA."""
    given = {"kernel_size": 3, "padding": 1, "groups": 16} | options

    def change(model: nn.Module) -> None:
        model.p0, model.p1 = nn.Conv2d(16, 16, **given), nn.Conv2d(16, 16, **given)

    return change


def evaluated(model: nn.Module) -> None:
    model.bn = nn.BatchNorm2d(12)
    model.eval()


CHANGES = {
    "nothing": lambda m: None,
    "GroupNorm": swap("bn", lambda _: nn.GroupNorm(3, 12)),
    "GroupNorm without weights": swap("bn", lambda _: nn.GroupNorm(4, 12, affine=False)),
    "InstanceNorm": swap("bn", lambda _: nn.InstanceNorm2d(12)),
    "InstanceNorm with weights": swap("bn", lambda _: nn.InstanceNorm2d(12, affine=True)),
    "BatchNorm in evaluation": evaluated,
    "BatchNorm in training": swap("bn", lambda _: nn.BatchNorm2d(12)),
    "BatchNorm, cumulative": swap("bn", lambda _: nn.BatchNorm2d(12, momentum=None)),
    "BatchNorm, frozen": swap("bn", lambda _: nn.BatchNorm2d(12).eval()),
    "BatchNorm without weights": swap("bn", lambda _: nn.BatchNorm2d(12, affine=False, momentum=0.7)),
    "Identity": swap("bn", lambda _: nn.Identity()),
    "eps": lambda m: setattr(m.bn, "eps", 0.1),
    "zero padding": both(),
    "circular padding": both(padding_mode="circular"),
    "replicate padding": both(padding_mode="replicate"),
    "padding same": both(padding="same", padding_mode="reflect"),
    "5 x 3 filters": both(kernel_size=(5, 3), padding=(2, 1), padding_mode="reflect"),
    "1 x 1 filters": both(kernel_size=1, padding=0),
    "full filters": both(groups=1),
    "full filters in groups": both(groups=4, padding_mode="circular"),
    "one filter without bias": lambda m: setattr(m.p1, "bias", None),
    "filters without bias": both(bias=False),
    "update with bias": swap("fc1", lambda _: nn.Conv2d(12, 16, 1)),
    "hidden without bias": swap("fc0", lambda _: nn.Conv2d(48, 12, 1, bias=False)),
    "hidden in groups": swap("fc0", lambda _: nn.Conv2d(48, 12, 1, groups=3)),
    "dilation of one cell": swap("fc0", lambda _: nn.Conv2d(48, 12, 1, dilation=2, padding="same")),
    "weight_norm": lambda m: parametrizations.weight_norm(m.fc0),
    "orthogonal": lambda m: parametrizations.orthogonal(m.fc0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_max_nca_follows_its_layers(change: Change) -> None:
    compare("MaxNCA", built("MaxNCA", change))


OTHERS = {
    "NCA2D": ("NCA2D", lambda m: None),
    "NCA2D circular": ("NCA2D", swap("perception", lambda _: nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"))),
    "NCA2D running": ("NCA2D", swap("bn", lambda _: nn.BatchNorm2d(10, momentum=0.3))),
    "NCA2D no bias": ("NCA2D", swap("fc2", lambda _: nn.Conv2d(10, 5, 1, bias=False))),
    "NCA2D wider": ("NCA2D", lambda m: (swap("fc1", lambda _: nn.Conv2d(12, 10, 1, groups=2))(m),)),
    "3-D": ("BasicNCA3D", lambda m: None),
    "3-D 1 x 3 x 5": (
        "BasicNCA3D",
        swap("p0", lambda _: nn.Conv3d(4, 4, (1, 3, 5), padding=(0, 1, 2), padding_mode="reflect", groups=4)),
    ),
    "3-D full": ("BasicNCA3D", swap("p0", lambda _: nn.Conv3d(4, 4, (3, 1, 5), padding=(1, 0, 2)))),
    "3-D group": ("BasicNCA3D", swap("bn", lambda _: nn.GroupNorm(2, 6))),
    "3-D bias": ("BasicNCA3D", swap("fc1", lambda _: nn.Linear(6, 4))),
    "growing": ("GrowingNCA", lambda m: None),
    "growing bias": ("GrowingNCA", swap("fc1", lambda _: nn.Linear(10, 16))),
    "texture": ("TextureNCA", lambda m: None),
    "texture leaky": ("TextureNCA", swap("mlp.1", lambda _: nn.LeakyReLU(0.3))),
    "texture gelu": ("TextureNCA", swap("mlp.1", lambda _: nn.GELU())),
    "texture tanh": ("TextureNCA", swap("mlp.1", lambda _: nn.Tanh())),
    "texture no bias": ("TextureNCA", swap("mlp.0", lambda _: nn.Linear(16, 10, bias=False))),
    "digits": ("SelfClassifyingNCA", lambda m: None),
    "digits groups": (
        "SelfClassifyingNCA",
        swap("perceive.conv", lambda _: nn.Conv2d(8, 12, 5, padding=2, groups=4, padding_mode="circular")),
    ),
    "digits deeper": (
        "SelfClassifyingNCA",
        lambda m: m.update.layers.insert(1, nn.Conv2d(10, 10, 1, bias=False)),
    ),
}


@pytest.mark.parametrize(("kind", "change"), OTHERS.values(), ids=OTHERS)
def test_the_other_models_follow_theirs(kind: str, change: Change) -> None:
    compare(kind, built(kind, change))


class Adapter(nn.Module):
    """As LoRA wraps a layer."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)


class Doubled(nn.Conv2d):
    """A convolution that does more."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def forward_replaced(model: nn.Module) -> None:
    model.fc0.forward = lambda x: x  # as accelerate's hooks do


REFUSED = {
    "forward hook": (lambda m: m.fc1.register_forward_hook(print), "^fc1 has a forward hook .print., .*whole model"),
    "pre-hook": (lambda m: m.p0.register_forward_pre_hook(print), "^p0 has a forward pre-hook"),
    "backward hook": (lambda m: m.bn.register_full_backward_hook(print), "^bn has a backward hook"),
    "backward pre-hook": (lambda m: m.bn.register_full_backward_pre_hook(print), "^bn has a backward pre-hook"),
    "adapter": (swap("fc0", Adapter), "^fc0 is a .*Adapter.*merge_and_unload"),
    "forward": (forward_replaced, "^fc0 has a forward replaced"),
    "subclass": (swap("fc0", lambda _: Doubled(48, 12, 1)), "^fc0 has a forward of its own .*Doubled"),
    "prune": (lambda m: prune.l1_unstructured(m.fc0, "weight", 0.5), "^fc0 has its weight computed .*prune.remove"),
    "spectral_norm": (lambda m: nn.utils.spectral_norm(m.fc0), "^fc0 .*parametrizations.spectral_norm"),
    "lazy": (swap("fc0", lambda _: nn.LazyConv2d(12, 1)), r"^fc0 is a lazy layer .*Conv2d\(...\)"),
    "dilation": (both(dilation=2, padding=2), "^p0 has dilation=.2, 2."),
    "stride": (both(stride=2), "^p0 has stride=.2, 2."),
    "no padding": (both(padding=0, padding_mode="circular"), r"^p0 has padding=.* must be \(1, 1\)"),
    "valid": (both(padding="valid"), r"^p0 has padding=valid"),
    "even": (both(kernel_size=2, padding="same"), "^p0 has kernel_size=.2, 2."),
    "large": (both(kernel_size=9, padding=4), "^p0 has kernel_size=.9, 9."),
    "two paddings": (swap("p1", lambda _: nn.Conv2d(16, 16, 3, padding=1, groups=16)), "^p1 has .*'zeros', but p0"),
    "wide update": (swap("fc1", lambda _: nn.Conv2d(12, 16, 3, padding=1)), "^fc1 has kernel_size=.3, 3."),
    "transposed": (swap("p0", lambda _: nn.ConvTranspose2d(16, 16, 3)), "^p0 is a .*ConvTranspose2d"),
    "linear": (swap("fc1", lambda _: nn.Linear(12, 16)), "^fc1 is a .*Linear"),
    "SyncBatchNorm": (swap("bn", lambda _: nn.SyncBatchNorm(12)), "^bn is a SyncBatchNorm"),
    "LayerNorm": (swap("bn", lambda _: nn.LayerNorm(12)), "^bn is a .*LayerNorm"),
    "tracked": (swap("bn", lambda _: nn.InstanceNorm2d(12, track_running_stats=True)), "^bn is an InstanceNorm that"),
    "other rank": (swap("bn", lambda _: nn.BatchNorm1d(12)), "^bn is a .*BatchNorm1d"),
    "None": (lambda m: setattr(m, "bn", None), "^bn is None"),
    "compiled": (swap("fc0", torch.compile), "^fc0 is compiled by itself"),
    "groups": (swap("bn", lambda _: nn.GroupNorm(4, 8)), None),
    "quantised": (swap("fc0", lambda _: torch.ao.nn.qat.Conv2d(48, 12, 1, qconfig=QCONFIG)), "^fc0 has a forward of"),
}


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning", "ignore:Lazy modules:UserWarning")
@pytest.mark.filterwarnings("ignore:.*eager mode quant.*", "ignore:.*torch.ao.quant.*")
@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_rule_cannot_say_is_refused(change: Change, message: str | None) -> None:
    model = models.MaxNCA(hidden_size=12, device="cpu")
    change(model)
    with pytest.raises(ValueError, match=message) as raised:
        model(torch.rand(2, 9, 10, 16), 2)
    assert "\n" not in str(raised.value)


def test_filters_are_not_promoted_in_silence() -> None:
    model = models.MaxNCA(hidden_size=12, device="cpu")
    model.p1.double()
    with pytest.raises(TypeError, match="p1 is torch.float64, but p0 is torch.float32"):
        model(torch.rand(1, 5, 6, 16), 1)
    model.p1.to("meta")
    with pytest.raises(ValueError, match="p1 is on meta, but p0 is on cpu"):
        model(torch.rand(1, 5, 6, 16), 1)


@pytest.mark.parametrize(
    ("build", "x", "name"),
    [
        (lambda: models.MedNCA(6, 4, steps=(1, 1)), (1, 1, 8, 9), "model1"),
        (lambda: models.MedNCA(6, 4, steps=(1, 1)), (1, 1, 8, 9), "model2.fc1"),
        (lambda: models.M3DNCA(4, hidden_size=4, steps=1, kernel_size=3), (1, 9, 8, 8, 1), "model.1"),
        (lambda: models.M3DNCA(4, hidden_size=4, steps=1, kernel_size=3), (1, 9, 8, 8, 1), "model.0.p0"),
        (lambda: models.TextureNCA(4, 6), (1, 4, 5, 6), "mlp"),
        (lambda: models.TextureNCA(4, 6), (1, 4, 5, 6), "mlp.1"),
        (lambda: models.SelfClassifyingNCA(4, 6, (5,)), (1, 5, 6, 4), "perceive"),
        (lambda: models.SelfClassifyingNCA(4, 6, (5,)), (1, 5, 6, 4), "update.layers.1"),
        (lambda: ncafast.NCA(4, 6, norm="group"), (1, 4, 5, 6), "perceive"),
        (lambda: ncafast.NCA(4, 6, norm="group"), (1, 4, 5, 6), "norm"),
    ],
)
def test_hooks_anywhere_below_a_model_are_refused_by_name(
    build: Callable[[], nn.Module], x: tuple[int, ...], name: str
) -> None:
    model, options = build(), {} if name.startswith("model") else {"steps": 1}
    if isinstance(model, models.SelfClassifyingNCA):
        options = {"num_steps": 1}
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    model(torch.rand(x), **options)
    handle = model.get_submodule(name).register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=f"^{name} has a forward hook"):
        model(torch.rand(x), **options)
    with ncafast.ignore_hooks():
        model(torch.rand(x), **options)
    handle.remove()
    model(torch.rand(x), **options)
    assert len(calls) == 3, "hooks on the whole model are called as always"


def test_hooks_that_compute_weights_are_never_ignored() -> None:
    model = models.NCA2D(6, 4)
    prune.l1_unstructured(model.fc1, "weight", 0.5)
    with ncafast.ignore_hooks(), pytest.raises(ValueError, match="prune"):
        model(torch.rand(1, 6, 5, 5))
    prune.remove(model.fc1, "weight")
    model(torch.rand(1, 6, 5, 5))


def test_global_hooks_are_said_not_to_be_called_but_torchs_own_counters_are_quiet() -> None:
    model, x = models.NCA2D(6, 4), torch.rand(1, 6, 5, 5)
    with FlopCounterMode(display=False):
        model(x)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.warns(UserWarning, match="global module hook .* is not called for the layers inside a rollout"):
            model(x)
    finally:
        handle.remove()


def test_a_replaced_level_is_refused() -> None:
    model = models.M3DNCA(4, hidden_size=4, steps=1, kernel_size=3)
    model.model[1] = nn.Identity()
    with pytest.raises(ValueError, match=r"^model.1 is a .*Identity"):
        model(torch.rand(1, 9, 8, 8, 1))


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_whole_it_follows_its_layers(dynamic: bool | None) -> None:
    model, (x, masks) = built("MaxNCA"), drawn("MaxNCA")
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=dynamic)
    torch.compiler.reset()
    changes = [
        *(lambda m, eps=eps: setattr(m.bn, "eps", eps) for eps in (1e-5, 0.1, 0.2)),
        lambda m: setattr(m, "bn", nn.GroupNorm(3, 12).double()),
        lambda m: setattr(m.bn, "num_groups", 4),
        lambda m: setattr(m, "fc1", nn.Conv2d(12, 16, 1).double()),
    ]
    for change in changes:
        change(model)
        want = plain("MaxNCA", model, x, masks)
        torch.testing.assert_close(ours("MaxNCA", compiled, x, masks), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_whole_it_takes_any_rate_and_sees_hooks(dynamic: bool | None) -> None:
    model, x = built("MaxNCA"), drawn("MaxNCA")[0].movedim(1, -1)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=dynamic)
    torch.compiler.reset()
    for rate in (0.1, 0.2, 0.3):
        assert torch.equal(*(run(x, STEPS, rate, seed=2)[1] for run in (compiled, model)))
    handle = model.fc0.register_forward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match="fc0 has a forward hook"):
        compiled(x, STEPS, seed=2)
    handle.remove()
    assert torch.equal(*(run(x, STEPS, seed=2)[1] for run in (compiled, model)))


def test_compiled_whole_it_updates_running_statistics() -> None:
    torch.compiler.reset()
    model, (x, masks) = built("MaxNCA", swap("bn", lambda _: nn.BatchNorm2d(12, momentum=None))), drawn("MaxNCA")
    twin = copy.deepcopy(model)
    ours("MaxNCA", torch.compile(model, fullgraph=True, backend="aot_eager"), x, masks)
    plain("MaxNCA", twin, x, masks)
    for name, want in twin.bn.named_buffers():
        torch.testing.assert_close(model.bn.get_buffer(name), want)


def test_exported_it_has_the_layers_of_that_time() -> None:
    model, (x, masks) = built("NCA2D", swap("bn", lambda _: nn.GroupNorm(2, 10))), drawn("NCA2D")
    for strict in (False, True):
        program = torch.export.export(model, (x, STEPS), {"fire_mask": masks}, strict=strict)
        torch.testing.assert_close(program.module()(x, STEPS, fire_mask=masks), plain("NCA2D", model, x, masks))


def test_copies_and_other_parameters_follow_too() -> None:
    model, (x, masks) = built("MaxNCA", evaluated), drawn("MaxNCA")
    want = plain("MaxNCA", model, x, masks)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model._replicate_for_data_parallel()):
        torch.testing.assert_close(ours("MaxNCA", twin, x, masks), want)
    empty = built("MaxNCA", evaluated)
    empty.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    torch.testing.assert_close(ours("MaxNCA", empty, x, masks), want)
    tripled = {name: 3 * tensor for name, tensor in model.state_dict().items() if "fc1" in name}
    called = torch.func.functional_call(model, tripled, (x.movedim(1, -1), STEPS), {"fire_mask": masks})[1]
    with torch.no_grad():
        model.fc1.weight.mul_(3)
    torch.testing.assert_close(called.movedim(-1, 1), plain("MaxNCA", model, x, masks))


def test_a_parametrization_gets_its_gradient() -> None:
    class Low(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(12, 2)), nn.Parameter(torch.randn(2, 48))

        def forward(self, weight: Tensor) -> Tensor:
            return weight + (self.a @ self.b)[:, :, None, None]

    def change(model: nn.Module) -> None:
        parametrize.register_parametrization(model.fc0, "weight", Low())
        model.fc0.parametrizations.weight.original.requires_grad_(False)

    compare("MaxNCA", built("MaxNCA", change))


def test_update_bn_gives_the_statistics_of_the_layers() -> None:
    model, (x, _) = built("MaxNCA", swap("bn", lambda _: nn.BatchNorm2d(12))), drawn("MaxNCA")
    twin = copy.deepcopy(model)
    batches = [x.movedim(1, -1), 2 * x.movedim(1, -1)]
    for own in (model, twin):
        own.fire_rate = 0.0
    model.forward = lambda batch: models.MaxNCA.forward(model, batch, STEPS, 0.0)
    twin.forward = lambda batch: plain("MaxNCA", twin, batch.movedim(-1, 1), torch.ones(STEPS, 1, 1, 1, 1))
    for own in (model, twin):
        update_bn(batches, own)
    for name, want in twin.bn.named_buffers():
        torch.testing.assert_close(model.bn.get_buffer(name), want)
    assert model.bn.num_batches_tracked == 2 * STEPS


def test_running_statistics_follow_in_each_level_of_a_cascade() -> None:
    model = models.MedNCA(6, 4, steps=(3, 2)).train()
    model.model2.bn = nn.BatchNorm2d(4)
    model(torch.rand(2, 1, 8, 12), last_steps=1)
    assert model.model2.bn.num_batches_tracked == 2
    assert model.rules[1].norm == "batch" and model.eval().rules[1].norm == "running"


@pytest.mark.parametrize("kind", KINDS)
def test_a_printed_model_says_what_it_is(kind):
    model = KINDS[kind][0]()
    shown = str(nn.Sequential(model))
    rule = model.rule
    assert f"step: {rule.summary()}, cells update with probability {rule.fire_rate:g}" in shown
    assert "Module()" not in shown and f"(0): {kind}(" in shown
    for name, value in model.config().items():
        if isinstance(value, (int, float, str)):
            assert f"{name}={value!r}" in shown
    next(layer for layer in model.modules() if layer is not model).register_forward_hook(print)
    assert "step: " in str(model)


def test_a_printed_cascade_of_a_paper_says_its_arguments():
    assert "channels=6" in str(models.MedNCA(6, 9, (5, 3))) and "levels=3" in str(models.M3DNCA(6, levels=3))


class Renamed(models.BasicNCA):
    def __init__(self, width: int) -> None:
        super().__init__(width, 0.5)


def test_a_model_of_somebodys_class_can_be_printed():
    assert "step: C6 H128" in str(Renamed(6))
