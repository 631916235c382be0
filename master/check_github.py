"""What can be wrong with ``[github]``, and between it and the stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from master.settings_models import Settings
from master.settings_problems import Problem, did_you_mean, listed
from master.settings_tokens import PERMISSIONS

_STRANGERS = frozenset({"CONTRIBUTOR", "FIRST_TIME_CONTRIBUTOR", "FIRST_TIMER", "MANNEQUIN", "NONE"})


def github_problems(settings: Settings) -> Iterator[Problem]:
    yield from _permissions(settings)
    github = settings.github
    if github is None:
        return
    if github.access == "none":
        yield from _without_access(settings, github)
    elif github.access == "token" and (github.app_id or github.installation_id):
        message = "is an App's, and GitHub is asked with a token"
        yield _warning("github.app_id", message, str(github.app_id), 'nothing, or access = "app"')
    if not github.webhook and not settings.project.poll_interval:
        message = "neither deliveries nor the poller tell of pushes: only manual runs will be there"
        allowed = "true, or project.poll_interval above 0"
        yield _warning("github.webhook", message, "false", allowed)
    elif not github.webhook and github.access == "app":
        message = "comments (/ci ok), labels and closed pull requests are heard of by deliveries alone"
        yield _warning("github.webhook", message, "false", "true")
    if not settings.project.pull_requests and github.comment and "comment" in github.model_fields_set:
        message = "comments on pull requests, which have no runs here"
        yield _warning("github.comment", message, "true", "false, or project.pull_requests = true")
    if strangers := sorted(github.vouched & _STRANGERS):
        message = "lets pull requests run at once that anybody can open"
        yield _warning("github.vouched", message, listed(strangers), "OWNER, MEMBER, COLLABORATOR")


def _permissions(settings: Settings) -> Iterator[Problem]:
    for stage, own in settings.stages.items():
        for name, level in own.permissions.items():
            key = f"stages.{stage}.permissions"
            if name not in PERMISSIONS:
                near = did_you_mean(name.replace("-", "_"), PERMISSIONS)
                yield Problem(key=f"{key}.{name}", message=f"is no permission of GitHub's{near}", found=name)
            elif name == "workflows" and level == "read":
                yield Problem(key=f"{key}.{name}", message="can only be written", found=level, allowed="write")


def _without_access(settings: Settings, github: Any) -> Iterator[Problem]:
    """Warnings about what needs ``access`` and was asked for."""
    allowed = 'with access = "app" or "token"'
    for name in ("statuses", "comment"):
        if name in github.model_fields_set and getattr(github, name):
            yield _warning(f"github.{name}", 'GitHub is told nothing while access = "none"', "true", allowed)
    for stage, own in settings.stages.items():
        if own.permissions:
            message = 'gets no token: [github] has access = "none"'
            yield _warning(f"stages.{stage}.permissions", message, listed(sorted(own.permissions)), allowed)


def _warning(key: str, message: str, found: str, allowed: str) -> Problem:
    return Problem(key=key, message=message, found=found, allowed=allowed, severity="warning")
