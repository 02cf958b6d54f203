"""Equal steps of a graph looked up as a rule, and replaced by one rollout; what is around them stays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from ncafast.acceleration.assemble import Match
from ncafast.acceleration.entry import Entry, Example
from ncafast.acceleration.errors import Misread, NotAccelerated
from ncafast.acceleration.match import Shape
from ncafast.acceleration.programs import Examples
from ncafast.acceleration.search import search
from ncafast.acceleration.segments import Chain, find_chains, single_steps
from ncafast.acceleration.steps import Unrolled, rolled
from ncafast.acceleration.trial import check_here
from ncafast.functional import rollout

_ENTRY = Entry("forward", "x", "steps", ())
_REMEMBERED = 64  # searches, each with what was found
_known: dict[str, Match | str] = {}  # by steps and constants: another number of steps is no new search


class Rollout(nn.Module):
    """Stands in a graph where equal steps were."""

    def __init__(self, match: Match, steps: int, masks: str) -> None:
        super().__init__()
        self.match, self.steps, self.masks = match, steps, masks

    @torch.compiler.disable  # a rollout is one operator already
    def forward(self, x: Tensor, *tensors: Tensor) -> Tensor:
        """Run the steps, with the present values of the tensors that they take."""
        match, firing, mask = self.match, self.match.firing, None
        x = match.grid.inward(x)
        if self.masks == "torch" and firing is not None:
            mask = torch.stack([firing.draw(x) for _ in range(self.steps)])
        out = rollout(x, match.rule, match.parameters(tensors), self.steps, fire_mask=mask)
        assert isinstance(out, Tensor)
        return match.grid.outward(out)


@dataclass
class Found:
    """A chain, the rule of its steps, and where its tensors are."""

    chain: Chain
    match: Match
    unrolled: Unrolled


@dataclass
class Fused:
    """A graph with rollouts in it, and the numbers of the inputs whose values it stands on."""

    module: GraphModule
    found: list[Found]
    constants: list[int]


def fuse(module: GraphModule, inputs: Sequence[Any], masks: str) -> Fused:
    """A copy of Dynamo's graph in which equal steps are rollouts.

    Args:
        module: the graph, which is left as it is.
        inputs: values of its inputs.
        masks: as for `ncafast.accelerate`.

    Raises:
        NotAccelerated: no steps were found that a rule describes.
    """
    graph = module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    examples: dict[Node, Any] = dict(zip(placeholders, inputs, strict=True))
    examples |= {node: getattr(module, str(node.target)) for node in graph.nodes if node.op == "get_attr"}
    found, reasons = list[Found](), list[str]()
    chains = find_chains(graph)
    for chain in chains or single_steps(graph):
        result = _found(chain, examples, masks)
        if isinstance(result, Found):
            found.append(result)
        else:
            reasons.append(result if chains else f"no equal steps follow one another, and as one step: {result}")
    if not found:
        raise NotAccelerated(reasons[0] if reasons else f"no steps are repeated in its {len(graph.nodes)} operations")
    constants = {node for one in found for node in one.unrolled.constants}
    numbers = [k for k, node in enumerate(placeholders) if node in constants]
    return Fused(_replaced(module, found, masks), found, numbers)


def _found(chain: Chain, examples: Examples, masks: str) -> Found | str:
    """The rule of a chain's steps, or the reason why there is none."""
    misread, reasons = list[Misread](), list[str]()
    for channels, turned in _readings(chain):
        try:
            unrolled = rolled(chain, examples, channels, turned)
        except Misread as reason:
            misread.append(reason)
            continue
        except NotAccelerated as reason:
            return str(reason)
        match = _match(unrolled, examples, channels)
        if isinstance(match, str):
            reasons.append(unrolled.in_users_words(match))
        elif masks == "torch" and match.rule.hidden_dropout:
            return "it drops hidden units, so masks='torch' is not possible"
        elif masks == "torch" and match.firing is not None and not match.firing.replays:
            return "its draws cannot be repeated, so masks='torch' is not possible"
        else:
            return Found(chain, match, unrolled)
    return reasons[0] if reasons else str(max(misread, key=lambda reason: reason.operations))


def _readings(chain: Chain) -> Iterator[tuple[int, bool]]:
    """(axis of the channels, `turned`) that a state may have."""
    shape = chain.start.meta["example_value"].shape
    for channels, grid in ((1, [shape[0], *shape[2:]]), (-1, list(shape[:-1]))):
        yield channels, False
        if len(set(map(str, grid))) < len(grid):
            yield channels, True


def _match(unrolled: Unrolled, examples: Examples, channels: int) -> Match | str:
    shape = unrolled.shape
    held = [examples[node].detach().cpu().contiguous() for node in unrolled.constants]
    numbers = hashlib.sha256(
        b"".join(value.reshape(-1).view(torch.uint8).numpy().tobytes() for value in held)
    ).hexdigest()
    key = f"{unrolled.key}\n{channels}\n{numbers}"
    if key not in _known:
        found = search(
            unrolled.steps, _ENTRY, Example(None, ()), Shape(shape[channels], len(shape) - 2, channels == -1), True
        )
        if isinstance(found, Match) and found.extra is not None:
            found = "the hidden layer sees something beside the state, which ncafast.accelerate(model) takes"
        if isinstance(found, Match):
            found = check_here(unrolled.steps, found, shape) or found
        if len(_known) >= _REMEMBERED:
            _known.pop(next(iter(_known)))
        _known[key] = found
    return _known[key]


def _replaced(module: GraphModule, found: Sequence[Found], masks: str) -> GraphModule:
    graph, new = Graph(), dict[Node, Node]()
    graph.output(graph.graph_copy(module.graph, new))
    fused = GraphModule(module, graph)
    for k, one in enumerate(found):
        fused.add_submodule(f"rollout{k}", Rollout(one.match, one.chain.steps, masks))
        last, state = one.chain.segments[-1][-1], one.chain.states[-1]
        with graph.inserting_after(new[last]):
            inputs = (new[one.chain.start], *(new[node] for node in one.unrolled.tensors))
            node = graph.call_module(f"rollout{k}", inputs)
        new[state].replace_all_uses_with(node)
        for old in reversed([old for segment in one.chain.segments for old in segment if old.op != "get_attr"]):
            graph.erase_node(new[old])
        new[state] = node
    graph.lint()
    fused.recompile()
    return fused
