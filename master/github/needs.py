"""Which permissions the settings need of GitHub, and what for."""

from __future__ import annotations

from collections.abc import Mapping

from master.database.outbox import COMMENT, STATUS
from master.github.questions import READ_PEOPLE, READ_PULLS
from master.github.releases import PERMISSIONS as RELEASE
from master.github.sending import PERMISSIONS
from master.settings import Settings
from master.settings_tokens import stage_permissions

_LEVELS = ("none", "read", "write", "admin")


def needed(settings: Settings) -> dict[str, tuple[str, str]]:
    """Permissions that the settings need of GitHub: name -> level, and what for."""
    github = settings.github
    wanted: list[tuple[Mapping[str, str], str]] = [
        (READ_PEOPLE, "every request"),
        (READ_PULLS, "what a pull request changes"),
    ]
    if github and github.statuses:
        wanted.append((PERMISSIONS[STATUS], "statuses"))
    if github and github.comment:
        wanted.append((PERMISSIONS[COMMENT], "the summary on pull requests"))
    wanted += [(stage_permissions(settings, name), f"the token of stage {name}") for name in settings.stages]
    if any(stage.target and stage.target.kind == "github" for stage in settings.stages.values()):
        wanted.append((RELEASE, "releases"))
    highest: dict[str, tuple[str, str]] = {}
    for permissions, purpose in wanted:
        for name, level in permissions.items():
            if not suffices(highest.get(name, ("none", ""))[0], level):
                highest[name] = level, purpose
    return highest


def suffices(has: str | None, level: str) -> bool:
    """Whether who has this level may do what needs that one."""
    return _LEVELS.index(has or "none") >= _LEVELS.index(level)
