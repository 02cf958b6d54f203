"""README.md as a package index shows it, where relative links lead nowhere. For setup.py."""

from __future__ import annotations

import re

_LINK = re.compile(r"""(!?)(\]\(|\[[^\]]*\]\(|src=")([^)"#\s]+)""")


def with_absolute_links(text: str, repository: str) -> str:
    """Relative links of a page become links to the repository's default branch, for example `https://github.com/o/r`."""

    def link(match: re.Match[str]) -> str:
        image, start, target = match.groups()
        if "://" in target:
            return match.group()
        kind = "raw" if image or start.startswith("src") else "blob"
        return f"{image}{start}{repository}/{kind}/HEAD/{target}"

    return _LINK.sub(link, text)
