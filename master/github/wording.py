"""What strangers' builds say, made fit to stand on GitHub's pages. Pure."""

from __future__ import annotations

import unicodedata

_NEAR = 30  #: so many characters may be lost for a cut between two words


def one_line(text: str) -> str:
    """Without line ends, control characters, and marks that turn the direction of text around or hide it.

    Characters beyond Unicode's first plane become U+FFFD: GitHub has refused descriptions with them.
    """
    plain = (
        " " if unicodedata.category(c)[0] in "CZ" else c if ord(c) < 0x10000 else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )
    return " ".join("".join(plain).split())


def shortened(text: str, limit: int) -> str:
    """At most ``limit`` characters, cut between two words where one ends near."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    space = cut.rfind(" ")
    if text[limit - 1] != " " and space >= limit - 1 - _NEAR:
        cut = cut[:space]
    return cut.rstrip(" ,;:(") + "…"


def code(text: str, limit: int = 300) -> str:
    """As a span of code in GitHub's Markdown: no mention, no link and no end of a table's cell comes from it."""
    said = shortened(one_line(text).replace("`", "'").replace("|", "\N{BROKEN BAR}"), limit)
    return f"`{said}`" if said else ""
