"""Trainings of a task repeated: over the folds of its data, or over a grid of its options.

``crossvalidate`` and ``search`` take the options of a task's training and a few of their own; the command line builds
its options from the same classes. Both go on where they were stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncafast.tasks import on_demand

if TYPE_CHECKING:
    from ncafast.tasks.repeats.folds import crossvalidate
    from ncafast.tasks.repeats.grid import search

__all__ = ["crossvalidate", "search"]

__getattr__ = on_demand.attributes(__name__, crossvalidate="folds", search="grid")
