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
# # A texture and its web page
#
# A texture automaton learns the texture of one image. It runs on a torus, so what it makes has no seam, at any size.
# At the end its film becomes the background of a web page. It takes `pip install "ncafast[tasks]"`, and three minutes
# on two cores.

# %%
import base64
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import ncafast
from ncafast.tasks.texture import AnimateConfig, TrainConfig, animate, train
from ncafast.viz import rgb, watch

# %% tags=["parameters"]
size = 96  # pixels of the sample, on each side
epochs = 6
epoch_length = 50  # training steps
folder = Path("texture-run")

# %% [markdown]
# ## A sample
#
# Any photograph of a surface will do. This one is made here: noise without its coarse and its fine parts, in three
# colours.

# %%
torch.manual_seed(1)
along = torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.fftfreq(size)[None] ** 2
spectrum = torch.fft.fft2(torch.randn(size, size)) * torch.exp(-((along.sqrt() - 0.085) ** 2) / 0.0002)
height = torch.fft.ifft2(spectrum).real
level = torch.tanh(3 * height / height.std()) * 0.5 + 0.5
dark, light = torch.tensor([0.10, 0.25, 0.35]), torch.tensor([0.95, 0.75, 0.35])
sample = torch.lerp(dark, light, level[..., None])
folder.mkdir(exist_ok=True)
Image.fromarray((255 * sample).byte().numpy()).save(folder / "sample.png")

figure, axes = plt.subplots(figsize=(2.5, 2.5))
axes.imshow(sample.numpy())
axes.axis("off")

# %% [markdown]
# ## Train
#
# This is `ncafast train texture --image sample.png --loss patches`. The loss compares patches at several scales and
# needs no trained network; with a file of VGG16 weights, `--weights vgg16.pth` learns structured textures better.

# %%
run = folder / "run"
config = TrainConfig(
    image=folder / "sample.png",
    output=run,
    size=size,
    loss="patches",
    grid=48,
    epochs=epochs,
    epoch_length=epoch_length,
    tensorboard=False,
)
result = train(config)

# %% [markdown]
# ## From nothing to a texture
#
# The automaton starts from zeros; only the fire mask, which is random, makes cells differ.

# %%
model = ncafast.load(result.best)
start = torch.zeros(1, model.num_channels, 96, 128)
states = list(watch(model, start, frames=5, every=40, seed=1))
figure, row = plt.subplots(1, 5, figsize=(13, 2.2))
for axes, state, step in zip(row, states, range(40, 201, 40), strict=True):
    axes.imshow(rgb(state, offset=0.5))
    axes.set_title(f"step {step}", fontsize=9)
    axes.axis("off")

# %% [markdown]
# Two by three copies of the last state: there is no seam.

# %%
figure, axes = plt.subplots(figsize=(8, 4))
axes.imshow(np.tile(rgb(states[-1], offset=0.5), (2, 3, 1)))
axes.axis("off")

# %% [markdown]
# ## The web page
#
# A film of the moving texture, as the background of one HTML file that needs nothing else. Open
# `texture-run/page.html`.

# %%
film = animate(
    AnimateConfig(model=run, output=folder / "texture.gif", size=(96, 128), start=200, frames=40, overwrite=True)
)
data = base64.b64encode(film.read_bytes()).decode()
page = folder / "page.html"
page.write_text(f"""<!doctype html>
<meta charset="utf-8">
<title>A texture</title>
<style>
  body {{ margin: 0; min-height: 100vh; background: url(data:image/gif;base64,{data}); image-rendering: pixelated }}
  h1 {{ margin: 0; padding: 20vh 1em; text-align: center; font: 12vmin sans-serif }}
  h1 {{ color: white; text-shadow: 0 0 .3em black }}
</style>
<h1>grown by {sum(p.numel() for p in model.parameters()):,} numbers</h1>
""")
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")
