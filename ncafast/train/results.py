"""A table of finished trainings that survives being stopped: rows by key, as JSON to go on from and CSV to look at."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncafast.train.run_folder import write_text


class Results:
    """results.json and results.csv in a folder."""

    def __init__(self, folder: Path) -> None:
        """Take up the rows that are there. Raises ValueError if the file is damaged."""
        self._path = folder / "results.json"
        self.rows: list[dict[str, Any]] = []
        if self._path.exists():
            try:
                self.rows = json.loads(self._path.read_text(encoding="utf-8"))
                if not all(isinstance(row, dict) for row in self.rows):
                    raise ValueError("it holds no rows")
            except (OSError, ValueError, TypeError) as error:
                raise ValueError(f"{self._path}: is damaged ({error}); delete it to measure anew") from error

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The row whose columns have these values, if there is one."""
        wanted = json.loads(json.dumps(key))
        return next((row for row in self.rows if all(row.get(name) == value for name, value in wanted.items())), None)

    def add(self, key: dict[str, Any], measured: dict[str, float]) -> None:
        """Add a row, on disk at once."""
        self.rows.append(json.loads(json.dumps({**key, **measured})))
        self.write(self.rows)

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write these rows to both files."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self._path.with_suffix(".csv"), text.getvalue())
        write_text(self._path, json.dumps(list(rows), indent=1))
