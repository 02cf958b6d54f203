"""What launches the kernels: weights packed once, lists of cells, and one step of the automaton."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ncafast.backends import extra_channels, tuning
from ncafast.backends.plan import Call, Outputs
from ncafast.backends.triton_kernels import chosen, life, moments, sizes
from ncafast.backends.triton_kernels import forward as forward_kernels
from ncafast.backends.triton_kernels.bundles import (
    Activation,
    Columns,
    Grid,
    Life,
    Mlp,
    PerceptionTensors,
    Reach,
    Weights,
    Work,
)
from ncafast.backends.triton_kernels.grouping import Norms
from ncafast.backends.triton_kernels.listing import Lists
from ncafast.backends.triton_kernels.norm_kinds import KINDS, statistics_bytes
from ncafast.backends.triton_kernels.sizes import options
from ncafast.half import widened
from ncafast.rule import layer_name

_LIFE = 256  # cells per program of the alive mask
_MOMENT_BYTES = 1 << 25  # of the partial second moments
_SUMMED = 4096  # numbers of them that are read at once: 32 a thread


class Rollout:
    """The inputs of a rollout, ready for the kernels. States are [cells, C], cells = B * N."""

    def __init__(self, call: Call) -> None:
        rule, x, params, extra, fire_mask, seed, plan = call
        self.rule, self.x, self.plan, self.seed, self.precision = rule, x, plan, seed, plan.precision
        self.params = {name: widened(p) for name, p in zip(rule.param_shapes(), params, strict=True)}
        self.like = x.new_empty(0, dtype=torch.float32)  # of the dtype that is computed in
        self.size = [1] * (3 - rule.ndim) + list(x.shape[2:])
        self.per_sample = math.prod(self.size)
        self.cells = x.shape[0] * self.per_sample
        self.nothing = self.like.new_zeros(1)
        self.extra, self.fire_mask = extra, fire_mask
        self.programs = _programs(x.device)
        dense = rule.perception == "dense"
        self.dense, self.taps_count = dense, math.prod(rule.kernel_size)
        self.filtered = rule.dense_channels if dense else rule.num_filters * rule.channels
        self.hidden = sizes.padded(max(rule.hidden))
        self.channels = sizes.padded(rule.channels)
        self._pack()
        self.batch_norm = rule.norm == "batch"
        self._facts()
        self.norms = Norms(self)
        self.mean = self.nothing  # of the perception at the step that was folded last
        if self.batch_norm:
            self.shift = self.like.new_zeros(rule.perception_size)
            self.gamma, self.beta = self.like.new_zeros((2, self.hidden))  # of the padding 0
            self.gamma[: rule.hidden[0]] = self.params["norm.weight"] if rule.norm_affine else 1.0
            if rule.norm_affine:
                self.beta[: rule.hidden[0]] = self.params["norm.bias"]
            self.folded_weight, self.folded_bias = torch.empty_like(self.first), torch.empty_like(self.biases)
        self.lists = Lists(rule, plan, self.grid, seed, fire_mask)

    def _pack(self) -> None:
        """Weights in the kernels' layouts; a running norm is folded into its layer."""
        rule, like = self.rule, self.like
        weight = self.params.get("perceive.weight")
        if weight is None:
            self.taps, self.tap_bias = self.nothing, self.nothing
        else:
            flat = weight.flatten(2)  # [F, C, taps]
            self.taps = (flat.permute(2, 1, 0) if self.dense else flat.permute(2, 0, 1)).contiguous()
            bias = self.params.get("perceive.bias")
            self.tap_bias = like.new_zeros(self.filtered) if bias is None else bias.reshape(-1)
        layers, wide = len(rule.hidden), self.hidden
        self.first = like.new_zeros((rule.perception_size, wide))
        self.upper = like.new_zeros((max(layers - 1, 1), wide, wide))
        self.biases = like.new_zeros((layers, wide))
        for layer, width in enumerate(rule.hidden):
            name = layer_name("hidden", layer)
            w, b = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
            if rule.norm == "running":
                scale, b = self.fold_running(layer, b)
                w = w * scale[:, None]
            target = self.first if layer == 0 else self.upper[layer - 1]
            target[: w.shape[1], :width] = w.t()
            self.biases[layer, :width] = b
        lo, hi = rule.lo, rule.hi
        self.update = like.new_zeros((wide, rule.channels))
        self.update[: rule.hidden[-1], lo:hi] = self.params["update.weight"].t()
        self.update_bias = like.new_zeros(rule.channels)
        if "update.bias" in self.params:
            self.update_bias[lo:hi] = self.params["update.bias"]
        self.moved = like.new_zeros(rule.channels)
        self.moved[lo:hi] = 1.0
        self.restored = like.new_zeros(rule.channels)
        if rule.restore is not None:
            self.restored[slice(*rule.restore)] = 1.0
        self.touched = self.moved * (1.0 - self.restored)

    def fold_running(self, layer: int, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The factor of a layer's weights, and its bias, with the stored statistics folded in."""
        name = layer_name("norm", layer)
        scale = torch.rsqrt(self.params[f"{name}.running_var"] + self.rule.norm_eps)
        shift = bias - self.params[f"{name}.running_mean"]
        if self.rule.norm_affine:
            scale = scale * self.params[f"{name}.weight"]
            return scale, shift * scale + self.params[f"{name}.bias"]
        return scale, shift * scale

    def _facts(self) -> None:
        """The constants and numbers that kernels share."""
        rule = self.rule
        p = rule.perception_size
        dense_act = Activation(rule.dense_activation, rule.negative_slope)
        own = rule.channels if rule.identity else 0
        self.columns = Columns(
            rule.channels, self.channels, p, own, self.filtered, rule.extra, self.dense, dense_act, self.batch_norm
        )
        self.reach = Reach(*chosen.filters(rule), rule.padding)
        self.mlp = Mlp(
            self.hidden, len(rule.hidden), Activation(rule.activation, rule.negative_slope), KINDS[rule.norm]
        )
        self.grid = Grid(self.cells, *self.size)
        self.scale = rule.step_size / (rule.fire_rate if rule.fire_rescale else 1.0)
        choices = chosen.choices(rule, self.x, self.precision)
        self.kernels = {name: choice.key for name, choice in choices.items()}
        self.tiles = {name: choice.tiles for name, choice in choices.items()}
        self.untuned = {name for name, choice in choices.items() if not choice.measured} if tuning.wanted() else set()
        if rule.alive is not None:
            window = [1] * (3 - rule.ndim) + [rule.alive.pool] * rule.ndim
            self.window = Reach(window[0], window[1], window[2], "zeros")
            self.life = Life(rule.alive.channel, rule.alive.threshold, *(rule.restore or (0, 0)))

    def tensors(self, t: int, centre: Tensor) -> PerceptionTensors:
        """What the perception of a step reads besides the state."""
        extra, step, sample, channel, (z, y, x) = self.nothing, 0, 0, 0, [0, 0, 0]
        if self.extra is not None:
            step, sample, channel, (z, y, x) = extra_channels.strides(self.rule, self.x, self.extra)
            extra = self.extra[t] if step else self.extra
        return PerceptionTensors(self.taps, self.tap_bias, extra, sample, channel, z, y, x, centre)

    def launch(self, kernel: str, run: Callable[[sizes.Tiles], None], *sums: Tensor) -> None:
        """Launches a kernel with its tile sizes, measured first where that is wanted; `sums` it adds to."""
        if kernel in self.untuned and not _capturing(self.x.device):
            self.untuned.discard(kernel)
            self.tiles[kernel] = tuning.measure(
                self.x.device, self.kernels[kernel], self.tiles[kernel], run, [total for total in sums if total.numel()]
            )
        run(self.tiles[kernel])

    def empty_state(self) -> Tensor:
        """[cells, C], uninitialised."""
        return self.x.new_empty((self.cells, self.rule.channels))

    def channels_last(self, x: Tensor) -> Tensor:
        """[B, C, *S] -> [cells, C], contiguous."""
        return x.movedim(1, -1).reshape(self.cells, self.rule.channels).contiguous()

    def channels_first(self, state: Tensor) -> Tensor:
        """[cells, C] -> [B, C, *S], a view."""
        return state.view(self.x.shape[0], *self.x.shape[2:], self.rule.channels).movedim(-1, 1)

    def measure(self, t: int, x: Tensor, mean: Tensor, moment: Tensor) -> None:
        """Mean [P] and central second moment [P, P] of the perception over all cells."""
        p = self.rule.perception_size
        programs = max(
            1, min(self.programs, -(-self.cells // self.tiles["sum_moments"].block), _MOMENT_BYTES // (4 * p * p))
        )
        first, second = self.like.new_empty((programs, p)), self.like.new_empty((programs, p, p))

        def run(tiles: sizes.Tiles) -> None:
            moments.sum_moments[(programs, tiles.chunks**2)](
                x, first, second, self.grid, self.tensors(t, self.shift),
                COLUMNS=self.columns, REACH=self.reach, PRECISION=self.precision, **options(tiles),
            )  # fmt: skip

        # Before the first step no mean is known to sum about.
        for _ in range(2 if t == 0 else 1):
            self.launch("sum_moments", run)
            moved = torch.empty_like(self.shift)
            moments.finish_moments[(p,)](
                first, second, programs, self.shift, self.cells, mean, moment, moved,
                P=p, PP=sizes.padded(p), KB=self.tiles["sum_moments"].chunk,
                ROWS=max(1, _SUMMED // sizes.padded(p)),
            )  # fmt: skip
            self.shift = moved

    def fold(self, mean: Tensor, moment: Tensor, stats: Tensor) -> None:
        """Folds the batch norm of a step into the first hidden layer; stats [2, H] are written."""
        tiles, self.mean = self.tiles["sum_moments"], mean
        moments.fold_norm[(self.hidden // 16,)](
            mean, moment, self.first, self.biases, self.gamma, self.beta, self.rule.norm_eps, self.rule.hidden[0],
            self.folded_weight, self.folded_bias, stats,
            P=self.rule.perception_size, HP=self.hidden, KB=tiles.chunk, CHUNKS=tiles.chunks,
        )  # fmt: skip

    def weights(self) -> Weights:
        """The MLP, batch norm folded in."""
        first, biases = (self.folded_weight, self.folded_bias) if self.batch_norm else (self.first, self.biases)
        return Weights(first, biases, self.upper, self.update, self.update_bias, self.scale, self.norms.tables())

    def step(self, t: int, x: Tensor, out: Tensor, lives: Tensor) -> None:
        """out = one step from x; where the rule has an alive mask, lives [cells] becomes who lives after it."""
        alive = self.rule.alive
        blocks = (-(-self.cells // _LIFE),)
        before = lives
        if alive is not None and alive.pre:
            before = torch.empty_like(lives)
            life.living[blocks](
                x, before, self.grid, self.life, C=self.rule.channels, REACH=self.window, BLOCK=_LIFE
            )  # fmt: skip
            # A dead cell beside a living one still counts for its neighbours' life after the step.
            listed = self.lists.at(t, before, self.window)
        else:
            listed = self.lists.at(t)
        raw = out if alive is None else torch.empty_like(out)

        def run(tiles: sizes.Tiles) -> None:
            blocks = -(-self.cells // tiles.block)
            forward_kernels.step[(blocks,)](
                x, raw, Work(*listed, blocks), self.grid, self.tensors(t, self.mean), self.weights(),
                self.touched if alive is None else self.moved,
                COLUMNS=self.columns, REACH=self.reach, MLP=self.mlp, LISTED=self.lists.needed,
                PRECISION=self.precision,
                **options(tiles),
            )  # fmt: skip

        self.launch("step", run)
        if alive is not None:
            life.settle[blocks](
                x, raw, out, before, lives, self.grid, self.life, PRE=alive.pre, POST=alive.post,
                C=self.rule.channels, CP=self.channels, REACH=self.window, BLOCK=_LIFE,
            )  # fmt: skip


def _capturing(device: torch.device) -> bool:
    """Whether launches go into a CUDA graph, where nothing can be timed."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _programs(device: torch.device) -> int:
    """Programs of a kernel that goes through its tiles in a loop: fixed, so that sums are always taken alike."""
    if device.type == "cpu":  # the interpreter
        return 3
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count


class Tape:
    """What forward writes down of each step, as tensors; see ncafast.backends.triton.tape_bytes."""

    def __init__(self, rollout: Rollout, tape: Tensor | None) -> None:
        self.rollout, self.tape = rollout, tape

    def moments(self, t: int) -> tuple[Tensor, Tensor]:
        """Mean [P] and second moment [P, P] of the perception."""
        p, like = self.rollout.rule.perception_size, self.rollout.like
        if self.tape is None:
            return like.new_empty(p), like.new_empty((p, p))
        floats = self.tape[t, : 4 * (p + p * p)].view(torch.float32)
        return floats[:p], floats[p:].view(p, p)

    def lives(self, t: int) -> Tensor:
        """[cells] uint8: who lives after step t."""
        if self.rollout.rule.alive is None:
            return self.rollout.nothing
        if self.tape is None:
            return torch.empty(self.rollout.cells, dtype=torch.uint8, device=self.rollout.x.device)
        p = self.rollout.rule.perception_size
        start = 4 * (p + p * p) if self.rollout.batch_norm else self._statistics_bytes()
        return self.tape[t, start : start + self.rollout.cells]

    def groups(self, t: int) -> Tensor:
        """[2, B, HP]: mean and 1 / sqrt(var + eps) of a unit's group, of each sample."""
        batch, like = self.rollout.x.shape[0], self.rollout.like
        if self.tape is None:
            return like.new_empty((2, batch, self.rollout.hidden))
        return self.tape[t, : self._statistics_bytes()].view(torch.float32).view(2, batch, self.rollout.hidden)

    def _statistics_bytes(self) -> int:
        return statistics_bytes(self.rollout.rule, self.rollout.x.shape[0])


def forward(rollout: Rollout, done: Outputs) -> None:
    """All steps into `done`."""
    plan, last = rollout.plan, done.history.movedim(2, -1)
    tape = Tape(rollout, done.tape if plan.every else None)
    state = rollout.channels_last(rollout.x)
    free = [rollout.empty_state() for _ in range(2)] if plan.steps else []
    for t in range(plan.steps):
        index, rest = divmod(t + 1, plan.every) if plan.every else (0, 1)
        kept = rest == 0 and index <= plan.kept
        out = last[index - 1].view(state.shape) if kept else next(f for f in free if f is not state)
        if rollout.batch_norm:
            mean, moment = tape.moments(t)
            rollout.measure(t, state, mean, moment)
            rollout.fold(mean, moment, done.stats[t])
        if rollout.norms.grouped:
            rollout.norms.measure(t, state, tape.groups(t))
        rollout.step(t, state, out, tape.lives(t))
        state = out
    done.out.copy_(rollout.channels_first(state))
