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
# # Segment a brain slice
#
# A Med-NCA of two levels, 8,000 parameters in all, learns to find white matter in slices of a brain template. The
# coarse automaton sees the slice at a quarter of its resolution, the fine one goes on from there at full resolution.
# It takes `pip install "ncafast[demo]"`, and two minutes on two cores. The template comes inside the package nilearn.

# %%
import matplotlib.pyplot as plt
import torch
from nilearn import datasets

from ncafast.losses import DiceBCELoss, DiceScore
from ncafast.models import MedNCA
from ncafast.uncertainty import nqm

# %% tags=["parameters"]
training_steps = 800
batch_size = 4
millimetres = 2  # side of a pixel

# %% [markdown]
# ## Data
#
# Slices from ear to ear, front to back. Those in the middle are held out, with a gap of 8 mm on either side, since
# neighbouring slices are nearly copies of each other.

# %%
brain = torch.from_numpy(datasets.load_mni152_template(resolution=millimetres).get_fdata()).float()
white = torch.from_numpy(datasets.load_mni152_wm_template(resolution=millimetres).get_fdata()).float() > 0.5


def slices(volume, start, stop):  # mm, mm -> [N, 1, H, W]
    return volume[:, start // millimetres : stop // millimetres].permute(1, 2, 0).flip(1)[:, None]


images = torch.cat((slices(brain, 46, 96), slices(brain, 136, 170)))
masks = torch.cat((slices(white, 46, 96), slices(white, 136, 170))).float()
new_images, new_masks = slices(brain, 104, 128), slices(white, 104, 128).float()
print(f"{len(images)} slices of {tuple(images.shape[2:])} pixels to train on, {len(new_images)} held out")

# %% [markdown]
# The template is brighter in white matter than anywhere else: a threshold would do. Scans are not like that. Every
# slice gets a smooth random field of brightness, from about half to twice, as coils of a scanner cause it, and noise.


# %%
def scanned(slices):
    coarse = torch.randn(len(slices), 1, 4, 4)
    field = torch.nn.functional.interpolate(coarse, size=slices.shape[2:], mode="bicubic")
    return slices * (0.5 * field).exp() + 0.05 * torch.randn_like(slices)


torch.manual_seed(0)
new_images = scanned(new_images)
figure, row = plt.subplots(1, 5, figsize=(11, 2.4))
for axes, image in zip(row, new_images[::3], strict=False):
    axes.imshow(image[0].numpy(), "gray")
    axes.axis("off")

# %% [markdown]
# ## Train
#
# A plain loop in PyTorch. In each step of the automata about half of the cells update; which ones is drawn anew.

# %%
model = MedNCA(channels=16, hidden=64, steps=(20, 10), scale=4)
loss_of = DiceBCELoss()
optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training_steps)
losses = []
for _ in range(training_steps):
    chosen = torch.randint(len(images), (batch_size,))
    loss = loss_of(model(scanned(images[chosen])), masks[chosen])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()
    losses.append(loss.item())

figure, axes = plt.subplots(figsize=(5, 2.4))
axes.plot(losses)
axes.set(xlabel="training step", ylabel="loss", yscale="log")

# %% [markdown]
# ## Segment held-out slices
#
# Five runs with different fire masks are averaged. Where they differ, the model is unsure.

# %%
with torch.no_grad():
    found = nqm(model, new_images, runs=5, read=torch.sigmoid, seed=1)
    predicted = found.output > 0.5
score = DiceScore()
print(f"Dice of the held-out slices: {score(predicted, new_masks).item():.3f}")
thresholds = torch.linspace(0.1, 2.0, 96)
best = max(score(new_images > threshold, new_masks).item() for threshold in thresholds)
print(f"the best threshold, chosen on these slices: {best:.3f}")

# %%
middle = len(new_images) // 2
pictures = {
    "slice": (new_images[middle, 0], "gray"),
    "white matter": (new_masks[middle, 0], "gray"),
    "found": (predicted[middle, 0], "gray"),
    "where it is unsure": (found.map[middle, 0], "magma"),
}
figure, row = plt.subplots(1, len(pictures), figsize=(11, 3))
for axes, (title, (picture, colours)) in zip(row, pictures.items(), strict=True):
    axes.imshow(picture.numpy(), colours)
    axes.set_title(title)
    axes.axis("off")

# %% [markdown]
# For NIfTI files of your own, `ncafast train mednca --data FOLDER` reads, splits, trains and writes segmentations in
# the files' own geometry. `ncafast demo` is this notebook with more slices, in random poses and at full resolution.
