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
# # Grow an emoji
#
# An automaton learns to grow an image from one cell, to keep it, and to grow back what is cut away ([Mordvintsev et
# al., Growing Neural Cellular Automata](https://distill.pub/2020/growing-ca/)). It takes `pip install
# "ncafast[tasks]"`, and three minutes on two cores.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image, ImageDraw

import ncafast
from ncafast.tasks.growing import AnimateConfig, TrainConfig, animate, train

# %% tags=["parameters"]
size = 28  # cells along the emoji
margin = 6  # empty cells around it
epochs = 8  # of 100 training steps
folder = Path("emoji-run")

# %% [markdown]
# The target is a drawing with transparency. Any emoji, logo or photograph with a transparent background will do.

# %%
face = Image.new("RGBA", (256, 256))
draw = ImageDraw.Draw(face)
draw.ellipse((8, 8, 248, 248), fill="#ffcc22", outline="#d98a00", width=10)
for left in (72, 152):
    draw.ellipse((left, 76, left + 32, 124), fill="#553311")
draw.chord((64, 110, 192, 212), 10, 170, fill="#aa2233")
folder.mkdir(exist_ok=True)
face.save(folder / "target.png")

figure, axes = plt.subplots(figsize=(2, 2))
axes.imshow(face)
axes.axis("off")

# %% [markdown]
# ## Train
#
# This is what `ncafast train growing --image target.png` does. Each step runs eight automata for 64 to 96 steps, from
# a pool of earlier states of which some were damaged. If you stop it, the same cell continues where it was.

# %%
run = folder / "run"
config = TrainConfig(
    image=folder / "target.png", output=run, size=size, padding=margin, epochs=epochs, tensorboard=False
)
result = train(config)
print(f"loss of the grown image in the best epoch: {result.measures['val_grown']:.4f}")

# %% [markdown]
# ## Grow
#
# The model is a `torch.nn.Module`. Its state has 16 channels: red, green, blue, alpha, and 12 that the cells use as
# they like. One cell is 1 in all channels but the colours, and everything else is 0.

# %%
model = ncafast.load(result.best)
side = size + 2 * margin
seed = torch.zeros(1, side, side, model.channel_n)
seed[:, side // 2, side // 2, 3:] = 1


def on_white(state):  # [H, W, C] -> [H, W, 3]
    return (1 - state[..., 3:4].clamp(0, 1) + state[..., :3]).clamp(0, 1)


def show(states, titles):
    figure, row = plt.subplots(1, len(states), figsize=(1.7 * len(states), 2))
    for axes, state, title in zip(row, states, titles, strict=True):
        axes.imshow(on_white(state).numpy())
        axes.set_title(title, fontsize=9)
        axes.axis("off")


with torch.no_grad():
    grown, states = model(seed, steps=96, states=12, seed=1)  # states: every 12th, [8, 1, H, W, C]
show([seed[0], *states[:, 0]], [f"step {step}" for step in range(0, 97, 12)])

# %% [markdown]
# ## Cut and heal
#
# The right half of every channel becomes 0. The cells at the wound see that their neighbours are missing.

# %%
cut = grown.clone()
cut[:, :, side // 2 :] = 0
with torch.no_grad():
    healed, states = model(cut, steps=96, states=24, seed=2)
show([grown[0], cut[0], *states[:, 0]], ["grown", "cut", *(f"{step} steps later" for step in range(24, 97, 24))])

# %% [markdown]
# ## Make a film
#
# The animation shows growth, cut and healing. `ncafast animate growing` is the same on the command line.

# %%
film = animate(AnimateConfig(model=run, output=folder / "emoji.gif", overwrite=True))
print(f"{film}: {film.stat().st_size // 1000} kB")
