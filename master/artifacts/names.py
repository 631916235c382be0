"""What an artifact may be called, so that its name is one file on any system and looks like no other's."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200  #: bytes of UTF-8; file systems take 255, and a temporary name needs some of them
_FORBIDDEN = frozenset('<>:"/\\|?*\ufffd')  # separators, what Windows takes for something else, what was no text
_STORED = re.compile(r"[0-9]+/[^/]+/[^/]+/[0-9]+/([0-9]+)/[^/]+", re.ASCII)
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9])", re.IGNORECASE | re.ASCII)


class UnsafeName(ValueError):
    """A name that could lead elsewhere, or be taken for another."""


def artifact_name(text: str) -> str:
    """The text itself, if it is a name.

    Raises:
        UnsafeName: it is none; the message says why.
    """
    why = _trouble(text)
    if why:
        raise UnsafeName(f"{text[:LONGEST]!r} cannot be the name of an artifact: {why}")
    return text


def folded(name: str) -> str:
    """What two names have in common that some file system would take for the same."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def build_folder(run_id: int, stage: str, variant: str, number: int, build_id: int) -> str:
    """Where a build's files lie below the artifact folder.

    Raises:
        UnsafeName: a part of it is no name.
    """
    parts = [str(run_id), stage, variant or "default", str(number), str(build_id)]
    return "/".join(artifact_name(part) for part in parts)


def build_of(path: str) -> int | None:
    """Whose file this is, by its path below the artifact folder; ``None`` when no build's file can lie there."""
    found = _STORED.fullmatch(path)
    return int(found[1]) if found else None


def _trouble(text: str) -> str:
    if text in ("", ".", ".."):
        return "it is empty, or a folder"
    if found := next((c for c in text if c in _FORBIDDEN), None):
        return f"it holds {found!r}"
    # controls, invisible and direction-changing characters, halves of pairs, what is not assigned; line separators
    if found := next(
        (c for c in text if unicodedata.category(c)[0] == "C" or unicodedata.category(c)[:2] == "Zl"), None
    ):
        return f"it holds {found!r}, which cannot be seen"
    if unicodedata.normalize("NFKC", text) != text:
        return f"it looks like {unicodedata.normalize('NFKC', text)!r} and is not (Unicode's NFKC form)"
    if text[-1] in ". " or text[0] == " ":
        return "it begins or ends with a space, or ends with a dot"
    if _DEVICE.fullmatch(text.partition(".")[0].rstrip()):
        return "it is a device on Windows"
    if len(text.encode()) > LONGEST:
        return f"it is longer than {LONGEST} bytes"
    return ""
