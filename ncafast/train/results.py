"""A table of finished trainings that survives being stopped: rows by key, as JSON to go on from and CSV to look at."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncafast.files import write_text
from ncafast.utils.json_files import differences, read_json
from ncafast.utils.renamed import present, present_name
from ncafast.utils.tables import write_rows

_WANTED = 'return a dict of numbers by name, such as {"accuracy": 0.93}'


class Results:
    """results.json and results.csv in a folder, or two files of another stem."""

    def __init__(self, folder: Path, keys: Sequence[str], stem: str = "results", texts: Collection[str] = ()) -> None:
        """Take up the rows that are there; `keys` are the columns that tell rows apart, and `texts` those that hold no
        numbers. Raises ValueError if the file is corrupt, or holds other rows than these."""
        self._path, self._keys, self._texts = folder / f"{stem}.json", tuple(keys), texts
        self.rows: list[dict[str, Any]] = []
        if self._path.exists():
            remedy = "delete it to measure anew"
            rows = read_json(self._path, remedy, list)
            try:
                self.rows = [present(row, self._keys) for row in rows]
                if not all(isinstance(row, dict) and set(row) > set(keys) for row in self.rows):
                    raise ValueError(f"a row lacks one of {', '.join(keys)}")
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{self._path}: is corrupt ({error}); {remedy}") from error

    @property
    def measured(self) -> list[str]:
        """Names of what was measured; empty without rows."""
        return [name for name in (self.rows[0] if self.rows else ()) if name not in self._keys]

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The row whose columns have these values, if there is one."""
        wanted = json.loads(json.dumps(key))
        return next((row for row in self.rows if all(row.get(name) == value for name, value in wanted.items())), None)

    def add(self, key: dict[str, Any], measured: Any) -> None:
        """Add a row, on disk at once. Raises ValueError, which says what to return, unless it is of numbers under the
        names that the other rows have."""
        where = ", ".join(f"{name}={value}" for name, value in key.items())
        if not isinstance(measured, Mapping) or not measured:
            what = "an empty dict" if isinstance(measured, Mapping) else f"a {type(measured).__name__}"
            what = "None (is a return missing?)" if measured is None else what
            raise ValueError(f"train returned {what} for {where}; {_WANTED}")
        numbers: dict[str, Any] = {}
        for name, value in measured.items():
            if name in self._keys:
                raise ValueError(f"train returned {name!r} for {where}, which names a column already; rename it")
            if name in self._texts:
                numbers[name] = str(value)
                continue
            try:
                if isinstance(value, (str, bytes, bool)):
                    raise TypeError
                numbers[str(name)] = value if isinstance(value, int) else float(value)
            except (TypeError, ValueError):
                raise ValueError(f"train returned {name}={value!r} for {where}; {_WANTED}") from None
        if self.rows and set(numbers) != set(self.measured):
            raise ValueError(
                f"train returned {', '.join(numbers)} for {where}, and {', '.join(self.measured)} before; "
                "return the same names every time"
            )
        self.rows.append(json.loads(json.dumps({**key, **numbers})))
        self.write()

    def write(self) -> None:
        """Write the rows to both files."""
        write_rows(self._path, self.rows)


def claim(folder: Path, name: str, content: Any, what: str, stem: str = "results") -> None:
    """Write down, in folder/name, whose results a folder holds. Raises ValueError if they are of something else.

    Args:
        folder: where the results go.
        name: of a JSON file.
        content: what must be the same whenever results are added.
        what: the results' origin in words, such as "other folds".
        stem: of the files with the results.
    """
    path = folder / name
    kinds = {"folds.json", "grid.json"}
    others = [other for other in kinds - {name} if name in kinds and (folder / other).exists()]
    if others:
        raise ValueError(f"{folder}: holds the results of {others[0]}; give another folder")
    held = read_json(path, "give another folder") if path.exists() else None
    if held is None and name in kinds and (table := folder / f"{stem}.csv").exists():
        raise ValueError(f"{table}: is there already, but no {name}; give another folder with --output")
    if held is None:
        write_text(path, json.dumps(content, indent=1))
        return
    wanted = json.loads(json.dumps(content))
    held = _present(held, wanted)
    if held != wanted:
        both = isinstance(wanted, dict) and isinstance(held, dict)
        shown = f": {', '.join(differences(held, wanted, {**held, **wanted}))}" if both else ""
        raise ValueError(f"{path}: the folder holds results of {what}{shown}; give the same, or another folder")


def _present(found: Any, wanted: Any) -> Any:
    """What a file holds, with the present names of options."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return present(found, wanted)
    if isinstance(found, list) and found and isinstance(found[0], str):
        return sorted(present_name(name, wanted) for name in found)
    return found
