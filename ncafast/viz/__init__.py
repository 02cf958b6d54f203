"""Seeing an automaton: what it does over time as frames, frames as a GIF or MP4, all channels side by side.

states = watch(nca, x, frames=60, every=2, seed=0)            # one state [B, C, H, W] at a time
write_animation(Path("nca.gif"), (rgb(state) for state in states), fps=20, scale=4, total=60)
"""

from ncafast.viz.animation import write_animation
from ncafast.viz.pixels import mosaic, rgb, tiled
from ncafast.viz.watch import watch

__all__ = ["mosaic", "rgb", "tiled", "watch", "write_animation"]
