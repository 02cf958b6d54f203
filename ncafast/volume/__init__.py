"""Rollouts on grids that are larger than memory or than one device, with the numbers and masks of the whole grid."""

from ncafast.volume.inferer import Inferer
from ncafast.volume.plan import PassPlan
from ncafast.volume.tiles import plan_tiled, rollout_tiled

__all__ = ["Inferer", "PassPlan", "plan_tiled", "rollout_tiled"]
