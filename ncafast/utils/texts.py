"""File names as text for people: a name may hold any bytes, a terminal, a picture and a CSV file may not."""

from __future__ import annotations


def printable(name: str) -> str:
    """The name on one line, with a question mark for every byte that is no text."""
    known = name.encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if ord(letter) < 32 or ord(letter) == 127 else letter for letter in known)
