"""A film of one image: what the channels of its cells hold after every step, and what class that would be."""

from __future__ import annotations

from pathlib import Path

import torch

from ncafast.tasks.classification import pictures
from ncafast.tasks.classification.config import AnimateConfig
from ncafast.tasks.classification.images import read_image
from ncafast.tasks.classification.model_file import load_model
from ncafast.tasks.image_notes import Notes
from ncafast.tasks.images import Reading
from ncafast.utils.devices import resolve_device
from ncafast.utils.option_checks import check_options
from ncafast.utils.seeds import mix
from ncafast.viz.animation import check_animation, write_animation


def animate(config: AnimateConfig) -> Path:
    """Write the film and return its path. Raises ValueError for options or files that cannot be used."""
    check_options(config)
    check_animation(config.output, overwrite=config.overwrite)
    device = resolve_device(config.device)
    trained = load_model(config.model, device)
    reading, notes = Reading(trained.recipe.value_range, config.max_pixels), Notes()
    pixels = torch.from_numpy(read_image(config.input, trained.recipe.size, reading, notes))
    notes.say()
    scaled = trained.recipe.scaled(pixels[None]).to(device)
    states = trained.classifier.states(scaled, mix("predict", config.seed, 0))  # those of `predict` with one view
    probabilities = [trained.classifier.head(state).softmax(1)[0].tolist() for state in states]
    seen = [state[0] for state in states]
    frames = pictures.film(seen, probabilities, trained.recipe, config.input.name)
    write_animation(config.output, frames, fps=config.fps, hold=2.0, total=len(seen), progress=config.progress)
    return config.output
