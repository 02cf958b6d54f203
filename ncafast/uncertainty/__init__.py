"""Where a module is unsure, of any task: variance over runs, over the last steps and under dropout; flicker; stop time.

`calibration` says how well a map or a score goes with the error on data whose truth is known.
"""

from ncafast.uncertainty.calibration import Calibration, auroc, rank_correlation
from ncafast.uncertainty.result import Uncertainty
from ncafast.uncertainty.runs import mc_dropout, nqm
from ncafast.uncertainty.steps import flicker, last_steps, stop_time

__all__ = [
    "Calibration",
    "Uncertainty",
    "auroc",
    "flicker",
    "last_steps",
    "mc_dropout",
    "nqm",
    "rank_correlation",
    "stop_time",
]
