"""One case at one size on one device: its weights, its inputs, and what the right answer is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ncafast.backends.reference import largest_near
from ncafast.bench.case import Case, Size
from ncafast.bench.originals import Original
from ncafast.bench.parity import STATE, STATE_GRADIENT
from ncafast.rule import Rule

_CHECKED = 2**18  # the float64 answer is worked out on no more cells than these
_STRICT = 2**13  # and gradients are compared strictly on no more: of more, some hidden value surely is at a kink
_CACHE = 2**27  # bytes of inputs that surely do not fit into a cache

Rollout = Callable[[Tensor, int, "Tensor | None"], Tensor]  # published layout; masks [T, B, 1, *S] or None


@dataclass(frozen=True)
class Check:
    """What parity is judged on: a size, which may be smaller than the one that is timed, and a seed of the input."""

    size: Size
    seed: int


class Problem:
    """What all providers of one case get.

    Attributes:
        rule: the case's step; `learned_filters` says whether its filters are trained.
        channels_last: whether the published layout is [B, *S, C].
        inputs: states in that layout.
        whole: the check at the size that is timed, or near it.
        strict: checks that are small enough for gradients; one that fails may have a hidden value at a ReLU's kink.
        working: share of the cells whose update counts, or None where it changes from step to step.
    """

    def __init__(self, case: Case, size: Size, device: torch.device) -> None:
        self.case, self.size, self.device = case, size, device
        original, fused = self.original(), self.fused()
        self.channels_last = original.channels_last
        self.rule: Rule = fused.rule  # type: ignore[assignment]
        self.learned_filters = bool(params_of(fused).get("perceive.weight", torch.ones(())).requires_grad)
        generator = torch.Generator().manual_seed(1)
        one = size.cells * self.rule.channels * 4
        states = [case.state(size, self.rule.channels, generator) for _ in range(max(1, min(64, _CACHE // one)))]
        self.inputs = [self.laid_out(state.to(device)).contiguous() for state in states]
        few = Size(size.batch, size.grid, min(size.steps, case.check_steps))
        self.whole = Check(_smaller(few, _CHECKED), 2)
        self.strict = [Check(_smaller(few, _STRICT), seed) for seed in (2, 3, 4)]
        self.working = _working(case, self.rule, Size(1, size.grid, 1))
        self.answer = cache(self._answer)

    def original(self) -> Original:
        """A new copy of the published model with the case's weights."""
        return self.case.build().to(self.device)

    def fused(self) -> nn.Module:
        """A new ncafast module with the same weights."""
        return self.case.fuse(self.case.build()).to(self.device)

    def laid_out(self, x: Tensor) -> Tensor:
        """[B, C, *S] as a view in the published layout."""
        return x.movedim(1, -1) if self.channels_last else x

    def check_input(self, check: Check, every_cell: bool) -> tuple[Tensor, Tensor, Tensor]:
        """State [B, C, *S], weights of the loss of that shape, masks [T, B, 1, *S] bool."""
        generator = torch.Generator().manual_seed(check.seed)
        size = check.size
        state = self.case.state(size, self.rule.channels, generator)
        weight = torch.randn(state.shape, generator=generator)
        drawn = torch.rand(size.steps, size.batch, 1, *size.grid, generator=generator)
        masks = (
            torch.ones_like(drawn, dtype=torch.bool)
            if every_cell or self.case.every_cell
            else drawn < self.rule.fire_rate
        )
        return state.to(self.device), weight.to(self.device), masks.to(self.device)

    def _answer(self, check: Check, training: bool, every_cell: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(plain PyTorch in float32, the same in float64), on the CPU, gradients under the counterpart's names."""
        found = []
        for dtype in (torch.float32, torch.float64):
            module = self.original().to(dtype)
            result = self.traced(module, plain(module), check, training, every_cell, dtype)
            found.append({name: tensor.cpu() for name, tensor in self.renamed(result).items()})
        return found[0], found[1]

    def renamed(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The original's gradients as those of the counterpart; state and x stay."""
        fixed = {name: tensor for name, tensor in found.items() if name in (STATE, STATE_GRADIENT)}
        gradients = {name: tensor for name, tensor in found.items() if name not in fixed}
        return fixed | (self.case.convert(gradients) if gradients else {})

    def traced(
        self,
        module: nn.Module,
        rollout: Rollout,
        check: Check,
        training: bool,
        every_cell: bool = False,
        dtype: torch.dtype = torch.float32,
        gradients: bool = True,
    ) -> dict[str, Tensor]:
        """The state after the check's steps, and in training the gradients of x and of every parameter in use."""
        x, weight, masks = self.check_input(check, every_cell)
        x, weight = x.to(dtype), weight.to(dtype)
        module.train(training)
        want = training and gradients
        x.requires_grad_(want)
        with torch.set_grad_enabled(want):
            out = rollout(self.laid_out(x), check.size.steps, masks)
            out = out.movedim(-1, 1) if self.channels_last else out
        found = {STATE: out.detach()}
        if want:
            module.zero_grad(set_to_none=True)
            (out * weight).mean().backward()
            found[STATE_GRADIENT] = _gradient(x)
            found |= {name: _gradient(p) for name, p in module.named_parameters() if p.grad is not None}
            module.zero_grad(set_to_none=True)
        return found


def params_of(module: nn.Module) -> dict[str, Tensor]:
    """An ncafast module's tensors by the rule's names."""
    params: Any = module.params
    return params()  # type: ignore[no-any-return]


def plain(module: Original) -> Rollout:
    """The original's own loop."""
    return lambda x, steps, masks: module.rollout(x, steps, None if masks is None else masks.unbind())


def _working(case: Case, rule: Rule, size: Size) -> float | None:
    alive = rule.alive
    if alive is None or case.start == "alive":
        return 1.0
    moves = rule.lo <= alive.channel < rule.hi
    restored = rule.restore is not None and rule.restore[0] <= alive.channel < rule.restore[1]
    if not alive.pre or (moves and not restored):  # which cells live changes from step to step
        return None
    state = case.state(size, rule.channels, torch.Generator().manual_seed(1))
    nearest = largest_near(state[:, alive.channel : alive.channel + 1], alive.pool, alive.wrap)
    if alive.post and moves and alive.gates == "state":  # a dead cell's update still counts for its neighbours' life
        nearest = largest_near(nearest, alive.pool, alive.wrap)
    return float((nearest > alive.threshold).float().mean())


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad.clone()


def _smaller(size: Size, most: int) -> Size:
    """The size with fewer samples, then shorter axes, until there are at most so many cells."""
    batch, grid = size.batch, size.grid
    while Size(batch, grid, 1).cells > most:
        if batch > 2:
            batch //= 2
        else:
            longest = max(grid)
            grid = tuple(length - length // 2 if length == longest else length for length in grid)
    return Size(batch, grid, size.steps)
