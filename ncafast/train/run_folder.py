"""The folder of a training run: what lies where, and whether a run in it may be continued.

config.json and split.json are written first, once. resume.pt holds everything a continued run
needs; all other files can be made again from it, so it is always written last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ncafast import checkpoint
from ncafast.files import write_text
from ncafast.utils.json_files import differences, plain, read_json
from ncafast.utils.option_checks import MOST_THREADS
from ncafast.utils.renamed import present
from ncafast.utils.tables import write_rows

# Options that may differ when a run is continued, because they do not change a weight. A run may also be made longer.
FREE = frozenset(
    {
        "output",
        "epochs",
        "patience",
        "save_every",
        "pictures",
        "tensorboard",
        "progress",
        "memory_limit",
        "spill",
        "domain_parallel",
    }
)
# Options that earlier versions do not have, with the values that stand for what they did.
_ADDED: dict[str, Any] = {"step_jitter": 0.0}
ANOTHER = "another folder with --output (Settings.output in Python)"
_GIVE = f"give {ANOTHER}"


class RunFolder:
    """Paths and files of one run. `things` is what people call its samples: volumes, images."""

    def __init__(self, path: Path, things: str = "samples") -> None:
        self.path, self._things = path, things
        self.best = path / "best.safetensors"
        self.last = path / "last.safetensors"
        self.split = path / "split.json"
        self.curves = path / "curves.png"
        self.pictures = path / "pictures"
        self.tensorboard = path / "tensorboard"
        self._config = path / "config.json"
        self.resume = path / "resume.pt"
        self._history = path / "history"  # .csv and .json

    def options(self) -> dict[str, Any]:
        """The options of the run in this folder, with all that was left open filled in; empty if there is none.

        Raises ValueError if they are corrupt.
        """
        kept = read_json(self._config, _GIVE, dict) if self._config.exists() else {}
        for name in ("threads", "epochs", "lr_step"):
            value = kept.get(name)
            most = MOST_THREADS if name == "threads" else math.inf
            if value is not None and not (type(value) is int and 1 <= value <= most):
                raise ValueError(f"{self._config}: is corrupt ({name}={value!r}); {_GIVE}")
        return kept

    def claim(self, config: Any, data: dict[str, dict[str, int]], free: Iterable[str] = FREE) -> dict[str, Any] | None:
        """Start a run here (None), or return the state to continue the one that was begun here.

        Args:
            config: a dataclass of options, kept in config.json.
            data: each sample's checksum by name, for "train" and for "held_out", kept in split.json.
            free: names of options that may differ when the run is continued.

        Raises:
            ValueError: the run in the folder had other options or other samples, or its files are corrupt.
        """
        wanted = plain(config)
        if self._config.exists():
            self._compare(wanted, read_json(self._config, _GIVE, dict), data, set(free))
            if self.resume.exists():
                return checkpoint.load_resume(self.resume)
        else:
            self._check_fresh()
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.split, json.dumps(data, indent=1))
        write_text(self._config, json.dumps(wanted, indent=1))
        return None

    def save_resume(self, state: dict[str, Any]) -> None:
        """Write the state to continue from. Call it after every other file of the same moment is in
        place."""
        checkpoint.save_resume(self.resume, state)

    def write_history(self, history: Sequence[dict[str, Any]]) -> None:
        """One row per epoch, in history.csv and in history.json."""
        if not history:
            return
        write_rows(self._history.with_suffix(".json"), history)

    def _check_fresh(self) -> None:
        """Raise ValueError if a new run would replace files in its folder, which are of something else."""
        if self.path.exists() and any(self.path.glob("*.safetensors")):
            raise ValueError(f"{self.path}: holds checkpoints but no config.json; {_GIVE}")
        tables = self._history.with_suffix(".csv"), self._history.with_suffix(".json")
        theirs = [path for path in (self.curves, self.resume, self.path / "confusion.png", *tables) if path.exists()]
        if self.split.exists():  # is written before config.json, so a killed run may have left it alone
            split = read_json(self.split, _GIVE, dict)
            theirs += [self.split] if set(split) != {"train", "held_out"} else []
        theirs += [path for path in (self.pictures, self.tensorboard) if path.is_dir() and any(path.iterdir())]
        if theirs:
            raise ValueError(
                f"{self.path}: holds {theirs[0].name}, which a run would replace, but no run (no config.json); {_GIVE}"
            )

    def _compare(self, wanted: dict[str, Any], found: dict[str, Any], data: dict[str, Any], free: set[str]) -> None:
        found = {name: value for name, value in _ADDED.items() if name in wanted} | present(found, wanted)
        if wanted.keys() - free - found.keys():
            raise ValueError(f"{self.path}: holds a run of another task or of another version of ncafast; {_GIVE}")
        if different := differences(found, wanted, (name for name in wanted if name not in free)):
            raise ValueError(
                f"{self.path}: holds a run with other options: {', '.join(different)}; "
                f"give the same options to continue it, or {ANOTHER}"
            )
        if self.split.exists() and read_json(self.split, _GIVE, dict) != data:
            raise ValueError(
                f"{self.path}: holds a run on other {self._things} or another split (see {self.split.name}); "
                f"bring the data back to continue it, or {_GIVE}"
            )


def read_split(model: Path) -> dict[str, list[str]] | None:
    """Names of the "train" and "held_out" samples of the run that a checkpoint or folder belongs
    to, if known. Raises ValueError if the file that says so is corrupt."""
    path = (model if model.is_dir() else model.parent) / "split.json"
    if not path.is_file():
        return None
    split = read_json(path, "use --subset all", dict)
    for side in ("train", "held_out"):
        if not isinstance(split.get(side), dict):
            raise ValueError(f"{path}: is corrupt ({side} is no list of samples); use --subset all")
    return {side: sorted(split[side]) for side in ("train", "held_out")}
