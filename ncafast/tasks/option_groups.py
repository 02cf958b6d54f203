"""The groups of options in every command's help, in their order. Standard library only.

An option is in the same group wherever it occurs, so it is named here once. A test looks for those that are missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, Field
from typing import Any

_GROUPS = {
    "data": """
        model input data image images labels masks depth val_data train_list val_list val_fraction val_count subset
        emoji font naming suffix classes merge_labels structures channels dims axis slice percentiles geometry
        ignore_affine skip_empty value_range depth_scale max_depth background padding ink grid size crop flip augment
        jitter balanced count cache
    """,
    "repeated training": "over by lowest folds splits",
    "model": """
        state_channels hidden levels scales scale kernel_sizes perception filters fire_rate steps step_jitter time_code
        pad_noise shared enlarge dropout weights runs views until_converged tolerance plateau min_steps max_steps
        uncertainty last_steps
    """,
    "training": """
        epochs epoch_length batch_size predict_batch loss ssim smoothness overflow optimiser lr schedule lr_step
        lr_milestones lr_gamma warmup betas weight_decay ema normalise_gradient clip patience accumulate local_norm
        regime pool_size reseed_every fresh pool_after mutate damage damage_kind damage_size damage_after measured quick
        seed seeds
    """,
    "view": """
        label show start at grow heal cuts repeat digits exchanges every frames steps_per_frame flow flow_weights fps
        zoom style step_label step_bar
    """,
    "speed and memory": "device threads amp memory spill memory_limit max_pixels domain_parallel deterministic",
    "output": "output overwrite overlay picture pictures save_every tensorboard progress",
    "other": "",  # options of other people's tasks
}
_ORDER = {name: (group, place) for group, names in _GROUPS.items() for place, name in enumerate(names.split())}
_LAST = ("other", len(_ORDER))


def grouped(fields: Iterable[Field[Any]]) -> dict[str, list[Field[Any]]]:
    """The fields of a class of options by group, both in the order of the help; required ones are first in theirs.

    A field may name another group in its metadata, under "group", and is last there. An unknown one is in "other".
    """
    found: dict[str, list[Field[Any]]] = {group: [] for group in _GROUPS}
    for field in fields:
        found[field.metadata.get("group") or _ORDER.get(field.name, _LAST)[0]].append(field)
    for members in found.values():
        members.sort(key=lambda field: (not required(field), _ORDER.get(field.name, _LAST)[1]))
    return {group: members for group, members in found.items() if members}


def required(field: Field[Any]) -> bool:
    """Whether an option has no default."""
    return field.default is field.default_factory is MISSING
