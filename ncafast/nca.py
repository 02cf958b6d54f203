"""NCA: a neural cellular automaton as one nn.Module, parameters plus Rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ncafast import check
from ncafast import filters as _filters
from ncafast.functional import Memory, States, trace
from ncafast.keywords import options_of, refuse_unknown
from ncafast.rule import MAX_KERNEL, Alive, Rule, flag, shown, whole

_STATISTICS = ("running_mean", "running_var")


class NCA(nn.Module):
    """A neural cellular automaton: `nca(x, steps=32)` runs a whole rollout as one operator.

    Parameters by name: perceive.weight [F, C, *k], perceive.bias [F, C], hidden.weight [H, P], hidden.bias [H],
    norm.weight [H], norm.bias [H], update.weight [M, H], update.bias [M]; fixed filters are a buffer.

    Args:
        channels: C, channels of the state.
        hidden: H, width of the hidden layer; a sequence gives several layers.
        ndim: spatial axes, 1 to 3.
        filters: "learned"; or fixed ones: "sobel", "laplacian", "identity", a sequence of these names, or a tensor
            [F, *k] or [F, C, *k].
        num_filters: F of learned filters, default 2; fixed filters bring their number.
        kernel_size: of learned filters, odd, 1 to 7, default 3; fixed filters bring their size.
        identity: whether the state itself is part of the perception.
        filter_bias: whether the filters have a (learned) bias.
        padding: "zeros", "reflect", "replicate" or "circular".
        norm: None, "batch", "running", "group", "instance" or "layer".
        activation: of the hidden layers.
        fire_rate: probability that a cell updates.
        immutable: the first that-many channels never change (images).
        update_bias: whether the last layer has a bias.
        alive: (channel, threshold) for a mask before and after the update, an `Alive` for finer choices, or None.
        zero_init: start the last layer at zero, so that the untrained automaton stands still.
        **rule_fields: any other field of `Rule`, such as step_size, extra, norm_groups, noise.

    Raises:
        TypeError, ValueError: a wrong argument; the message names it and says what is allowed.
    """

    rule: Rule

    def __init__(
        self,
        channels: int = 16,
        hidden: int | Sequence[int] = 128,
        *,
        ndim: int = 2,
        filters: str | Sequence[str] | Tensor = "sobel",
        num_filters: int | None = None,
        kernel_size: int | Sequence[int] | None = None,
        identity: bool = True,
        filter_bias: bool = False,
        padding: str = "zeros",
        norm: str | None = None,
        activation: str = "relu",
        fire_rate: float = 0.5,
        immutable: int = 0,
        update_bias: bool = False,
        alive: tuple[int, float] | Alive | None = None,
        zero_init: bool = True,
        **rule_fields: Any,
    ) -> None:
        refuse_unknown("NCA", rule_fields, _ARGUMENTS)
        flag("zero_init", zero_init)
        plain = Rule(channels=channels, ndim=ndim)
        fixed = None
        if rule_fields.get("perception", "depthwise") != "depthwise":
            if not isinstance(filters, str) or filters not in ("learned", "sobel"):  # the default stands for none given
                raise ValueError(
                    "filters= goes with perception='depthwise' only; NCA.from_rule takes a tensor for others"
                )
        elif not _is_learned(filters):
            fixed = _fixed_filters(filters, plain.ndim)
            num_filters, kernel_size = _own_sizes(filters, fixed, plain.ndim, num_filters, kernel_size)
        mutable = rule_fields.pop("mutable", None)
        if whole("immutable", immutable, 0, plain.channels - 1):
            if mutable is not None:
                raise ValueError("give either immutable= or mutable=, not both")
            mutable = (immutable, channels)
        if isinstance(alive, tuple):
            if len(alive) != 2:
                raise ValueError(f"alive={shown(alive)} is not allowed: give (channel, threshold), an Alive or None")
            alive = Alive(*alive)
        rule = Rule().replace(
            channels=channels,
            ndim=ndim,
            num_filters=2 if num_filters is None else num_filters,
            kernel_size=3 if kernel_size is None else kernel_size,
            identity=identity,
            filter_bias=filter_bias,
            padding=padding,
            hidden=hidden,
            norm="none" if norm is None else norm,
            activation=activation,
            fire_rate=fire_rate,
            update_bias=update_bias,
            mutable=mutable,
            alive=alive,
            **rule_fields,
        )
        super().__init__()
        self._build(rule, fixed, zero_init)

    @classmethod
    def from_rule(
        cls,
        rule: Rule,
        *,
        filters: str | Sequence[str] | Tensor = "learned",
        zero_init: bool = True,
    ) -> NCA:
        """An NCA of exactly this rule. `filters` as in the constructor: learned, or fixed ones of the rule's shape."""
        if not isinstance(rule, Rule):
            raise TypeError(f"rule must be an ncafast.Rule, got {type(rule).__name__}")
        flag("zero_init", zero_init)
        fixed = None if _is_learned(filters) or not rule.has_filters else _fixed_filters(filters, rule.ndim)
        nca = cls.__new__(cls)
        nn.Module.__init__(nca)
        nca._build(rule, fixed, zero_init)
        return nca

    @classmethod
    def from_config(cls, rule: str, fixed_filters: bool) -> NCA:
        """The NCA that `config` describes; a fixed filter's values come with the state_dict."""
        parsed = Rule.from_json(rule)
        fixed = torch.zeros(parsed.param_shapes()["perceive.weight"]) if fixed_filters else "learned"
        return cls.from_rule(parsed, filters=fixed)

    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build this module again, as plain data."""
        fixed = any(name == "perceive.weight" for name, _ in self.named_buffers())
        return {"rule": self.rule.to_json(), "fixed_filters": fixed}

    def forward(
        self,
        x: Tensor,  # [B, C, *S]
        steps: int = 32,
        *,
        seed: int | Tensor | None = None,
        fire_mask: Tensor | None = None,  # [T, B or 1, 1, *S]
        extra: Tensor | None = None,  # [B or 1, E, *(S or 1)] or [T, ...]
        states: States = None,
        memory: Memory = "states",
        first_step: int = 0,
        first_sample: int = 0,
        backend: str | None = None,
        **unknown: NoReturn,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Run `steps` steps from x. Arguments, result and errors as in `ncafast.rollout`."""
        refuse_unknown("NCA.forward", unknown, _OPTIONS)
        done = trace(
            x,
            self._train_rule if self.training else self._eval_rule,
            self.params(),
            steps,
            seed=seed,
            fire_mask=fire_mask,
            extra=extra,
            states=states,
            memory=memory,
            first_step=first_step,
            first_sample=first_sample,
            backend=backend,
        )
        if self.training and self.rule.norm == "running" and x.shape[0]:
            self._update_statistics(done.stats, x.numel() // x.shape[1])
        return done.out if done.states is None else (done.out, done.states)

    def params(self) -> dict[str, Tensor]:
        """The tensors of one step by name, as `rollout` takes them in the module's present mode."""
        rule = self._train_rule if self.training else self._eval_rule
        return {name: self.get_parameter_or_buffer(name) for name in rule.param_shapes()}

    def get_parameter_or_buffer(self, name: str) -> Tensor:
        """The tensor called `name` ("hidden.weight"), learned or fixed."""
        module, leaf = name.rsplit(".", 1)
        return getattr(getattr(self, module), leaf)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The rule's fields that differ from the defaults."""
        plain = Rule()
        shown = ((name, getattr(self.rule, name)) for name in self.rule.__dataclass_fields__)
        return ", ".join(f"{name}={value!r}" for name, value in shown if value != getattr(plain, name))

    def _build(self, rule: Rule, fixed: Tensor | None, zero_init: bool) -> None:
        self.rule = rule
        # Running statistics in training are batch statistics that are also averaged into the buffers.
        self._train_rule = rule.replace(norm="batch") if rule.norm == "running" else rule
        self._eval_rule = rule.for_eval()
        for name, shape in rule.param_shapes().items():
            module, leaf = name.rsplit(".", 1)
            if not hasattr(self, module):
                self.add_module(module, nn.Module())
            holder = getattr(self, module)
            if name == "perceive.weight" and fixed is not None:
                holder.register_buffer(leaf, _per_channel(fixed, shape))
            elif leaf in _STATISTICS:
                holder.register_buffer(leaf, torch.full(shape, float(leaf == "running_var")))
            else:
                holder.register_parameter(leaf, nn.Parameter(torch.empty(shape)))
        self.momentum = 0.1  # of running statistics, as torch.nn.BatchNorm2d
        self._zero_init = zero_init
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all learned parameters anew: uniform in +-1/sqrt(fan in) as torch's layers, the last layer zero."""
        sizes = self.rule.param_shapes()
        for name, parameter in self.named_parameters():
            module, leaf = name.rsplit(".", 1)
            if module.startswith("norm"):
                nn.init.constant_(parameter, float(leaf == "weight"))
            elif module == "update" and self._zero_init:
                nn.init.zeros_(parameter)
            else:
                fan_in = _fan_in(self.rule, module, sizes[f"{module}.weight"])
                nn.init.uniform_(parameter, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    @torch.no_grad()
    def _update_statistics(self, stats: Tensor, count: int) -> None:
        """Average every step's statistics [T, 2, sum H] into the buffers, variance unbiased, as BatchNorm does."""
        norms = [name for name in self.rule.param_shapes() if name.endswith(".running_mean")]
        unbias = count / max(count - 1, 1)
        for found in stats:
            means, variances = found[0].split(self.rule.hidden), found[1].split(self.rule.hidden)
            for name, mean, var in zip(norms, means, variances, strict=True):
                holder = getattr(self, name.rsplit(".", 1)[0])
                holder.running_mean.lerp_(mean.to(holder.running_mean.dtype), self.momentum)
                holder.running_var.lerp_((var * unbias).to(holder.running_var.dtype), self.momentum)


_OPTIONS = options_of(NCA.forward, 2)
_ARGUMENTS = tuple(dict.fromkeys((*options_of(NCA.__init__, 1), *options_of(Rule, 0))))


def _is_learned(filters: str | Sequence[str] | Tensor) -> bool:
    return isinstance(filters, str) and filters == "learned"


def _fixed_filters(filters: str | Sequence[str] | Tensor, ndim: int) -> Tensor:
    if isinstance(filters, Tensor):
        return _given_filters(filters, ndim)
    names = [filters] if isinstance(filters, str) else list(filters) if isinstance(filters, Sequence) else [None]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"filters must be 'learned', one or several names, or a tensor, got {shown(filters)}")
    if not names:
        raise ValueError(f"filters={shown(filters)} names no filter; for none give filters='learned', num_filters=0")
    return _filters.bank(names, ndim)


def _given_filters(filters: Tensor, ndim: int) -> Tensor:
    check.check_dense("filters", filters)
    sizes = list(filters.shape)
    if filters.dim() not in (ndim + 1, ndim + 2):
        raise ValueError(f"filters has shape {sizes}; allowed is [F, *k] or [F, C, *k] with {ndim}-D k")
    if any(size % 2 == 0 or size > MAX_KERNEL for size in sizes[-ndim:]) or not sizes[0]:
        raise ValueError(f"filters has shape {sizes}; F must be at least 1, and k odd, 1 to {MAX_KERNEL} per axis")
    if filters.is_complex():
        raise TypeError(f"filters must be real, got {filters.dtype}")
    own = filters.detach().float()
    if not (own.is_meta or own.isfinite().all()):
        raise ValueError("filters has values that are not finite in float32")
    return own


def _own_sizes(
    filters: str | Sequence[str] | Tensor,
    fixed: Tensor,  # [F, *k] or [F, C, *k]
    ndim: int,
    num_filters: int | None,
    kernel_size: int | Sequence[int] | None,
) -> tuple[int, tuple[int, ...]]:
    """Number and size of fixed filters; what the caller says of them must agree."""
    number, size = fixed.shape[0], tuple(fixed.shape[-ndim:])
    spelled = "a tensor" if isinstance(filters, Tensor) else shown(filters)
    if num_filters is not None and num_filters != number:
        raise ValueError(f"num_filters={shown(num_filters)} does not fit filters={spelled}, which are {number}")
    if kernel_size is not None and Rule(ndim=ndim, kernel_size=kernel_size).kernel_size != size:  # type: ignore[arg-type]
        raise ValueError(f"kernel_size={shown(kernel_size)} does not fit filters={spelled}, which are of size {size}")
    return number, size


def _per_channel(fixed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[F, *k] or [F, C, *k] -> [F, C, *k], in memory of its own."""
    full = fixed if fixed.dim() == len(shape) else fixed[:, None]
    try:
        return full.expand(shape).clone()
    except RuntimeError:
        raise ValueError(f"filters has shape {list(fixed.shape)}, the rule needs {list(shape)}") from None


def _fan_in(rule: Rule, module: str, weight_shape: tuple[int, ...]) -> int:
    if module == "perceive" and rule.perception == "depthwise":
        return math.prod(weight_shape[2:])
    return math.prod(weight_shape[1:])
