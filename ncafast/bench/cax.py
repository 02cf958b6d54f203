"""CAX, the JAX library of cellular automata: the same automaton out of CAX's own parts, jitted.

It takes no fire mask, so its parity is checked with every cell firing, forward and the gradient of the state. Its
training takes seconds per step on a CPU, where XLA has no fast gradient of a grouped convolution; a call has few steps.
"""

from __future__ import annotations

import importlib.util
import math
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncafast.bench import machine
from ncafast.bench.modes import FORWARD, INFERENCE, TRAIN
from ncafast.bench.parity import STATE, STATE_GRADIENT
from ncafast.bench.problem import Check, Problem, params_of
from ncafast.bench.providers import LEARNING_RATE, Provider, Runner
from ncafast.measuring.timing import Call
from ncafast.rule import Rule

_TRAIN_STEPS = 4  # at most, on a CPU
_PADDING = {"zeros": "SAME", "circular": "CIRCULAR", "reflect": "REFLECT"}


class Cax(Provider):
    """CAX on the device that JAX finds, which has to be the one that is measured."""

    name = "cax"
    compiles = True
    every_cell = True
    state_only = True

    def why_not(self, problem: Problem, mode: str) -> str | None:
        """Not installed, another device, or no part of CAX does this."""
        missing = [name for name in ("jax", "cax") if importlib.util.find_spec(name) is None]
        if missing:
            return f"not installed ({', '.join(missing)}); run: pip install cax jax"
        if problem.case.start == "seed":
            return "CAX computes dead cells too, so this costs what every cell alive costs"
        return _missing_part(problem.rule) or _elsewhere(problem.device)

    def open(self, problem: Problem) -> Runner:
        """See `Provider`."""
        return _CaxRunner(problem)


def _elsewhere(device: torch.device) -> str | None:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of a GPU's memory at once
    import jax

    platform = jax.default_backend()
    if {"gpu": "cuda"}.get(platform, platform) != device.type:
        return f"JAX is on {platform}, this run on {device.type}"
    cores = machine.usable_cores()
    if device.type == "cpu" and torch.get_num_threads() != cores:
        return f"JAX takes all {cores} cores, this run {torch.get_num_threads()} threads"
    return None


def _missing_part(rule: Rule) -> str | None:
    if rule.norm != "none":
        return f"CAX has no {rule.norm} norm"
    if rule.padding not in _PADDING:
        return f"CAX has no {rule.padding} padding"
    if rule.alive is not None and not (rule.alive.pre and rule.alive.post and rule.alive.pool == 3):
        return "CAX has no such alive mask"
    if rule.activation != "relu" or rule.dense_activation not in ("relu", "identity") or rule.extra:
        return "not built here from CAX's parts"
    return None


class _CaxRunner(Runner):
    def __init__(self, problem: Problem) -> None:
        import jax
        import jax.numpy as jnp
        import optax
        from flax import nnx

        self.problem, self.jax, self.jnp, self.nnx = problem, jax, jnp, nnx
        rule = problem.rule
        self.order = _order(rule)
        self.system = _build(rule, params_of(problem.fused()), self.order)
        inputs = [x if problem.channels_last else x.movedim(1, -1) for x in problem.inputs]
        self.inputs = [jnp.asarray(x[..., self.order].cpu().numpy()) for x in inputs]
        learned: Any = nnx.Param
        if not problem.learned_filters:
            learned = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("perceive")))
        optimiser = nnx.Optimizer(self.system, optax.adam(LEARNING_RATE), wrt=learned)
        steps, train_steps = problem.size.steps, self.steps(TRAIN)

        @nnx.jit
        def train(system: Any, optimiser: Any, state: Any) -> Any:
            def loss(system: Any) -> Any:
                return jnp.mean(jnp.square(system(state, num_steps=train_steps)))

            value, gradients = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, learned))(system)
            optimiser.update(system, gradients)
            return value

        self.runs = {
            TRAIN: lambda state: train(self.system, optimiser, state),
            FORWARD: lambda state: self.system(state, num_steps=steps),
            INFERENCE: lambda state: self.system(state, num_steps=steps),
        }

    def steps(self, mode: str) -> int:
        """See `Runner`."""
        most = self.problem.size.steps
        return min(most, _TRAIN_STEPS) if mode == TRAIN and self.problem.device.type == "cpu" else most

    def call(self, mode: str) -> Call:
        """See `Runner`."""
        run = self.runs[mode]
        if mode == INFERENCE and self.problem.rule.fire_in_eval:
            self.system.train()  # the published model masks cells in evaluation too
        else:
            self.system.train() if mode != INFERENCE else self.system.eval()
        return lambda number: self.jax.block_until_ready(run(self.inputs[number % len(self.inputs)]))

    def check(self, check: Check, training: bool) -> dict[str, Tensor]:
        """Without dropout, and with the step size that belongs to that."""
        x, weight, _ = self.problem.check_input(check, every_cell=True)
        own = [self.jnp.asarray(t.movedim(1, -1)[..., self.order].cpu().numpy()) for t in (x, weight)]
        rule, steps = self.problem.rule, check.size.steps
        before = self.system.update.step_size
        self.system.update.step_size = rule.step_size / (rule.fire_rate if training and rule.fire_rescale else 1.0)
        self.system.eval()

        def loss(system: Any, state: Any) -> Any:
            out = system(state, num_steps=steps)
            return self.jnp.mean(out * own[1]), out

        if training:
            gradient, out = self.nnx.grad(loss, argnums=1, has_aux=True)(self.system, own[0])
            found = {STATE: self._back(out), STATE_GRADIENT: self._back(gradient)}
        else:
            found = {STATE: self._back(loss(self.system, own[0])[1])}
        self.system.update.step_size = before
        return found

    def _back(self, array: Any) -> Tensor:
        """[B, *S, C] in CAX's order of channels -> [B, C, *S] in ours."""
        ours = np.empty_like(array)
        ours[..., self.order] = np.asarray(array)
        return torch.from_numpy(ours).movedim(-1, 1)


def _order(rule: Rule) -> list[int]:
    """Our channel numbers in CAX's order: the alive channel is the last one there."""
    last = rule.channels - 1 if rule.alive is None else rule.alive.channel
    return [channel for channel in range(rule.channels) if channel != last] + [last]


def _build(rule: Rule, params: dict[str, Tensor], order: list[int]) -> Any:
    """A CAX system of this rule with these weights."""
    from cax.core import ComplexSystem
    from cax.core.perceive import ConvPerceive
    from cax.core.update import NCAUpdate, ResidualUpdate
    from flax import nnx
    from jax import numpy as jnp

    weights = {name: tensor.detach().cpu() for name, tensor in params.items()}
    kernel, bias, columns = _perception(rule, weights, order)
    rngs = nnx.Rngs(0)
    perceive = ConvPerceive(
        rule.channels,
        kernel.shape[-1],
        kernel_size=rule.kernel_size,
        padding=_PADDING[rule.padding],
        feature_group_count=1 if rule.perception == "dense" else rule.channels,
        use_bias=True,
        activation_fn=nnx.relu if rule.dense_activation == "relu" and rule.perception == "dense" else None,
        rngs=rngs,
    )
    shared: dict[str, Any] = {
        "channel_size": rule.channels,
        "perception_size": kernel.shape[-1],
        "hidden_layer_sizes": rule.hidden,
        # Its dropout divides by the rate of firing; the step size takes that back.
        "step_size": rule.step_size * (1.0 if rule.fire_rescale else rule.fire_rate),
        "cell_dropout_rate": 1.0 - rule.fire_rate,
        "rngs": rngs,
    }
    if rule.alive is None:
        update = ResidualUpdate(num_spatial_dims=rule.ndim, **shared)
    else:
        update = NCAUpdate(kernel_size=(3,) * rule.ndim, alive_threshold=rule.alive.threshold, **shared)
    perceive.conv.kernel[...] = jnp.asarray(kernel.numpy())
    perceive.conv.bias[...] = jnp.asarray(bias.numpy())
    for layer, (matrix, offset) in zip(update.layers, _layers(rule, weights, columns, order), strict=True):
        layer.kernel[...] = jnp.asarray(matrix.numpy()).reshape(layer.kernel.shape)
        layer.bias[...] = jnp.asarray(offset.numpy())
    fixed = jnp.asarray([not rule.lo <= c < rule.hi or _restored(rule, c) for c in order])

    class System(ComplexSystem):  # type: ignore[misc]
        def __init__(self) -> None:
            self.perceive, self.update = perceive, update

        def _step(self, state: Any, input: Any = None, *, sow: bool = False) -> Any:
            after = self.update(state, self.perceive(state), input)
            return jnp.where(fixed, state, after) if rule.mutable or rule.restore else after

    return System()


def _restored(rule: Rule, channel: int) -> bool:
    return rule.restore is not None and rule.restore[0] <= channel < rule.restore[1]


def _perception(rule: Rule, weights: dict[str, Tensor], order: list[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Kernel [*k, in per group, out], bias [out], and for each output its column in our first layer."""
    kernel = weights["perceive.weight"]  # [F, C, *k], or dense [D, C, *k]
    bias = weights.get("perceive.bias")
    if rule.perception == "dense":
        moved = kernel[:, order].movedim(0, -1).movedim(0, -2)
        return moved, torch.zeros(kernel.shape[0]) if bias is None else bias, list(range(kernel.shape[0]))
    count, channels = kernel.shape[:2]
    first = int(rule.identity)
    filters = torch.zeros(count + first, *kernel.shape[1:])
    filters[first:] = kernel
    offsets = torch.zeros(count + first, channels)
    if bias is not None:
        offsets[first:] = bias
    if rule.identity:  # one of CAX's kernels, too
        filters.flatten(2)[0, :, math.prod(rule.kernel_size) // 2] = 1.0
    own = filters[:, order].transpose(0, 1).flatten(0, 1)  # channel by channel, as a grouped convolution puts it out
    columns = [f * channels + channel for channel in order for f in range(count + first)]
    return own.movedim(0, -1).unsqueeze(-2), offsets[:, order].t().flatten(), columns


def _layers(
    rule: Rule, weights: dict[str, Tensor], columns: list[int], order: list[int]
) -> list[tuple[Tensor, Tensor]]:
    """(matrix [in, out], bias [out]) of every layer."""
    names = ["hidden"] + [f"hidden{n}" for n in range(2, len(rule.hidden) + 1)]
    found = [(weights[f"{name}.weight"].t(), weights[f"{name}.bias"]) for name in names]
    found[0] = (found[0][0][columns], found[0][1])
    matrix, offset = torch.zeros(rule.channels, rule.hidden[-1]), torch.zeros(rule.channels)
    matrix[rule.lo : rule.hi] = weights["update.weight"]
    if rule.update_bias:
        offset[rule.lo : rule.hi] = weights["update.bias"]
    return [*found, (matrix[order].t(), offset[order])]
