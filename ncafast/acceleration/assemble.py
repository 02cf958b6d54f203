"""The measured parts of a step put together: the rule, and its parameters from the module's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast.acceleration.allowed import check_operations
from ncafast.acceleration.behind import find_behind, reaching
from ncafast.acceleration.errors import NotAccelerated, operation
from ncafast.acceleration.extra import Extra, find_extra
from ncafast.acceleration.firing import RANDOM, Firing, random_node
from ncafast.acceleration.given import tensors_in, widened
from ncafast.acceleration.graph import StepGraph, named_tensors
from ncafast.acceleration.layers import Layers, find_layers, norm_of, weight_of
from ncafast.acceleration.layout import Grid
from ncafast.acceleration.mapping import Compute, parameter_mapping
from ncafast.acceleration.norms import Norm, norm_parameters
from ncafast.acceleration.perception import Perception, measure_perception
from ncafast.acceleration.results import Results, find_results
from ncafast.acceleration.sample import Sample
from ncafast.acceleration.seen import measure_seen
from ncafast.acceleration.structure import Names
from ncafast.acceleration.units import Drop, dropout_of, without_drops
from ncafast.acceleration.update import Update, measure_update
from ncafast.functional import rollout
from ncafast.rule import PADDINGS, Rule, layer_name

_AGREES = 1e-9  # of float64 values, relative
_LIVES = 3.0  # above an alive mask's threshold: no update of a pooled window is as large


@dataclass
class Match:
    """A step that was found."""

    rule: Rule
    parameters: Compute
    firing: Firing | None
    sample: Sample  # that was measured
    extra: Extra | None = None
    results: Results | None = None  # beside the state
    caches: Names = frozenset()  # attributes that the step writes, which do not matter
    units: tuple[bool, ...] = ()  # which of a step's draws are those of hidden units
    checked_steps: int = 0  # the longest loop that is known to repeat one step
    checked_sizes: set[tuple[int, tuple[int, ...], bool]] = field(default_factory=set)  # batch, grid, gradients

    @property
    def grid(self) -> Grid:
        """The layout of a state, and the sizes that were measured."""
        return self.sample.grid


def assemble(twin: nn.Module, sample: Sample) -> Match:
    """Trace a step, measure it, and put the parts together.

    Args:
        twin: a copy of the user's module in float64, whose parameters are not zero.
        sample: a call of one step.

    Raises:
        NotAccelerated: with the reason.
    """
    graph, grid = sample.traced(twin), sample.grid
    layers = find_layers(graph)
    random_node(graph, grid, layers.drawn)
    behind = find_behind(graph, layers)
    check_operations(graph, layers, behind)
    own, given = ([t.detach() for t in found] for found in (named_tensors(twin).values(), tensors_in(sample.rest)))
    tensors = own + given
    norm, results = norm_of(layers, graph), find_results(graph, layers, sample)
    seen = measure_seen(graph, layers, grid, tensors)
    extra = find_extra(twin, graph, layers, seen, sample)
    rows = extra.rows if extra is not None else []
    perception = measure_perception(seen, graph, tensors, [row for row in rows if row < len(seen.hit)])
    update = measure_update(graph, layers, behind, grid, tensors, len(list(twin.parameters())))
    rule = _rule(layers, perception, update, grid, norm)
    rule = rule.replace(extra=len(rows), hidden_dropout=dropout_of(graph, layers.drops, tensors))
    compute = parameter_mapping(_compute(graph, layers, perception, update, rule, norm, rows, given), own)
    compute = _scaled(compute, update, rule, given)
    outside = None
    if extra is not None:
        x = grid.inward(sample.state(own[0]))
        outside = extra.values(twin, x, 1, sample.rest).detach()
    rule = rule.replace(
        padding=_padding(graph, rule, compute(own), update.firing, layers.drops, grid, tensors, outside)
    )
    units = tuple(node in layers.drawn for node in graph.nodes if operation(node) in RANDOM)
    return Match(rule, compute, update.firing, sample, extra, results, units=units)


def _rule(layers: Layers, seen: Perception, update: Update, grid: Grid, norm: Norm) -> Rule:
    acts = {layer.activation for layer in layers.hidden}
    if len(acts) > 1:
        raise NotAccelerated(f"the hidden layers have different activations: {', '.join(sorted(a for a, _ in acts))}")
    activation, slope = acts.pop()
    if seen.activation == "leaky_relu" and activation != "leaky_relu":
        slope = 0.01
    changed = update.matrix.abs().sum(1).nonzero().flatten().tolist()
    lo, hi = changed[0], changed[-1] + 1
    mutable = None if (lo, hi) == (0, grid.channels) else (lo, hi)
    return Rule(
        channels=grid.channels,
        ndim=len(grid.sizes),
        perception="dense" if seen.dense else "depthwise",
        identity=seen.identity,
        num_filters=0 if seen.dense else seen.filters,
        dense_channels=seen.filters if seen.dense else 0,
        dense_activation=seen.activation,
        kernel_size=seen.kernel,
        filter_bias=seen.bias,
        hidden=tuple(layer.width for layer in layers.hidden),
        activation=activation,
        negative_slope=slope or 0.01,
        norm=norm.kind,
        norm_groups=norm.groups,
        norm_eps=norm.eps,
        norm_affine=norm.affine,
        update_bias=layers.update.bias is not None,
        fire_rate=update.firing.rate if update.firing else 1.0,
        step_size=1.0 if update.factors is not None else _step_size(update.matrix),
        mutable=mutable,
        restore=update.restore,
        alive=update.alive,
        update_activation=update.activation,
        clamp=update.clamp,
    )


def _step_size(matrix: Tensor) -> float:
    """The factor that all of the last layer's rows have in common, else 1."""
    factors = matrix[matrix != 0]
    plain = int((matrix != 0).sum(1).max()) == 1 and bool((factors == factors[0]).all())
    return float(factors[0]) if plain else 1.0


def _compute(
    graph: StepGraph,
    layers: Layers,
    seen: Perception,
    update: Update,
    rule: Rule,
    norm: Norm,
    extra: list[int],
    given: list[Tensor],
) -> Compute:
    """The rule's tensors, evaluated on the user's own graph."""
    matrix = update.matrix[rule.lo : rule.hi] / rule.step_size
    rows = matrix.abs().argmax(1).masked_fill(matrix.abs().sum(1) == 0, -1)
    numbers = (matrix == 0) | (matrix == 1)
    selects = bool(numbers.all() or update.factors is not None) and int((matrix != 0).sum(1).max()) == 1
    if rule.update_activation != "identity" and not selects:
        raise NotAccelerated(f"the update's channels are mixed or scaled apart behind its {rule.update_activation}")

    def last(value: Tensor) -> Tensor:
        padded = torch.cat([value, torch.zeros_like(value[:1])])  # row -1: a channel that does not change
        return padded[rows.to(value.device)] if selects else matrix.to(value) @ value

    def compute(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        like = next((t for t in tensors if t.is_floating_point()), torch.empty(0, dtype=torch.float64))
        tensors = [*tensors, *(t.to(like.device) for t in widened(given, like.dtype))]
        found = seen.parameters(graph, tensors)
        for k, layer in enumerate(layers.hidden):
            weight = weight_of(layer, graph, tensors)
            if k == 0:
                units = [torch.eye(len(weight)).to(weight)] if layer.conditions else []
                weight = F.pad(torch.cat([weight, *units], 1), (0, 1))[:, [*seen.columns, *extra]]
            name = layer_name("hidden", k)
            found |= {f"{name}.weight": weight, f"{name}.bias": _bias(graph, layer.bias, weight, tensors)}
            if layer.norm is not None:
                parts = norm_parameters(graph, layer.norm, norm, layer.width, tensors)
                found |= {f"{layer_name('norm', k)}.{part}": value for part, value in parts.items()}
        weight = weight_of(layers.update, graph, tensors)
        found["update.weight"] = last(weight)
        if rule.update_bias:
            found["update.bias"] = last(_bias(graph, layers.update.bias, weight, tensors))
        return {name: found[name] for name in rule.param_shapes()}

    return compute


def _scaled(compute: Compute, update: Update, rule: Rule, given: list[Tensor]) -> Compute:
    """The rule's tensors where parameters of the module scale the update: its last layer's are multiplied by them."""
    factors = update.factors
    if factors is None:
        return compute

    def scaled(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        found, like = compute(tensors), next(t for t in tensors if t.is_floating_point())
        scale = factors([*tensors, *(t.to(like.device) for t in widened(given, like.dtype))])[rule.lo : rule.hi]
        last = {name: found[name] for name in ("update.weight", "update.bias") if name in found}
        return found | {name: (value.T * scale).T for name, value in last.items()}

    return scaled


def _bias(graph: StepGraph, node: Any, weight: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    if node is None:
        return weight.new_zeros(len(weight))
    bias = graph.evaluate(node, {}, tensors)
    if bias.numel() != len(weight):
        raise NotAccelerated("a bias that is added to a linear layer is not one number per unit")
    return bias.reshape(-1)


def _padding(
    graph: StepGraph,
    rule: Rule,
    params: dict[str, Tensor],
    firing: Firing | None,
    drops: Sequence[Drop | None],
    grid: Grid,
    tensors: Sequence[Tensor],
    extra: Tensor | None,
) -> str:
    """The padding with which the rule does what the traced step does, on states that are dense and partly empty.

    In the first one every cell lives and updates: of a short line's four ends none might.
    """
    states, inside = [], True
    like = graph.x.meta["val"]
    for empty in (None, 0.0, 0.7):
        x = torch.randn(grid.batch, rule.channels, *grid.sizes, dtype=torch.float64)
        x = x * (torch.rand(grid.batch, 1, *grid.sizes) >= (empty or 0.0))
        if empty is None and rule.alive is not None:
            x[:, rule.alive.channel] = x[:, rule.alive.channel].abs() + rule.alive.threshold + _LIVES
        x = x if empty is None else reaching(rule, x)
        fed, skip = without_drops(drops)
        feed = {graph.x: grid.outward(x.to(like.device)), **fed}
        mask = None
        if firing is not None:
            draws = torch.rand(firing.node.meta["val"].shape, dtype=torch.float64)
            draws = draws.fill_(firing.surely) if empty is None else draws
            mask = firing.by_cell(firing.fires(draws))[None].to(like.device)
            feed[firing.node] = (firing.fires(draws).double() if not firing.limits else draws).to(like.device)
        states.append((x.to(like.device), mask, grid.cells(graph.evaluate(graph.out, feed, tensors, skip))))
    middle: tuple[Any, ...] = (..., *(slice(3, -3) for _ in grid.sizes))
    for padding in PADDINGS if rule.has_filters else PADDINGS[:1]:
        trial, good = rule.replace(padding=padding, hidden_dropout=0.0), True
        for x, mask, want in states:
            got = rollout(x, trial, params, 1, fire_mask=mask, extra=extra, backend="reference")
            assert isinstance(got, Tensor)
            error = (got - want).abs()
            limit = _AGREES * max(1.0, float(want.abs().max()))
            good = good and float(error.max()) <= limit
            inside = inside and float(error[middle].max()) <= limit
        if good:
            return padding
    if inside:
        raise NotAccelerated("the filters' padding is none of zeros, reflect, replicate and circular")
    raise NotAccelerated("a rule was found, but one step of it is not what the module computes")
