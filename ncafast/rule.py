"""Rule: the frozen description of one NCA step. Data only: no tensors, no torch, no backend.

A step is perceive -> 1x1 MLP -> fire mask -> residual add -> alive mask; every field below configures one of these.
`Rule.param_shapes()` names the tensors that a step needs, in the one order that operators and backends use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any

from ncafast.alive import Alive
from ncafast.values import flag, limits, number, odd, shown, whole, widths

PADDINGS = ("zeros", "reflect", "replicate", "circular")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "identity")
NORMS = ("none", "batch", "running", "group", "instance", "layer")
PERCEPTIONS = ("depthwise", "dense")
NOISES = ("none", "update", "state")
POOLED = ("none", "mean", "max")
MAX_KERNEL = 7  # cells per axis of a filter
_LATER = (
    "hidden_dropout",
    "update_activation",
    "clamp",
    "pooled",
    "pooled_channels",
)  # fields that came after the first release


@dataclass(frozen=True)
class Rule:
    """One NCA step, described completely. Hashable, validated on construction, JSON both ways.

    Shapes: state [B, C, *S] with C = `channels` and `ndim` spatial axes; perception P = `perception_size`; hidden
    layers `hidden` = (H, ...); update M = mutable channels.

    Attributes:
        channels: C, all channels of the state.
        ndim: number of spatial axes, 1, 2 or 3.
        perception: "depthwise" (F filters per channel) or "dense" (one full convolution to `dense_channels`).
        identity: whether the state itself is the first part of the perception.
        num_filters: F, depthwise filters per channel (0 allowed with identity). Ignored by "dense".
        dense_channels: outputs of the dense convolution. Ignored by "depthwise".
        dense_activation: activation of the dense convolution's outputs.
        kernel_size: odd size of the filters per axis, 1 to 7; an int means the same for all axes.
        filter_bias: whether the filters have a bias.
        padding: what filters read past the edge: zeros, reflect, replicate or circular.
        extra: E, further perception channels that are not state (time, position, condition).
        hidden: widths of the hidden layers, at least one; an int means one layer.
        activation: after each hidden layer (and its norm).
        negative_slope: of leaky_relu.
        norm: of each hidden layer before its activation. "batch" takes mean and variance over (B, *S) of the current
            state, in training and evaluation; "running" takes stored ones.
        norm_groups: groups of norm "group".
        norm_eps: added to the variance.
        norm_affine: whether the norm has weight and bias.
        update_bias: whether the last layer has a bias.
        fire_rate: probability that a cell DOES update, 0 to 1. At 1 nothing is drawn.
        fire_rescale: divide the update by fire_rate (inverted dropout, as CAX does in training).
        fire_in_eval: False: in evaluation every cell updates and nothing is rescaled (CAX).
        step_size: factor of the update.
        mutable: [lo, hi) range of channels that the update changes; None means all.
        restore: [lo, hi) range of channels set back to their value before the step, after update and alive mask (CAX
            re-imposes its image so); None means none.
        alive: alive mask, or None.
        noise: where Gaussian noise is added: to the "update" before the mask, to the mutable channels of the "state"
            after it, or "none".
        noise_std: standard deviation of that noise.
        pooled: "mean" or "max" over all cells of a sample as further perception channels, after the extra ones, equal
            in every cell; or "none".
        pooled_channels: [lo, hi) range of state channels that are pooled; None means all.
        hidden_dropout: probability that a hidden unit is set to 0 after its activation, in each cell and step anew; the
            others are divided by 1 - `hidden_dropout`. 0 to below 1. `for_eval` switches it off.
        update_activation: of the last layer's outputs, before noise, `step_size` and fire mask; "tanh" bounds the
            update.
        clamp: (lo, hi) that all channels are clamped to at the end of a step, before `restore`; None on one side leaves
            it open, None clamps nothing. Gradients pass where the number before the clamp is in [lo, hi].

    Raises:
        TypeError: a field has the wrong type.
        ValueError: a field has a value that is not allowed, or fields contradict each other.
    """

    channels: int = 16
    ndim: int = 2
    perception: str = "depthwise"
    identity: bool = True
    num_filters: int = 2
    dense_channels: int = 0
    dense_activation: str = "identity"
    kernel_size: tuple[int, ...] = (3,)
    filter_bias: bool = False
    padding: str = "zeros"
    extra: int = 0
    hidden: tuple[int, ...] = (128,)
    activation: str = "relu"
    negative_slope: float = 0.01
    norm: str = "none"
    norm_groups: int = 1
    norm_eps: float = 1e-5
    norm_affine: bool = True
    update_bias: bool = False
    fire_rate: float = 0.5
    fire_rescale: bool = False
    fire_in_eval: bool = True
    step_size: float = 1.0
    mutable: tuple[int, int] | None = None
    restore: tuple[int, int] | None = None
    alive: Alive | None = None
    noise: str = "none"
    noise_std: float = 0.0
    pooled: str = "none"
    pooled_channels: tuple[int, int] | None = None
    hidden_dropout: float = 0.0
    update_activation: str = "identity"
    clamp: tuple[float | None, float | None] | None = None

    def __post_init__(self) -> None:
        for name, value in _normalised(self):
            object.__setattr__(self, name, value)
        _check_together(self)
        # Made once here: every call asks for the shapes, and code traced by torch.compile only ever reads a string.
        object.__setattr__(self, "_shapes", tuple(_param_shapes(self)))
        text = json.dumps(_written(self), sort_keys=True, separators=(",", ":"), allow_nan=False)
        object.__setattr__(self, "_json", text)

    @property
    def lo(self) -> int:
        """First mutable channel."""
        return self.mutable[0] if self.mutable is not None else 0

    @property
    def hi(self) -> int:
        """One past the last mutable channel."""
        return self.mutable[1] if self.mutable is not None else self.channels

    @property
    def perception_size(self) -> int:
        """P: identity + filters (or dense outputs) + extra channels + pooled channels."""
        identity = self.channels if self.identity else 0
        filtered = self.channels * self.num_filters if self.perception == "depthwise" else self.dense_channels
        lo, hi = self.pooled_range
        return identity + filtered + self.extra + hi - lo

    @property
    def pooled_range(self) -> tuple[int, int]:
        """[lo, hi) of the channels that are pooled; empty if none are."""
        return (0, 0) if self.pooled == "none" else self.pooled_channels or (0, self.channels)

    @property
    def has_filters(self) -> bool:
        """Whether the perception holds any convolution."""
        return self.perception == "dense" or self.num_filters > 0

    def param_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor a step takes, in canonical order.

        Hidden layer 1 is `hidden.*` and `norm.*`; layer n > 1 is `hidden<n>.*` and `norm<n>.*`.
        """
        return dict(self._shapes)  # type: ignore[attr-defined]

    def summary(self) -> str:
        """The rule in a few words: channels, hidden widths, filters, norm."""
        filters = f"{self.num_filters} per channel" if self.perception == "depthwise" else "dense"
        size = "x".join(map(str, self.kernel_size))
        return f"C{self.channels} H{'x'.join(map(str, self.hidden))}, {filters} {size}, norm {self.norm}"

    def for_eval(self) -> Rule:
        """The rule in evaluation: no hidden unit is dropped, and with `fire_in_eval` off every cell fires, unscaled."""
        rule = self.replace(hidden_dropout=0.0) if self.hidden_dropout else self
        return rule if self.fire_in_eval else rule.replace(fire_rate=1.0, fire_rescale=False)

    def replace(self, **changes: Any) -> Rule:
        """A copy with some fields changed; an unknown field is a TypeError that lists the known ones."""
        _known_fields(changes)
        return replace(self, **changes)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces. Equal rules give equal text.

        Later fields are left out at their default, so that earlier versions read rules that do not use them.
        """
        return self._json  # type: ignore[attr-defined,no-any-return]

    @staticmethod
    def from_json(text: str) -> Rule:
        """The rule that `to_json` wrote.

        Raises:
            ValueError: not JSON, not an object, unknown fields (named), or a value that is not allowed.
        """
        return _from_json(text)


def _written(rule: Rule) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(Rule)}
    written = {name: value for name, value in asdict(rule).items() if name not in _LATER or value != defaults[name]}
    return written | {"alive": rule.alive and rule.alive.written()}


@lru_cache(maxsize=256)
def _from_json(text: str) -> Rule:
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"a rule must be JSON text, got {str(text)[:60]!r} ({error})") from None
    if not isinstance(data, dict):
        raise ValueError(f"a rule must be a JSON object, got {type(data).__name__}")
    try:
        _known_fields(data)
        if isinstance(data.get("alive"), dict):
            data["alive"] = Alive(**data["alive"])
        return Rule(**data)
    except TypeError as error:
        raise ValueError(f"this is not a rule: {error}") from None


def _known_fields(names: Mapping[str, Any]) -> None:
    known = [f.name for f in fields(Rule)]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise TypeError(f"unknown rule field {', '.join(unknown)}; known are {', '.join(known)}")


def layer_name(kind: str, layer: int) -> str:
    """Parameter prefix of hidden layer `layer` (from 0): hidden, hidden2, ... or norm, norm2, ..."""
    return kind if layer == 0 else f"{kind}{layer + 1}"


def _param_shapes(rule: Rule) -> Iterator[tuple[str, tuple[int, ...]]]:
    c = rule.channels
    if rule.has_filters:
        dense = rule.perception == "dense"
        yield (
            "perceive.weight",
            (rule.dense_channels if dense else rule.num_filters, c, *rule.kernel_size),
        )
        if rule.filter_bias:
            yield "perceive.bias", (rule.dense_channels,) if dense else (rule.num_filters, c)
    width = rule.perception_size
    for layer, size in enumerate(rule.hidden):
        hidden, norm = layer_name("hidden", layer), layer_name("norm", layer)
        yield f"{hidden}.weight", (size, width)
        yield f"{hidden}.bias", (size,)
        if rule.norm != "none" and rule.norm_affine:
            yield f"{norm}.weight", (size,)
            yield f"{norm}.bias", (size,)
        if rule.norm == "running":
            yield f"{norm}.running_mean", (size,)
            yield f"{norm}.running_var", (size,)
        width = size
    yield "update.weight", (rule.hi - rule.lo, width)
    if rule.update_bias:
        yield "update.bias", (rule.hi - rule.lo,)


def _normalised(rule: Rule) -> Iterator[tuple[str, Any]]:
    """Each field by itself: type, range, int-or-tuple made a tuple."""
    ndim = whole("ndim", rule.ndim, 1, 3)
    yield "ndim", ndim
    yield "channels", whole("channels", rule.channels, 1)
    yield "kernel_size", _kernel(rule.kernel_size, ndim)
    yield "hidden", widths("hidden", rule.hidden)
    for name, low in (("num_filters", 0), ("dense_channels", 0), ("extra", 0), ("norm_groups", 1)):
        yield name, whole(name, getattr(rule, name), low)
    for name, allowed in (
        ("perception", PERCEPTIONS),
        ("dense_activation", ACTIVATIONS),
        ("padding", PADDINGS),
        ("activation", ACTIVATIONS),
        ("norm", NORMS),
        ("noise", NOISES),
        ("pooled", POOLED),
        ("update_activation", ACTIVATIONS),
    ):
        yield name, _one_of(name, getattr(rule, name), allowed)
    for name in (
        "identity",
        "filter_bias",
        "norm_affine",
        "update_bias",
        "fire_rescale",
        "fire_in_eval",
    ):
        yield name, flag(name, getattr(rule, name))
    yield "negative_slope", number("negative_slope", rule.negative_slope)
    yield "step_size", number("step_size", rule.step_size)
    yield "norm_eps", number("norm_eps", rule.norm_eps, low=0.0)
    yield "noise_std", number("noise_std", rule.noise_std, low=0.0)
    yield "fire_rate", number("fire_rate", rule.fire_rate, low=0.0, high=1.0)
    yield "hidden_dropout", number("hidden_dropout", rule.hidden_dropout, low=0.0, high=1.0)
    yield "mutable", _channel_range("mutable", rule.mutable, rule.channels)
    yield "restore", _channel_range("restore", rule.restore, rule.channels)
    yield "pooled_channels", _channel_range("pooled_channels", rule.pooled_channels, rule.channels)
    yield "clamp", limits("clamp", rule.clamp)


def _check_together(rule: Rule) -> None:
    """Fields that contradict each other."""
    if rule.perception == "dense" and rule.dense_channels < 1:
        raise ValueError("perception='dense' needs dense_channels >= 1")
    if not (rule.identity or rule.has_filters):
        raise ValueError("the perception is empty: set identity=True or num_filters >= 1")
    if rule.norm == "group":
        for width in rule.hidden:
            if width % rule.norm_groups:
                raise ValueError(f"norm_groups={rule.norm_groups} must divide each hidden width, got {rule.hidden}")
    if rule.fire_rescale and rule.fire_rate == 0:
        raise ValueError("fire_rescale=True divides by fire_rate, so fire_rate must be above 0")
    if rule.hidden_dropout == 1:
        raise ValueError("hidden_dropout=1.0 leaves nothing to update with; it must be below 1")
    if rule.alive is not None:
        if not isinstance(rule.alive, Alive):
            kind = type(rule.alive).__name__
            raise TypeError(f"alive must be an Alive or None, got {kind}; NCA also takes (channel, threshold)")
        if rule.alive.channel >= rule.channels:
            raise ValueError(f"alive.channel={rule.alive.channel} must be below channels={rule.channels}")


def _kernel(value: Any, ndim: int) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if len(sizes) == 1:
        sizes *= ndim
    if len(sizes) != ndim:
        raise ValueError(f"kernel_size={shown(value)} must be one int or {ndim} ints, one per spatial axis")
    return tuple(odd("kernel_size", size, MAX_KERNEL) for size in sizes)


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}={shown(value)} is not allowed: choose one of {', '.join(allowed)}")
    return str(value)


def _channel_range(name: str, value: Any, channels: int) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"{name} must be (first, end) channels or None, got {shown(value)}")
    lo, hi = whole(name, value[0], 0), whole(name, value[1], 1)
    if not lo < hi <= channels:
        raise ValueError(f"{name}=({lo}, {hi}) must satisfy 0 <= first < end <= channels={channels}")
    return lo, hi
