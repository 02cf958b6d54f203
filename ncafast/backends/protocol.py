"""What a backend must provide: the built-in ones, and those of other packages (entry-point group `ncafast.backends`).

A package declares a backend in its pyproject.toml,

    [project.entry-points."ncafast.backends"]
    mychip = "my_package.backend"

where the value names a module, or an object in one ("my_package.backend:BACKEND"), with the attributes and functions
of `Backend`. The name is then listed by `ncafast info` and `ncafast.backends.names()`, taken by `backend="mychip"`,
checked by `ncafast check`, and, once it has passed that check, chosen by default where no built-in fused backend can
run a rollout.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.rule import Rule


class Backend(Protocol):
    """A way to run rollouts. `reference` is the definition of what each must compute.

    Fire masks are those of `ncafast.fire_mask`, bit for bit. Numbers may differ from the reference by twice its own
    rounding error. Two runs give equal bits.

    Attributes:
        DEVICE: the device type that it is made for, "cpu" or "cuda"; None for any. A `FallbackWarning` names the
            backends that are made for a rollout's device and cannot run it.
        UNVERIFIED: what is not known of it yet, which `ncafast info` shows; else None.
        FIRST: optional, False by default; True asks to be tried before the built-in backends and not after them.
    """

    DEVICE: str | None
    UNVERIFIED: str | None

    def unavailable(self) -> str | None:
        """Whether this machine has what the backend needs.

        Returns:
            None if it has, else the reason in one line.
        """

    def can_run(self, rule: Rule, x: Tensor, precision: str | None, /) -> str | None:
        """Whether the backend takes this rule and state. torch.compile traces it: plain Python on rule and state.

        Args:
            rule: what one step does.
            x: a state [B, C, *S]; only its shape, dtype and device matter.
            precision: of matrix products on a GPU, one of `precision.PRECISIONS`; None is the default one.

        Returns:
            None if it does, else the reason in one line, which names what is not taken.
        """

    def outputs(self, rule: Rule, x: Tensor, plan: Plan, /) -> Outputs:
        """The tensors that `forward` returns, uninitialised: torch.compile learns shapes, dtypes and strides from them.

        Args:
            rule: what one step does.
            x: the first state [B, C, *S], possibly of an empty batch or a fake tensor.
            plan: steps and kept states.

        Returns:
            The state [B, C, *S]; `plan.kept` states; statistics [T or 0, 2, sum H]; a uint8 tape of any shape, which
            autograd keeps for `backward`.
        """

    def forward(self, call: Call, /) -> Outputs:
        """Run all steps. Must not change the inputs.

        Args:
            call: rule, tensors and plan.

        Returns:
            Tensors as `outputs` describes them, none of them an input.

        Raises:
            RuntimeError: the kernel failed.
        """

    def backward(
        self,
        call: Call,
        history: Tensor,
        tape: Tensor,
        grad_out: Tensor | None,
        grad_history: Tensor | None,
        needs: list[bool],
        /,
    ) -> Gradients:
        """Run all steps backward. Must not change the inputs.

        Args:
            call: that of `forward`.
            history: the kept states [kept, B, C, *S] of `forward`, possibly in other strides.
            tape: that of `forward`.
            grad_out: dL/dx_T [B, C, *S], contiguous, or None for zeros.
            grad_history: dL/d(kept states) [kept, B, C, *S], contiguous, or None for zeros.
            needs: which gradients are needed: of x, of extra, of each parameter.

        Returns:
            The gradients, each in the dtype of its tensor; None, or anything, where `needs` says no. Stored statistics
            ("running" norms) are constants, whose gradient is zero.

        Raises:
            RuntimeError: the kernel failed.
        """


FUNCTIONS = ("unavailable", "can_run", "outputs", "forward", "backward")
ATTRIBUTES = ("DEVICE", "UNVERIFIED")
