"""The words of `ncafast info | import | check | explain`, as parsers of the standard library.

They are here and not beside what these commands do, so that --help and wrong words need no torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def info() -> argparse.ArgumentParser:
    """Of `ncafast info`."""
    parser = argparse.ArgumentParser(
        prog="ncafast info",
        description="Versions, backends and why one cannot run, what was built and what was not.",
    )
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="a checkpoint (.safetensors), or a training run's folder (its best one is taken): print its class, rule "
        "and metadata instead",
    )
    return parser


def weights() -> argparse.ArgumentParser:
    """Of `ncafast import`."""
    parser = argparse.ArgumentParser(
        prog="ncafast import",
        description="Make a model file of ncafast from the weights of a published model. Tensors only are read.",
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="a file of safetensors or torch.save; of MedNCA and M3DNCA also a file for each level, the coarsest first",
    )
    parser.add_argument("--like", metavar="NAME", help="class in ncafast.models; left out: the one that the keys fit")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the model file (.safetensors)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="arguments of the class that no weight tells, such as fire_rate=0.4 input_channels=3",
    )
    parser.add_argument("--key", metavar="NAME", help="where the weights are, in a file that holds several things")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    return parser


def check() -> argparse.ArgumentParser:
    """Of `ncafast check`."""
    parser = argparse.ArgumentParser(
        prog="ncafast check",
        description="Check the GPU backends, and those of other packages, on this machine: masks, states and gradients "
        "against the reference backend in float64, then, on a GPU, the time of both. A backend that passes and is "
        "faster is chosen by default from then on. The first rollout that would take one does the same by itself.",
    )
    parser.add_argument("--backend", nargs="+", metavar="NAME", help="backends to check; default: all")
    parser.add_argument(
        "--rule",
        type=Path,
        metavar="FILE",
        help="check the rules of this model (.safetensors, or a training run's folder); default: a fixed set",
    )
    return parser


def explain() -> argparse.ArgumentParser:
    """Of `ncafast explain`."""
    parser = argparse.ArgumentParser(
        prog="ncafast explain",
        description="What ncafast.accelerate finds in a module of yours: the step of each part, or the reason why not.",
        epilog="The exit code is 1 where nothing can be accelerated.",
    )
    add = parser.add_argument
    add("where", metavar="MODULE:CLASS", help="a subclass of torch.nn.Module: of a module here, or of FILE.py:CLASS")
    add("--args", default="{}", metavar="JSON", help="arguments of its constructor (default: {})")
    add(
        "--shape",
        default="",
        metavar="N,N,...",
        help="shape of a state, such as 2,16,32,32, or of the input from which forward makes it (default: found out)",
    )
    add("--method", metavar="NAME", help="the only method to look at (default: forward, step, update, ...)")
    add("--steps", metavar="NAME", help="that method's argument for the number of steps (default: steps, n_steps, ...)")
    return parser
