"""VanillaNCA, NoiseNCA and PENCA: texture models with four fixed filters and steps of any length.

The classes of IVRL/NoiseNCA, after Pajouheshgar et al., "NoiseNCA: Noisy Seed Improves Spatio-Temporal Continuity of
Neural Cellular Automata" (ALIFE 2024). VanillaNCA is called NCA there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ncafast import check
from ncafast.models.base import Rate
from ncafast.models.filterbank import LAPLACIAN_X, LAPLACIAN_Y, SOBEL_X, SOBEL_Y, FilterBankNCA, padding_of
from ncafast.rule import Rule
from ncafast.values import number, whole


class VanillaNCA(FilterBankNCA):
    """Identity, Sobel x and y and Laplacian of every channel, unscaled; no last bias; all channels mutable.

    Layout: state [B, chn, H, W] float. A cell updates with probability `update_prob`.

    state_dict: `w1.*` [fc_dim, 4 chn + cond_chn, 1, 1] with columns channel by channel, w2.weight [chn, fc_dim, 1, 1].

    Args:
        chn: channels of the state.
        fc_dim: width of the hidden layer.
        padding: as torch.nn.functional.pad calls it: circular, replicate, reflect or constant.
        perception_kernels: 4, as there is no code for another number in the original.
        cond_chn: channels of a condition, which `forward` takes as extra=.
        update_prob: probability that a cell updates. The attribute may be changed later.
        device: where the parameters go, and `self.device`; default the CPU.

    Raises:
        ValueError: another padding, a probability outside 0 to 1, or perception_kernels that are not 4.
    """

    update_prob = Rate(above=False)
    _channel_major = True

    def __init__(
        self,
        chn: int,
        fc_dim: int,
        padding: str = "circular",
        perception_kernels: int = 4,
        cond_chn: int = 0,
        update_prob: float = 0.5,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.device = check.check_device(device)
        self.chn, self.fc_dim = whole("chn", chn, 1), whole("fc_dim", fc_dim, 1)
        self.padding, self.cond_chn = padding, whole("cond_chn", cond_chn, 0)
        self.perception_kernels = whole("perception_kernels", perception_kernels, 4, 4)
        rule = Rule(
            channels=self.chn,
            num_filters=3,
            padding=padding_of("padding", padding),
            extra=self.cond_chn,
            hidden=(self.fc_dim,),
        )
        self._describe(rule, SOBEL_X, SOBEL_Y, LAPLACIAN_X, LAPLACIAN_Y)
        # The order of these lines is the order of the random numbers: one seed, the original's weights.
        self.w1 = nn.Conv2d(rule.perception_size, self.fc_dim, 1)
        self.w2 = nn.Conv2d(self.fc_dim, self.chn, 1, bias=False)
        nn.init.xavier_normal_(self.w1.weight, gain=0.2)
        nn.init.zeros_(self.w2.weight)
        self.update_prob = update_prob
        self.to(self.device)

    def forward(
        self,
        s: Tensor,
        dx: float | Tensor = 1.0,
        dy: float | Tensor = 1.0,
        dt: float = 1.0,
        integrator: str = "euler",
        *,
        steps: int = 1,
        **options: Any,
    ) -> Tensor | tuple[Tensor, ...]:
        """One step, or several.

        Args:
            s: [B, chn, H, W].
            dx: width of a cell, which the filters are divided by, a number.
            dy: its height, likewise.
            dt: length of a step, a factor of the update.
            integrator: "euler". The original's "rk4" is not a step of a Rule.
            steps: NCA steps.
            **options: of `ncafast.rollout`: seed, fire_mask [steps, B or 1, 1, H, W], extra (where the model has
                cond_chn), states, memory, ...

        Returns:
            The state [B, chn, H, W]; with states= (state, kept states [n, B, chn, H, W]).

        Raises:
            ValueError: a wrong shape, dx or dy that differ between cells, integrator="rk4", or what `rollout` refuses.
        """
        bank, rule = self._scaled(dx, dy, integrator), self.rule
        state, kept = self._step(s, rule, self._tensors(rule, bank, dt), steps, options)
        return state if kept is None else (state, kept)

    def to_rgb(self, s: Tensor) -> Tensor:
        """The colours of a state, [..., 3, H, W], 0 to 1."""
        return s[..., :3, :, :] + 0.5

    def _scaled(self, dx: float | Tensor, dy: float | Tensor, integrator: str) -> Tensor:
        if integrator != "euler":
            raise ValueError(f"integrator={integrator!r} is not allowed: a rollout takes Euler steps only")
        for name, size in (("dx", dx), ("dy", dy)):
            if isinstance(size, Tensor) and size.numel() != 1:
                raise ValueError(f"{name} has shape {list(size.shape)}; a rollout has one size for all cells, a number")
        dx, dy = (size.reshape(()) if isinstance(size, Tensor) else size for size in (dx, dy))
        return self._bank(dx, dy)


class NoiseNCA(VanillaNCA):
    """VanillaNCA in which every cell updates, and which starts from noise.

    state_dict: that of VanillaNCA, and noise_level [1].

    Args:
        chn: channels of the state.
        fc_dim: width of the hidden layer.
        noise_level: the seed is uniform in +- noise_level / 2.
        padding: as in VanillaNCA, and so are the rest.
    """

    noise_level: Tensor

    def __init__(
        self,
        chn: int,
        fc_dim: int,
        noise_level: float = 0.0,
        padding: str = "circular",
        perception_kernels: int = 4,
        cond_chn: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(chn, fc_dim, padding, perception_kernels, cond_chn, 1.0, device)
        self.register_buffer("noise_level", torch.tensor([number("noise_level", noise_level)], device=self.device))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments at their present values, as plain data."""
        return super().config() | {"noise_level": float(self.noise_level)}


class PENCA(VanillaNCA):
    """VanillaNCA whose cells see where they are: two more columns of w1, from -1 to 1 along H and along W.

    state_dict: that of VanillaNCA with cond_chn = 2.

    Args:
        chn: channels of the state.
        fc_dim: width of the hidden layer.
        padding: as in VanillaNCA, and so are the rest.
    """

    positions = True

    def __init__(
        self,
        chn: int,
        fc_dim: int,
        padding: str = "circular",
        perception_kernels: int = 4,
        update_prob: float = 0.5,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(chn, fc_dim, padding, perception_kernels, 2, update_prob, device)
