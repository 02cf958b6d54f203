"""summary.json and the same as a table for people."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import nilearn
import torch

from ncafast import info
from ncafast.files import write_text
from ncafast.models import MedNCA
from ncafast.tasks.demo import DemoConfig
from ncafast.tasks.demo.brain import GAP, HELD_OUT, NOISE, SCALE, SHADE, SHIFT, TURN, Brain

FILES = {
    "model.safetensors": "the trained model",
    "comparison.png": "held-out slices: what a threshold finds, and what the automaton finds",
    "white-matter.nii.gz": "the segmentation of data/imagesTs",
    "curves.png": "loss and held-out Dice",
    "automaton.gif": "the automaton at work on a held-out slice",
    "summary.json": "this table",
}


def surroundings(config: DemoConfig, model: MedNCA, brain: Brain) -> dict[str, Any]:
    """What the figures belong to: data, options, machine and versions."""
    return {
        "held_out_slices": list(brain.blocks[HELD_OUT]),
        "training_slices": [list(block) for name, block in brain.blocks.items() if name != HELD_OUT],
        "training_samples": sum(scan.image.shape[1] for scan in brain.training.values()),
        "gap": GAP,
        "drawn_with": {"turn_degrees": TURN, "shift_mm": SHIFT, "scale": SCALE, "shading": SHADE, "noise": NOISE},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seed": config.seed,
        "quick": config.quick,
        "device": f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "versions": {**info.versions(), "nilearn": nilearn.__version__},
    }


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Write summary.json."""
    write_text(folder / "summary.json", json.dumps(facts, indent=2) + "\n")


def table(facts: dict[str, Any], folder: Path) -> str:
    """The summary as text."""
    batch, _, height, width = facts["speed_shape"]
    first, stop = facts["held_out_slices"]
    quality = [
        (f"Dice, held-out slices {first} to {stop - 1}", f"{facts['dice']:.3f}"),
        *((f"  {way}", f"{score:.3f}") for way, score in facts["baselines"].items()),
        ("parameters of the model", f"{facts['parameters']:,}"),
        ("training, all of the demo", f"{facts['seconds']['train']:.0f} s, {facts['seconds']['total']:.0f} s"),
    ]
    speed = [
        ("forward, per step", *_forward(facts)),
        ("forward and backward, per step", *_pair(facts, "ms_per_step", "ms"), _times(facts["speedup_train"])),
        ("kept for backward", *_pair(facts, "memory_mib", "MiB"), f"{facts['memory_ratio']:.1f}x less"),
    ]
    lines = ["", "white matter", *(f"  {name:<40} {value}" for name, value in quality), ""]
    lines += [f"speed of the fine level on {batch} x {height} x {width} cells ({facts['device']})"]
    lines += [f"  {'':<32} {'ncafast: ' + facts['backend']:>20} {'plain PyTorch':>16}"]
    lines += [f"  {name:<32} {ours:>20} {plain:>16}   {ratio}" for name, ours, plain, ratio in speed]
    lines += ["", f"files in {folder}/", *(f"  {name:<22} {what}" for name, what in FILES.items())]
    return "\n".join(lines)


def _forward(facts: dict[str, Any]) -> tuple[str, str, str]:
    if facts["speedup_forward"] is None:
        return "-", "-", "left out: longer than forward and backward, the machine was busy"
    return *_pair(facts, "ms_per_step_forward", "ms"), _times(facts["speedup_forward"])


def _pair(facts: dict[str, Any], name: str, unit: str) -> tuple[str, str]:
    return f"{facts[name]:.2f} {unit}", f"{facts[name + '_eager']:.2f} {unit}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}x as fast"
