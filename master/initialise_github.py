"""What ``mlc-ci init`` writes and tries for a repository on GitHub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from master.settings import Settings
from master.settings_github import TOKEN, WEBHOOK_SECRET
from master.site.sample import source
from master.tried import Tried

MIRROR = source() / ".github" / "workflows" / "mirror.yml"
_SSH = re.compile(r"(?:ssh://)?(?:[\w.-]+@)(?P<host>[\w.-]+)(?::\d+(?=/))?[:/](?P<path>.+)")
_PATH = re.compile(r"/?(?P<name>[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/[\w.-]{1,100}?)(?:\.git)?/?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class GitHubAnswers:
    """What the user said. ``web``: GitHub's address; ``app_id``: 0 without an App; ``secrets``: those there already."""

    web: str = "https://github.com"
    app_id: int = 0
    secrets: Path | None = None

    @property
    def access(self) -> str:
        if self.app_id:
            return "app"
        return "token" if self.secrets and (self.secrets / TOKEN).exists() else "none"

    @property
    def webhook(self) -> bool:
        """Comments, labels and closed pull requests are heard of by webhook alone; its secret is made at the start."""
        return self.access != "none" or bool(self.secrets and (self.secrets / WEBHOOK_SECRET).exists())


def name_on_github(repository: str, web: str) -> str:
    """``OWNER/NAME`` of an address at this GitHub, by https or ssh; empty for any other."""
    url = urlsplit(repository) if "://" in repository and not repository.startswith("ssh:") else None
    ssh = None if url else _SSH.fullmatch(repository)
    host, path = (url.hostname or "", url.path) if url else (ssh["host"], ssh["path"]) if ssh else ("", "")
    named = _PATH.fullmatch(path)
    return named["name"] if named and host.lower() == (urlsplit(web).hostname or "") else ""


def github_table(repository: str, answers: GitHubAnswers) -> str:
    """``[github]``, as TOML; empty for a repository elsewhere."""
    name = name_on_github(repository, answers.web)
    if not name:
        return ""
    web = answers.web.rstrip("/")
    lines = [f"repository = {json.dumps(name)}"]
    if web != GitHubAnswers.web:
        lines += [f"web = {json.dumps(web)}", f"api = {json.dumps(web + '/api/v3')}"]
    webhook = f"webhook = {'true' if answers.webhook else 'false'}"
    access = f"access = {json.dumps(answers.access)}"
    lines += [f"{webhook:<35}# true: events come in at change_hook/github"]
    lines += [f'{access:<35}# "app" or "token": statuses, comments, /ci commands']
    lines += [f"app_id = {answers.app_id}" if answers.app_id else "# app_id = 12345"]
    begin = (
        "# GitHub, step by step: docs/github.md. `mlc-ci github check FOLDER` says what is still missing.\n\n[github]\n"
    )
    return begin + "\n".join(lines) + "\n"


def on_github(settings: Settings, answers: GitHubAnswers) -> list[Tried]:
    """What is tried at once, with the secrets that are there; and where the mirror is."""
    from master.github.trial import try_github  # noqa: PLC0415

    copy = "copy it into the repository, as .github/workflows/mirror.yml (docs/github.md)"
    mirror = Tried(name="mirror", ok=True, message=f"{MIRROR}: {copy}")
    if answers.secrets is None:
        todo = "not tried: --secrets names a folder with what is there already; later, mlc-ci github check"
        return [Tried(name="github", ok=None, message=todo, hint="docs/github.md goes through it"), mirror]
    return [*try_github(settings, answers.secrets), mirror]
