"""Random rules on the CPU backend against the float64 reference: forward, states and every gradient.

The oracle runs three times: in float64 (exact), in float32, and in float64 with random roundings to float32. The last
two say how much this draw amplifies rounding. ReLU kinks and alive thresholds amplify it without bound, so draws in
which a value comes closer to one than rounding moves it are passed over.
"""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from cases import make_extra, make_params, make_state
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ncafast import Alive, Rule, backends, native, rollout
from ncafast.backends import reference
from ncafast.backends.fusable import MEASURED_NORMS
from ncafast.rule import ACTIVATIONS, PADDINGS

# Set, this many rules are drawn anew on each run; unset, always the same ones.
COUNT = os.environ.get("NCAFAST_RANDOM_RULES")
KINKS = ("relu", "leaky_relu")
CURRENT = (*MEASURED_NORMS, "layer")
SMALL = 3e-6  # of a tensor's largest value


@dataclass(frozen=True)
class Call:
    """One rollout: a rule, and everything else that a caller may choose."""

    rule: Rule
    size: tuple[int, ...]
    batch: int
    steps: int
    seed: int
    isa: str
    threads: int
    options: dict  # first_step, first_sample, states, memory
    mask_batch: int | None  # None: masks are drawn
    extra_shape: tuple[int, ...] | None
    wanted: tuple[bool, ...]  # which of x, extra and the parameters get a gradient, in turn
    loss_of: str  # out, states or both
    fixed: tuple[str, ...] = ()  # what gets none in any case


@st.composite
def grids(draw, ndim, reaches, padding):
    """Sizes that the padding allows; now and then one that takes more than a band of cells."""
    sizes = {1: [1, 2, 3, 5, 8, 13, 17, 150, 401], 2: [1, 2, 3, 5, 8, 13, 17, 29], 3: [1, 2, 3, 5]}[ndim]
    low = {"reflect": 1, "circular": 0}.get(padding)
    allowed = [[n for n in sizes if low is None or n >= reach + low] for reach in reaches]
    return tuple(draw(st.sampled_from(axis)) for axis in allowed)


@st.composite
def ranges(draw, channels):
    """A channel range, or None."""
    lo = draw(st.integers(0, channels - 1))
    return draw(st.none() | st.integers(lo + 1, channels).map(lambda hi: (lo, hi)))


@st.composite
def perceptions(draw, ndim):
    """The fields that say what a cell sees."""
    dense = draw(st.integers(0, 3)) == 0
    filters = draw(st.integers(0, 8))
    kernels = [1, 3, 3, 3, 5, 7] if ndim < 3 else [1, 1, 3, 3, 3, 5, 7]
    return {
        "perception": "dense" if dense else "depthwise",
        "dense_channels": draw(st.integers(1, 19)) if dense else 0,
        "dense_activation": draw(st.sampled_from(ACTIVATIONS)),
        "num_filters": filters,
        "identity": draw(st.booleans()) or (not dense and filters == 0),
        "filter_bias": draw(st.booleans()),
        "kernel_size": tuple(draw(st.sampled_from(kernels)) for _ in range(ndim)),
        "padding": draw(st.sampled_from(PADDINGS)),
        "extra": draw(st.sampled_from([0, 0, 1, 3])),
    }


@st.composite
def rules(draw):
    """Any rule that the backend takes, of modest size."""
    ndim, channels = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    norm = draw(st.sampled_from(["none", "none", "batch", "batch", "running", "group", "instance", "layer"]))
    layers = 1 if norm in MEASURED_NORMS else draw(st.sampled_from([1, 1, 2, 3, 4]))
    groups = draw(st.integers(1, 5)) if norm == "group" else 1
    narrowest = 8 if norm == "layer" else 1  # over fewer units nothing but rounding is left
    alive = None
    if draw(st.integers(0, 3)) == 0:
        pre, post = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
        pool, threshold = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([0.0, 0.3, 0.8]))
        wrap, gates = draw(st.booleans()), "state" if post else draw(st.sampled_from(["state", "update"]))
        alive = Alive(draw(st.integers(0, channels - 1)), threshold, pool, pre, post, wrap, gates)
    rate = draw(st.sampled_from([0.0, 0.2, 0.5, 0.5, 0.9, 1.0]))
    # A pooled channel is equal in all cells, so that a measured norm takes it away: where it is large beside what is
    # left, little but rounding remains. The case table has pooled channels under such norms.
    return Rule(
        channels=channels,
        ndim=ndim,
        **draw(perceptions(ndim)),
        hidden=tuple(groups * draw(st.integers(narrowest, 40 // groups)) for _ in range(layers)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        negative_slope=draw(st.sampled_from([0.01, 0.2, 0.0, 1.5])),
        norm=norm,
        norm_groups=groups,
        norm_eps=draw(st.sampled_from([1e-5, 1e-3, 0.1])),
        norm_affine=draw(st.booleans()),
        update_bias=draw(st.booleans()),
        fire_rate=rate,
        fire_rescale=rate > 0 and draw(st.booleans()),
        step_size=draw(st.sampled_from([1.0, 0.3, -0.7])),
        mutable=draw(ranges(channels)),
        restore=draw(ranges(channels)),
        alive=alive,
        hidden_dropout=draw(st.sampled_from([0.0, 0.0, 0.0, 0.3, 0.8])),
        update_activation=draw(st.sampled_from(["identity", "identity", "identity", "tanh", *ACTIVATIONS])),
        clamp=draw(st.sampled_from([None, None, None, (-1.0, 1.0), (None, 0.7), (0.0, None)])),
        pooled="none" if norm in MEASURED_NORMS else draw(st.sampled_from(["none", "none", "mean", "max"])),
        pooled_channels=draw(ranges(channels)),
    )


@st.composite
def calls(draw):
    """A rule and how it is called."""
    rule = draw(rules())
    reaches = [k // 2 for k in rule.kernel_size] if rule.has_filters else [0] * rule.ndim
    size = draw(grids(rule.ndim, reaches, rule.padding))
    batch, steps = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    if rule.norm in MEASURED_NORMS:  # of fewer cells nothing but rounding is left; test_cpu_edges.py has the case
        together = {"batch": batch, "group": rule.hidden[0] // rule.norm_groups}.get(rule.norm, 1)
        assume(together * math.prod(size) >= 8)
    repeats = [draw(st.booleans()) for _ in range(rule.ndim + 2)]
    extra = [1 if repeats[0] else batch, rule.extra]
    extra += [1 if repeat else n for repeat, n in zip(repeats[1:-1], size, strict=True)]
    return Call(
        rule=rule,
        size=size,
        batch=batch,
        steps=steps,
        seed=draw(st.integers(0, 10**6)),
        isa=draw(st.sampled_from(instruction_sets())),
        threads=draw(st.integers(1, 3)),
        options={
            "first_step": draw(st.sampled_from([0, 7, 2**32 - 4])),
            "first_sample": draw(st.sampled_from([0, 5, 2**32 - 3])),
            "states": draw(st.sampled_from([None, "all", 1, 2, 3])),
            "memory": draw(st.sampled_from(["states", "sqrt", 1, 2, 3])),
        },
        mask_batch=draw(st.sampled_from([None, 1, batch])),
        extra_shape=tuple([steps] * repeats[-1] + extra) if rule.extra else None,
        wanted=tuple(draw(st.lists(st.booleans(), min_size=3, max_size=3))) if draw(st.booleans()) else (True,),
        loss_of=draw(st.sampled_from(["both", "out", "states"])),
    )


def instruction_sets():
    """Those that this processor has."""
    found = []
    for name in ("avx512", "avx2", "portable"):
        with forced(name, 1):
            found += [name] if native.load().instruction_set() == name else []
    return found


@contextmanager
def forced(isa, threads):
    """This instruction set and number of threads, and NaN in all memory that nobody has written."""
    before = torch.get_num_threads()
    os.environ["NCAFAST_CPU_ISA"] = isa
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)  # fills what torch.empty returns
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)
        del os.environ["NCAFAST_CPU_ISA"]


@contextmanager
def recorded(values):
    """Notes every number whose sign decides something."""
    activate, living, clamped = reference._activate, reference._living, reference._clamped
    pooled = reference._pooled

    def note_activate(name, rule, z):
        if name in KINKS:
            values.append(z.detach())
        return activate(name, rule, z)

    def note_living(alive, x):
        values.append(x[:, alive.channel].detach() - alive.threshold)
        return living(alive, x)

    def note_clamped(clamp, x, dtype):
        values.extend(x.detach() - torch.tensor(side, dtype=dtype) for side in clamp if side is not None)
        return clamped(clamp, x, dtype)

    def note_pooled(rule, x):
        found = pooled(rule, x)
        if rule.pooled == "max":  # which cells have it
            values.append(x[:, slice(*rule.pooled_range)].detach() - found.detach())
        return found

    reference._activate, reference._living, reference._clamped = note_activate, note_living, note_clamped
    reference._pooled = note_pooled
    try:
        yield
    finally:
        reference._activate, reference._living, reference._clamped = activate, living, clamped
        reference._pooled = pooled


@contextmanager
def current_norm(normalise):
    """Norms of the current state on the reference by another formula, of (rule, z [B, H, N], y [B, P, N], params)."""
    before, perceive = reference._normalise, reference.perceive
    seen = []

    def note_perceive(*args):
        seen[:] = [perceive(*args)]
        return seen[0]

    def instead(rule, z, params, name):
        if rule.norm not in CURRENT:
            return before(rule, z, params, name)
        z = normalise(rule, z, seen[0].flatten(2), params)
        weight, bias = params.get(f"{name}.weight"), params.get(f"{name}.bias")
        return (z if weight is None else weight[:, None] * z + bias[:, None]), None

    reference._normalise, reference.perceive = instead, note_perceive
    try:
        yield
    finally:
        reference._normalise, reference.perceive = before, perceive


def grouped(rule, z):
    """z [B, H, N] as [B, groups, units, N], and the axes of that which mean and variance are taken over."""
    groups = {"group": rule.norm_groups, "layer": 1}.get(rule.norm, z.shape[1])
    return z.unflatten(1, (groups, -1)), {"batch": (0, 2, 3), "layer": (2,)}.get(rule.norm, (2, 3))


def constant_statistics(rule, z, y, params):
    """The formula with mean and variance as constants.

    The true gradient is that of this minus what flows through mean and variance. With few cells little or nothing is
    left, and rounding goes by the size of the parts, not of the difference.
    """
    z, axes = grouped(rule, z)
    mean, var = z.detach().mean(axes, keepdim=True), z.detach().var(axes, unbiased=False, keepdim=True)
    return ((z - mean) / torch.sqrt(var + rule.norm_eps)).flatten(1, 2)


def rounded_moments(rule, z, y, params):
    """The formula with the variance as uncertain as the perception's second moments in float32 leave it."""
    z, axes = grouped(rule, z)
    mean, var = z.mean(axes, keepdim=True), z.var(axes, unbiased=False, keepdim=True)
    if rule.norm != "layer":  # which takes the hidden units' own
        spread = y.std((0, 2) if rule.norm == "batch" else 2, unbiased=False, keepdim=True)  # [B or 1, P, 1]
        reach = (params["hidden.weight"].abs() @ spread).detach().unflatten(1, z.shape[1:3])
        var = var + 2**-23 * torch.randn(var.shape, dtype=var.dtype) * reach.square().mean(2, keepdim=True)
    return ((z - mean) / torch.sqrt(var.clamp(min=0) + rule.norm_eps)).flatten(1, 2)


def undecided(exact, single):
    """Whether rounding might move a number across zero, where it is not zero for good."""
    for a, b in zip(exact, single, strict=True):
        margin = 8 * (a - b).abs().max() + 1e-6 * a.abs().max()
        if ((a.abs() < margin) & ((a != 0) | (b != 0))).any():
            return True
    return False


def inputs(call):
    """x, params, extra and masks in float32."""
    rule, size, dtype = call.rule, call.size, torch.float32
    generator = torch.Generator().manual_seed(call.seed)
    x = make_state(rule, size, dtype, call.batch, seed=call.seed)
    params = make_params(rule, dtype, seed=call.seed)
    extra = make_extra(rule, size, dtype, shape=call.extra_shape, seed=call.seed)
    masks = None
    if call.mask_batch is not None:
        shape = (call.steps, call.mask_batch, 1, *size)
        masks = torch.rand(shape, generator=generator) < rule.fire_rate
    return x, params, extra, masks


def results(call, backend, x, params, extra, masks, device="cpu"):
    """Name -> tensor: out, states, and the gradients asked for."""
    given = {"x": x, **({} if extra is None else {"extra": extra}), **params}
    given = {name: value.detach().to(device, copy=True) for name, value in given.items()}
    masks = None if masks is None else masks.to(device)
    learned = [name for name in given if "running" not in name and name not in call.fixed]
    leaves = [name for i, name in enumerate(learned) if call.wanted[i % len(call.wanted)]]
    for name in leaves:
        given[name].requires_grad_()
    own = {name: given[name] for name in params}
    out = rollout(
        given["x"],
        call.rule,
        own,
        call.steps,
        fire_mask=masks,
        extra=given.get("extra"),
        seed=call.seed,
        backend=backend,
        **call.options,
    )
    out, states = out if isinstance(out, tuple) else (out, out[None])
    generator = torch.Generator().manual_seed(call.seed + 1)
    loss = 0.0
    for name, value in (("out", out), ("states", states)):
        weight = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        if call.loss_of in (name, "both"):
            loss = loss + (value * weight).sum()
    named = {"out": out.detach(), "states": states.detach()}
    if leaves and loss.requires_grad:
        grads = torch.autograd.grad(loss, [given[name] for name in leaves])
        named |= {f"d{name}": grad for name, grad in zip(leaves, grads, strict=True)}
    return {name: value.cpu() for name, value in named.items()}


def shaken(value, generator):
    """In float64, off by as much as a rounding to float32 can be."""
    noise = torch.rand(value.shape, generator=generator, dtype=torch.float64) * 2 - 1
    return value.double() * (1 + noise * 2**-23)


def compare(call, backend="cpu", device="cpu"):
    """Asserts of every tensor that its error is like that of PyTorch in float32."""
    x, params, extra, masks = inputs(call)

    def wide(cast):
        more = None if extra is None else cast(extra)
        return cast(x), {name: cast(p) for name, p in params.items()}, more, masks

    exact_signs, single_signs, generator = [], [], torch.Generator().manual_seed(5)
    with recorded(exact_signs):
        exact = results(call, "reference", *wide(torch.Tensor.double))
    with recorded(single_signs):
        single = results(call, "reference", x, params, extra, masks)
    assume(not undecided(exact_signs, single_signs))
    with current_norm(constant_statistics):
        parts = results(call, "reference", *wide(torch.Tensor.double)) if call.rule.norm in CURRENT else exact
    with current_norm(rounded_moments):
        nudged = results(call, "reference", *wide(lambda value: shaken(value, generator)))
    with forced(call.isa, call.threads):
        ours = results(call, backend, x, params, extra, masks, device)
    assert list(ours) == list(exact)
    for name, want in exact.items():
        if not want.numel():
            continue
        error, plain, shake = ((found[name] - want).abs().max().item() for found in (ours, single, nudged))
        scale = max(want.abs().max().item(), parts[name].abs().max().item())
        bound = 2 * max(plain, shake) + SMALL * scale + 1e-7
        assert error <= bound, f"{name}: error {error:.1e} > {bound:.1e} (float32 {plain:.1e}, scale {scale:.1e})"


@settings(
    max_examples=int(COUNT or 330),
    derandomize=COUNT is None,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(calls())
def test_random_rules(call):
    """Forward, states and gradients on every instruction set, with errors like those of PyTorch in float32."""
    assert backends.get("cpu").can_run(call.rule, torch.zeros(1)) is None
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other
    try:
        compare(call)
    finally:
        torch.set_num_threads(before)
