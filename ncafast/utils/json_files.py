"""Options and results as JSON, which people may have changed, and what differs between two of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ncafast.utils.option_checks import check_kinds

T = TypeVar("T", bound="Jsonable")


class Jsonable:
    """Base of dataclasses of plain values and tuples that a checkpoint holds as text."""

    __slots__ = ()

    @classmethod
    def from_json(cls: type[T], text: str) -> T:
        """What `to_json` wrote. Raises ValueError or TypeError if it is corrupt."""
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"{text[:80]} is no JSON object")
        made = cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
        check_kinds(made)
        return made

    def to_json(self) -> str:
        """As text."""
        return json.dumps(dataclasses.asdict(self))  # type: ignore[call-overload]


def plain(options: Any) -> dict[str, Any]:
    """A dataclass of options as JSON can hold it."""
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    return found


def read_json(path: Path, remedy: str, kind: type = object) -> Any:
    """The content of a file.

    Args:
        path: the file.
        remedy: what to do if it is corrupt, for the error.
        kind: what it must be: dict, list, or anything.

    Raises:
        ValueError: it cannot be read, or is no JSON of this kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is corrupt ({error}); {remedy}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path}: is corrupt; {remedy}")
    return content


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The values under these names that are not the same, in words."""
    pairs = ((name, found.get(name), wanted.get(name)) for name in names)
    return [f"{name} (here {here!r}, asked {asked!r})" for name, here, asked in pairs if here != asked]
