"""The rollout backward: step by step in reverse, each from its state; the parameters' gradients summed per program."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ncafast.backends.triton_kernels import backward as kernels
from ncafast.backends.triton_kernels import norm_back, sizes
from ncafast.backends.triton_kernels.bundles import Pass, Sums, Work
from ncafast.backends.triton_kernels.rollout import Rollout, Tape
from ncafast.backends.triton_kernels.sizes import compiled, options
from ncafast.rule import layer_name

_TAP_BYTES = 1 << 28  # of the filters' partial gradients; large dense convolutions get fewer programs


class Backward:
    """Gradients of one rollout. Every program owns its sums and its tiles, so two runs give the same bits."""

    def __init__(self, rollout: Rollout, tape: Tensor, wanted: dict[str, bool], grad_extra: Tensor | None) -> None:
        self.rollout, self.tape, self.grad_extra = rollout, Tape(rollout, tape), grad_extra
        self.learned = wanted.get("perceive.weight", False)
        rule, like = rollout.rule, rollout.like
        n, wide, layers, p = rollout.programs, rollout.hidden, len(rule.hidden), rule.perception_size
        self.sums = Sums(
            first=like.new_zeros((n, p, wide)),
            biases=like.new_zeros((n, layers, wide)),
            upper=like.new_zeros((n, max(layers - 1, 1), wide, wide) if layers > 1 else 1),
            update=like.new_zeros((n, wide, rule.channels)),
            update_bias=like.new_zeros((n, rule.channels)),
            tap_bias=like.new_zeros((n, p)),
            gamma=like.new_zeros((n, layers, wide)),
            beta=like.new_zeros((n, layers, wide)),
        )
        shape = (rule.channels, rollout.filtered) if rollout.dense else (rollout.filtered,)
        each = 4 * rollout.taps_count * math.prod(shape)
        self.spreaders = max(1, min(n, _TAP_BYTES // max(each, 1))) if self.learned else n
        self.sum_taps = (
            like.new_zeros((self.spreaders, rollout.taps_count, *shape)) if self.learned else rollout.nothing
        )
        self.dy = like.new_empty((rollout.cells, p))
        if rollout.batch_norm:
            self.d_weight, self.matrix, self.offset = (
                like.new_zeros((p, wide)),
                like.new_empty((p, p)),
                like.new_empty(p),
            )
            self.d_gamma, self.d_beta, self.by_two, self.by_one = like.new_zeros((4, wide))
            self.stats = like.new_empty((2, rule.hidden[0]))

    def run(self, history: Tensor, grad_out: Tensor | None, grad_history: Tensor | None) -> Tensor:
        """dL/dx [B, C, *S]."""
        rollout, plan = self.rollout, self.rollout.plan
        last = history.movedim(2, -1).contiguous()  # [kept, B, *S, C]
        g = torch.zeros_like(rollout.x) if grad_out is None else grad_out
        g = rollout.channels_last(g)
        every = plan.every or max(plan.steps, 1)
        for start in reversed(range(0, plan.steps, every)):
            first = rollout.channels_last(rollout.x) if start == 0 else last[start // every - 1].view(g.shape)
            states = [first]
            for t in range(start, min(start + every, plan.steps) - 1):
                states.append(rollout.empty_state())
                self._fold(t)
                rollout.step(t, states[t - start], states[-1], self._spare_lives())
            while states:
                t = start + len(states) - 1
                index, rest = divmod(t + 1, plan.every) if plan.every else (0, 1)
                if grad_history is not None and rest == 0 and index <= plan.kept:
                    g = g + rollout.channels_last(grad_history[index - 1])
                g = self._step(t, states.pop(), g)
        # Without a step, g may be the caller's own gradient.
        return rollout.channels_first(g).contiguous() if plan.steps else rollout.channels_first(g).clone()

    def _spare_lives(self) -> Tensor:
        """Where a state that is computed again says who lives, which the tape knows already."""
        return torch.empty_like(self.tape.lives(0))

    def _fold(self, t: int) -> None:
        if self.rollout.batch_norm:
            self.rollout.fold(*self.tape.moments(t), self.stats)
        if self.rollout.norms.grouped:
            self.rollout.norms.use(self.tape.groups(t))

    def _step(self, t: int, x: Tensor, g: Tensor) -> Tensor:
        """dL/dx_t from dL/dx_(t+1)."""
        rollout, rule = self.rollout, self.rollout.rule
        self._fold(t)
        lives = self.tape.lives(t)
        alive = rule.alive is not None
        listed = rollout.lists.at(t, lives if alive else None)
        task = Pass(rollout.lists.needed, alive, FRESH=rollout.batch_norm, FINISH=not rollout.batch_norm)
        counted = lives
        if rollout.norms.grouped:  # every cell gets something through the statistics
            counted = rollout.norms.counted(listed)
            rollout.norms.differentiate(t, x, g, counted)
            task = task._replace(LISTED=False, ALIVE=True)

        def mlp_backward(tiles: sizes.Tiles) -> None:
            work = Work(*listed, -(-rollout.cells // tiles.block))
            kernels.mlp_backward[(rollout.programs,)](
                x, g, counted, self.dy, work, rollout.grid, rollout.tensors(t, rollout.mean), rollout.weights(),
                rollout.touched, self.sums, COLUMNS=rollout.columns, REACH=rollout.reach, MLP=rollout.mlp, PASS=task,
                PRECISION=rollout.precision, **options(tiles),
            )  # fmt: skip

        rollout.launch("mlp_backward", mlp_backward, *self.sums)
        if rollout.batch_norm:
            self._through_norm(t, x)
        dx = torch.empty_like(x)

        def perception_backward(tiles: sizes.Tiles) -> None:
            kernels.perception_backward[(self.spreaders,)](
                x, g, lives, self.dy, dx, rollout.grid, rollout.taps, self.sum_taps, rollout.restored,
                COLUMNS=rollout.columns, REACH=rollout.reach, ALIVE=alive, LEARNED=self.learned,
                SP=sizes.padded(rollout.filtered if rollout.dense else 1),
                BLOCK=tiles.block, PRECISION=rollout.precision, **compiled(tiles),
            )  # fmt: skip

        rollout.launch("perception_backward", perception_backward, self.sum_taps)
        if self.grad_extra is not None:
            target = self.grad_extra[t if self.grad_extra.shape[0] > 1 else 0]
            kernels.add_extra[(-(-rollout.cells // 256),)](
                self.dy, target, rollout.cells, rollout.per_sample, rule.extra * rollout.per_sample,
                P=rule.perception_size, E=rule.extra, EP=1 << (rule.extra - 1).bit_length(), BLOCK=256,
            )  # fmt: skip
        return dx

    def _through_norm(self, t: int, x: Tensor) -> None:
        """The step's share of the first layer's and the norm's gradients, and what every cell gets through the norm."""
        rollout, p = self.rollout, self.rollout.rule.perception_size
        _, moment = self.tape.moments(t)
        tiles = rollout.tiles["batch_norm_backward"]
        norm_back.norm_gradients[(rollout.hidden // 16,)](
            self.sums.first.sum(0), self.sums.biases.sum(0), moment, rollout.first, rollout.gamma,
            self.stats, rollout.rule.norm_eps, rollout.rule.hidden[0], rollout.cells, self.d_weight, self.d_gamma,
            self.d_beta, self.by_two, self.by_one, P=p, HP=rollout.hidden, KB=tiles.chunk, CHUNKS=tiles.chunks,
        )  # fmt: skip
        norm_back.norm_map[(-(-p // 16), -(-p // 16))](
            rollout.first, self.by_two, self.by_one, self.matrix, self.offset, P=p, HP=rollout.hidden
        )

        def batch_norm_backward(tiles: sizes.Tiles) -> None:
            kernels.batch_norm_backward[(rollout.programs, tiles.chunks)](
                x, self.dy, rollout.grid, rollout.tensors(t, rollout.mean), self.matrix, self.offset,
                self.sums.tap_bias, COLUMNS=rollout.columns, REACH=rollout.reach,
                PRECISION=rollout.precision, **options(tiles),
            )  # fmt: skip

        rollout.launch("batch_norm_backward", batch_norm_backward, self.sums.tap_bias, self.dy)

    def parameters(self) -> dict[str, Tensor]:
        """Gradients by name, from the packed layouts to the parameters' own."""
        rollout, rule = self.rollout, self.rollout.rule
        sums = Sums(*(part.sum(0) for part in self.sums))
        found: dict[str, Tensor] = {}
        for layer, width in enumerate(rule.hidden):
            first = sums.first if layer == 0 else sums.upper[layer - 1]
            inputs = rule.perception_size if layer == 0 else rule.hidden[layer - 1]
            self._layer(found, layer, first[:inputs, :width].t(), sums.biases[layer, :width])
            if rollout.norms.kind == "layer":
                norm = layer_name("norm", layer)
                found[f"{norm}.weight"], found[f"{norm}.bias"] = sums.gamma[layer, :width], sums.beta[layer, :width]
        own, filtered = rule.channels if rule.identity else 0, rollout.filtered
        if rule.has_filters:
            shape = rule.param_shapes()["perceive.weight"]
            taps = self.sum_taps.sum(0) if self.learned else rollout.like.new_zeros(rollout.taps.shape)
            taps = taps.permute(2, 1, 0) if rollout.dense else taps.view(rollout.taps.shape).permute(1, 2, 0)
            found["perceive.weight"] = taps.reshape(shape)
            if rule.filter_bias:
                bias = sums.tap_bias[own : own + filtered].reshape(rule.param_shapes()["perceive.bias"])
                # Batch norm takes away what is the same in every cell; a dense convolution's activation comes between.
                found["perceive.bias"] = bias * (rollout.dense or not rollout.batch_norm)
        found["update.weight"] = sums.update[: rule.hidden[-1], rule.lo : rule.hi].t()
        found["update.bias"] = sums.update_bias[rule.lo : rule.hi]
        return {name: grad.contiguous() for name, grad in found.items()}

    def _layer(self, found: dict[str, Tensor], layer: int, weight: Tensor, bias: Tensor) -> None:
        """A hidden layer's gradients from the raw sums [H, inputs] and [H], which stand behind the folded norm."""
        rollout, rule = self.rollout, self.rollout.rule
        hidden, norm = layer_name("hidden", layer), layer_name("norm", layer)
        found[f"{hidden}.weight"], found[f"{hidden}.bias"] = weight, bias
        if rollout.batch_norm:
            width = rule.hidden[0]
            found[f"{norm}.weight"], found[f"{norm}.bias"] = self.d_gamma[:width], self.d_beta[:width]
            found[f"{hidden}.weight"] = self.d_weight[:, :width].t()
            found[f"{hidden}.bias"] = torch.zeros_like(bias)  # a constant that the mean takes away again
        if rollout.norms.grouped:
            width = rule.hidden[0]
            found[f"{norm}.weight"] = rollout.norms.d_gamma.sum(0)[:width]
            found[f"{norm}.bias"] = rollout.norms.d_beta.sum(0)[:width]
        if rule.norm == "running":
            params = rollout.params
            own, var = params[f"{hidden}.weight"], params[f"{norm}.running_var"]
            inverse = torch.rsqrt(var + rule.norm_eps)
            shift = params[f"{hidden}.bias"] - params[f"{norm}.running_mean"]
            scale, _ = rollout.fold_running(layer, params[f"{hidden}.bias"])
            found[f"{norm}.weight"] = inverse * ((own * weight).sum(1) + shift * bias)
            found[f"{norm}.bias"] = bias
            found[f"{hidden}.weight"], found[f"{hidden}.bias"] = scale[:, None] * weight, scale * bias
            found[f"{norm}.running_mean"] = torch.zeros_like(bias)
            found[f"{norm}.running_var"] = torch.zeros_like(bias)
