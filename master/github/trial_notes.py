"""What a trial of GitHub's side found so far, and what is tried alike with an App and with a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from master.github.access import Access, GitHubRefused, GitHubUnavailable
from master.github.needs import needed
from master.github.questions import READ_PEOPLE
from master.settings import Settings
from master.settings_github import WEBHOOK_SECRET, GitHubSettings
from master.tried import Tried

EVENTS = frozenset({"push", "pull_request", "issue_comment"})  #: what the webhook must deliver
DISPATCHES = "repository_dispatch"  #: an App's may, a repository's cannot


class Notes:
    """Collects what is tried, one thing after another."""

    def __init__(self, settings: Settings, github: GitHubSettings, secrets: Path) -> None:
        self.settings, self.github, self.secrets = settings, github, secrets
        self.found: list[Tried] = []
        self.needed = needed(settings)
        self.hook = f"{settings.master.url.rstrip('/')}/change_hook/github"

    def say(self, name: str, ok: bool | None, message: str, hint: str = "") -> None:
        self.found.append(Tried(name=name, ok=ok, message=message, hint=hint))

    def ask(self, name: str, question: Callable[[], Any], hints: dict[int, str]) -> Any:
        """GitHub's answer, or None once its refusal is said. ``hints``: what to do, by HTTP's status."""
        try:
            return question()
        except GitHubRefused as error:
            self.say(name, False, str(error), hints.get(error.status, ""))
        except GitHubUnavailable as error:
            self.say(name, False, str(error), f"try again; if it stays: can this machine reach {self.github.api}?")
        return None

    def repository(self, access: Access) -> Any:
        """GitHub's answer about the repository, or None."""

        def about() -> Any:
            with access.client(READ_PEOPLE) as client:
                return client.rest.repos.get(access.owner, access.repository)

        answer = self.ask("repository", about, {404: "is [github] repository right, and may the App or token see it?"})
        if answer is None:
            return None
        found, told = answer.json(), self.github.repository
        branch = self.settings.project.default_branch
        if found["full_name"].lower() != told.lower():
            hint = f'repository = "{found["full_name"]}", formerly = ["{told}"]'
            self.say("repository", False, f"{told} is called {found['full_name']} now: its events come so", hint)
        elif found.get("archived"):
            self.say("repository", False, "it is archived: GitHub takes nothing in", "unarchive it")
        elif found["default_branch"] != branch:
            hint = f'project.default_branch = "{found["default_branch"]}"'
            self.say("repository", False, f"its default branch is {found['default_branch']}, not {branch}", hint)
        else:
            self.say("repository", True, f"{found['full_name']}, default branch {branch}")
        return answer

    def hook_is_right(self, config: Mapping[str, Any], whose: str) -> bool:
        """Whether a webhook's form holds what it must."""
        wrong = list(_wrong(config, self.hook))
        for message, hint in wrong:
            self.say("webhook", False, f"{whose} {message}", hint)
        return not wrong

    def events(self, events: set[str], whose: str) -> None:
        """Whether a webhook delivers what is needed."""
        if "*" not in events and (missing := sorted(EVENTS - events)):
            self.say("webhook", False, f"{whose} lacks events: {', '.join(missing)}", "tick them in its form")
        else:
            self.say("webhook", True, f"{whose} delivers {', '.join(sorted(EVENTS))} to {self.hook}")


def _wrong(config: Mapping[str, Any], expected: str) -> Iterator[tuple[str, str]]:
    """What of a webhook's form must be another: what is there, and what to do."""
    if config.get("url") != expected:
        yield f"goes to {config.get('url')}", f"its Payload URL must be {expected} (master.url and change_hook/github)"
    if not config.get("secret"):
        yield "has no secret", f"put in what stands in secrets/{WEBHOOK_SECRET}"
    if str(config.get("insecure_ssl", "0")) != "0":
        yield "does not verify the certificate", "enable SSL verification"
