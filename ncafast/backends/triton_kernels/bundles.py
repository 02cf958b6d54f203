"""What the kernels' arguments are bundled into.

Capital fields are constants, known when a kernel is compiled; a change of one compiles it anew. The others are tensors
and numbers of a launch. In a kernel a constant bundle is a `tl.constexpr` parameter and its fields are plain numbers,
which Triton 3.6 takes for a shape in `tl.full` but not in `tl.zeros`, and which it passes on to a function if they are
numbers; a string or a bundle inside of a bundle gets a name of its own first (`ACT: tl.constexpr = MLP.ACT`).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Activation(NamedTuple):
    """A name in ncafast.rule.ACTIVATIONS, and the slope of leaky_relu."""

    KIND: str
    SLOPE: float


class Reach(NamedTuple):
    """How far a cell looks: filter sizes, 1 on axes that are not there, and a name in ncafast.rule.PADDINGS."""

    KZ: int
    KY: int
    KX: int
    PADDING: str


class Columns(NamedTuple):
    """The columns of the perception."""

    C: int  # channels
    CP: int  # the same, rounded up to a power of two >= 16
    P: int  # columns: IDENTITY of the state itself (C or 0), then FILTERED, then E
    IDENTITY: int
    FILTERED: int  # of the filters (F * C) or of the dense convolution
    E: int  # extra ones
    DENSE: bool  # a full convolution instead of filters per channel
    DENSE_ACT: Activation
    CENTRED: bool  # less `PerceptionTensors.centre`, as batch norm takes it


class Mlp(NamedTuple):
    """The hidden layers."""

    HP: int  # width rounded up to a power of two >= 16; all layers are padded to the widest
    LAYERS: int
    ACT: Activation
    NORM: str  # before an activation: "layer", "group" or "none", as where it is folded into its layer


class Tile(NamedTuple):
    """What a program works on at once."""

    BLOCK: int  # cells
    KB: int  # perception columns of a chunk
    CHUNKS: int  # that cover P


class Work(NamedTuple):
    """The cells of a pass, those that fire first."""

    lists: Tensor  # [cells] int32
    fired: Tensor  # [1] int32, how many
    tiles: int  # that cover all cells


class Grid(NamedTuple):
    """N = depth * height * width cells per sample; sizes are 1 on axes that are not there."""

    cells: int  # of the batch
    depth: int
    height: int
    width: int


class PerceptionTensors(NamedTuple):
    """What the perception reads besides the state."""

    taps: Tensor  # [taps, C, FILTERED] dense, else [taps, FILTERED]
    bias: Tensor  # [FILTERED]
    extra: Tensor
    extra_sample: int  # strides
    extra_channel: int
    extra_z: int
    extra_y: int
    extra_x: int
    centre: Tensor  # [P]


class Norm(NamedTuple):
    """The norms that are not folded into their layers; see `norms`."""

    share: Tensor  # [LAYERS, HP] 1 / width on the units of a layer, else 0
    gamma: Tensor  # [LAYERS, HP]
    beta: Tensor  # [LAYERS, HP]
    mean: Tensor  # [B, HP] of a unit's group in a sample
    inverse: Tensor  # [B, HP] 1 / sqrt(var + eps)
    mean_d: Tensor  # [B, HP] averages of dL/dzh
    mean_dz: Tensor  # [B, HP] and of dL/dzh times zh
    eps: float


class Weights(NamedTuple):
    """The MLP, and the factor of its update."""

    first: Tensor  # [P, HP]
    biases: Tensor  # [LAYERS, HP]
    upper: Tensor  # [LAYERS - 1, HP, HP]
    update: Tensor  # [HP, C]
    update_bias: Tensor  # [C]
    scale: float
    norm: Norm


class Sums(NamedTuple):
    """The programs' shares of the MLP's gradients."""

    first: Tensor  # [programs, P, HP]
    biases: Tensor  # [programs, LAYERS, HP]
    upper: Tensor  # [programs, LAYERS - 1, HP, HP]
    update: Tensor  # [programs, HP, C]
    update_bias: Tensor  # [programs, C]
    tap_bias: Tensor  # [programs, P]
    gamma: Tensor  # [programs, LAYERS, HP] of layer norms, else unused
    beta: Tensor


class Pass(NamedTuple):
    """What a pass through the MLP has to do."""

    LISTED: bool  # cells come from a list, those that fire first
    ALIVE: bool
    FRESH: bool  # sums of the first layer start anew (batch norm takes them step by step)
    FINISH: bool  # no later pass adds to dy, so that the dense activation's slope is applied here


class Life(NamedTuple):
    """The alive mask, and the channels that a step leaves as they were."""

    channel: int
    threshold: float
    restore_lo: int
    restore_hi: int


class Draw(NamedTuple):
    """Which cells are active: those that all of these name."""

    DRAWN: bool  # the random source
    MASKED: bool  # given masks
    WANTED: bool  # a third mask, where it names a cell of their window
    WINDOW: Reach


class Sources(NamedTuple):
    """What tells which cells are active."""

    seed: Tensor  # [1] int64
    mask: Tensor  # uint8
    wanted: Tensor  # [cells] uint8


class Listing(NamedTuple):
    """Lists of active cells, and what they are made with."""

    lists: Tensor  # [steps, row] int32
    row: int  # cells, rounded up for the alignment of what follows
    fired: Tensor  # [steps, 4] int32: how many are active, and nothing
    counts: Tensor  # [steps, 1 + blocks] int32, 0: how many blocks have started, and what each counts plus 1
