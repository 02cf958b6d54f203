"""The workloads: the one table of what is measured, at which sizes, and which two modules are the same automaton.

Every case names a published model in plain PyTorch and ncafast's counterpart with the same weights. Tests check
that pair on tiny grids; the benchmark checks it again at the size that it times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from ncafast import models
from ncafast.bench import originals
from ncafast.bench.case import Case, Size, Tensors
from ncafast.bench.modes import FORWARD, INFERENCE, MEMORY, SIZES, TRAIN
from ncafast.nca import NCA


def _filters_first(original: Tensors, filters: tuple[str, ...], fixed: int) -> dict[str, Tensor]:
    """Depthwise Conv + 1x1 layers fc0 and fc1 as an `NCA` names them; the first `fixed` channels do not move."""
    shapes = [original[f"{name}.weight"].squeeze(1) for name in filters]
    moving = original["fc1.weight"].flatten(1)
    new = {
        "perceive.weight": torch.stack(shapes),
        "perceive.bias": torch.stack([original[f"{name}.bias"] for name in filters]),
        "hidden.weight": original["fc0.weight"].flatten(1),
        "hidden.bias": original["fc0.bias"],
        "update.weight": moving[fixed:] if moving.shape[0] == original[f"{filters[0]}.bias"].shape[0] else moving,
    }
    if "bn.weight" in original:
        new |= {"norm.weight": original["bn.weight"], "norm.bias": original["bn.bias"]}
    return new


def _octree(ndim: int, kernel: int, norm: bool) -> NCA:
    return NCA(
        channels=16,
        hidden=64,
        ndim=ndim,
        filters="learned",
        num_filters=1,
        kernel_size=kernel,
        filter_bias=True,
        padding="reflect",
        norm="batch" if norm else None,
        immutable=1,
    )


def _plain_maxnca() -> NCA:
    return NCA(channels=16, hidden=128, filters="learned", filter_bias=True, padding="reflect", immutable=3)


def _med(name: str, title: str, kernel: int, sizes: dict[str, Size]) -> Case:
    return Case(name, title, lambda: originals.NCA2D(k=kernel), lambda: models.NCA2D(k=kernel), "fc2.weight", sizes)


def _volume(kernel: int, steps: int) -> Case:
    return Case(
        f"3d-k{kernel}",
        f"3-D, {kernel}^3 filter, C16 H64, batch norm",
        lambda: originals.OctreeNCA(3, k=kernel),
        lambda: _octree(3, kernel, norm=True),
        "fc1.weight",
        {
            "quick": Size(1, (20, 20, 20), 2),
            "full": Size(1, (48, 48, 48), steps),
            "gpu": Size(1, (128, 128, 128), 20),
        },
        convert=lambda tensors: _filters_first(tensors, ("conv",), 1),
    )


def _texture(name: str, channels: int, hidden: int, sizes: dict[str, Size]) -> Case:
    return Case(
        name,
        f"Texture C{channels} H{hidden}, 4 fixed filters, circular",
        lambda: originals.TextureNCA(channels, hidden),
        lambda: models.TextureNCA(channels, hidden),
        "mlp.2.weight",
        sizes,
        spread=0.02,  # its filters are not scaled, so larger weights would make the state run away
    )


_MAXNCA = {"quick": Size(2, (48, 48), 6), "full": Size(8, (64, 64), 12), "gpu": Size(32, (64, 64), 12)}
_GROWING = {"quick": Size(2, (72, 72), 6), "full": Size(8, (72, 72), 8), "gpu": Size(8, (72, 72), 80)}

_LARGE = Case(
    "large-2d",
    "one large image, C16 H64, 3x3, no norm",
    lambda: originals.OctreeNCA(2, norm=False),
    lambda: _octree(2, 3, norm=False),
    "fc1.weight",
    {"quick": Size(1, (512, 512), 2), "full": Size(1, (2048, 2048), 2), "gpu": Size(1, (8192, 8192), 10)},
    (INFERENCE,),
    convert=lambda tensors: _filters_first(tensors, ("conv",), 1),
)

_MAXNCA_BN = Case(
    "maxnca-bn",
    "MaxNCA C16 H128, 2 learned filters, reflect, batch norm",
    originals.MaxNCA,
    models.MaxNCA,
    "fc1.weight",
    _MAXNCA,
)

CASES: tuple[Case, ...] = (
    Case(
        "maxnca",
        "MaxNCA C16 H128, 2 learned filters, reflect, no norm",
        lambda: originals.MaxNCA(norm=False),
        _plain_maxnca,
        "fc1.weight",
        _MAXNCA,
        convert=lambda tensors: _filters_first(tensors, ("p0", "p1"), 3),
    ),
    _MAXNCA_BN,
    _med(
        "med-fine",
        "Med-NCA fine C16 H64, 3x3, batch norm",
        3,
        {"quick": Size(1, (128, 128), 4), "full": Size(1, (320, 320), 6), "gpu": Size(1, (320, 320), 20)},
    ),
    _med(
        "med-fine-b16",
        "Med-NCA fine, batch of 16",
        3,
        {"quick": Size(2, (96, 96), 4), "full": Size(16, (320, 320), 1), "gpu": Size(16, (320, 320), 20)},
    ),
    _med(
        "med-coarse",
        "Med-NCA coarse C16 H64, 7x7, batch norm",
        7,
        {"quick": Size(1, (80, 80), 6), "full": Size(1, (80, 80), 20), "gpu": Size(1, (80, 80), 40)},
    ),
    _med(
        "med-coarse-b16",
        "Med-NCA coarse, batch of 16",
        7,
        {"quick": Size(2, (80, 80), 4), "full": Size(16, (80, 80), 4), "gpu": Size(16, (80, 80), 40)},
    ),
    _texture(
        "texture",
        12,
        96,
        {"quick": Size(1, (96, 96), 6), "full": Size(1, (128, 128), 12), "gpu": Size(8, (128, 128), 64)},
    ),
    _texture(
        "texture-c128",
        128,
        128,
        {"quick": Size(1, (48, 48), 3), "full": Size(1, (128, 128), 2), "gpu": Size(8, (128, 128), 16)},
    ),
    Case(
        "growing",
        "Growing C16 H128, Sobel, alive mask, every cell alive",
        lambda: originals.GrowingNCA(16, 0.5),
        models.GrowingNCA,
        "fc1.weight",
        _GROWING,
        start="alive",
        spread=0.005,
    ),
    Case(
        "growing-seed",
        "Growing from one seed cell, 64 steps",
        lambda: originals.GrowingNCA(16, 0.5),
        models.GrowingNCA,
        "fc1.weight",
        {name: replace(size, steps=24 if name == "quick" else 64) for name, size in _GROWING.items()},
        start="seed",
        check_steps=12,
    ),
    Case(
        "selfclass-mnist",
        "self-classifying MNIST C20 H80, dense 3x3, alive mask",
        originals.SelfClassifyingNCA,
        models.SelfClassifyingNCA,
        "update.layers.1.weight",
        {"quick": Size(4, (28, 28), 6), "full": Size(16, (28, 28), 20), "gpu": Size(16, (28, 28), 20)},
        (TRAIN, FORWARD, INFERENCE),
        start="ring",
    ),
    _volume(3, 4),
    _volume(7, 2),
    _LARGE,
)


_SWEPT = ("eager", "ncafast:cpu", "ncafast:cuda", "ncafast:triton")


def _grid_sweep() -> Iterable[Case]:
    """Cost per cell from 32^2 to 4096^2, about as many cells in every call."""
    for side in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        size = Size(1, (side, side), max(1, min(32, 2**20 // side**2)))
        yield replace(
            _LARGE,
            name=f"grid-{side}",
            title=f"{_LARGE.title}, {side}^2 cells",
            sizes=dict.fromkeys(SIZES, size),
            providers=_SWEPT,
        )


def _cube_sweep() -> Iterable[Case]:
    """The same from 16^3 to 192^3."""
    for side in (16, 32, 64, 128, 192):
        size = Size(1, (side, side, side), max(2, min(32, 2**20 // side**3)))
        yield replace(
            _LARGE,
            name=f"cube-{side}",
            title=f"a volume, C16 H64, 3x3x3, no norm, {side}^3 cells",
            original=lambda: originals.OctreeNCA(3, norm=False),
            fused=lambda: _octree(3, 3, norm=False),
            sizes=dict.fromkeys(SIZES, size),
            providers=_SWEPT,
        )


def _call_sweep() -> Iterable[Case]:
    """Cost per cell of small and large grids in calls of 2, 10 and 50 steps."""
    small_and_large = ("grid-64", "grid-512", "grid-4096", "cube-16", "cube-64", "cube-192")
    for case in (*_grid_sweep(), *_cube_sweep()):
        for steps in (2, 10, 50) if case.name in small_and_large else ():
            size = replace(case.sizes["full"], steps=steps)
            yield replace(
                case,
                name=f"{case.name}-in-{steps}",
                title=f"{case.title}, {steps} steps a call",
                sizes=dict.fromkeys(SIZES, size),
            )


def _step_sweep() -> Iterable[Case]:
    """Memory kept for backward against the number of steps."""
    for steps in (4, 8, 16, 32, 64):
        yield replace(
            _MAXNCA_BN,
            name=f"steps-{steps}",
            title=f"MaxNCA, batch norm, memory of {steps} steps",
            sizes=dict.fromkeys(SIZES, Size(2, (64, 64), steps)),
            modes=(MEMORY,),
            providers=("eager", "ncafast:cpu", "ncafast:cpu:sqrt", "ncafast:cuda", "ncafast:cuda:sqrt"),
        )


_BACKENDS = ("cpu", "cuda", "triton")


def _volume_case(name: str, grid: tuple[int, int, int], norm: bool, providers: Iterable[str]) -> Case:
    return replace(
        _LARGE,
        name=name + ("-bn" if norm else ""),
        title=f"volume of {' x '.join(map(str, grid))} cells, C16 H64, 3x3x3, {'batch' if norm else 'no'} norm",
        original=lambda: originals.OctreeNCA(3, norm=norm),
        fused=lambda: _octree(3, 3, norm=norm),
        sizes=dict.fromkeys(SIZES, Size(1, grid, 10)),
        providers=tuple(providers),
    )


def _volume_sweep(*sides: int) -> Iterable[Case]:
    """Time and memory of whole volumes and of volumes on disk, tile by tile."""
    ways = [f"ncafast:{name}" + way for name in _BACKENDS for way in ("", ":tiled")]
    for side in sides:
        yield _volume_case(f"volume-{side}", (side, side, side), False, ("eager", *ways))


RANKS = (1, 2, 4)


def _rank_sweep() -> Iterable[Case]:
    """The same volumes on 1, 2 and 4 processes; those of `depth` 64 times the processes are as much work for each."""
    for norm in (False, True):
        for depth in (64, 128, 256):
            ways = (f"ncafast:cpu:ranks{count}" for count in RANKS)
            yield _volume_case(f"ranks-{depth}", (depth, 128, 128), norm, ways)


LARGEST = tuple(_volume_sweep(512))  # in no group: 8.6 GB a state, 12 GB of memory and 17 GB of files in all


SWEEPS: dict[str, tuple[Case, ...]] = {
    "grid": tuple(_grid_sweep()),
    "cube": tuple(_cube_sweep()),
    "calls": tuple(_call_sweep()),
    "steps": tuple(_step_sweep()),
    "volume": (*_volume_sweep(64, 128, 256), *_rank_sweep()),
}


def select(names: Iterable[str]) -> list[Case]:
    """Cases by name; "main" is the table, "grid", "cube", "calls", "steps" and "volume" the sweeps, "all" everything.

    Raises:
        ValueError: an unknown name.
    """
    groups = {"main": CASES, **SWEEPS}
    groups["all"] = tuple(case for group in groups.values() for case in group)
    known = {case.name: case for case in (*groups["all"], *LARGEST)}
    chosen: dict[str, Case] = {}
    for name in names:
        if name not in groups and name not in known:
            raise ValueError(f"case={name!r} is not known: choose from {', '.join([*groups, *known])}")
        chosen |= {case.name: case for case in groups.get(name, (known[name],) if name in known else ())}
    return list(chosen.values())
