"""DyNCA: textures that move, from an image and a video or a field of motion.

The class of IVRL/DyNCA with perception at one scale, after Pajouheshgar et al., "DyNCA: Real-time Dynamic Texture
Synthesis Using Neural Cellular Automata" (CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ncafast import check
from ncafast.models.base import check_rate
from ncafast.models.filterbank import LAPLACIAN, SOBEL_X, SOBEL_Y, FilterBankNCA, cell_positions, padding_of
from ncafast.prediction import Channels
from ncafast.rule import Rule
from ncafast.values import whole

_SEEDS = ("zeros", "center_on", "random")


class DyNCA(FilterBankNCA):
    """Identity, Sobel x and y and Laplacian of every channel, unscaled; perhaps positions; all channels mutable.

    Layout: state x [B, c_in, H, W] float. A cell updates with probability `update_rate`, an argument of the call.

    state_dict: `w1.*` [fc_dim, 4 c_in (+ 2), 1, 1] with columns filter by filter, `w2.*` [c_in, fc_dim, 1, 1].

    Args:
        c_in: channels of the state.
        c_out: channels of the state that are read as the image.
        fc_dim: width of the hidden layer.
        padding_mode: as torch.nn.functional.pad calls it: replicate, circular, reflect or constant.
        seed_mode: what `seed` returns: zeros, center_on (one cell of ones) or random.
        pos_emb: "CPE", where each cell sees its position, or None.
        perception_scales: [0]; a rollout cannot perceive at several scales.
        device: where the parameters go, and `self.device`; default the CPU.

    Raises:
        ValueError: other scales, padding, seed_mode or pos_emb.
    """

    _channel_major = False

    def __init__(
        self,
        c_in: int,
        c_out: int,
        fc_dim: int = 96,
        padding_mode: str = "replicate",
        seed_mode: str = "zeros",
        pos_emb: str | None = "CPE",
        perception_scales: Sequence[int] = (0,),
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.device = check.check_device(device)
        self.c_in, self.fc_dim = whole("c_in", c_in, 1), whole("fc_dim", fc_dim, 1)
        self.c_out = whole("c_out", c_out, 1, self.c_in)
        self.padding_mode, self.seed_mode, self.pos_emb = padding_mode, seed_mode, pos_emb
        self.perception_scales = tuple(perception_scales)
        if self.perception_scales != (0,):
            raise ValueError(f"perception_scales={list(perception_scales)}: a rollout perceives at one scale, [0]")
        if seed_mode not in _SEEDS:
            raise ValueError(f"seed_mode={seed_mode!r} is not allowed: it must be one of {', '.join(_SEEDS)}")
        if pos_emb not in ("CPE", None):
            raise ValueError(f"pos_emb={pos_emb!r} is not allowed: it must be CPE or None")
        self.positions = pos_emb is not None
        rule = Rule(
            channels=self.c_in,
            num_filters=3,
            padding=padding_of("padding_mode", padding_mode),
            extra=2 if self.positions else 0,
            hidden=(self.fc_dim,),
            update_bias=True,
        )
        self._describe(rule, SOBEL_X, SOBEL_Y, LAPLACIAN)
        # The order of these lines is the order of the random numbers: one seed, the original's weights.
        self.w1 = nn.Conv2d(rule.perception_size, self.fc_dim, 1)
        nn.init.xavier_normal_(self.w1.weight, gain=0.2)
        self.w2 = nn.Conv2d(self.fc_dim, self.c_in, 1)
        nn.init.xavier_normal_(self.w2.weight, gain=0.1)
        nn.init.zeros_(self.w2.bias)  # type: ignore[arg-type]
        self.to(self.device)

    def forward(
        self,
        x: Tensor,
        update_rate: float = 0.5,
        return_perception: bool = False,
        *,
        steps: int = 1,
        **options: Any,
    ) -> tuple[Tensor, ...]:
        """One step, or several.

        Args:
            x: [B, c_in, H, W].
            update_rate: probability that a cell updates.
            return_perception: also return what the last step perceived.
            steps: NCA steps.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, H, W], states, memory, ...

        Returns:
            The state [B, c_in, H, W], its image [B, c_out, H, W]; with return_perception= the perception
            [B, 4 c_in (+ 2), H, W]; with states= the kept states [n, B, c_in, H, W].

        Raises:
            ValueError: a wrong shape, a rate outside 0 to 1, or what `rollout` refuses.
        """
        rule = self._derived(self._rule, check_rate("update_rate", update_rate))
        params = self._tensors(rule)
        if not return_perception:
            state, kept = self._step(x, rule, params, steps, options)
            return (state, self.to_rgb(state), *_given(kept))
        state, kept, perceived = self._step_seen(x, rule, params, self._bank(), steps, options)
        if self.positions:
            perceived = torch.cat((perceived, cell_positions(x).expand(x.shape[0], -1, -1, -1)), 1)
        return (state, self.to_rgb(state), perceived, *_given(kept))

    def forward_nsteps(
        self,
        input_state: Tensor,
        step_n: int,
        update_rate: float = 0.5,
        return_middle_feature: bool = False,
        **options: Any,
    ) -> tuple[Any, ...]:
        """`step_n` steps: (state, image); with return_middle_feature= a third, the list of images after each step."""
        if not return_middle_feature:
            return self(input_state, update_rate, steps=step_n, **options)  # type: ignore[no-any-return]
        state, image, kept = self(input_state, update_rate, steps=step_n, states="all", **options)
        return state, image, [self.to_rgb(one) for one in kept]

    def seed(self, n: int, size: int | tuple[int, int] = 128) -> Tensor:  # type: ignore[override]
        """The state to start from, [n, c_in, height, width], for a size of (width, height) or one number.

        "random" is the same at every call, uniform in +- 0.5, and the same for all n.
        """
        width, height = (size, size) if isinstance(size, int) else size
        state = super().seed(n, height, width)
        if self.seed_mode == "center_on":
            state[:, :, height // 2, width // 2] = 1.0
        if self.seed_mode == "random":
            drawn = torch.rand(1, self.c_in, height, width, generator=torch.Generator().manual_seed(42))
            state += (drawn - 0.5).to(state)
        return state

    def _channels(self) -> Channels:
        colours = slice(0, self.c_out)
        return Channels(colours, slice(self.c_out, self.c_in), colours)

    def to_rgb(self, x: Tensor) -> Tensor:
        """The image of a state, [B, c_out, H, W]."""
        return x[:, : self.c_out] * 2.0


def _given(kept: Tensor | None) -> tuple[Tensor, ...]:
    return () if kept is None else (kept,)
