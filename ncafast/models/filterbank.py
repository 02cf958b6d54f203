"""What the texture models of IVRL share: fixed filters of every channel, 1x1 convolutions `w1` and `w2`, positions.

Layout: state [B, C, H, W]. The originals' module does one step; `steps` does several at once, which is faster.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ncafast import check
from ncafast.convergence import Automaton
from ncafast.layers import Layers, bias, conv, matrix
from ncafast.levels import Advance
from ncafast.models.base import RuleModule
from ncafast.prediction import Channels
from ncafast.rule import PADDINGS, Rule

Kernel = tuple[tuple[float, float, float], ...]

SOBEL_X: Kernel = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
SOBEL_Y: Kernel = ((-1.0, -2.0, -1.0), (0.0, 0.0, 0.0), (1.0, 2.0, 1.0))
LAPLACIAN: Kernel = ((1.0, 2.0, 1.0), (2.0, -12.0, 2.0), (1.0, 2.0, 1.0))
LAPLACIAN_X: Kernel = ((0.5, 0.0, 0.5), (2.0, -6.0, 2.0), (0.5, 0.0, 0.5))
LAPLACIAN_Y: Kernel = ((0.5, 2.0, 0.5), (0.0, -6.0, 0.0), (0.5, 2.0, 0.5))


class FilterBankNCA(RuleModule):
    """A subclass gives the rule and the filters to `_describe`, and makes `w1` and `w2`."""

    _channel_major: bool  # columns of w1: all filters of a channel together, or all channels of a filter
    positions = False  # whether each cell sees where it is
    _filters: Tensor  # x and y gradient, and the parts of the Laplacian

    w1: nn.Conv2d
    w2: nn.Conv2d

    def _describe(self, rule: Rule, *filters: Kernel) -> None:
        self._rule = rule
        self.register_buffer("_filters", torch.tensor(filters), persistent=False)

    def seed(self, n: int, h: int = 128, w: int = 128) -> Tensor:
        """The state to start from, [n, C, h, w]: zeros, or noise of the model's noise_level."""
        zeros, level = self.w2.weight.new_zeros(n, self._rule.channels, h, w), getattr(self, "noise_level", None)
        return zeros if level is None else (torch.rand_like(zeros) - 0.5) * level

    def params(self) -> dict[str, Tensor]:
        """The tensors of `rule.param_shapes()`, for filters and steps of the published scale."""
        return self._tensors(self.rule)

    def perceive(self, x: Tensor) -> Tensor:
        """What w1 reads of a state [B, C, H, W], positions aside: [B, 4 C, H, W] in the original's order."""
        return self._perceived(x, self._bank())

    def _perceived(self, x: Tensor, bank: Tensor) -> Tensor:
        channels = x.shape[1]
        mode = "constant" if self._rule.padding == "zeros" else self._rule.padding
        padded = F.pad(x, (1, 1, 1, 1), mode)
        filtered = F.conv2d(padded, bank.to(x.dtype).repeat(channels, 1, 1)[:, None], groups=channels)
        found = torch.cat((x[:, :, None], filtered.unflatten(1, (channels, -1))), 2)  # [B, C, filter, H, W]
        return (found if self._channel_major else found.transpose(1, 2)).flatten(1, 2)

    def _bank(self, dx: float | Tensor = 1.0, dy: float | Tensor = 1.0) -> Tensor:
        """[3, 3, 3]: gradients and Laplacian for cells of size dx, dy."""
        along_x, along_y, *laplacian = self._filters
        parts = zip(laplacian, (dx, dy), strict=False)
        return torch.stack((along_x / dx, along_y / dy, sum(part / size**2 for part, size in parts)))  # type: ignore[arg-type]

    def _layers(self) -> Layers:
        return Layers((), hidden=(conv("w1", self.w1, 2),), norms=(), update=conv("w2", self.w2, 2))

    def _tensors(self, rule: Rule, bank: Tensor | None = None, dt: float | Tensor = 1.0) -> dict[str, Tensor]:
        """Columns in a Rule's order, filter by filter; the step's length dt in the last layer."""
        hidden, update = matrix(self.w1), matrix(self.w2)
        bank = self._bank() if bank is None else bank
        if self._channel_major:
            filtered, rest = hidden.tensor_split((4 * rule.channels,), 1)
            hidden = torch.cat((filtered.unflatten(1, (rule.channels, 4)).transpose(1, 2).flatten(1), rest), 1)
        found = {
            "perceive.weight": bank[:, None].expand(-1, rule.channels, -1, -1),
            "hidden.weight": hidden,
            "hidden.bias": bias(self.w1, hidden),
            "update.weight": update * dt,
        }
        if rule.update_bias:
            found["update.bias"] = bias(self.w2, update) * dt
        return found

    def _stepper(self) -> Advance:
        rule = self._level_rule()
        params = self._tensors(rule)
        return lambda state, steps, **options: self._step(state, rule, params, steps, options)

    def _automaton(self, extra: Tensor | None) -> Automaton:
        found = super()._automaton(extra)
        if not self.positions:
            return found
        self._check_extra({} if extra is None else {"extra": extra})
        return found._replace(extra=lambda x, *at: cell_positions(x))

    def _channels(self) -> Channels:
        colours = slice(0, min(3, self._rule.channels))
        return Channels(colours, slice(colours.stop, self._rule.channels), colours)

    def _step(
        self, x: Tensor, rule: Rule, params: dict[str, Tensor], steps: int, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None]:
        """`_run`, with the positions where the model has them."""
        if self.positions:
            self._check_extra(options)
            check.check_state(x, rule)
            options = options | {"extra": cell_positions(x)}
        return self._run(x, rule, params, steps, **options)

    def _check_extra(self, options: dict[str, Any]) -> None:
        if "extra" in options:
            raise TypeError(f"{type(self).__name__} has no option 'extra': its extra channels are the positions")

    def _step_seen(
        self, x: Tensor, rule: Rule, params: dict[str, Tensor], bank: Tensor, steps: int, options: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """`_step`, and what the last step perceived, for which this step runs by itself."""
        mask, states, first = (options.pop(name, None) for name in ("fire_mask", "states", "first_step"))
        head, start = max(check.check_count("steps", steps) - 1, 0), first or 0
        masks = (None, None) if mask is None else (mask[:head], mask[head:])
        before = {"first_step": start, "fire_mask": masks[0], "states": states}
        seen, kept = self._step(x, rule, params, head, options | before)
        after = {"first_step": start + head, "fire_mask": masks[1]}
        last, _ = self._step(seen, rule, params, steps - head, options | after)
        if kept is not None and steps % (1 if states == "all" else states) == 0:  # type: ignore[operator]
            kept = torch.cat((kept, last[None]))
        return last, kept, self._perceived(seen, bank)


def cell_positions(x: Tensor) -> Tensor:
    """[1, 2, H, W]: where each cell's centre is, from -1 to 1, along H and along W, in x's dtype."""
    dtype = torch.promote_types(x.dtype, torch.float32)  # half precision cannot count the cells of a large grid
    height, width = ((torch.arange(n, device=x.device, dtype=dtype) * 2 + 1) / n - 1 for n in x.shape[2:])
    return torch.stack(torch.meshgrid(height, width, indexing="ij"))[None].to(x.dtype)


def padding_of(name: str, value: str) -> str:
    """A padding mode by the name that torch.nn.functional.pad has for it, as a Rule calls it."""
    if value not in PADDINGS and value != "constant":
        raise ValueError(f"{name}={value!r} is not allowed: it must be constant, reflect, replicate or circular")
    return "zeros" if value == "constant" else value
