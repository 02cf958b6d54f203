"""Text for people: errors, lists, and file names, which may hold bytes that a terminal or a picture may not."""

from __future__ import annotations

from collections.abc import Sequence


def printable(name: str) -> str:
    """The name on one line, with a question mark for every byte that is no text."""
    known = name.encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if ord(letter) < 32 or ord(letter) == 127 else letter for letter in known)


def reason(error: BaseException, most: int = 200) -> str:
    """What an error says, on one line of at most so many letters."""
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:most]


def listed(things: Sequence[object], most: int = 8) -> str:
    """The first so many with commas between them, and how many more there are."""
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(map(str, things[:most])) + more
