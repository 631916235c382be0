"""A stage's own GitHub token: how what it may is written as the name of a secret, which no file holds."""

from __future__ import annotations

from collections.abc import Mapping

from master.settings_models import Settings
from master.settings_stages import IN_MASTER

#: GitHub's names of what an App may do in a repository (its REST description, schema ``app-permissions``).
PERMISSIONS = frozenset(
    {
        "actions",
        "administration",
        "artifact_metadata",
        "attestations",
        "checks",
        "code_quality",
        "codespaces",
        "contents",
        "dependabot_secrets",
        "deployments",
        "discussions",
        "environments",
        "issues",
        "merge_queues",
        "metadata",
        "packages",
        "pages",
        "pull_requests",
        "repository_custom_properties",
        "repository_hooks",
        "repository_projects",
        "secret_scanning_alerts",
        "secrets",
        "security_events",
        "single_file",
        "statuses",
        "vulnerability_alerts",
        "workflows",
    }
)
VARIABLE = "GITHUB_TOKEN"  #: where a stage's commands find it
_PREFIX = f"{VARIABLE} "


def stage_permissions(settings: Settings, stage: str) -> dict[str, str]:
    """What the token of a stage may; nothing for a stage that gets none.

    An App's may read the repository besides: its commands begin with a checkout.
    """
    github, own = settings.github, settings.stages[stage]
    if github is None or github.access == "none" or not own.permissions or own.used(stage) in IN_MASTER:
        return {}
    return ({"contents": "read"} if github.access == "app" else {}) | dict(own.permissions)


def secret_of(permissions: Mapping[str, str]) -> str:
    """The name under which the secrets' provider is asked for a token; empty for none."""
    told = " ".join(f"{name}:{level}" for name, level in sorted(permissions.items()))
    return _PREFIX + told if told else ""


def permissions_of(secret: str) -> dict[str, str] | None:
    """What a token of this name may; ``None`` for another secret's name."""
    if not secret.startswith(_PREFIX):
        return None
    return dict(pair.split(":", 1) for pair in secret.removeprefix(_PREFIX).split())


def git_address(settings: Settings) -> str:
    """The address below which git sends the token along; empty where the repository is not GitHub's, over https."""
    web = f"{settings.github.web.rstrip('/')}/" if settings.github else ""
    return web if web and settings.project.repository.startswith(web) else ""
