"""Issue slots of the CUDA kernels: warp instructions for one tile, over all warps of a block, from their machine code.

    python tests/backends/cuda_slots.py [sm ...]

prints them and their largest parts for MaxNCA's shape in TF32. See cuda_sass.py for how they are counted. How often
loops turn follows from the shape, which loop is which from what stands in it: copies, products, votes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cuda_sass import Block, Loop, Rule, count, kernels, loops

# ---- what the loops of each kernel do, by what stands in them


def _has(*kinds: str) -> Callable[[Loop], bool]:
    return lambda loop: all(loop.own[kind] for kind in kinds)


def _without(test: Callable[[Loop], bool], *kinds: str) -> Callable[[Loop], bool]:
    return lambda loop: test(loop) and not any(loop.own[kind] for kind in kinds)


def _within(*kinds: str) -> Callable[[Loop], bool]:
    return lambda loop: all(loop.all[kind] for kind in kinds)


def _any(loop: Loop) -> bool:
    return True


def _work(kind: str, amount: float) -> Callable[[Loop], float]:
    """So many of an instruction in all, of which one turn has some."""
    return lambda loop: amount / loop.own[kind]


@dataclass(frozen=True)
class Tile:
    """MaxNCA's shape, C = 16, F = 2 of 3 x 3, P = 48, H = 128, in a block of so many threads."""

    box: tuple[int, int]
    threads: int
    rows: int  # of a pass
    together: int  # cells that a thread sees at a time
    active: float  # of the tile's cells

    @property
    def cells(self) -> int:
        return self.box[0] * self.box[1]

    @property
    def warps(self) -> int:
        return self.threads // 32

    def each(self, items: float) -> float:
        """Turns of a thread where all share items."""
        return items / self.threads

    def loading(self) -> tuple[Rule, ...]:
        """What a tile shows and its copy."""
        halo = (self.box[0] + 2) * (self.box[1] + 2)
        parts = self.box[0] + self.box[1] + 4
        notes = _without(lambda o: not o.inner and o.own["STS"] in (1, 2, 3) and sum(o.own.values()) > 90,
                         "LDG", "VOTE", "LDS")  # fmt: skip
        return (
            Rule("note_shown", notes, lambda _: -(-parts // 32) / self.warps),
            Rule("move planes", _without(_has("LDS.128", "STS.128"), "FFMA", "HMMA"), None, needed=False),
            Rule("load_tile", _has("LDGSTS.128"), _work("LDGSTS.128", self.each(halo * 4))),
            Rule("load_tile, channels first", _within("LDGSTS"), None),
        )  # fmt: skip

    def listing(self) -> tuple[Rule, ...]:
        """Drawing and the list: the random words of four cells at a time, then one warp."""
        return (
            Rule("mark_cells", lambda o: o.own["STS"] >= 5 and not o.own["LDS"] and not o.own["VOTE"],
                 lambda _: self.each(self.cells / 4), (Rule("wanted", _any, None, needed=False),),
                 frozenset({"LDG", "VIADDMNMX", "VIMNMX", "IMNMX"}), needed=False),
            Rule("mark_cells one by one", lambda o: o.own["STS"] in (1, 2) and not o.own["VOTE"], None, needed=False),
            Rule("list_active", _has("VOTE"), lambda o: self.cells / 32 / (o.own["VOTE"] / 2) / self.warps),
        )  # fmt: skip

    def seeing(self) -> Rule:
        """The perception of a pass: of its nests of loops that of two filters and planes of 3 x 3 taps."""
        taps = (Rule("taps", _has("FFMA"), lambda _: 1),)

        def filters(loop: Loop) -> bool:
            return any(plane.own["FFMA"] >= 9 * 8 * self.together for plane in loop.inner)

        nest = Rule("filters", filters, lambda _: 1, taps, frozenset({"STS", "LDG"}))
        others = Rule("other filters", lambda o: bool(o.all["FFMA"]), None)
        return Rule("see", lambda o: bool(o.all["FFMA"] and not o.all["HMMA"]),
                    lambda _: self.rows * 4 / self.threads / self.together, (nest, others),
                    frozenset({"STS", "LDG"}))  # fmt: skip


def _pass(*inner: Rule, times: Callable[[Loop], float], closed: frozenset[str]) -> Rule:
    return Rule("pass", _within("HMMA"), times, inner, closed)


_EXTRA = Rule("extra", lambda o: bool(o.own["LDG"] and o.own["STS"] and not o.own["FFMA"]), None, needed=False)
_ROWS = Rule("clear_rows", lambda o: set(o.own) & {"LDS", "LDG"} == set() and o.own["STS"] > 0, lambda _: 0,
             needed=False)  # fmt: skip


def step_rule(t: Tile) -> Rule:
    """A tile of `step_kernel`."""
    products = Rule("products", _has("HMMA"), None)  # of more terms than the 48 whose operands stay in registers
    hidden = Rule("mlp", _within("HMMA"), lambda _: 4, (products,), frozenset({"FMUL"}))
    still = t.each(t.cells * (1 - t.active) * 4)
    return Rule("tile", _within("HMMA", "LDGSTS.128"), None, (
        _pass(t.seeing(), _EXTRA, hidden, times=lambda _: t.cells * t.active / t.rows, closed=frozenset({"STG"})),
        *t.loading(), *t.listing(),
        Rule("write_still", _has("STG.128"), _work("STG.128", still)),
        Rule("write_still, channels first", _has("LDS", "STG"), None),
    ))  # fmt: skip


def mlp_rule(t: Tile) -> Rule:
    """A tile of `mlp_backward` whose dL/dy goes to memory."""
    sums = Rule("sums", _has("HMMA"), lambda _: 2, (), frozenset({"FMUL.SAT"}))
    product = Rule("product", _has("HMMA"), lambda o: 16 * 4 / o.own["HMMA"])
    dy = Rule("write_dy", _within("HMMA", "STG.64"), lambda _: 3 / t.warps, (product,), frozenset({"STS"}))
    gather = Rule("gather_update", _has("LDG.128", "STS.128"), lambda _: t.rows * 4 / t.threads, (),
                  frozenset({"LDG", "STS"}))  # fmt: skip
    push = Rule("push", lambda o: bool(o.all["FFMA"] and o.all["STS.128"] and not o.all["LDG"]), None)
    return Rule("tile", _within("HMMA", "LDGSTS.128"), None, (
        _pass(sums, dy, push, t.seeing(), gather, _EXTRA, _ROWS, times=lambda _: t.cells * t.active / t.rows,
              closed=frozenset()),
        *t.loading(), *t.listing(),
        Rule("clear_pushed", lambda o: o.own["STS.128"] > 0 and not o.own["LDS.128"], None),
        Rule("clear_still", lambda o: o.all["STG.128"] > 0 and not o.all["LDG"] and o.own["LDS"] > 0,
             lambda _: t.cells * (1 - t.active) * 4 / t.threads,
             (Rule("zeros", _has("STG.128"), _work("STG.128", 3)),)),
        Rule("border", _any, None),
    ))  # fmt: skip


def moments_rule(t: Tile) -> Rule:
    """A tile of `sum_moments`: 6 of 8 warps have products, of half of a pass's rows, 5 for 8 of them."""
    products = Rule("products", _has("HMMA"), lambda o: t.rows / 2 / 8 * 5 / o.own["HMMA"] * 6 / t.warps)
    return Rule("tile", _within("HMMA", "LDGSTS.128"), None, (
        _pass(products, t.seeing(), _EXTRA, _ROWS, times=lambda _: t.cells / t.rows, closed=frozenset()),
        *t.loading(), *t.listing(),
    ))  # fmt: skip


def norm_rule(t: Tile) -> Rule:
    """A tile of `batch_norm_backward` whose dL/dy stays on the chip; filters learn: 3 of 4 warps have rows of them."""
    around = (t.box[0] + 2) * (t.box[1] + 2)
    aligned = frozenset({"LDS"})
    x = Rule("x", lambda o: 0 < 2 * o.own["FFMA"] == 12 * o.own["LDS.128"], lambda o: t.box[1] * 12 / o.own["FFMA"],
             (), aligned)  # fmt: skip
    apart = Rule("channels apart", _any, None, needed=False)
    lines = Rule("lines", lambda o: any(map(x.is_it, o.inner)), lambda _: t.box[0] / 4, (x, apart), aligned)

    def of_threes(loop: Loop) -> bool:
        return any(map(lines.is_it, loop.inner))

    return Rule("tile", _within("HMMA", "LDGSTS.128"), None, (
        Rule("complete_rows", _within("HMMA"), lambda _: t.cells / 16 / t.warps,
             (Rule("product", _has("HMMA"), lambda _: 6),)),
        Rule("add_filters", of_threes, lambda _: 3 / t.warps, (lines, apart)),
        Rule("push", lambda o: bool(o.all["FFMA"] and o.all["STS.128"] and not o.all["LDG"]),
             lambda _: t.cells / 32, (Rule("quad", _any, lambda _: 1, _pushed(), aligned),)),
        Rule("add_filters of other rows", _within("FFMA", "STG.128"), None),
        t.seeing(),
        Rule("write_pushed", _has("LDS.128", "STG.128", "FADD"), lambda _: t.each(around * 4), (),
             frozenset({"STG", "LDG"})),
        Rule("write_rows", _has("LDS.128", "STG.128"), None),
        Rule("clear_pushed", lambda o: o.own["STS.128"] > 0 and not o.own["LDS.128"],
             _work("STS.128", t.each(around * 5))),
        Rule("note_active", _without(_has("LDS", "STS"), "LDG", "VOTE"), lambda o: t.each(t.cells / o.own["STS"])),
        *t.loading(), *t.listing(),
        _EXTRA, Rule("add_extra_rows", _has("LDG", "STG"), None),
    ))  # fmt: skip


def _pushed() -> tuple[Rule, ...]:
    """Two filters of a row and quad of channels, pushed through 3 x 3 taps."""

    def two(loop: Loop) -> bool:
        found = [tap for z in loop.inner for line in z.inner for tap in line.inner]
        return any(3 * tap.own["FFMA"] == 8 * tap.own["LDS.128"] for tap in found)

    tap = Rule("tap", _any, lambda o: 3 // (o.own["FFMA"] / 8))  # unrolled by 4 none is left
    taps = Rule("z", _any, lambda _: 1, (Rule("line", _any, lambda _: 3, (tap,)),))
    filters = Rule("two filters", two, lambda _: 1, (taps,), frozenset({"LDS"}))
    return filters, Rule("other filters", _any, None)


def slots(blocks: list[Block], rule: Rule, warps: int) -> tuple[float, dict[str, float]]:
    """Of one tile, over all warps of a block."""
    loop = loops(blocks)
    while found := next((inner for inner in loop.inner if rule.is_it(inner)), None):
        loop = found
    total, shares = count(blocks, loop, rule)
    return warps * total, {name: warps * share for name, share in shares.items()}


# Kernel, its instance, the tile that MaxNCA 32 x 64^2 has on an H100.
TILES: dict[str, tuple[str, Tile, Callable[[Tile], Rule]]] = {
    "step_kernel": ("tf32 2 0", Tile((16, 16), 128, 128, 4, 0.5), step_rule),
    "mlp_backward": ("tf32 0", Tile((8, 16), 128, 32, 1, 0.5), mlp_rule),
    "sum_moments": ("tf32 6", Tile((16, 16), 256, 128, 2, 1.0), moments_rule),
    "batch_norm_backward": ("tf32 6", Tile((8, 16), 128, 128, 2, 1.0), norm_rule),
}


def listings(objects: Sequence[Path], sm: int) -> Iterator[str]:
    """What nvdisasm prints of each object's code for one architecture."""
    from test_cuda_compiled import tool

    with tempfile.TemporaryDirectory() as folder:
        for made in objects:
            subprocess.run(
                [str(tool("cuobjdump")), "-xelf", f"sm_{sm}", made], cwd=folder, check=True, capture_output=True
            )
        for path in sorted(Path(folder).iterdir()):
            command = [str(tool("nvdisasm")), "-c", path]
            yield subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def counted(objects: tuple[Path, ...], sm: int) -> dict[str, tuple[float, dict[str, float]]]:
    """Slots of a tile, and those of its parts, of every kernel of the table."""
    from test_cuda_compiled import names

    found = {}
    for listing in listings(objects, sm):
        for mangled, blocks in kernels(listing):
            kernel, instance = names(mangled)
            if kernel in TILES and TILES[kernel][0] == instance:
                _, tile, rule = TILES[kernel]
                found[kernel] = slots(blocks, rule(tile), tile.warps)
    return found


def main() -> None:
    """Prints the table."""
    from test_cuda_compiled import objects

    for sm in map(int, sys.argv[1:] or ["80", "90", "100"]):
        for kernel, (total, shares) in counted(objects(), sm).items():
            cells = TILES[kernel][1].cells
            words = ", ".join(f"{name} {share:.0f}" for name, share in sorted(shares.items(), key=lambda p: -p[1]))
            print(f"sm_{sm} {kernel}: {total:.0f} slots for {cells} cells; {words}")


if __name__ == "__main__":
    main()
