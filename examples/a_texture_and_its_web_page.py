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
# At the end it runs by itself in a web page, one file of 40 kB. It takes `pip install "ncafast[tasks]"`, and three
# minutes on two cores.

# %%
import base64
import json
import shutil
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import ncafast
from ncafast.tasks.texture import TrainConfig, train
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
# A step of this automaton is forty lines of JavaScript: four numbers per channel, two layers, and the torus. The
# weights are 6,000 numbers, which fit into the page itself. Open `texture-run/page.html`, and wipe over the texture.

# %%
params = model.params()
names = ["hidden.weight", "hidden.bias", "update.weight", "update.bias"]
weights = torch.cat([params["perceive.weight"][:, 0].flatten(), *(params[name].flatten() for name in names)])
data = base64.b64encode(weights.detach().numpy().tobytes()).decode()

automaton = (
    f"const C = {model.num_channels}, H = {model.hidden_neurons}, P = 4 * C, side = 64"
    + f"""
const numbers = new Float32Array(Uint8Array.from(atob("{data}"), c => c.charCodeAt(0)).buffer)
"""
    + """
let taken = 0
const take = count => numbers.subarray(taken, taken += count)
const filters = take(27), W1 = take(H * P), b1 = take(H), W2 = take(C * H), b2 = take(C)

function step(x, rate) {
  const next = x.slice(), y = new Float32Array(P), a = new Float32Array(H)
  for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) {
    if (Math.random() >= rate) continue
    const cell = (i * side + j) * C
    for (let c = 0; c < C; c++) y[c] = x[cell + c]
    y.fill(0, C)
    for (let t = 0; t < 9; t++) {
      const row = (i + Math.floor(t / 3) - 1 + side) % side, column = (j + t % 3 - 1 + side) % side
      const other = (row * side + column) * C
      for (let f = 0; f < 3; f++) for (let c = 0; c < C; c++) y[(f + 1) * C + c] += filters[9 * f + t] * x[other + c]
    }
    for (let h = 0; h < H; h++) {
      let z = b1[h]
      for (let p = 0; p < P; p++) z += W1[h * P + p] * y[p]
      a[h] = Math.max(0, z)
    }
    for (let c = 0; c < C; c++) {
      let d = b2[c]
      for (let h = 0; h < H; h++) d += W2[c * H + h] * a[h]
      next[cell + c] += d
    }
  }
  return next
}
"""
)
page = folder / "page.html"
page.write_text(
    """<!doctype html>
<meta charset="utf-8">
<title>A texture</title>
<style>canvas { width: 90vmin; display: block; margin: 5vmin auto; image-rendering: pixelated }</style>
<canvas id="canvas"></canvas>
<script>
"""
    + automaton
    + """
canvas.width = canvas.height = side
const context = canvas.getContext("2d"), picture = context.createImageData(side, side)
let x = new Float32Array(side * side * C)

canvas.onpointermove = event => {
  const row = side * event.offsetY / canvas.clientHeight, column = side * event.offsetX / canvas.clientWidth
  for (let i = 0; i < side; i++) for (let j = 0; j < side; j++)
    if ((i - row) ** 2 + (j - column) ** 2 < 25) x.fill(0, (i * side + j) * C, (i * side + j + 1) * C)
}

function draw() {
  x = step(x, 0.5)
  for (let cell = 0; cell < side * side; cell++) {
    for (let c = 0; c < 3; c++) picture.data[4 * cell + c] = 255 * (x[cell * C + c] + 0.5)
    picture.data[4 * cell + 3] = 255
  }
  context.putImageData(picture, 0, 0)
  requestAnimationFrame(draw)
}
draw()
</script>
"""
)
print(f"{page}: {page.stat().st_size // 1000} kB")

# %% [markdown]
# ## Does the page compute the same?
#
# Where Node.js is installed, it runs the page's `step` in which every cell updates. ncafast is given such a mask too.

# %%
start = 0.1 * torch.randn(1, model.num_channels, 64, 64)
with torch.no_grad():
    expected = model(start, 4, fire_mask=torch.ones(4, 1, 1, 64, 64))[0].movedim(0, -1)
if shutil.which("node"):
    numbers = json.dumps(start[0].movedim(0, -1).flatten().tolist())
    program = f"{automaton}; let x = new Float32Array({numbers}); for (let t = 0; t < 4; t++) x = step(x, 1)"
    (folder / "same.js").write_text(program + "; console.log(JSON.stringify([...x]))")
    answer = subprocess.run(["node", folder / "same.js"], capture_output=True, check=True, text=True).stdout
    difference = (torch.tensor(json.loads(answer)).view_as(expected) - expected).abs().max()
    print(f"largest difference after 4 steps: {difference:.1e}, of states up to {expected.abs().max():.2f}")
else:
    print("Node.js is not installed here")
