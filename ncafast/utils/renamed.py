"""Names of options that are new in this release: the old ones are still taken, with a note, until the next one.

Everything that is renamed stands in the two tables here. Standard library only.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from ncafast.utils.progress import note as print_note

NAMES = {
    "out": "output",
    "channels": "state_channels",  # but not in Med-NCA, whose `channels` are the image's
    "pool": "pool_size",
    "scale": "zoom",  # but not of Med-NCA's training, where it is the ratio of two levels
    "held_out": "val_count",
    "settle": "start",
}
VALUES = {("loss", "ce"): "cross-entropy", ("subset", "held-out"): "val"}

F = TypeVar("F", bound=Callable[..., Any])


def present_name(name: str, known: Collection[str]) -> str:
    """What an option is called now; `known` are the names that there are."""
    new = NAMES.get(name, name)
    return new if name not in known and new in known else name


def present(
    options: Mapping[str, Any], known: Collection[str], note: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Options under the names and with the values that they have now.

    Where both names are given, the old one counts, since `dataclasses.replace` fills in the new one.

    Args:
        options: values by name, new or old.
        known: the names that there are.
        note: is told of every old name and value; None for those of files, which nobody has to change.
    """
    now = {name: present_name(name, known) for name in options}
    found = {now[name]: value for name, value in options.items()}
    for old, new in now.items():
        if old != new:
            found[new] = options[old]
            _tell(note, old, new)
    for name, value in found.items():
        found[name] = _present_value(name, value)
        if found[name] is not value:
            _tell(note, f"{name}={value!r}", repr(found[name]))
    return found


def spellings(name: str, value: Any) -> list[tuple[str, Any]]:
    """An option and its value as they are written now, and as they may have been before."""
    names = [name, *(old for old, new in NAMES.items() if new == name)]
    values = [value, *(old for (option, old), new in VALUES.items() if (option, new) == (name, value))]
    return [(each, one) for each in names for one in values]


def present_words(words: Iterable[str], known: Collection[str]) -> list[str]:
    """Words of a command line with the names and values of now; a line tells of every old one."""
    found: list[str] = []
    option = ""  # that the next word is a value of
    for word in words:
        head, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if head:
            option = head[2:].replace("-", "_")
            new = present_name(option, known)
            if new != option:
                option, old, head = new, head, f"--{new.replace('_', '-')}"
                _tell(print_note, old, head)
        now = ",".join(_present_value(option, each) for each in value.split(","))  # a search gives several
        if now != value:
            _tell(print_note, f"--{option} {value}", now)
        found.append(f"{head}{equals}{now}")
    return found


class _Renaming(type):
    """Constructors that take old names too."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        return super().__call__(*args, **present(options, _fields(cls), _warning(cls.__name__)))


class Renamed(metaclass=_Renaming):
    """Base of all classes of options: old names are taken by the constructor, and as attributes."""

    def __init_subclass__(cls) -> None:
        """Give a field that has an old name of an inherited one the present name."""
        for name in list(cls.__dict__.get("__annotations__", {})):
            (new,) = present({name: None}, _fields(cls), _warning(cls.__name__))  # the bases' fields, as yet
            if new != name:
                cls.__annotations__[new] = cls.__annotations__.pop(name)
                if name in cls.__dict__:
                    setattr(cls, new, cls.__dict__[name])
                    delattr(cls, name)

    def __getattr__(self, name: str) -> Any:
        (new,) = present({name: None}, _fields(type(self)), _warning(type(self).__name__))
        if new == name:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self, new)

    def __setattr__(self, name: str, value: Any) -> None:
        for each, one in present({name: value}, _fields(type(self)), _warning(type(self).__name__)).items():
            super().__setattr__(each, one)


def takes_old_names(function: F) -> F:
    """A function that takes its keywords' old names too."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def taking(*args: Any, **options: Any) -> Any:
        return function(*args, **present(options, known, _warning(function.__name__)))

    return taking  # type: ignore[return-value]


def _present_value(name: str, value: Any) -> Any:
    return VALUES.get((name, value), value) if isinstance(value, str) else value


def _fields(kind: type) -> Collection[str]:
    return getattr(kind, "__dataclass_fields__", {})


def _warning(owner: str) -> Callable[[str], None]:
    return lambda text: warnings.warn(f"{owner}: {text}", FutureWarning, stacklevel=5)  # whoever called the owner


def _tell(note: Callable[[str], None] | None, old: str, new: str) -> None:
    if note is not None:
        note(f"{old} is now called {new}; the old name is taken in this release for the last time")
