"""Finding the files: which image belongs to which label map, and which files have no partner."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_LAYOUTS = (("imagesTr", "labelsTr"), ("images", "labels"))
_NIFTI = re.compile(r"[^.].*\.nii(\.gz)?", re.IGNORECASE | re.DOTALL)  # a name may hold line breaks
_IMAGE_ENDING = re.compile(r"(_0000|[_-](image|img))$", re.IGNORECASE)
_LABEL_ENDING = re.compile(r"[_-](label|labels|seg|mask|gt)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file and its label file under their common name."""

    name: str
    image: Path
    label: Path


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out, and why, in one line that names it."""

    path: Path
    reason: str


def stem(path: Path) -> str:
    """The file name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def list_nifti(folder: Path) -> list[Path]:
    """All .nii and .nii.gz files right inside ``folder``, sorted; hidden files are ignored.

    Raises ValueError if the folder does not exist or holds none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give one that holds NIfTI files")
    files = [path for path in sorted(folder.iterdir()) if _NIFTI.fullmatch(path.name) and not path.is_dir()]
    if not files:
        raise ValueError(f"{folder}: holds no .nii or .nii.gz file; give the folder that holds them")
    return files


def volume_name(path: Path) -> str:
    """The name an image and its label map share: the stem without an ending such as _0000, _image
    or _seg."""
    return _LABEL_ENDING.sub("", _IMAGE_ENDING.sub("", stem(path)))


def resolve_folders(data: Path | None, images: Path | None, labels: Path | None) -> tuple[Path, Path]:
    """The image folder and the label folder that the options mean.

    Raises ValueError if they name none, or contradict each other.
    """
    if images is not None or labels is not None:
        if data is not None:
            raise ValueError("give either --data, or --images and --labels, not both")
        if images is None or labels is None:
            missing = "--images" if images is None else "--labels"
            raise ValueError(f"--images and --labels belong together; {missing} is missing")
        return images, labels
    if data is None:
        raise ValueError("no data given: give --data FOLDER, or --images FOLDER --labels FOLDER")
    for image_folder, label_folder in _LAYOUTS:
        if (data / image_folder).is_dir() and (data / label_folder).is_dir():
            return data / image_folder, data / label_folder
    return data, data


def find_pairs(images: Path, labels: Path) -> tuple[list[Pair], list[Skipped]]:
    """Match the images of one folder with the label maps of another, or of the same one.

    Files match when their names agree once endings such as _0000, _image, _label, _seg, _mask or
    _gt are taken off. In one common folder a label map is known by such an ending. Returns the
    pairs sorted by name, and every file without a clear partner.
    """
    if images.resolve() == labels.resolve():
        files = list_nifti(images)
        label_files = [path for path in files if _LABEL_ENDING.search(stem(path))]
        image_files = [path for path in files if path not in set(label_files)]
        if not image_files or not label_files:
            raise ValueError(
                f"{images}: holds {len(image_files)} images and {len(label_files)} label maps; put them into "
                "imagesTr/ and labelsTr/, or name them case1_image.nii.gz and case1_label.nii.gz"
            )
    else:
        image_files, label_files = list_nifti(images), list_nifti(labels)

    by_name: dict[str, tuple[list[Path], list[Path]]] = {}
    for path in image_files:
        by_name.setdefault(volume_name(path), ([], []))[0].append(path)
    for path in label_files:
        by_name.setdefault(volume_name(path), ([], []))[1].append(path)
    pairs, skipped = _sort_out(by_name, images, labels)
    if not pairs:
        raise ValueError(
            f"{images}: none of its {len(image_files)} images has a label map of the same name in {labels} "
            f"(such as {image_files[0].name} and {label_files[0].name}); rename the files"
        )
    return pairs, skipped


def _sort_out(
    by_name: dict[str, tuple[list[Path], list[Path]]], images: Path, labels: Path
) -> tuple[list[Pair], list[Skipped]]:
    pairs: list[Pair] = []
    skipped: list[Skipped] = []
    for name, (own_images, own_labels) in sorted(by_name.items()):
        paths = own_images + own_labels
        if len(own_images) == 1 and len(own_labels) == 1:
            pairs.append(Pair(name, own_images[0], own_labels[0]))
        elif not own_labels:
            reason = f"has no label map called {name}.nii.gz in {labels}; add it or take the image away"
            skipped += [Skipped(path, f"{path}: {reason}") for path in paths]
        elif not own_images:
            reason = f"is a label map without an image called {name}.nii.gz in {images}"
            skipped += [Skipped(path, f"{path}: {reason}; add it or take the label away") for path in paths]
        else:
            names = ", ".join(path.name for path in paths)
            skipped.append(Skipped(paths[0], f"{paths[0]}: several files share one name ({names}); keep two"))
    return pairs, skipped
