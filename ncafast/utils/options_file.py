"""Options out of a JSON file, as a training run keeps its own in config.json."""

from __future__ import annotations

import dataclasses
import difflib
import json
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ncafast.utils.option_checks import fits, words
from ncafast.utils.renamed import present


def read_options(path: Path) -> dict[str, Any]:
    """The options in a file by name, as JSON has them.

    Raises:
        ValueError: no such file, or one without a JSON object.
    """
    where = f"--config {path}"
    if path.is_dir():
        raise ValueError(f"{where}: is a folder; give a file, such as {path / 'config.json'}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{where}: {error.strerror}; give a JSON file, such as config.json in a run's folder"
        ) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{where}: holds no JSON object; give a file such as config.json in a run's folder")
    return found


def take_options(path: Path, found: dict[str, Any], options: type[Any]) -> dict[str, Any]:
    """The values in a file, as a class of options takes them.

    Args:
        path: the file, for messages.
        found: what `read_options` read.
        options: a dataclass of options.

    Raises:
        ValueError: an option that there is none of, or a value of another kind; one line says what is allowed.
    """
    known = [field.name for field in dataclasses.fields(options)]
    kinds = get_type_hints(options)
    taken = {}
    for name, value in present(found, known).items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
            raise ValueError(f"--config {path}: {name!r} is no option of this command; {hint}")
        taken[name] = _typed(value, kinds[name])
        if not fits(taken[name], kinds[name]):
            raise ValueError(
                f"--config {path}: {name}={json.dumps(value)} is not allowed; {_json_words(words(kinds[name], value))}"
            )
    return taken


def _typed(value: Any, kind: Any) -> Any:
    """A value of JSON as the kind has it: a list as a tuple, a text as a path."""
    if get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            if fits(made := _typed(value, part), part):
                return made
    if get_origin(kind) is tuple and isinstance(value, list):
        parts = get_args(kind)
        several = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return tuple(map(_typed, value, several)) if len(value) == len(several) else tuple(value)
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    return value


def _json_words(text: str) -> str:
    """What is allowed, as JSON spells it."""
    for python, json_word in (("a tuple of", "a list of"), ("True or False", "true or false"), ("(None)", "(null)")):
        text = text.replace(python, json_word)
    return "give a path as text" if text.startswith("give a Path") else text
