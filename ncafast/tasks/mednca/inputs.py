"""The cases among a model's input, a file or a folder, and whether they are of the kind that it was trained on.

Without label maps, what the model was trained on tells which files are modalities of one case, and whether the files
share one geometry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncafast.tasks.mednca.dataset_json import NAME, Facts, read_facts
from ncafast.tasks.mednca.layouts import images_by_case
from ncafast.tasks.mednca.options import AnimateConfig, PredictConfig
from ncafast.tasks.mednca.pairs import ending, holds_nifti, list_nifti, numbered, stem
from ncafast.tasks.mednca.slices import Recipe
from ncafast.tasks.mednca.volumes import read_grid
from ncafast.utils.progress import note

_MOST = 8  # modalities of one case; more files in a row are patients


@dataclass(frozen=True, slots=True)
class Case:
    """The image files of one case, in the order of their numbers."""

    name: str
    paths: tuple[Path, ...]
    missing: tuple[int, ...] = ()
    """Numbers that are not there, below the largest one."""

    @property
    def target(self) -> str:
        """File name of the label map."""
        first = self.paths[0]
        return f"{self.name}{first.name.removeprefix(stem(first))}"

    @property
    def problem(self) -> str:
        """Why it cannot be used, in one line; empty if nothing is wrong so far."""
        absent = [f"{self.name}{ending(number)}.nii.gz" for number in self.missing]
        return f"{self.paths[0]}: its case has no {absent[0]}; add it" if absent else ""


def find_inputs(config: PredictConfig | AnimateConfig, recipe: Recipe) -> list[Case]:
    """The cases of a folder of images or of TotalSegmentator's folders, or the one that a file belongs to.

    Notes say what was decided and could be another way.

    Raises:
        ValueError: the folder holds no image, or channels do not fit the model: the chosen ones, or those that a
            dataset.json beside the images names.
    """
    path, suffix = config.input, config.suffix
    recipe.check_channels(config.channels)
    folder = path if path.is_dir() else path.parent
    for parent in (folder, folder.resolve().parent):
        if recipe.channel_names and (parent / NAME).is_file():
            check_channel_names(recipe, read_facts(parent), config.channels)
            break
    if not path.is_dir():
        return [_case_of(config, recipe)]
    if not holds_nifti(path) and (images := images_by_case(path)):
        return [Case(image.parent.name, (image,)) for image in images]
    files = list_nifti(path)
    cases = _together(files, recipe.files)
    several = [case for case in cases if len(case.paths) > 1 and not case.missing]
    if suffix == "modality" or (suffix == "auto" and (recipe.files > 1 or _are_modalities(several, recipe))):
        return cases
    if suffix == "auto" and several:
        example = ", ".join(image.name for image in several[0].paths[:2])
        note(
            f"{example} and the like are taken as a case each, since the model takes one image per case; "
            "--suffix modality takes them as channels of one case"
        )
    return [_alone(file) for file in files]


def check_channel_names(recipe: Recipe, facts: Facts, chosen: tuple[int, ...] | None) -> None:
    """Raise ValueError if dataset.json names other channels, or in another order, than the model was trained on.

    Chosen channels are not looked at: then the user says which they are.
    """
    if chosen is not None or not recipe.channel_names or not facts.channels:
        return
    wanted = [name.casefold() for name in recipe.channel_names]
    there = [name.casefold() for name in facts.channels]
    if [there[channel] for channel in recipe.channels if channel < len(there)] == wanted:
        return
    if all(name in there for name in wanted):
        todo = f"give --channels {' '.join(str(there.index(name)) for name in wanted)}"
    else:
        todo = "give --channels, if they are the same under other names"
    raise ValueError(
        f"{facts.path}: names the channels {', '.join(facts.channels)}, but the model was trained on "
        f"{', '.join(recipe.channel_names)}, in this order; {todo}"
    )


def _case_of(config: PredictConfig | AnimateConfig, recipe: Recipe) -> Case:
    """A file, with the other modalities of its case where the model takes several."""
    path, suffix = config.input, config.suffix
    alone = _alone(path)
    if not path.is_file() or not numbered(path) or suffix == "name" or (recipe.files == 1 and config.channels):
        return alone
    case = next((case for case in _together(list_nifti(path.parent), recipe.files) if path in case.paths), alone)
    if recipe.files > 1 or suffix == "modality" or len(case.paths) == 1:
        return case
    if case.missing or not _are_modalities([case], recipe):
        return alone
    if case.paths[0] == path:
        others = ", ".join(other.name for other in case.paths[1:])
        note(f"{others} beside {path.name} is not used, since the model takes one image per case")
        return alone
    return case


def _alone(path: Path) -> Case:
    return Case(stem(path), (path,))


def _together(files: Iterable[Path], wanted: int) -> list[Case]:
    """The cases of files whose endings are the numbers of modalities.

    A file without a number is a case of its own, and so is a single one where a model wants one file per case.
    """
    groups: dict[str, dict[int, Path]] = {}
    cases = []
    for path in files:
        name, number = numbered(path) or ("", 0)
        if not name or number in groups.get(name, {}):  # the same number twice: .nii and .nii.gz
            cases.append(_alone(path))
        else:
            groups.setdefault(name, {})[number] = path
    for name, group in groups.items():
        paths = tuple(path for _, path in sorted(group.items()))
        missing = tuple(number for number in range(min(max(group), _MOST)) if number not in group)
        cases.append(_alone(paths[0]) if len(paths) == wanted == 1 else Case(name, paths, missing))
    return sorted(cases, key=lambda case: case.paths[0].name)


def _are_modalities(cases: Sequence[Case], recipe: Recipe) -> bool:
    """Whether a model that takes one file per case was trained on numbered ones, or all cases have equally many files,
    few, of one geometry."""
    counts = {len(case.paths) for case in cases}
    if not cases or recipe.numbered:
        return bool(cases)
    return len(counts) == 1 and max(counts) <= _MOST and all(len(set(map(read_grid, c.paths))) == 1 for c in cases)
