"""The case table: small rules that between them touch every field of Rule, shared by tests of every backend."""

from __future__ import annotations

import torch
from torch import Tensor

from ncafast import Alive, Rule

_SMALL = {"channels": 4, "hidden": (6,)}

CASES: dict[str, tuple[Rule, tuple[int, ...]]] = {
    "1d": (Rule(**_SMALL, ndim=1), (9,)),
    "2d": (Rule(**_SMALL), (5, 7)),
    "3d": (Rule(**_SMALL, ndim=3, num_filters=3), (3, 4, 5)),
    "one cell": (Rule(**_SMALL, padding="replicate"), (1, 1)),
    "identity only": (Rule(**_SMALL, num_filters=0), (4, 3)),
    "no identity": (Rule(**_SMALL, identity=False, filter_bias=True), (4, 3)),
    "reflect, bias": (Rule(**_SMALL, padding="reflect", filter_bias=True), (5, 6)),
    "replicate": (Rule(**_SMALL, padding="replicate", num_filters=1), (2, 6)),
    "circular": (Rule(**_SMALL, padding="circular", num_filters=4), (5, 3)),
    "pooled mean": (Rule(**_SMALL, pooled="mean", padding="circular", mutable=(1, 4)), (5, 6)),
    "pooled max": (
        Rule(channels=18, hidden=(9,), pooled="max", pooled_channels=(3, 18), extra=2, padding="reflect"),
        (7, 5),
    ),
    "pooled mean, batch norm": (Rule(**_SMALL, ndim=3, pooled="mean", norm="batch", padding="replicate"), (3, 2, 4)),
    "pooled max, group norm": (
        Rule(**_SMALL, pooled="max", pooled_channels=(0, 1), norm="group", norm_groups=2, kernel_size=5),
        (9, 4),
    ),
    "pooled mean, dense": (
        Rule(**_SMALL, ndim=1, pooled="mean", perception="dense", dense_channels=5, identity=False, kernel_size=5),
        (11,),
    ),
    "k1": (Rule(**_SMALL, kernel_size=1), (3, 5)),
    "k5 reflect": (Rule(**_SMALL, kernel_size=5, padding="reflect"), (4, 6)),
    "k7 zeros": (Rule(**_SMALL, kernel_size=7, num_filters=1, filter_bias=True), (5, 8)),
    "k mixed": (Rule(**_SMALL, kernel_size=(1, 5), padding="circular"), (3, 6)),
    "3d k5 reflect": (
        Rule(**_SMALL, ndim=3, num_filters=1, kernel_size=5, padding="reflect"),
        (3, 4, 3),
    ),
    "3d circular": (Rule(**_SMALL, ndim=3, num_filters=1, padding="circular"), (3, 2, 4)),
    "1d replicate k7": (Rule(**_SMALL, ndim=1, kernel_size=7, padding="replicate"), (5,)),
    "dense": (
        Rule(
            **_SMALL,
            perception="dense",
            dense_channels=5,
            filter_bias=True,
            dense_activation="relu",
            identity=False,
        ),
        (4, 5),
    ),
    "dense and identity": (
        Rule(**_SMALL, perception="dense", dense_channels=3, padding="reflect"),
        (4, 5),
    ),
    "dense 1d": (
        Rule(**_SMALL, ndim=1, perception="dense", dense_channels=3, dense_activation="elu"),
        (6,),
    ),
    "batch norm": (Rule(**_SMALL, norm="batch", padding="reflect", filter_bias=True), (4, 5)),
    "batch norm 3d": (Rule(**_SMALL, ndim=3, num_filters=1, norm="batch"), (3, 2, 4)),
    "batch norm plain": (Rule(**_SMALL, norm="batch", norm_affine=False, norm_eps=1e-3), (4, 5)),
    "running norm": (Rule(**_SMALL, norm="running"), (4, 5)),
    "group norm": (Rule(**_SMALL, norm="group", norm_groups=2), (4, 5)),
    "instance norm": (Rule(**_SMALL, norm="instance"), (4, 5)),
    "layer norm": (Rule(**_SMALL, norm="layer"), (4, 5)),
    "group norm 3d": (
        Rule(**_SMALL, ndim=3, num_filters=1, norm="group", norm_groups=3, padding="reflect", filter_bias=True),
        (3, 2, 4),
    ),
    "group norm wide": (
        Rule(channels=17, hidden=(34,), num_filters=3, norm="group", norm_groups=2, mutable=(3, 17), restore=(5, 6)),
        (7, 9),
    ),
    "instance norm k7": (
        Rule(**_SMALL, num_filters=1, kernel_size=7, norm="instance", norm_affine=False, filter_bias=True),
        (5, 8),
    ),
    "layer norm deep": (Rule(channels=4, hidden=(6, 17), norm="layer", activation="gelu", norm_affine=False), (4, 5)),
    "leaky_relu": (Rule(**_SMALL, activation="leaky_relu", negative_slope=0.2), (4, 5)),
    "elu": (Rule(**_SMALL, activation="elu"), (4, 5)),
    "gelu": (Rule(**_SMALL, activation="gelu"), (4, 5)),
    "silu": (Rule(**_SMALL, activation="silu"), (4, 5)),
    "tanh": (Rule(**_SMALL, activation="tanh"), (4, 5)),
    "identity": (Rule(**_SMALL, activation="identity"), (4, 5)),
    "two hidden, norm": (Rule(channels=4, hidden=(6, 4), norm="batch", update_bias=True), (4, 5)),
    "three hidden": (Rule(channels=3, hidden=(5, 4, 3), activation="tanh"), (4, 5)),
    "step size": (Rule(**_SMALL, step_size=0.3, update_bias=True), (4, 5)),
    "image first": (Rule(**_SMALL, mutable=(1, 4), update_bias=True), (4, 5)),
    "image last": (Rule(**_SMALL, mutable=(0, 3)), (4, 5)),
    "middle": (Rule(**_SMALL, mutable=(1, 2)), (4, 5)),
    "alive": (Rule(**_SMALL, alive=Alive(channel=3, threshold=0.3)), (6, 7)),
    "alive pre": (Rule(**_SMALL, alive=Alive(channel=0, post=False, threshold=0.4)), (6, 7)),
    "alive post": (
        Rule(**_SMALL, alive=Alive(channel=1, pre=False, threshold=0.4, pool=1)),
        (6, 7),
    ),
    "alive 3d pool5": (
        Rule(**_SMALL, ndim=3, num_filters=1, alive=Alive(pool=5, threshold=1.2)),
        (4, 3, 5),
    ),
    "alive, restore": (Rule(**_SMALL, alive=Alive(threshold=0.5), restore=(3, 4)), (6, 7)),
    "extra": (Rule(**_SMALL, extra=2), (4, 5)),
    "fire 0.2": (Rule(**_SMALL, fire_rate=0.2), (4, 5)),
    "fire 1": (Rule(**_SMALL, fire_rate=1.0), (4, 5)),
    "rescale": (Rule(**_SMALL, fire_rate=0.25, fire_rescale=True), (4, 5)),
    "update noise": (Rule(**_SMALL, noise="update", noise_std=0.1), (4, 5)),
    "state noise": (Rule(**_SMALL, noise="state", noise_std=0.1, mutable=(1, 3)), (4, 5)),
    "hidden dropout": (Rule(**_SMALL, hidden_dropout=0.25, update_bias=True), (5, 7)),
    "hidden dropout, two layers, layer norm": (
        Rule(channels=4, hidden=(19, 9), hidden_dropout=0.5, norm="layer", activation="gelu", padding="circular"),
        (4, 6),
    ),
    "hidden dropout, batch norm, leaky": (
        Rule(**_SMALL, hidden_dropout=0.1, norm="batch", activation="leaky_relu", mutable=(1, 3), padding="reflect"),
        (4, 5),
    ),
    "hidden dropout 3d, running norm": (
        Rule(channels=3, hidden=(33,), ndim=3, num_filters=1, hidden_dropout=0.7, norm="running", activation="elu"),
        (3, 4, 5),
    ),
    "alive wraps": (Rule(**_SMALL, padding="circular", alive=Alive(channel=3, threshold=0.8, wrap=True)), (6, 7)),
    "alive wraps round, 3d": (
        Rule(**_SMALL, ndim=3, num_filters=1, alive=Alive(0, 1.7, pool=7, post=False, wrap=True)),
        (2, 5, 9),
    ),
    "alive gates the update": (
        Rule(**_SMALL, update_bias=True, alive=Alive(1, 0.7, post=False, gates="update")),
        (6, 7),
    ),
    "alive gates the update, clamp, restore": (
        Rule(
            **_SMALL,
            norm="batch",
            alive=Alive(2, 0.3, pool=1, post=False, wrap=True, gates="update"),
            clamp=(-1, 1),
            restore=(0, 1),
            padding="reflect",
        ),
        (5, 7),
    ),
    "alive gates the update, noise": (
        Rule(**_SMALL, noise="state", noise_std=0.1, alive=Alive(1, 0.7, post=False, gates="update")),
        (4, 5),
    ),
    "tanh update": (Rule(**_SMALL, update_activation="tanh", step_size=0.3, update_bias=True), (5, 7)),
    "tanh update, two hidden, mutable": (
        Rule(
            channels=19, hidden=(6, 9), update_activation="tanh", fire_rescale=True, mutable=(2, 18), padding="reflect"
        ),
        (4, 6),
    ),
    "leaky update 3d": (
        Rule(**_SMALL, ndim=3, num_filters=1, update_activation="leaky_relu", norm="instance", clamp=(-1, 1)),
        (3, 4, 5),
    ),
    "gelu update, noise": (Rule(**_SMALL, update_activation="gelu", noise="update", noise_std=0.1), (4, 5)),
    "clamp": (Rule(**_SMALL, clamp=(-0.6, 0.9), update_bias=True), (5, 7)),
    "clamp below, batch norm": (Rule(**_SMALL, clamp=(None, 0.4), norm="batch", padding="circular"), (4, 5)),
    "clamp above, alive, restore": (
        Rule(**_SMALL, clamp=(0.2, None), alive=Alive(threshold=0.5), restore=(1, 3), padding="replicate"),
        (6, 7),
    ),
    "clamp 3d": (Rule(channels=5, hidden=(6,), ndim=3, num_filters=1, clamp=(-1, 1), padding="reflect"), (3, 4, 5)),
    "clamp 1d, mutable": (Rule(channels=19, hidden=(6,), ndim=1, clamp=(-0.5, 0.5), mutable=(2, 18)), (13,)),
    "wide": (Rule(channels=17, hidden=(33,), num_filters=3, norm="batch", mutable=(3, 17)), (7, 9)),
}


def make_state(rule: Rule, size: tuple[int, ...], dtype: torch.dtype, batch: int = 2, seed: int = 7) -> Tensor:
    """A random state [B, C, *S]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, rule.channels, *size, generator=generator, dtype=torch.float64).to(dtype)


def make_params(rule: Rule, dtype: torch.dtype, seed: int = 11) -> dict[str, Tensor]:
    """Random parameters of sensible size, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    params = {}
    for name, shape in rule.param_shapes().items():
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var"):
            value = value.abs() + 0.5
        elif name.startswith("norm"):
            value = 1 + 0.3 * value
        elif len(shape) > 1:
            fan_in = (
                value[0].numel() if rule.perception == "dense" or name != "perceive.weight" else value[0, 0].numel()
            )
            value = value / fan_in**0.5
        params[name] = value.to(dtype)
    return params


def make_masks(rule: Rule, steps: int, size: tuple[int, ...], batch: int = 2) -> Tensor | None:
    """Random fire masks [T, B, 1, *S], or None where every cell fires."""
    if rule.fire_rate >= 1:
        return None
    generator = torch.Generator().manual_seed(13)
    return torch.rand(steps, batch, 1, *size, generator=generator) < rule.fire_rate


def make_extra(
    rule: Rule,
    size: tuple[int, ...],
    dtype: torch.dtype,
    batch: int = 2,
    *,
    shape: tuple[int, ...] | None = None,
    seed: int = 17,
) -> Tensor | None:
    """Extra channels [B, E, *S] or of another shape, or None."""
    if not rule.extra:
        return None
    generator = torch.Generator().manual_seed(seed)
    shape = shape or (batch, rule.extra, *size)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
