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
    pick.sees = r.choice(["state", "state", "place", "time", "age", "goal", "label", "map"])
    pick.enters = r.choice(["before", "after", "units", "filters"])
    pick.returns = r.choice(["state", "state", "tuple", "dict"])
    if pick.enters == "filters" and (pick.perception != "dense" or pick.sees in ("time", "age")):
        pick.enters = "before"
    pick.squash, pick.limits = r.choice(["none", "none", "tanh", "silu"]), r.choice(["none", "none", "clamp", "sides"])
    pick.edge, pick.gates = r.choice(["open", "open", "wraps"]), r.choice([False, False, True])
    return pick


class Spelled(nn.Module):
    """One step; the state is [B, *S, C] unless the layout is "first"."""

    def __init__(self, pick: SimpleNamespace) -> None:
        super().__init__()
        self.pick = pick
        c, inputs = pick.channels, self._perception()
        seen = 2 if pick.sees != "state" and pick.enters in ("before", "after") else 0
        widths = (inputs + c * (pick.identity != "none") + seen, *pick.hidden)
        outside = pick.hidden[0] if pick.enters == "units" else 2
        self.goals, self.labels = nn.Linear(3, outside), nn.Embedding(4, outside)
        self.ages = nn.Parameter(torch.randn(8, outside) / 2)
        self.head = nn.Linear(c, 3)
        outputs = c - pick.fixed * (pick.fixed_by in ("slice", "pad"))
        self.hidden = nn.ModuleList(self._layer(a, b, True) for a, b in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(self._norm(width) for width in pick.hidden)
        self.last = self._layer(widths[-1], outputs, pick.update_bias)
        self.register_buffer("free", (torch.arange(c) >= pick.fixed).float().view(-1, *[1] * pick.ndim))
        self.train(pick.norm != "running")

    @property
    def filtered(self) -> bool:
        """Whether what is seen beside the state goes through the filters."""
        return self.pick.sees != "state" and self.pick.enters == "filters"

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
            self.see = CONV[pick.ndim](c + 2 * self.filtered, 7, pick.kernel, **make)
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

    def outside(self, x, given, step, steps):
        """What is seen beside the state, [B, 2 or units, *S]."""
        pick, (b, _, *sizes) = self.pick, x.shape
        count = pick.hidden[0] if pick.enters == "units" else 2
        if pick.sees == "place":
            rows = torch.linspace(-1, 1, sizes[0], device=x.device).view(1, 1, -1, *[1] * (pick.ndim - 1))
            return torch.cat([rows, torch.cos(rows)], 1).expand(b, 2, *sizes).repeat(1, count // 2, *[1] * pick.ndim)
        if pick.sees == "time":
            return torch.full((b, count, *sizes), step / steps, device=x.device)
        if pick.sees == "map":
            return given.repeat(1, count // 2, *[1] * pick.ndim)
        codes = {"age": lambda: self.ages[step][None], "goal": lambda: self.goals(given)}
        code = codes.get(pick.sees, lambda: self.labels(given))()
        return code.view(len(code), -1, *[1] * pick.ndim).expand(b, count, *sizes)

    def perceived(self, x, beside):
        pick, (b, c, *sizes) = self.pick, x.shape
        mode = "constant" if pick.padding == "zeros" else pick.padding
        if pick.perception == "several":
            seen = [see(x) for see in self.see]
        elif pick.perception == "grouped" or pick.perception == "dense":
            seen = [self.see(torch.cat([x, beside], 1) if self.filtered else x)]
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
        seen = {"before": [x, *seen], "after": [*seen, x], "none": seen}[pick.identity]
        if pick.sees != "state" and pick.enters == "before":
            seen = [beside, *seen]
        if pick.sees != "state" and pick.enters == "after":
            seen = [*seen, beside]
        return torch.cat(seen, 1)

    def mixed(self, layer, y):
        if self.pick.layers == "convolutions":
            return layer(y)
        if self.pick.layers == "linear":
            return layer(y.movedim(1, -1)).movedim(-1, 1)
        out = torch.matmul(layer.weight, y.flatten(2))
        out = out if layer.bias is None else out + layer.bias[:, None]
        return out.view(len(y), -1, *y.shape[2:])

    def update(self, x, beside):
        y = self.perceived(x, beside)
        for k, (layer, norm) in enumerate(zip(self.hidden, self.norms, strict=True)):
            y = self.mixed(layer, y)
            if k == 0 and self.pick.sees != "state" and self.pick.enters == "units":
                y = y + beside
            y = norm(y.movedim(1, -1)).movedim(-1, 1) if self.pick.norm == "layer" else norm(y)
            y = F.leaky_relu(y, 0.1) if self.pick.activation == "leaky_relu" else ACTIVATIONS[self.pick.activation](y)
        dx = self.mixed(self.last, y)
        dx = dx if self.pick.squash == "none" else ACTIVATIONS[self.pick.squash](dx)
        return dx * self.pick.factor

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
        channel, pool = x[:, 2:3], POOL[self.pick.ndim]
        if self.pick.edge == "wraps":
            return pool(F.pad(channel, [1, 1] * self.pick.ndim, mode="circular"), 3, 1) > 0.1
        return pool(channel, 3, 1, 1) > 0.1

    def cleared(self, x, alive):
        if self.pick.clears == "product":
            return x * alive
        return x.masked_fill(~alive, 0.0) if self.pick.clears == "fill" else torch.where(alive, x, torch.zeros_like(x))

    def added(self, x, beside):
        """The state and its update, some channels of which do not change."""
        pick, n, dx = self.pick, self.pick.fixed, self.update(x, beside)
        by = pick.fixed_by if n else "nothing"
        if by == "pad":
            dx = F.pad(dx, (*[0, 0] * pick.ndim, n, 0))
        elif by == "zeros":
            dx = torch.cat([torch.zeros_like(dx[:, :n]), dx[:, n:]], 1)
        elif by == "product":
            dx = dx * self.free
        if pick.mask not in ("none", "where"):
            dx = dx * self.fires(x)
        if pick.alive == "pre" and pick.gates:
            dx = dx * self.living(x)
        y = torch.cat([x[:, :n], x[:, n:] + dx], 1) if by == "slice" else x + dx
        if pick.mask == "where":
            y = torch.where(torch.rand(len(x), 1, *x.shape[2:]) < pick.rate, y, x)
        return torch.cat([x[:, :n], y[:, n:]], 1) if by == "cat" else y

    def advanced(self, x, given=None, step=0, steps=1):
        pick = self.pick
        if pick.layout != "first":
            x = x.transpose(1, -1) if pick.layout == "swapped" else x.movedim(-1, 1)
        beside = None
        if pick.sees != "state":
            if pick.sees == "map" and pick.layout != "first":
                given = given.transpose(1, -1) if pick.layout == "swapped" else given.movedim(-1, 1)
            beside = self.outside(x, given, step, steps)
        y = self.added(x, beside)
        if pick.alive == "both":
            y = self.cleared(y, self.living(x) & self.living(y))
        elif pick.alive != "none" and not (pick.alive == "pre" and pick.gates):
            y = self.cleared(y, self.living(x if pick.alive == "pre" else y))
        if pick.limits == "clamp":
            y = torch.clamp(y, -1.0, 0.8)
        elif pick.limits == "sides":
            y = y.clamp_min(-0.5).clamp_max(2.0)
        if pick.layout == "first":
            return y
        return y.transpose(1, -1) if pick.layout == "swapped" else y.movedim(1, -1)

    def returned(self, x):
        if self.pick.returns == "state":
            return x
        cells = x.flatten(2).movedim(1, -1) if self.pick.layout == "first" else x.flatten(1, -2)
        scores = self.head(cells.mean(1))
        return (x, scores) if self.pick.returns == "tuple" else {"scores": scores.softmax(-1), "state": x}


class Looped(Spelled):
    def forward(self, x, steps=3):
        for step in range(steps):
            x = self.advanced(x, None, step, steps)
        return self.returned(x)


class LoopedGiven(Spelled):
    def forward(self, x, given, steps=3):
        for step in range(steps):
            x = self.advanced(x, given, step, steps)
        return self.returned(x)


class Single(Spelled):
    def forward(self, x, step=0):
        return self.returned(self.advanced(x, None, step, 4))


class SingleGiven(Spelled):
    def forward(self, x, given):
        return self.returned(self.advanced(x, given))


class Stepped(Spelled):
    def step(self, x, step=0):
        return self.returned(self.advanced(x, None, step, 4))


class SteppedGiven(Spelled):
    def step(self, x, given):
        return self.returned(self.advanced(x, given))


GIVEN = {"goal", "label", "map"}
CLASSES = {"loop": (Looped, LoopedGiven), "forward": (Single, SingleGiven), "step": (Stepped, SteppedGiven)}


def random_module(seed: int) -> Spelled:
    """A module with weights that are not zero anywhere; `pick` says what it is made of."""
    torch.manual_seed(seed)
    pick = choices(seed)
    model = CLASSES[pick.entry][pick.sees in GIVEN](pick)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


def random_state(pick: SimpleNamespace) -> torch.Tensor:
    """Noise in the module's layout."""
    x = torch.randn(2, pick.channels, *SIZES[pick.ndim])
    return x if pick.layout == "first" else x.movedim(1, -1).contiguous()


def random_given(pick: SimpleNamespace) -> tuple:
    """What the module is called with beside the state."""
    if pick.sees == "map":
        return (random_state(SimpleNamespace(**{**vars(pick), "channels": 2})),)
    return {"goal": (torch.randn(2, 3),), "label": (torch.tensor([3, 1]),)}.get(pick.sees, ())


def state_of(pick: SimpleNamespace, out):
    """The state in what a module returns."""
    return out if pick.returns == "state" else out[0] if pick.returns == "tuple" else out["state"]


def steps_of(model: Spelled, x: torch.Tensor, steps: int, given: tuple = ()) -> list[torch.Tensor]:
    """What the module's own entry point gives after some steps, the state first."""
    pick = model.pick
    if pick.entry == "loop":
        out = model(x, *given, steps)
    else:
        for step in range(steps):
            index = (step,) if pick.sees in ("time", "age") else ()
            out = (model.step if pick.entry == "step" else model)(x, *given, *index)
            x = state_of(pick, out)
    if pick.returns == "state":
        return [out]
    return list(out) if pick.returns == "tuple" else [out["state"], out["scores"]]
