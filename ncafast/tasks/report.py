"""What an evaluation returns: numbers, how they are printed, and the files that they are written to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ncafast.files import write_text
from ncafast.utils.outputs import write_result
from ncafast.utils.tables import csv_text
from ncafast.viz.figures import write_png


class Report:
    """The result of an evaluation. Tasks derive their own and say what is in it.

    Attributes:
        folder: where the files are; set by `write`.
    """

    folder: Path

    @property
    def csv(self) -> Path:
        """The file with the rows, of tasks that write one."""
        return self.folder / "scores.csv"

    def table(self) -> str:
        """The numbers as text in columns."""
        raise NotImplementedError

    def contents(self) -> dict[str, Any]:
        """File name -> content: a mapping for .json, rows or text for .csv, a picture [H, W, 3] uint8 for .png."""
        raise NotImplementedError

    def write(self, folder: Path) -> None:
        """Write all files; each appears under its name only when complete."""
        for name, content in self.contents().items():
            _WRITERS[Path(name).suffix](folder / name, content)
        object.__setattr__(self, "folder", folder)  # derived classes may be frozen


_WRITERS = {
    ".json": lambda path, content: write_result(path, json.dumps(content, indent=1)),
    ".csv": lambda path, content: write_text(path, content if isinstance(content, str) else csv_text(content)),
    ".png": write_png,
}
