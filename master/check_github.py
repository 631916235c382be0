"""What can be wrong with ``[github]``, and between it and the stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from master.settings_models import Settings
from master.settings_problems import Problem, did_you_mean, listed
from master.settings_tokens import PERMISSIONS
from workers.git import is_local

_STRANGERS = frozenset({"CONTRIBUTOR", "FIRST_TIME_CONTRIBUTOR", "FIRST_TIMER", "MANNEQUIN", "NONE"})


def github_problems(settings: Settings) -> Iterator[Problem]:
    yield from _permissions(settings)
    github, project = settings.github, settings.project
    if github is None:
        if project.pull_requests and project.poll_interval and not is_local(project.repository):
            message = "every pull request is held until an administrator approves it: who belongs here is not known"
            allowed = "false, or a table [github]"
            yield _warning("project.pull_requests", message, "true", allowed)
        return
    if github.access == "none":
        yield from _without_access(settings, github)
    if github.access != "app":
        for name in ("app_id", "installation_id"):
            if number := getattr(github, name):
                message = f'is an App\'s, and access is "{github.access}"'
                yield _warning(f"github.{name}", message, str(number), 'nothing, or access = "app"')
    if not github.webhook and not project.poll_interval:
        message = "neither deliveries nor the poller tell of pushes: only manual runs will be there"
        allowed = "true, or project.poll_interval above 0"
        yield _warning("github.webhook", message, "false", allowed)
    elif not github.webhook and github.access != "none":
        message = "comments (/ci ok), labels and closed pull requests are heard of by deliveries alone"
        yield _warning("github.webhook", message, "false", "true")
    if not project.pull_requests and github.comment and "comment" in github.model_fields_set:
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
        if own.permissions and "access" not in github.model_fields_set:
            message = 'gets no token: [github] has access = "none"'
            yield _warning(f"stages.{stage}.permissions", message, listed(sorted(own.permissions)), allowed)


def _warning(key: str, message: str, found: str, allowed: str) -> Problem:
    return Problem(key=key, message=message, found=found, allowed=allowed, severity="warning")
