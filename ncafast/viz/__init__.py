"""Seeing an automaton: what it does over time as frames, frames as a GIF or MP4, all channels side by side.

animate(nca, x, "nca.gif", steps=60, style="dark")            # from a state to a file
states = watch(nca, x, frames=60, every=2, seed=0)            # one state [B, C, H, W] at a time
write_animation(Path("nca.gif"), (rgb(state) for state in states), fps=20, scale=4, total=60)
"""

from ncafast.viz.animation import write_animation
from ncafast.viz.animator import animate
from ncafast.viz.pixels import mosaic, rgb, tiled
from ncafast.viz.styles import ANIMATION_STYLES, AnimationStyle
from ncafast.viz.watch import watch

__all__ = ["ANIMATION_STYLES", "AnimationStyle", "animate", "mosaic", "rgb", "tiled", "watch", "write_animation"]
