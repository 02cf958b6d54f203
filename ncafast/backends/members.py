"""Members: rollouts of one rule, size and plan that run in one call, each with parameters of its own.

Every member gives what it would give alone: its batch statistics are its own, and its random counters start where those
of a rollout alone would. A backend that has no call for all members runs them one after another.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from ncafast.backends.plan import Call, Gradients, Outputs, Plan
from ncafast.backends.protocol import Backend
from ncafast.rule import Rule


class Members(NamedTuple):
    """What all members read.

    Attributes:
        call: that of one member, with a leading axis of G members on every tensor, the seed included. What one member
            reads is contiguous; where all read the same, the stride of that axis is 0.
        apart: member g's first sample is plan.first_sample + g * apart (random counter).
    """

    call: Call
    apart: int

    def at(self, member: int) -> Call:
        """The call of one member."""
        rule, x, params, extra, fire_mask, seed, plan = self.call
        return Call(
            rule,
            x[member],
            [p[member] for p in params],
            None if extra is None else extra[member],
            None if fire_mask is None else fire_mask[member],
            seed[member],
            plan._replace(first_sample=plan.first_sample + member * self.apart),
        )


class MembersBackend(Protocol):
    """A way to run members: `outputs`, `forward` and `backward` of `Backend`, with the leading axis on every tensor."""

    def outputs(self, rule: Rule, x: Tensor, plan: Plan, /) -> Outputs:
        """The tensors that `forward` returns, uninitialised; x is [G, B, C, *S]."""

    def forward(self, members: Members, /) -> Outputs:
        """Run all steps of all members."""

    def backward(
        self,
        members: Members,
        history: Tensor,
        tape: Tensor,
        grad_out: Tensor | None,
        grad_history: Tensor | None,
        needs: list[bool],
        /,
    ) -> Gradients:
        """Run all steps of all members backward; gradients have the leading axis too."""


class OneByOne:
    """The members one after another, for backends that run one rollout at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def outputs(self, rule: Rule, x: Tensor, plan: Plan) -> Outputs:
        """Those of one member, with the leading axis."""
        one = self._backend.outputs(rule, x.new_empty(x.shape[1:]), plan)
        return Outputs(*(tensor.new_empty((x.shape[0], *tensor.shape)) for tensor in one))

    def forward(self, members: Members) -> Outputs:
        """As `MembersBackend`."""
        done = self.outputs(members.call.rule, members.call.x, members.call.plan)
        for member in range(members.call.x.shape[0]):
            for to, part in zip(done, self._backend.forward(members.at(member)), strict=True):
                to[member] = part
        return done

    def backward(
        self,
        members: Members,
        history: Tensor,
        tape: Tensor,
        grad_out: Tensor | None,
        grad_history: Tensor | None,
        needs: list[bool],
    ) -> Gradients:
        """As `MembersBackend`."""
        call = members.call
        grad_x = call.x.new_empty(call.x.shape)
        need_extra = needs[1] and call.extra is not None
        grad_extra = call.extra.new_empty(call.extra.shape) if need_extra and call.extra is not None else None
        grads = [p.new_empty(p.shape) if need else None for p, need in zip(call.params, needs[2:], strict=True)]
        for member in range(call.x.shape[0]):
            cut = [None if grad is None else grad[member] for grad in (grad_out, grad_history)]
            part = self._backend.backward(members.at(member), history[member], tape[member], cut[0], cut[1], needs)
            for to, found in zip((grad_x, grad_extra, *grads), (part.x, part.extra, *part.params), strict=True):
                if to is not None and found is not None:
                    to[member] = found
        return Gradients(grad_x, grad_extra, grads)
