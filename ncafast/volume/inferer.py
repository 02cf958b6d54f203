"""Inference in windows with the call of MONAI's SlidingWindowInferer, exact: windows are cropped instead of blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ncafast import check
from ncafast.nca import NCA
from ncafast.rule import Rule
from ncafast.trace import seed_tensor
from ncafast.utils.progress import Bar
from ncafast.values import shown, whole
from ncafast.volume.boxes import Box, grown, read, tiles
from ncafast.volume.masks import fire_masks
from ncafast.volume.reach import needs_whole_grid, reach, refusal

_OF_THE_GRID = ("extra", "film", "states")  # of NCA's call, which windows cannot take


class Inferer:
    """`inferer(inputs, network)`: the network runs on windows, and the result is that on the whole grid.

    Every window is larger than its region of interest by the cells that the result there depends on; only the region is
    kept. What is at the grid's edge is seen there by the network's own padding. Regions do not overlap, and nothing is
    averaged.

    Args:
        roi_size: cells of a region along each axis, one number or one per axis; 0 or less takes the whole axis.
        sw_batch_size: windows that the network runs on at once.
        overlap: as MONAI's; has no effect, since windows overlap by what the network depends on.
        mode: as MONAI's, "constant" or "gaussian"; has no effect, since nothing is blended.
        halo: cells in each direction that a result depends on, one number or one per axis. An `ncafast.NCA` needs none:
            steps times what a step sees. Its fire masks are those of the whole grid.
        sw_device: where the network runs; default where the inputs are.
        device: where the result goes; default where the inputs are.
        progress: show a bar.

    Raises:
        TypeError, ValueError: a wrong argument.
    """

    def __init__(
        self,
        roi_size: int | Sequence[int],
        sw_batch_size: int = 1,
        overlap: float | Sequence[float] = 0.25,
        mode: str = "constant",
        *,
        halo: int | Sequence[int] | None = None,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
    ) -> None:
        if str(getattr(mode, "value", mode)) not in ("constant", "gaussian"):  # MONAI has an enum of them
            raise ValueError(f"mode={shown(mode)} is not allowed: choose constant or gaussian (neither has an effect)")
        self.roi_size, self.overlap, self.mode, self.halo = roi_size, overlap, mode, halo
        self.sw_batch_size = whole("sw_batch_size", sw_batch_size, 1)
        self.sw_device, self.device, self.progress = sw_device, device, progress

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Run the network on all of a grid.

        Args:
            inputs: [B, C, *S].
            network: takes windows [n, C, *W] and returns [n, K, *W]; an `ncafast.NCA`, or with halo= any.
            *args: further arguments of the network.
            **kwargs: further arguments of the network; of an NCA steps, seed, fire_mask, first_step, first_sample.

        Returns:
            [B, K, *S], without gradients.

        Raises:
            TypeError, ValueError: the network cannot run in windows, or returns something else.
        """
        size = tuple(inputs.shape[2:])
        how = self._known(inputs, network, args, kwargs)
        sides = zip(_each("roi_size", self.roi_size, len(size)), size, strict=True)
        regions = tiles(size, [side if roi <= 0 else roi for roi, side in sides]) if inputs.numel() else []
        cores = [(sample, core) for sample in range(inputs.shape[0]) for core in regions]
        out: Tensor | None = None
        with Bar(len(cores), self.progress, "windows") as bar:
            for some in self._batches(cores, size, how):
                windows = torch.cat([read(inputs[sample : sample + 1], box) for sample, _, box in some])
                found = network(windows.to(self.sw_device or inputs.device), *args, **how.options(some, kwargs))
                _check_result(found, windows)
                if out is None:
                    out = found.new_empty((inputs.shape[0], found.shape[1], *size), device=self.device or inputs.device)
                for result, (sample, core, box) in zip(found, some, strict=True):
                    out[sample][core.place] = result[core.within(box)]
                bar.advance({}, len(some))
        if out is None:
            raise ValueError(f"inputs of shape {list(inputs.shape)} have no cells")
        return out

    def _known(self, inputs: Tensor, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _How:
        """The halo, and for an NCA its fire masks."""
        if isinstance(network, NCA):
            return _of_nca(network, inputs, self.sw_device or inputs.device, args, kwargs)
        if self.halo is None:
            raise ValueError(
                f"halo= is needed for a {type(network).__name__}: how many cells away, along each axis, a cell can be "
                "that a result depends on (of convolutions, the sum of kernel_size // 2)"
            )
        halo = [whole("halo", cells, 0) for cells in _each("halo", self.halo, inputs.dim() - 2)]
        return _How(halo, False, lambda some, given: given)

    def _batches(self, cores: list[tuple[int, Box]], size: tuple[int, ...], how: _How) -> Iterator[list[_Window]]:
        """Windows of one size, as many as run at once."""
        windows = [(sample, core, grown(core, size, how.halo, how.wraps)) for sample, core in cores]
        for _, same in groupby(sorted(windows, key=_size), _size):
            alike = list(same)
            for first in range(0, len(alike), self.sw_batch_size):
                yield alike[first : first + self.sw_batch_size]


_Window = tuple[int, Box, Box]  # number of the sample, region, region with its halo


class _How(NamedTuple):
    """How far results depend on the inputs, whether beyond an edge comes the other side, and the options of a call."""

    halo: list[int]
    wraps: bool
    options: Callable[[list[_Window], dict[str, Any]], dict[str, Any]]


def _of_nca(network: NCA, inputs: Tensor, device: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _How:
    """Windows see what all steps see, and draw the fire masks of the whole grid."""
    rule, size = network.rule, tuple(inputs.shape[2:])
    if reason := _refused(rule, kwargs):
        raise ValueError(f"an NCA cannot run in windows: {reason}; see ncafast.volume.rollout_tiled")
    asked = args[0] if args else kwargs.get("steps")
    steps = network._defaults.asked(asked, network.training)
    if isinstance(steps, tuple):
        raise ValueError(f"an NCA cannot run in windows for a range of steps {steps}, drawn anew for each; give steps=")
    if network._defaults.pad_noise and network._defaults.pads(inputs, rule):
        raise ValueError("an NCA cannot pad windows with noise; give the network ncafast.pad_input(inputs, network)")
    first_step, first_sample = (check.check_count(name, kwargs.get(name, 0)) for name in ("first_step", "first_sample"))
    seed, given_mask = kwargs.get("seed"), kwargs.get("fire_mask")
    drawn = torch.randint(-(2**63), 2**63 - 1, (1,)) if seed is None else check.check_seed(seed)
    drawn = seed_tensor(drawn, torch.device("cpu"))

    def mask_of(sample: int, box: Box) -> Tensor | None:  # [T, 1, 1, *box]
        if given_mask is not None:
            return read(given_mask[:, sample % given_mask.shape[1]].unsqueeze(1), box)
        return fire_masks(rule, box, size, 1, steps, drawn, first_step=first_step, first_sample=first_sample + sample)

    def options(some: list[_Window], given: dict[str, Any]) -> dict[str, Any]:
        masks = [mask for sample, _, box in some if (mask := mask_of(sample, box)) is not None]
        return given | {"fire_mask": torch.cat(masks, 1).to(device) if masks else None}

    return _How([steps * cells for cells in reach(rule)], rule.padding == "circular", options)


def _refused(rule: Rule, kwargs: dict[str, Any]) -> str | None:
    """Why an NCA cannot run in windows, or None."""
    if needs_whole_grid(rule):
        return f"norm={rule.norm!r}, pooled={rule.pooled!r} take numbers of the whole grid at every step"
    given = [name for name in _OF_THE_GRID if kwargs.get(name) is not None]
    return f"{given[0]}= is not cut into windows" if given else refusal(rule)


def _size(window: _Window) -> tuple[int, ...]:
    return window[2].size


def _each(name: str, value: int | Sequence[int], axes: int) -> list[int]:
    """A number per axis."""
    values = list(value) if isinstance(value, Sequence) else [value] * axes
    if len(values) != axes:
        raise ValueError(f"{name}={shown(value)} is for {len(values)} axes, and the inputs have {axes}")
    return [whole(name, n, -(2**31)) for n in values]


def _check_result(found: Any, windows: Tensor) -> None:
    if not isinstance(found, Tensor):
        raise TypeError(f"the network returned a {type(found).__name__}; a tensor [n, K, *W] is needed")
    if found.dim() != windows.dim() or found.shape[0] != windows.shape[0] or found.shape[2:] != windows.shape[2:]:
        raise ValueError(
            f"the network returned shape {list(found.shape)} for windows of shape {list(windows.shape)}; results must "
            "have the windows' number and sizes"
        )
