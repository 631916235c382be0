"""Whether a personal token may what the settings need, as far as GitHub tells."""

from __future__ import annotations

from master.github.access import Access, GitHubError
from master.github.trial_notes import EVENTS, Notes


def try_token(notes: Notes, access: Access) -> None:
    answer = notes.repository(access)
    if answer is None:
        return
    needs = {n: level for n, (level, _) in notes.needed.items()}
    listed = ", ".join(f"{name}: {level}" for name, level in sorted(needs.items()))
    scopes = answer.headers.get("x-oauth-scopes")
    if until := answer.headers.get("github-authentication-token-expiration"):
        notes.say("token", True, f"GitHub knows it; it expires {until}")
    if scopes is None:
        hint = f"see that it has, for this repository alone: {listed}"
        notes.say("permissions", None, "GitHub does not tell what a fine-grained token may", hint)
    else:
        _scopes(notes, {scope.strip() for scope in scopes.split(",")}, private=bool(answer.json().get("private")))
    writes = [name for name, level in needs.items() if level == "write"]
    may = answer.json().get("permissions", {})
    if writes and may and not may.get("push"):
        hint = "give that user write access to the repository, or use a token of somebody who has it"
        notes.say("access", False, f"the token's user may not write, and {', '.join(writes)} must be written", hint)
    if notes.github.webhook and notes.settings.master.url:
        _repository_hook(notes, access)


def _scopes(notes: Notes, scopes: set[str], *, private: bool) -> None:
    wide = "repo" if private else "public_repo"
    if "repo" in scopes or wide in scopes:
        hint = f"a fine-grained token for {notes.github.repository} alone could do less harm"
        notes.say("permissions", None, f"a classic token with {', '.join(sorted(scopes))}: for every repository", hint)
    else:
        hint = f"a fine-grained token for this repository (docs/github.md), or the scope {wide}"
        has = ", ".join(sorted(scopes - {""})) or "no scope"
        notes.say("permissions", False, f"the classic token has {has}, and {wide} is needed", hint)


def _repository_hook(notes: Notes, access: Access) -> None:
    try:
        with access.client({"repository_hooks": "read"}) as client:
            hooks = client.rest.repos.list_webhooks(access.owner, access.repository, per_page=100).json()
    except GitHubError:
        hint = f"on GitHub: Settings, Webhooks: {notes.hook}, application/json, {', '.join(sorted(EVENTS))}"
        notes.say("webhook", None, "the token may not look at the repository's webhooks", hint)
        return
    ours = [hook for hook in hooks if hook["config"].get("url") == notes.hook]
    if not ours:
        hint = f"Settings, Webhooks, Add webhook: {notes.hook}, application/json, {', '.join(sorted(EVENTS))}"
        notes.say("webhook", False, f"none of the repository's {len(hooks)} goes to {notes.hook}", hint)
    elif not ours[0]["active"]:
        notes.say("webhook", False, "it is not active", "tick Active in its form")
    elif notes.hook_is_right(ours[0]["config"], "the repository's"):
        notes.events(set(ours[0]["events"]), "the repository's")
