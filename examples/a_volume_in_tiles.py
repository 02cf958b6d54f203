# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A volume in tiles
#
# A state that does not fit into memory runs tile by tile, from one file into another, with the result of the whole
# grid: the same cells fire, bit for bit. Here the volume is small, so that both can be compared. It takes `pip
# install ncafast` and matplotlib, and one minute on two cores.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.lib.format import open_memmap

import ncafast
from ncafast.volume import plan_tiled, rollout_tiled

# %% tags=["parameters"]
side = 96  # cells along each axis
steps = 24

# %% [markdown]
# ## A volume on disk
#
# A few balls in the first channel, written slab by slab: the array is never in memory as a whole.

# %%
folder = Path(tempfile.mkdtemp())
shape = (1, 2, side, side, side)  # [B, C, D, H, W]
source = open_memmap(folder / "volume.npy", "w+", np.float32, shape)
axis = np.linspace(-1, 1, side, dtype=np.float32)
balls = [(-0.4, -0.3, -0.4, 0.35), (0.4, 0.3, 0.2, 0.45), (0.3, -0.5, 0.5, 0.25)]  # z, y, x, radius
for index, z in enumerate(axis):
    distances = [(z - a) ** 2 + (axis[:, None] - b) ** 2 + (axis - c) ** 2 - r**2 for a, b, c, r in balls]
    source[0, 0, index] = np.minimum.reduce(distances) < 0
source.flush()

# %% [markdown]
# ## An automaton
#
# Its weights are set by hand: the second channel is heat, which comes from the balls, spreads, and fades. A trained
# model would run in the same way; for `MedNCA` and `M3DNCA` there is `ncafast.volume.cascade_tiled`.

# %%
nca = ncafast.NCA(2, 2, ndim=3, filters="laplacian", immutable=1, activation="identity")
with torch.no_grad():  # the hidden layer reads: ball, heat, Laplacian of the ball, Laplacian of the heat
    nca.hidden.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, -0.1, 0.0, 0.0]]))
    nca.hidden.bias.zero_()
    nca.update.weight.copy_(torch.tensor([[0.3, 0.2]]))

# %% [markdown]
# ## The plan
#
# A pass runs some steps in each tile, which reads the cells around it that these steps depend on. More steps per pass
# mean fewer passes over the disk and more cells computed twice. Without `tile=` and `steps_per_pass=`, the plan
# follows from the memory that is free, or from `memory_limit="6GB"`.

# %%
out = open_memmap(folder / "result.npy", "w+", np.float32, shape)
options = {"tile": side // 3, "steps_per_pass": 4}
print(plan_tiled(source, nca.rule, nca.params(), steps, out=out, **options))

# %%
rollout_tiled(source, nca.rule, nca.params(), steps, out=out, seed=1, **options)

# %% [markdown]
# ## The same as a whole

# %%
with torch.no_grad():
    whole = ncafast.rollout(torch.from_numpy(np.array(source)), nca.rule, nca.params(), steps, seed=1).numpy()
difference = np.abs(out[0] - whole[0])
print(f"largest difference: {difference.max():.1e}")

middle = 3 * side // 5
figure, row = plt.subplots(1, 4, figsize=(13, 3.4))
pictures = {
    "source": source[0, 0, middle],
    "heat, in tiles": out[0, 1, middle],
    "heat, as a whole": whole[0, 1, middle],
    "difference": difference[:, middle].max(0),
}
for axes, (title, picture) in zip(row, pictures.items(), strict=True):
    figure.colorbar(axes.imshow(picture), ax=axes, shrink=0.7)
    axes.set_title(title, fontsize=9)
    for line in range(side // 3, side, side // 3):
        axes.axhline(line - 0.5, color="white", linewidth=0.5)
        axes.axvline(line - 0.5, color="white", linewidth=0.5)
    axes.axis("off")

# %% [markdown]
# White lines are borders between tiles. For gradients on such grids there is `ncafast.volume.rollout_spilled`, for
# several devices `ncafast.volume.shard`; `ncafast predict mednca` segments NIfTI and zarr files of any size in tiles.
