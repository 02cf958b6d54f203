"""Text for people: file names, which may hold any bytes where a terminal, a picture and a CSV file may not; errors."""

from __future__ import annotations


def printable(name: str) -> str:
    """The name on one line, with a question mark for every byte that is no text."""
    known = name.encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if ord(letter) < 32 or ord(letter) == 127 else letter for letter in known)


def reason(error: BaseException, most: int = 200) -> str:
    """What an error says, on one line of at most so many letters."""
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:most]
