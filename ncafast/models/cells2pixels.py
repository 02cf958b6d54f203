"""Cells2PixelsNCA: the texture step whose state or perception a decoder of coordinates turns into pixels.

The two-dimensional classes of TheDevilWillBeBee/Cells2Pixels, which are those of NoiseNCA with a second result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ncafast.models.noisenca import VanillaNCA
from ncafast.rule import Alive
from ncafast.values import flag, number


class Cells2PixelsNCA(VanillaNCA):
    """VanillaNCA that also returns what its last step perceived.

    The original's four classes are this one with other arguments: NCA; NoiseNCA with noise_level=0.1, update_prob=1.0;
    PENCA with noise_level=0.0, positions=True, padding="replicate"; GrowingNCA with alive=True.

    state_dict: `w1.*` [fc_dim, 4 channels + cond_chn, 1, 1], w2.weight [channels, fc_dim, 1, 1]; if given
    noise_level [1].

    Args:
        channels: channels of the state.
        fc_dim: width of the hidden layer.
        padding: as in VanillaNCA, and so are perception_kernels, cond_chn, update_prob and device.
        noise_level: the seed is uniform in +- noise_level / 2; None for zeros.
        positions: whether each cell sees where it is, as in PENCA; cond_chn is 2 then.
        alive: whether cells need a neighbour with channel 3 above 0.1, before the update and after it.
    """

    def __init__(
        self,
        channels: int,
        fc_dim: int,
        padding: str = "circular",
        perception_kernels: int = 4,
        cond_chn: int = 0,
        update_prob: float = 0.5,
        device: torch.device | str | None = None,
        *,
        noise_level: float | None = None,
        positions: bool = False,
        alive: bool = False,
    ) -> None:
        cond_chn = 2 if flag("positions", positions) else cond_chn
        super().__init__(channels, fc_dim, padding, perception_kernels, cond_chn, update_prob, device)
        self.channels, self.positions, self.alive = self.chn, positions, flag("alive", alive)
        if alive:
            self._rule = self._rule.replace(alive=Alive(channel=3, threshold=0.1))
        level = None if noise_level is None else torch.tensor([number("noise_level", noise_level)], device=self.device)
        self.register_buffer("noise_level", level)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments at their present values, as plain data."""
        level = self.noise_level
        return super().config() | {"noise_level": None if level is None else float(level)}  # type: ignore[arg-type]

    def forward(  # type: ignore[override]
        self,
        s: Tensor,
        dx: float | Tensor = 1.0,
        dy: float | Tensor = 1.0,
        dt: float = 1.0,
        integrator: str = "euler",
        *,
        steps: int = 1,
        **options: Any,
    ) -> tuple[Tensor, ...]:
        """One step, or several; arguments as in VanillaNCA.

        Returns:
            The state [B, channels, H, W], and what the last step perceived [B, 4 channels, H, W], channel by channel;
            with states= a third, the kept states [n, B, channels, H, W].
        """
        bank, rule = self._scaled(dx, dy, integrator), self.rule
        state, kept, seen = self._step_seen(s, rule, self._tensors(rule, bank, dt), bank, steps, options)
        return (state, seen) if kept is None else (state, seen, kept)
