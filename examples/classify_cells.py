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
# # Classify cells
#
# An automaton runs on the image of a cell, and a small head reads its channels. The white blood cells here are drawn
# by the notebook, so that nothing has to be downloaded: what tells them apart is the shape of the nucleus and the
# grain of the plasma. It takes `pip install "ncafast[tasks]"`, and one minute on two cores.

# %%
import matplotlib.pyplot as plt
import torch

from ncafast import NCA
from ncafast.heads import AttentionPoolHead, Classifier
from ncafast.viz import mosaic

# %% tags=["parameters"]
training_steps = 400
batch_size = 32
held_out = 400
cells = 1600  # to train on

# %% [markdown]
# ## Cells
#
# | | size | nucleus | plasma |
# |---|---|---|---|
# | lymphocyte | small | one disc | smooth |
# | monocyte | large | a kidney | smooth |
# | neutrophil | middle | three lobes | smooth |
# | eosinophil | middle | two lobes | red grains |


# %%
NAMES = ["lymphocyte", "monocyte", "neutrophil", "eosinophil"]
SIZES = [0.46, 0.66, 0.56, 0.56]
LOBES = [  # x, y, radius
    [(0.0, 0.0, 0.36)],
    [(0.0, 0.0, 0.42)],
    [(-0.27, 0.1, 0.18), (0.05, -0.27, 0.18), (0.27, 0.15, 0.18)],
    [(-0.19, -0.05, 0.24), (0.23, 0.1, 0.24)],
]


def draw(labels, side=32):
    """Images [N, 3, side, side], about -1 to 1, of cells that are shifted, turned, and stained differently."""
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    images = []
    for label in labels.tolist():
        shift, angle, scale = 0.2 * torch.randn(2), 6.3 * torch.rand(()), 1 + 0.08 * torch.randn(())
        u = ((x - shift[0]) * angle.cos() + (y - shift[1]) * angle.sin()) * scale
        v = ((y - shift[1]) * angle.cos() - (x - shift[0]) * angle.sin()) * scale
        plasma = (u**2 + v**2 < SIZES[label] ** 2).float()
        nucleus = torch.zeros_like(plasma)
        for a, b, radius in LOBES[label]:
            a, b = a + 0.03 * torch.randn(()), b + 0.03 * torch.randn(())
            nucleus = nucleus.maximum(((u - a) ** 2 + (v - b) ** 2 < radius**2).float())
        if label == 1:
            nucleus = nucleus * ((u - 0.05) ** 2 + (v - 0.33) ** 2 > 0.25**2).float()
        grains = plasma * (torch.rand(side, side) < (0.35 if label == 3 else 0.0))
        image = torch.tensor([0.93, 0.88, 0.9])[:, None, None].expand(3, side, side)
        for mask, colour in ((plasma, (0.75, 0.7, 0.85)), (grains, (0.85, 0.35, 0.35)), (nucleus, (0.4, 0.2, 0.55))):
            image = torch.lerp(image, torch.tensor(colour)[:, None, None], 0.8 * mask)
        images.append(image * (1 + 0.1 * torch.randn(3, 1, 1)) + 0.05 * torch.randn(3, side, side))
    return 4 * (torch.stack(images).clamp(0, 1) - 0.75)


torch.manual_seed(0)
figure, row = plt.subplots(1, 4, figsize=(8, 2.2))
for axes, name, image in zip(row, NAMES, draw(torch.arange(4)), strict=True):
    axes.imshow((image / 4 + 0.75).clamp(0, 1).movedim(0, -1).numpy())
    axes.set_title(name)
    axes.axis("off")

# %% [markdown]
# ## Train
#
# The image stays in the first three channels of the state; the other channels start at 0. `steps` is a range, so that
# the model does not depend on one number of steps.

# %%
nca = NCA(16, 64, immutable=3, filters="learned", kernel_size=5, padding="replicate", steps=(10, 14), eval_steps=12)
model = Classifier(nca, AttentionPoolHead(16, len(NAMES), first=3))
optimiser = torch.optim.Adam(model.parameters())
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=training_steps)
labels = torch.arange(cells) % len(NAMES)
images = draw(labels)
losses = []
for _ in range(training_steps):
    chosen = torch.randint(len(labels), (batch_size,))
    loss = torch.nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    schedule.step()
    losses.append(loss.item())

figure, axes = plt.subplots(figsize=(5, 2.4))
axes.plot(losses)
axes.set(xlabel="training step", ylabel="loss")

# %% [markdown]
# ## New cells

# %%
model.eval()
labels = torch.arange(held_out) % len(NAMES)
images = draw(labels)
with torch.no_grad():
    found = model(images, seed=1).argmax(1)
table = torch.zeros(len(NAMES), len(NAMES))
table.index_put_((labels, found), torch.ones(held_out), accumulate=True)
print(f"{(found == labels).float().mean():.1%} of {held_out} new cells are classified correctly")

figure, axes = plt.subplots(figsize=(4, 3.4))
axes.imshow(table.numpy(), "Blues")
for true in range(len(NAMES)):
    for predicted in range(len(NAMES)):
        axes.text(predicted, true, int(table[true, predicted]), ha="center", va="center", color="tab:red")
axes.set_xticks(range(len(NAMES)), NAMES, rotation=30)
axes.set_yticks(range(len(NAMES)), NAMES)
axes.set(xlabel="found", ylabel="drawn as")

# %% [markdown]
# ## What the automaton does
#
# All 16 channels of one cell after 0, 4, 8 and 12 steps, blue below 0 and red above. The first three are the image.

# %%
with torch.no_grad():
    _, states = nca(images[3:4], steps=12, states=4, seed=1)
figure, row = plt.subplots(1, 4, figsize=(12, 3.2))
start = torch.cat((images[3], torch.zeros(13, *images.shape[2:])))
for axes, state, step in zip(row, [start, *states[:, 0]], range(0, 13, 4), strict=True):
    axes.imshow(mosaic(state))
    axes.set_title(f"step {step}")
    axes.axis("off")

# %% [markdown]
# For images of your own, in one folder per class: `ncafast train classification --data FOLDER`.
