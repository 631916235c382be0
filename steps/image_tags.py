"""What an image of a run is called. Pure.

| run | for good | leads to the newest |
|---|---|---|
| push to the default branch | `sha-1a2b3c4` | `main`, `latest` |
| push to another branch | `sha-1a2b3c4` | the branch, as `feature-x` for `feature/x` |
| tag `v1.0.0` | `sha-1a2b3c4`, `v1.0.0`, and `1.0.0` by setting | |
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DIGITS = 7
_LONGEST = 128 - 31  # a tag's characters, less the longest suffix
_BRANCHES = "refs/heads/"
_RESERVED = re.compile(r"latest|sha-[0-9a-f]+|buildcache.*|v?[0-9].*", re.IGNORECASE)


class NoTag(ValueError):
    """A branch or tag whose name cannot be an image's; says why."""


@dataclass(frozen=True, kw_only=True)
class ImageTags:
    fixed: tuple[str, ...]  #: of this commit for good; the first names it
    moving: tuple[str, ...]


def image_tags(
    *, ref: str, tag: str, head: str, default_branch: str, latest: bool = True, bare_version: bool = False
) -> ImageTags:
    """Of a run that publishes.

    Raises:
        NoTag: a tag that no image can have, or a branch that would be taken for something else.
    """
    fixed = [f"sha-{head[:_DIGITS]}"]
    if tag:
        if (name := sanitised(tag)) != tag:
            raise NoTag(f"an image cannot have the tag {tag!r}: letters, digits, ., - and _, at most {_LONGEST}")
        fixed.append(tag)
        if bare_version and re.fullmatch(r"v[0-9].*", tag):
            fixed.append(name[1:])
        return ImageTags(fixed=tuple(fixed), moving=())
    branch = ref.removeprefix(_BRANCHES)
    moving = [sanitised(branch)]
    if _RESERVED.fullmatch(moving[0]):
        raise NoTag(f"branch {branch!r} would be the image's tag {moving[0]!r}, which means something else")
    if latest and branch == default_branch:
        moving.append("latest")
    return ImageTags(fixed=tuple(fixed), moving=tuple(moving))


def sanitised(name: str) -> str:
    """As a tag may be: everything else becomes a hyphen."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).lstrip(".-")[:_LONGEST] or "unnamed"
