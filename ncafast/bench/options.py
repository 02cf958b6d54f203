"""The options of `ncafast bench`, as a parser of the standard library: a bare machine has no other."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ncafast.bench.modes import FORWARD, INFERENCE, MEMORY, SIZES, TRAIN
from ncafast.utils.renamed import present_words

if TYPE_CHECKING:
    import torch

QUICK_CASES = ("maxnca", "maxnca-bn", "med-fine", "med-coarse", "texture", "growing", "selfclass-mnist", "3d-k3")
_QUICK_ROUNDS, _ROUNDS = 5, 7
_MOST_THREADS = 1024  # torch accepts more, and the interpreter dies when they are started


@dataclass(frozen=True)
class Options:
    """What to measure and how. The fields are the options of the same name."""

    case: tuple[str, ...]
    provider: tuple[str, ...]
    mode: tuple[str, ...]
    size: str
    rounds: int
    threads: int
    device: torch.device
    output: Path
    quick: bool = False
    overwrite: bool = False
    ncalab: Path | None = None
    octreenca: Path | None = None
    mine: str | None = None
    drop_in: str | None = None
    mine_shape: str = ""
    mine_steps: int = 0
    mine_args: str = "{}"


def parse(words: Sequence[str]) -> Options:
    """Options from words.

    Raises:
        SystemExit: --help, or an option that is unknown or makes no sense.
        ValueError: values that contradict each other or the machine.
    """
    import torch

    given = parser().parse_args(present_words(words, ("output",)))
    if given.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no GPU here")
    device = torch.device(given.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if given.mine and not given.mine_shape:
        raise ValueError("--mine needs --mine-shape, the shape of the input, such as 8,64,64,16")
    providers = tuple(given.provider or ())
    if given.quick and not providers:
        providers = ("eager", "ncafast", "cax", "ncalab", "octreenca")
    return Options(
        case=tuple(given.case or (QUICK_CASES if given.quick else ("main",))),
        provider=providers,
        mode=tuple(given.mode or (TRAIN, FORWARD, INFERENCE, MEMORY)),
        size=given.size or ("quick" if given.quick else "gpu" if device.type == "cuda" else "full"),
        rounds=given.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS),
        threads=given.threads or torch.get_num_threads(),
        device=device,
        output=given.output or default_folder(),
        quick=given.quick,
        overwrite=given.overwrite,
        ncalab=given.ncalab,
        octreenca=given.octreenca,
        mine=given.mine,
        drop_in=given.drop_in,
        mine_shape=given.mine_shape,
        mine_steps=given.mine_steps,
        mine_args=given.mine_args,
    )


def default_folder() -> Path:
    """bench/results of a checkout that one stands in, else ./ncafast-bench."""
    return Path("bench", "results") if Path("bench", "gpu.sh").is_file() else Path("ncafast-bench")


def parser() -> argparse.ArgumentParser:
    """Of the command's words, for `--help` and for what is wrong with them."""
    parser = argparse.ArgumentParser(
        prog="ncafast bench",
        description="Measure ncafast beside plain PyTorch, torch.compile, CAX and others: time, memory, error.",
        epilog="Results are appended to OUTPUT/<device>.csv. A provider whose parity check fails is red and not timed; "
        "the exit code is 1 then, and where nothing could be measured.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, eight cases, no torch.compile: about two minutes")
    add(
        "--case",
        nargs="+",
        metavar="NAME",
        help="cases, or main, grid, cube, calls, steps, volume, all (default: main)",
    )
    add("--size", choices=SIZES, help="default: full on a CPU, gpu on a GPU")
    add(
        "--provider",
        nargs="+",
        metavar="NAME",
        help="eager, compile, ncafast, ncafast:cpu, cax, ...; default: all but ncafast:reference",
    )
    add("--mode", nargs="+", choices=(TRAIN, FORWARD, INFERENCE, MEMORY), help="default: all that a case has")
    add("--rounds", type=_count, help=f"rounds of timing (default: {_ROUNDS}, with --quick {_QUICK_ROUNDS})")
    add("--threads", type=_threads, help="CPU threads (default: torch's choice)")
    add("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    add("--output", type=Path, metavar="FOLDER", help="default: bench/results in a checkout, else ncafast-bench")
    add("--overwrite", action="store_true", help="replace a file of that name in OUTPUT that holds no results")
    add("--ncalab", type=Path, metavar="PATH", help="a checkout of MECLabTUDA/NCALab, to measure it (default: none)")
    add(
        "--octreenca",
        type=Path,
        metavar="PATH",
        help="a checkout of MECLabTUDA/OctreeNCA, as well (default: none)",
    )
    mine = parser.add_argument_group("your own automaton")
    mine.add_argument("--mine", metavar="MODULE:CLASS", help="time your module before and after ncafast.accelerate")
    mine.add_argument(
        "--drop-in",
        metavar="NAME",
        help="beside this class of ncafast.models, with its weights (default: the one of your class's name, if any)",
    )
    mine.add_argument("--mine-shape", default="", metavar="N,N,...", help="shape of the input that your module takes")
    mine.add_argument("--mine-steps", type=_count, default=12, help="steps of your automaton per call (default: 12)")
    mine.add_argument("--mine-args", default="{}", metavar="JSON", help="arguments of the constructor (default: {})")
    return parser


def _threads(text: str) -> int:
    value = _count(text)
    if value > _MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{value} is above {_MOST_THREADS}")
    return value


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value
