"""Modules that return more than the next state, or something else: heads, perceptions, tuples, dicts, dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from foreign_steps import Octree
from refused_steps import Base
from torch import Tensor, nn


class Scores(NamedTuple):
    logits: Tensor
    state: Tensor


@dataclass
class Grown:
    state: Tensor
    colours: Tensor
    name: str = "grown"


class Classifier(Octree):
    """A loop, and a head on the mean over cells."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(9, 3)

    def forward(self, x, steps=4):
        for _ in range(steps):
            x = self.update(x)
        return Scores(self.head(x.mean((2, 3))), x)


class Coloured(Base):
    """One step, in a dataclass with colours of the new state."""

    def forward(self, x):
        y = super().forward(x)
        return Grown(y, torch.sigmoid(y[:, :3]))


class Seeing(Base):
    """One step, in a dict beside what it saw of the state before."""

    def forward(self, x):
        return {"seen": self.perceive(x), "new": super().forward(x)}


class Labelled(Base):
    """An image goes in and scores come out; one step is a method of an unusual name, with the index of the step."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(25, 12, 1)
        self.head = nn.Linear(8, 3)

    def advance(self, x, index):
        seen = torch.cat([self.perceive(x), torch.full_like(x[:, :1], index / 8)], 1)
        return x + self.two(torch.relu(self.one(seen))) * self.mask(x)

    def forward(self, image, steps=4):
        x = torch.cat([image, image.new_zeros(len(image), 7, *image.shape[2:])], 1)
        for index in range(steps):
            x = self.advance(x, index)
        return self.head(x.mean((2, 3)))


class Kept(Base):
    """A grid of positions that is kept until a state has another shape."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(25, 12, 1)
        self.grid = None

    def perceive(self, x):
        if self.grid is None or self.grid.shape[2:] != x.shape[2:]:
            self.grid = torch.linspace(0, 1, x.shape[2])[None, None, :, None].expand(1, 1, *x.shape[2:])
        return torch.cat([super().perceive(x), self.grid.expand(len(x), -1, -1, -1)], 1)


class Gained(Base):
    """The update is scaled by an argument."""

    def forward(self, x, gain):
        return x + gain * self.update(x)


HEADED = {  # class, channels of what goes in, name of the method that is replaced
    "named tuple": (Classifier, 9, "forward"),
    "dataclass": (Coloured, 8, "forward"),
    "dict": (Seeing, 8, "forward"),
    "scores alone": (Labelled, 1, "advance"),
    "kept positions": (Kept, 8, "forward"),
}
