"""Notes on how images were read: one line for each kind of note, however many images of a data set it is about."""

from __future__ import annotations

from ncafast.utils.progress import say

FRAMES = "several frames or pages, of which only the first is read"
INT32 = "32-bit integers, read as 0 to 65535 (see --value-range)"
ORIENTATION = "its EXIF data is corrupt, so it is read as it is stored, perhaps not upright"
EARLIER_RANGE = (
    "more than 8 bits, stretched from the lowest to the highest value of each image, as when this model was trained by "
    "an earlier version; models trained anew keep the brightness"
)
EARLIER_ORIENTATION = (
    "EXIF says how to turn it upright, which is ignored, as when this model was trained by an earlier version; models "
    "trained anew see images upright"
)


class Notes:
    """Collects notes while images are read, and says each kind once."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """Note that one of the kinds above is true of an image."""
        self._names.setdefault(kind, []).append(name)

    def lines(self) -> list[str]:
        """One line per kind, with the first image and the number of others."""
        return [
            f"note: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {kind}"
            for kind, names in self._names.items()
        ]

    def say(self) -> None:
        """Print the lines, and forget them."""
        for line in self.lines():
            say(line)
        self._names.clear()
