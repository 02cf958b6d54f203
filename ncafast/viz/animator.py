"""An animation of any automaton in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from ncafast.viz.animation import write_animation
from ncafast.viz.captions import Frame, captioned, in_style
from ncafast.viz.pixels import Array, enlarged, rgb
from ncafast.viz.styles import AnimationStyle, style_of
from ncafast.viz.watch import watch


def animate(
    model: Callable[..., Any],
    x: Tensor,  # [B, C, H, W], or as the model takes it
    path: str | Path,
    *,
    steps: int = 100,
    every: int = 1,
    draw: Callable[[Tensor], Array] = rgb,
    style: str | AnimationStyle = "light",
    step_label: bool = True,
    step_bar: bool = True,
    zoom: int = 1,
    fps: float = 10.0,
    hold: float = 1.0,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> Path:
    """Write what an automaton does as a GIF or an MP4, by the name's ending.

    Args:
        model: as for `watch`: an `NCA`, or a published model that takes and returns a state.
        x: the state to begin with, the first frame.
        path: the file.
        steps: of the rollout.
        every: steps between two frames.
        draw: makes a picture [H, W, 3] uint8 of a state [B, C, H, W]: `rgb`, `mosaic`, or a function of your own, whose
            matplotlib figures get the colours of the style.
        style: "light", "dark", or colours of your own.
        step_label: write below each picture which step it is.
        step_bar: draw a progress bar below each picture.
        zoom: every pixel becomes a square of so many pixels.
        fps: frames per second.
        hold: seconds that the last frame stays on.
        seed: of the fire masks.
        progress: show a bar while writing.
        **options: of `ncafast.rollout`: extra, backend, ...

    Returns:
        The path.

    Raises:
        TypeError, ValueError, ModuleNotFoundError: as `watch` and `write_animation`; or a style that is none.
    """
    colours = style_of(style)
    if steps < every:
        raise ValueError(f"every={every} is not allowed; with steps={steps} give a whole number from 1 to {steps}")
    if zoom < 1:
        raise ValueError(f"zoom={zoom} is not allowed; give a whole number from 1")
    count = steps // every
    states = watch(model, x, frames=count, every=every, seed=seed, **options)

    last = getattr(model, "channels_last", False)

    def picture(state: Tensor) -> Array:
        return enlarged(draw(state.movedim(-1, 1) if last else state), zoom)

    def frames() -> Iterator[Frame]:
        yield Frame.at(picture(x), 0, steps)
        for number, state in enumerate(states, start=1):
            yield Frame.at(picture(state), number * every, steps)

    shown = captioned(in_style(frames(), colours), colours, label=step_label, bar=step_bar)
    write_animation(Path(path), shown, fps=fps, hold=hold, total=count + 1, progress=progress)
    return Path(path)
