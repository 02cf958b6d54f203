"""Machine code of the CUDA kernels as a graph of blocks with loops, and how many instructions a way through it has.

A kernel's backward branches make its loops. One turn of a loop costs as many instructions as the longest way through it
has; a loop within it counts as often as a `Rule` says, which knows the loop by what stands in it. A branch that some
lanes of a warp take counts whole. Of two ways the longer one counts, also where lanes of one warp take both. So the
count is an estimate, good for comparing a kernel with itself, and not a bound. Not counted are the slow way of a 64-bit
division and activations that are no lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_LINE = re.compile(r"^\s+/\*([0-9a-f]{4,6})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?);")
_LABEL = re.compile(r"^(\.L_x_\d+):")


# Of a 64-bit division that is slow, and of activations that are no lines.
_COLD = ("CALL", "BRX", "MUFU.EX2", "MUFU.TANH", "MUFU.LG2")


class Miscounted(Exception):
    """The code is not what the table was made for."""


@dataclass
class Block:
    """Instructions without a branch but at the end."""

    words: list[str] = field(default_factory=list)
    next: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Loop:
    """A loop: numbers of its blocks, loops within it, and what stands in it."""

    head: int
    blocks: set[int]
    order: list[int]  # the same, each before what follows it
    inner: list[Loop] = field(default_factory=list)
    own: Counter[str] = field(default_factory=Counter)  # without inner loops
    all: Counter[str] = field(default_factory=Counter)


def kernels(listing: str) -> Iterator[tuple[str, list[Block]]]:
    """(mangled name, blocks) of every kernel in what `nvdisasm -c` printed."""
    for part in listing.split("\n.text.")[1:]:
        name, body = part.split(":", 1)
        yield name, _blocks(body)


def _blocks(body: str) -> list[Block]:
    blocks, labels, targets = [Block()], {}, []
    for line in body.splitlines():
        if found := _LABEL.match(line):
            if blocks[-1].words:
                blocks.append(Block())
            labels[found[1]] = len(blocks) - 1
        elif found := _LINE.match(line):
            _, guard, word, arguments = found.groups()
            if word.startswith("CALL") and ".L_x_" in arguments:
                word = "BRA"  # within the kernel, from which nothing returns
            name = word.split(".")[0]
            blocks[-1].words.append(word)
            if name not in ("BRA", "BRX", "EXIT", "RET"):
                continue
            to = re.findall(r"\.L_x_\d+", line)
            apart, together = (
                word.startswith("BRA.DIV"),
                word.startswith("BRA.CONV"),
            )  # a warp's lanes, which are together
            if not apart:
                targets.append((len(blocks) - 1, to))
            falls = guard or apart or re.match(r"!?U?P\d|UR\d", arguments)
            if falls and not together and name != "BRX":
                blocks[-1].next.append(len(blocks))
            blocks.append(Block())
    for number, block in enumerate(blocks):  # what ends without a branch goes on
        if block.words and block.words[-1].split(".")[0] not in ("BRA", "BRX", "EXIT", "RET"):
            block.next.append(number + 1)
    for number, to in targets:
        blocks[number].next += [labels[label] for label in to if label in labels]
    for block in blocks:
        block.next = [n for n in dict.fromkeys(block.next) if n < len(blocks)]
    return blocks


def _kind(word: str) -> str:
    """An instruction's name, and its width where it touches memory."""
    parts = word.split(".")
    wide = next((part for part in parts if part in ("64", "128")), "")
    return parts[0] + (f".{wide}" if wide and parts[0] in ("LDS", "STS", "LDG", "STG", "LDGSTS") else "")


def loops(blocks: list[Block]) -> Loop:
    """The whole kernel as a loop of one turn, with its loops in it.

    A loop is a set of blocks that all lead to each other. Its head is one that a way leads to from outside, and the
    loops in it are those that are left without ways to the head. Where a compiler lets several ways lead into a loop,
    the head is the one that leaves least.
    """
    order = _order(blocks, 0, set(range(len(blocks))), set())
    top = Loop(0, set(order), order)
    waiting, heads = [top], {0}
    while waiting:
        loop = waiting.pop()
        for body in _circles(blocks, loop.order, heads):
            entries = {n for b in order if b not in body for n in blocks[b].next if n in body}
            head = min(sorted(entries), key=lambda n: _size(_circles(blocks, sorted(body), {*heads, n})))
            loop.inner.append(Loop(head, body, _order(blocks, head, body, {head})))
            heads.add(head)
        waiting += loop.inner
    _count(blocks, top)
    return top


def _order(blocks: list[Block], start: int, inside: set[int], closed: set[int]) -> list[int]:
    """Blocks that are reached from one through others, each before what follows it but where a loop goes back."""
    seen, done = {start}, []
    way = [(start, iter(blocks[start].next))]
    while way:
        b, rest = way[-1]
        for n in rest:
            if n in inside and n not in seen and n not in closed:
                seen.add(n)
                way.append((n, iter(blocks[n].next)))
                break
        else:
            done.append(b)
            way.pop()
    return done[::-1]


def _size(sets: list[set[int]]) -> int:
    return sum(map(len, sets))


def _circles(blocks: list[Block], members: list[int], heads: set[int]) -> list[set[int]]:
    """Sets of blocks that lead to each other, without ways to the heads of loops around them (Kosaraju)."""
    inside, order, seen = set(members), list[int](), set[int]()
    for b in members:
        if b not in seen:
            order = [n for n in _order(blocks, b, inside - seen, heads)] + order
            seen |= set(order)
    before: dict[int, list[int]] = {b: [] for b in members}
    for b in members:
        for n in blocks[b].next:
            if n in inside and n not in heads:
                before[n].append(b)
    found, taken = [], set[int]()
    for b in order:
        if b in taken:
            continue
        body, waiting = set[int](), [b]
        while waiting:
            n = waiting.pop()
            if n not in body and n not in taken:
                body.add(n)
                waiting += before[n]
        taken |= body
        if len(body) > 1 or b in before[b]:
            found.append(body)
    return found


def _count(blocks: list[Block], loop: Loop) -> None:
    inside: set[int] = set()
    for inner in loop.inner:
        _count(blocks, inner)
        inside |= inner.blocks
    for b in loop.blocks - inside:
        loop.own.update(map(_kind, blocks[b].words))
    loop.all = sum((inner.all for inner in loop.inner), Counter(loop.own))


@dataclass(frozen=True)
class Rule:
    """A loop as the table knows it: what it is recognised by, and how often it turns each time it is entered."""

    name: str
    is_it: Callable[[Loop], bool]
    times: Callable[[Loop], float] | None  # None: it is not entered, and what leads through it is not taken
    inner: tuple[Rule, ...] = ()
    closed: frozenset[str] = frozenset()  # instructions of ways that are not taken in one turn
    needed: bool = True


def count(blocks: list[Block], loop: Loop, rule: Rule) -> tuple[float, dict[str, float]]:
    """Instructions of the longest way once through a loop, and the share of each loop directly in it."""
    shares: dict[str, float] = {}
    costs: dict[int, float | None] = {}
    for inner in loop.inner:
        known = next((r for r in rule.inner if r.is_it(inner)), None)
        if known is None:
            raise Miscounted(f"in {rule.name}: a loop that no rule knows, {dict(inner.all)}")
        times = known.times(inner) if known.times else None
        costs[inner.head] = None if times is None else times * count(blocks, inner, known)[0]
        shares[known.name] = shares.get(known.name, 0.0) + (costs[inner.head] or 0.0)
    if missing := [r.name for r in rule.inner if r.needed and r.name not in shares]:
        raise Miscounted(f"in {rule.name}: no loop is {missing}")
    total = _longest(blocks, loop, costs, rule.closed)
    if total is None:
        raise Miscounted(f"no way leads through {rule.name}")
    return total, {name: share for name, share in shares.items() if share}


def _longest(blocks: list[Block], loop: Loop, costs: dict[int, float | None], closed: frozenset[str]) -> float | None:
    """Of the ways from a loop's head to its end, in instructions; None where all are closed."""
    owner = {b: inner for inner in loop.inner for b in inner.blocks}
    found: dict[int, float] = {}  # from a block on; an inner loop is its head
    for b in reversed(loop.order):
        inner = owner.get(b)
        if inner and b != inner.head:
            continue
        cost = costs[b] if inner else float(len(blocks[b].words))
        if cost is None or (not inner and _is_closed(blocks, b, closed)):
            continue
        members = inner.blocks if inner else set()
        nexts = {n for m in members or {b} for n in blocks[m].next} - members
        ways = [0.0] if loop.head in nexts else []
        heads = [owner[n].head if n in owner else n for n in nexts if n != loop.head]
        ways += [found[n] for n in heads if n in found]
        if ways:
            found[b] = cost + max(ways)
    return found.get(loop.head)


def _is_closed(blocks: list[Block], b: int, closed: frozenset[str]) -> bool:
    def is_cold(block: Block) -> bool:
        return any(word.startswith(_COLD) for word in block.words)

    kinds = set(map(_kind, blocks[b].words))
    asks = "FSETP" in kinds  # whether a value needs an exponential
    return is_cold(blocks[b]) or bool(kinds & closed) or (asks and any(is_cold(blocks[n]) for n in blocks[b].next))
