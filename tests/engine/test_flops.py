"""FLOPs as torch's FlopCounterMode counts them, against the same steps run layer by layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ncafast import NCA, Rule, rollout
from ncafast.backends import reference


def counted(run):
    """FLOPs of forward, and of backward from the sum."""
    with FlopCounterMode(display=False) as forward:
        out = run()
    if not out.requires_grad:
        return forward.get_total_flops(), 0
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


def layer_by_layer(x, rule, params, steps, extra):
    for _ in range(steps):
        x, _ = reference.step(rule, x, params, extra, None, None)
    return x


RULES = {
    "one axis": Rule(channels=4, ndim=1, hidden=(5,)),
    "depthwise": Rule(channels=4, hidden=(5, 7), norm="batch", filter_bias=True, mutable=(1, 4), update_bias=True),
    "three axes, dense": Rule(channels=3, ndim=3, perception="dense", dense_channels=6, identity=False, hidden=(4,)),
    "wide filters": Rule(channels=2, kernel_size=(5, 3), num_filters=3, padding="reflect", extra=2, hidden=(6,)),
    "no filters": Rule(channels=4, num_filters=0, extra=1, hidden=(5,)),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("wanted", ["all", "parameters", "state", "update.weight", "extra"])
def test_a_rollout_counts_as_its_layers_do(name, wanted):
    rule = RULES[name].replace(fire_rate=1.0)
    params = {key: torch.rand(shape) for key, shape in rule.param_shapes().items()}
    for key, value in params.items():
        value.requires_grad_(wanted in ("all", "parameters", key))
    x = torch.rand(2, rule.channels, *(5, 6, 7)[: rule.ndim], requires_grad=wanted in ("all", "state"))
    extra = None
    if rule.extra:
        extra = torch.rand(2, rule.extra, *x.shape[2:], requires_grad=wanted in ("all", "extra"))
    expected = counted(lambda: layer_by_layer(x, rule, params, 3, extra))
    assert expected[0] > 0
    assert counted(lambda: rollout(x, rule, params, 3, extra=extra, backend="reference")) == expected


class Plain(nn.Module):
    """The classic automaton as people write it, with a linear layer for every cell."""

    def __init__(self):
        super().__init__()
        self.filters = nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False)
        self.first, self.last = nn.Linear(12, 10), nn.Linear(10, 4, bias=False)

    def forward(self, x, steps):
        for _ in range(steps):
            y = torch.cat((x, self.filters(x)), 1).movedim(1, -1)
            x = x + self.last(F.relu(self.first(y))).movedim(-1, 1)
        return x


def test_the_fused_backend_counts_what_plain_pytorch_does():
    nca, plain, x = NCA(4, 10, filters="learned"), Plain(), torch.rand(3, 4, 9, 7)
    mine, theirs = counted(lambda: nca(x, steps=4)), counted(lambda: plain(x, 4))
    cells = 4 * 3 * 9 * 7
    assert mine[0] == theirs[0] == 2 * cells * (8 * 9 + 12 * 10 + 10 * 4)
    # torch counts the weight gradient of a grouped convolution as that of a dense one, so ncafast does.
    assert mine[1] == theirs[1]
    with FlopCounterMode(display=False) as counter:
        nca(x, steps=4, memory="sqrt").sum().backward()
    assert counter.get_total_flops() == sum(mine)
