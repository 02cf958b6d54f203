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
# # Accelerate somebody's model
#
# `ncafast.accelerate` finds the steps of an automaton in a module that knows nothing of ncafast, verifies in float64
# that it understood them, and runs them as one fused rollout. The module stays the same object with the same
# parameters. It takes `pip install ncafast` and matplotlib, and one minute on two cores.

# %%
import copy
import time

import matplotlib.pyplot as plt
import torch
from torch import nn

import ncafast

# %% tags=["parameters"]
side = 64  # cells along the grid
steps = 32
rounds = 3

# %% [markdown]
# ## Somebody's model
#
# Fixed filters by `conv2d`, two linear layers on the last axis, a mask from `rand`, and a mask of living cells.


# %%
class SomebodysNCA(nn.Module):
    def __init__(self, channels=16, hidden=128):
        super().__init__()
        sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        dot = torch.zeros(3, 3)
        dot[1, 1] = 1
        self.register_buffer("kernel", torch.stack((dot, sobel, sobel.T)).repeat(channels, 1, 1)[:, None])
        self.first = nn.Linear(3 * channels, hidden)
        self.second = nn.Linear(hidden, channels, bias=False)
        nn.init.normal_(self.second.weight, std=0.01)

    def alive(self, x):
        return nn.functional.max_pool2d(x[:, 3:4], 3, stride=1, padding=1) > 0.1

    def forward(self, x, steps):
        for _ in range(steps):
            before = self.alive(x)
            seen = nn.functional.conv2d(x, self.kernel, padding=1, groups=x.shape[1])
            update = self.second(torch.relu(self.first(seen.movedim(1, -1)))).movedim(-1, 1)
            x = x + update * (torch.rand_like(x[:, :1]) < 0.5)
            x = x * (before & self.alive(x))
        return x


# %% [markdown]
# ## What ncafast finds in it
#
# `explain` says what would be done, and changes nothing. `accelerate` does it.

# %%
torch.manual_seed(0)
theirs = SomebodysNCA()
ours = ncafast.accelerate(copy.deepcopy(theirs), quiet=True)
print(ncafast.explain(theirs))

# %% [markdown]
# ## Is it the same?
#
# With `masks="torch"` the accelerated module draws what the original draws, so that the same seed gives the same
# states, but for rounding. (By default masks come from ncafast's own generator: cells update at the same rate, but
# they are other cells.)

# %%
x = nn.functional.interpolate(torch.rand(2, 16, 6, 6), size=(side, side), mode="bicubic")
same = ncafast.accelerate(copy.deepcopy(theirs), masks="torch", quiet=True)
torch.manual_seed(1)
expected = theirs(x, steps).detach()
torch.manual_seed(1)
difference = (same(x, steps).detach() - expected).abs()
print(f"largest difference after {steps} steps: {difference.max():.1e}, of states up to {expected.abs().max():.2f}")

pictures = {
    "theirs": expected[0, :3],
    "accelerated, other masks": ours(x, steps)[0, :3].detach(),
    "difference with the same masks": difference[0, :3] / difference.max(),
}
figure, row = plt.subplots(1, 3, figsize=(9, 3))
for axes, (title, picture) in zip(row, pictures.items(), strict=True):
    axes.imshow((picture + 0.5).clamp(0, 1).movedim(0, -1).numpy())
    axes.set_title(title, fontsize=9)
    axes.axis("off")

# %% [markdown]
# ## What it gains
#
# A training step is forward and backward. Both modules take turns; the bars are medians. `accelerate(model, x, steps,
# benchmark=True)` prints such a table with the memory too.


# %%
def seconds(model):
    begun = time.perf_counter()
    model(x, steps).square().mean().backward()
    return time.perf_counter() - begun


models = {"theirs": theirs, "accelerated": ours}
times = {name: [] for name in models}
for _ in range(rounds + 1):  # the first one warms up
    for name, model in models.items():
        times[name].append(seconds(model))
medians = {name: 1000 * torch.tensor(found[1:]).median().item() for name, found in times.items()}
figure, axes = plt.subplots(figsize=(5, 1.8))
axes.barh(list(medians), list(medians.values()), color=["0.6", "teal"])
axes.set(xlabel="milliseconds per training step")
print(f"{medians['theirs'] / medians['accelerated']:.1f} times as fast on {torch.get_num_threads()} threads")

# %% [markdown]
# A module that ncafast does not understand keeps its own code, and `explain` gives the reason and the line.
