"""Rollouts on grids that are larger than memory or than one device, with the numbers and masks of the whole grid."""

from ncafast.volume.cascades import cascade_tiled
from ncafast.volume.gathering import gather, scatter
from ncafast.volume.inferer import Inferer
from ncafast.volume.plan import PassPlan
from ncafast.volume.shared_rollouts import sharding
from ncafast.volume.slab_module import shard
from ncafast.volume.slabs import rollout_sharded
from ncafast.volume.spilled import rollout_spilled, spilling
from ncafast.volume.tiles import plan_tiled, rollout_tiled

__all__ = [
    "Inferer",
    "PassPlan",
    "cascade_tiled",
    "gather",
    "plan_tiled",
    "rollout_sharded",
    "rollout_spilled",
    "rollout_tiled",
    "scatter",
    "shard",
    "sharding",
    "spilling",
]
