"""The options of the training loop. The text under a field is its help text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ncafast.memory_option import MemoryLimit
from ncafast.threads_option import Threads
from ncafast.utils.option_checks import Range, check_options, refused
from ncafast.utils.outputs import check_folder
from ncafast.utils.renamed import Renamed

Schedule = Literal["constant", "step", "multistep", "exponential", "cosine"]


@dataclass
class BaseSettings(Renamed, MemoryLimit, Threads):
    """What every training takes. A task's options inherit from `Settings`, or from this class where they leave open
    what that one decides."""

    output: Path = Path("run")
    """Folder for checkpoints, curves, pictures and everything else the run writes."""

    accumulate: int = 1
    """Gradients of so many batches are added up before the weights change, for the result of a larger batch in the
    memory of a small one. Batch statistics stay those of each small batch."""

    memory: str = "states"
    """What a rollout keeps for backward: states (all, fastest), sqrt (least memory), or a number k for every k-th."""

    spill: str | None = None
    """Folder in which rollouts keep the states of grids larger than memory, which they compute in tiles that fit; host:
    in the memory beside a GPU. Its files vanish by themselves. Left out: everything is in memory, at once."""

    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """Rule by which gradients change the weights."""

    lr: float = 1e-3
    """Learning rate at its highest."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Memory of Adam for the gradient and for its square; the first one is the momentum of sgd."""

    weight_decay: float = 0.0
    """Pull of the weights towards 0; meant for adamw."""

    schedule: Schedule = "constant"
    """How the learning rate falls: constant; step and multistep (times --lr-gamma every --lr-step epochs, or after
    each of --lr-milestones); exponential (times --lr-gamma every epoch); cosine (down to 0 at the end)."""

    lr_milestones: tuple[int, ...] = ()
    """Epochs after which the multistep schedule falls, such as 20 30. Left out: it does not fall."""

    lr_gamma: float = 0.5
    """What the learning rate is multiplied with when it falls."""

    warmup: int = 0
    """Training steps in which the learning rate rises from near 0 to --lr."""

    normalise_gradient: bool = False
    """Divide the gradient of every parameter tensor by its norm, as Growing NCA does."""

    clip: float = 1.0
    """Largest norm of the gradient; longer ones are shortened to it. 0 switches this off."""

    amp: Literal["off", "bf16", "fp16"] = "off"
    """Compute what is outside the automaton in half precision. The automaton itself stays in float32."""

    patience: int | None = None
    """Stop when this many epochs have brought nothing better. Left out: train all epochs."""

    seed: int = 0
    """Governs everything random."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:1. auto takes a GPU if there is one."""

    deterministic: bool = False
    """Have torch use none but deterministic algorithms, and fail where it has none."""

    domain_parallel: int = 1
    """Under torchrun, so many processes share each rollout: its grid is cut into slabs, and each keeps the history of
    its own. Must be 1, or the number of processes, which then train as one, with batch norm too."""

    local_norm: bool = False
    """Under torchrun, let batch norm take its statistics over each process's own samples. Without this, models with
    batch norm are refused there, because several processes would not train as one."""

    save_every: int | None = None
    """Training steps between two saves of the state that a killed run goes on from. Left out: after every step, or
    as often as takes 5 % of the time where saving is slow."""

    tensorboard: bool = True
    """Write TensorBoard files, if the tensorboard package is installed."""

    progress: bool = True
    """Show progress bars."""


@dataclass
class Settings(BaseSettings):
    """How to train, whatever is trained. A task's own options may inherit from this class."""

    epochs: int = 10
    """Passes over the training samples."""

    batch_size: int = 8
    """Samples that one process trains on at a time."""

    steps: tuple[int, int] = (32, 32)
    """Steps of the automaton, the fewest and the most: each batch draws a number from the first to the second, both
    included. One number stands for both."""

    lr_step: int = 10
    """Epochs between two falls of the step schedule."""

    ema: float = 0.0
    """Measure and save weights averaged over the last steps, each step counting this much of the one after it; 0.99
    averages about 100 steps. 0 switches this off."""


def settings_of(options: Any) -> Settings:
    """The loop's options among those of a task that derive from `BaseSettings` and have batch_size and ema as well; 1
    for epochs and lr_step where they are left open."""
    names = [*(field.name for field in fields(BaseSettings)), "batch_size", "ema"]
    shared = {name: getattr(options, name) for name in names}
    return Settings(epochs=options.epochs or 1, lr_step=options.lr_step or 1, **shared)


def check_settings(settings: Settings, **ranges: int | Range) -> None:
    """Raise ValueError, naming the option and what is allowed, for values that cannot be used; see `check_options`."""
    check_options(settings, **({"steps": 0} | ranges))
    if settings.steps[0] > settings.steps[1]:
        raise refused("steps", settings.steps, "give the fewest and the most, such as (64, 96)")
    if settings.schedule == "multistep" and not settings.lr_milestones:
        raise ValueError("schedule=multistep needs lr_milestones, the epochs after which the learning rate falls")
    memory_of(settings)
    check_folder("--output", settings.output)


def memory_of(settings: BaseSettings) -> Literal["states", "sqrt"] | int:
    """The memory policy as `ncafast.rollout` takes it."""
    if settings.memory == "states" or settings.memory == "sqrt":
        return settings.memory  # type: ignore[return-value]
    if not (settings.memory.isdecimal() and int(settings.memory) > 0):
        raise refused("memory", settings.memory, "give states, sqrt or a whole number from 1")
    if settings.spill is not None and settings.domain_parallel != 1:
        raise ValueError("give either spill or domain_parallel, not both")
    return int(settings.memory)
