"""Random steps from a grammar of spellings: each part of an automaton is written in one of the ways that people use."""

from __future__ import annotations

import random
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

SIZES = {1: (17,), 2: (9, 12), 3: (7, 8, 6)}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
ACTIVATIONS = {"relu": torch.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh, "elu": F.elu}


def choices(seed: int) -> SimpleNamespace:
    """A word for each part of a step."""
    r = random.Random(seed)
    pick = SimpleNamespace(entry=r.choice(["loop", "forward", "step"]), ndim=r.choice([1, 2, 2, 2, 3]))
    pick.channels, pick.hidden = r.randint(4, 9), [4 * r.randint(2, 4)]
    pick.layout = r.choice(["first", "first", "last", "swapped"])
    pick.perception = r.choice(["several", "grouped", "dense", "dense, activated", "bank", "repeated", "rolled"])
    pick.kernel, pick.padding = r.choice([1, 3, 3, 5]), r.choice(["zeros", "reflect", "replicate", "circular"])
    pick.identity, pick.filter_bias = r.choice(["before", "before", "after", "none"]), r.choice([True, False])
    pick.layers, pick.update_bias = r.choice(["convolutions", "linear", "matrices"]), r.choice([True, False])
    pick.activation = r.choice([*ACTIVATIONS, "leaky_relu"])
    pick.norm = r.choice(["none", "none", "batch", "running", "group", "instance", "layer"])
    pick.affine = r.choice([True, False])
    if pick.norm in ("none", "running", "layer") and r.random() < 0.4:  # the other norms are fused with one layer
        pick.hidden.append(4 * r.randint(1, 3))
    masks = ["none", "<", "floor", "bernoulli", "empty", "where"]
    if pick.layout != "swapped":  # these draw in the order of the state's strides, which swapped axes change in a loop
        masks += [">", "dropout"]
    pick.mask = r.choice(masks)
    pick.rate = r.choice([0.25, 0.5, 0.7])
    pick.fixed, pick.fixed_by = r.choice([0, 0, 1, 2]), r.choice(["cat", "zeros", "slice", "pad", "product"])
    pick.alive, pick.clears = r.choice(["none", "none", "pre", "post", "both"]), r.choice(["product", "where", "fill"])
    pick.factor = r.choice([1.0, 1.0, 0.5, -0.1])
    return pick


class Spelled(nn.Module):
    """One step; the state is [B, *S, C] unless the layout is "first"."""

    def __init__(self, pick: SimpleNamespace) -> None:
        super().__init__()
        self.pick = pick
        c, inputs = pick.channels, self._perception()
        widths = (inputs + c * (pick.identity != "none"), *pick.hidden)
        outputs = c - pick.fixed * (pick.fixed_by in ("slice", "pad"))
        self.hidden = nn.ModuleList(self._layer(a, b, True) for a, b in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(self._norm(width) for width in pick.hidden)
        self.last = self._layer(widths[-1], outputs, pick.update_bias)
        self.register_buffer("free", (torch.arange(c) >= pick.fixed).float().view(-1, *[1] * pick.ndim))
        self.train(pick.norm != "running")

    def _perception(self) -> int:
        """Make the filters; how many channels they give."""
        pick, c = self.pick, self.pick.channels
        make = {"padding": pick.kernel // 2, "padding_mode": pick.padding, "bias": pick.filter_bias}
        if pick.perception == "several":
            self.see = nn.ModuleList(CONV[pick.ndim](c, c, pick.kernel, groups=c, **make) for _ in range(2))
            return 2 * c
        if pick.perception == "grouped":
            self.see = CONV[pick.ndim](c, 3 * c, pick.kernel, groups=c, **make)
            return 3 * c
        if pick.perception.startswith("dense"):
            self.see = CONV[pick.ndim](c, 7, pick.kernel, **make)
            return 7
        if pick.perception == "rolled":
            return pick.ndim * c
        self.register_buffer("bank", torch.randn(2, 1, *[pick.kernel] * pick.ndim))
        return 2 * c

    def _layer(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        if self.pick.layers == "convolutions":
            return CONV[self.pick.ndim](inputs, outputs, 1, bias=bias)
        return nn.Linear(inputs, outputs, bias=bias)

    def _norm(self, width: int) -> nn.Module:
        pick = self.pick
        if pick.norm == "group":
            return nn.GroupNorm(4, width, affine=pick.affine)
        if pick.norm == "instance":
            return INSTANCE[pick.ndim](width, affine=pick.affine)
        if pick.norm == "layer":
            return nn.LayerNorm(width, elementwise_affine=pick.affine)
        if pick.norm == "none":
            return nn.Identity()
        return BATCH[pick.ndim](width, affine=pick.affine, track_running_stats=pick.norm == "running")

    def perceived(self, x):
        pick, (b, c, *sizes) = self.pick, x.shape
        mode = "constant" if pick.padding == "zeros" else pick.padding
        if pick.perception == "several":
            seen = [see(x) for see in self.see]
        elif pick.perception == "grouped" or pick.perception == "dense":
            seen = [self.see(x)]
        elif pick.perception == "dense, activated":
            seen = [torch.relu(self.see(x))]
        elif pick.perception == "rolled":
            seen = [torch.roll(x, 1, axis) - torch.roll(x, -1, axis) for axis in range(2, x.dim())]
        else:
            x_padded = F.pad(x, [pick.kernel // 2] * 2 * pick.ndim, mode=mode) if pick.kernel > 1 else x
            if pick.perception == "bank":
                flat = x_padded.reshape(b * c, 1, *x_padded.shape[2:])
                seen = [CONVOLVE[pick.ndim](flat, self.bank).reshape(b, 2 * c, *sizes)]
            else:
                seen = [CONVOLVE[pick.ndim](x_padded, self.bank.repeat(c, *[1] * (pick.ndim + 1)), groups=c)]
        return torch.cat({"before": [x, *seen], "after": [*seen, x], "none": seen}[pick.identity], 1)

    def mixed(self, layer, y):
        if self.pick.layers == "convolutions":
            return layer(y)
        if self.pick.layers == "linear":
            return layer(y.movedim(1, -1)).movedim(-1, 1)
        out = torch.matmul(layer.weight, y.flatten(2))
        out = out if layer.bias is None else out + layer.bias[:, None]
        return out.view(len(y), -1, *y.shape[2:])

    def update(self, x):
        y = self.perceived(x)
        for layer, norm in zip(self.hidden, self.norms, strict=True):
            y = self.mixed(layer, y)
            y = norm(y.movedim(1, -1)).movedim(-1, 1) if self.pick.norm == "layer" else norm(y)
            y = F.leaky_relu(y, 0.1) if self.pick.activation == "leaky_relu" else ACTIVATIONS[self.pick.activation](y)
        return self.mixed(self.last, y) * self.pick.factor

    def fires(self, x):
        shape, rate, how = (x.shape[0], 1, *x.shape[2:]), self.pick.rate, self.pick.mask
        if how == "<":
            return (torch.rand(shape) < rate).float()
        if how == ">":
            return (torch.rand_like(x[:, :1]) > rate).to(x.dtype)
        if how == "floor":
            return torch.floor(torch.rand(shape) + rate)
        if how == "bernoulli":
            return torch.bernoulli(torch.full(shape, rate))
        if how == "empty":
            return torch.empty(shape).bernoulli_(p=rate)
        return F.dropout(torch.ones_like(x[:, :1]), rate)

    def living(self, x):
        return POOL[self.pick.ndim](x[:, 2:3], 3, 1, 1) > 0.1

    def cleared(self, x, alive):
        if self.pick.clears == "product":
            return x * alive
        return x.masked_fill(~alive, 0.0) if self.pick.clears == "fill" else torch.where(alive, x, torch.zeros_like(x))

    def added(self, x):
        """The state and its update, some channels of which do not change."""
        pick, n, dx = self.pick, self.pick.fixed, self.update(x)
        by = pick.fixed_by if n else "nothing"
        if by == "pad":
            dx = F.pad(dx, (*[0, 0] * pick.ndim, n, 0))
        elif by == "zeros":
            dx = torch.cat([torch.zeros_like(dx[:, :n]), dx[:, n:]], 1)
        elif by == "product":
            dx = dx * self.free
        if pick.mask not in ("none", "where"):
            dx = dx * self.fires(x)
        y = torch.cat([x[:, :n], x[:, n:] + dx], 1) if by == "slice" else x + dx
        if pick.mask == "where":
            y = torch.where(torch.rand(len(x), 1, *x.shape[2:]) < pick.rate, y, x)
        return torch.cat([x[:, :n], y[:, n:]], 1) if by == "cat" else y

    def advanced(self, x):
        pick = self.pick
        if pick.layout != "first":
            x = x.transpose(1, -1) if pick.layout == "swapped" else x.movedim(-1, 1)
        y = self.added(x)
        if pick.alive == "both":
            y = self.cleared(y, self.living(x) & self.living(y))
        elif pick.alive != "none":
            y = self.cleared(y, self.living(x if pick.alive == "pre" else y))
        if pick.layout == "first":
            return y
        return y.transpose(1, -1) if pick.layout == "swapped" else y.movedim(1, -1)


class Looped(Spelled):
    def forward(self, x, steps=3):
        for _ in range(steps):
            x = self.advanced(x)
        return x


class Single(Spelled):
    def forward(self, x):
        return self.advanced(x)


class Stepped(Spelled):
    def step(self, x):
        return self.advanced(x)


def random_module(seed: int) -> Spelled:
    """A module with weights that are not zero anywhere; `pick` says what it is made of."""
    torch.manual_seed(seed)
    pick = choices(seed)
    model = {"loop": Looped, "forward": Single, "step": Stepped}[pick.entry](pick)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


def random_state(pick: SimpleNamespace) -> torch.Tensor:
    """Noise in the module's layout."""
    x = torch.randn(2, pick.channels, *SIZES[pick.ndim])
    return x if pick.layout == "first" else x.movedim(1, -1).contiguous()


def steps_of(model: Spelled, x: torch.Tensor, steps: int) -> torch.Tensor:
    """The state after some steps, by the module's own entry point."""
    if model.pick.entry == "loop":
        return model(x, steps)
    for _ in range(steps):
        x = model.step(x) if model.pick.entry == "step" else model(x)
    return x
