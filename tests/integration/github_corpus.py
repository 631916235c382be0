"""What becomes of GitHub's own examples of webhooks (npm ``@octokit/webhooks-examples`` 7.6.1): the reviewed table.

The master serves every repository of the corpus; its default branch is ``master``, its tags ``simple-*``, the label
``bug`` approves, and it has no access to GitHub. All examples of an event come in the corpus's order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from npm import node_modules

PACKAGE = "@octokit/webhooks-examples/api.github.com/index.json"

REPOSITORIES = [
    "Codertocat/Hello-World",
    "Codertocat/hello-world-npm",
    "Octocoders/Hello-World",
    "electron/electron",
    "github/hello-world",
    "lineville/elastic-machines-testing",
    "octo-org/example-workflow",
    "octo-org/octo-repo",
    "octocat/hello-world",
    "terraform-test-github/sample-app",
    "wolfy1339/github-events-schemas",
    "wolfy1339/octoherd-script-replace-pika-with-esbuild",
    "wolfy1339/pika-pack",
]

#: Events that mean nothing here, with how many examples there are.
NOTHING = {
    "branch_protection_rule": 5,
    "check_run": 9,
    "check_suite": 9,
    "code_scanning_alert": 6,
    "commit_comment": 5,
    "create": 5,
    "delete": 4,
    "dependabot_alert": 3,
    "deploy_key": 2,
    "deployment": 4,
    "deployment_review": 1,
    "deployment_status": 4,
    "discussion": 15,
    "discussion_comment": 4,
    "fork": 3,
    "github_app_authorization": 2,
    "gollum": 3,
    "installation": 7,
    "installation_repositories": 3,
    "issues": 29,
    "label": 6,
    "marketplace_purchase": 4,
    "member": 4,
    "membership": 5,
    "merge_group": 2,
    "meta": 2,
    "milestone": 5,
    "org_block": 4,
    "organization": 5,
    "package": 3,
    "page_build": 3,
    "project": 3,
    "project_card": 9,
    "project_column": 4,
    "projects_v2_item": 7,
    "public": 3,
    "pull_request_review": 4,
    "pull_request_review_comment": 5,
    "pull_request_review_thread": 3,
    "release": 13,
    "repository": 13,
    "repository_import": 2,
    "repository_vulnerability_alert": 4,
    "security_advisory": 4,
    "sponsorship": 4,
    "star": 3,
    "status": 4,
    "team": 6,
    "team_add": 3,
    "watch": 3,
    "workflow_dispatch": 2,
    "workflow_job": 8,
    "workflow_run": 5,
}

_TAG = "tag:refs/tags/simple-tag@6113728f27ae82c7b1a177c8d03f9e96e0adf246"
_PUSH = "push:refs/heads/master@6113728f27ae82c7b1a177c8d03f9e96e0adf246"
_PULL = "pull_request:refs/pull/2/head@ec26c3e57ca3a959ca5aad62de7213c562f8c821"
_DELETED = ("ignored", "refs/tags/simple-tag was deleted")
_LATE = ("ignored", "came late: delivery")  # it happened before the pull request was closed, which came before it
_CLOSED = ("done", "no run of the pull request was live")
_NO_ORDER = ("refused", "who may order is asked of GitHub")


def _no_run(action: str) -> tuple[str, str]:
    return "ignored", f"pull_request {action} starts no run"


#: Events that may mean something, example by example: state, and how the outcome begins.
SOMETHING: dict[str, list[tuple[str, str]]] = {
    "ping": [("ignored", "a ping")] * 4,
    "push": [("done", _TAG), *[_DELETED] * 3, ("done", _PUSH), ("done", _PUSH), _DELETED],
    "pull_request": [
        ("done", _PULL),
        *[_no_run("assigned")] * 2,
        ("done", "cancelled run"),
        _CLOSED,
        *[_no_run("converted_to_draft")] * 3,
        *[_NO_ORDER] * 2,
        *[_no_run("locked")] * 2,
        *[_LATE] * 3,
        *[_no_run("ready_for_review")] * 3,
        *[_LATE] * 2,
        _no_run("review_request_removed"),
        _no_run("review_requested"),
        _LATE,
        *[_no_run("unassigned")] * 2,
        *[_no_run("unlabeled")] * 2,
        *[_no_run("unlocked")] * 2,
    ],
    "issue_comment": [
        *[("ignored", "a comment on an issue")] * 5,
        *[("ignored", "a comment that was deleted")] * 2,
        *[("ignored", "a comment that was edited")] * 2,
    ],
    "repository_dispatch": [("ignored", "a repository_dispatch of type 'on-demand-test'")] * 2,
}

#: The runs that come of it all: event key, result of the run, and its stages.
RUNS = {
    _TAG: ("success", {"build": "skipped", "review": "skipped", "summary": "success"}),
    _PUSH: ("success", {"build": "skipped", "review": "skipped", "summary": "success"}),
    _PULL: ("cancelled", {"build": "skipped", "review": "cancelled", "summary": "success"}),
}


@dataclass(frozen=True, kw_only=True)
class Example:
    """One payload of the corpus, and what the table says of it."""

    name: str
    payload: Any
    state: str
    outcome: str


def examples() -> list[Example]:
    """The whole corpus with its table; what one has and the other has not is an error."""
    corpus = {event["name"]: event["examples"] for event in json.loads((node_modules() / PACKAGE).read_text())}
    table = {name: [("ignored", f"{name} events start no run")] * count for name, count in NOTHING.items()} | SOMETHING
    assert {name: len(found) for name, found in corpus.items()} == {name: len(told) for name, told in table.items()}
    return [
        Example(name=name, payload=payload, state=state, outcome=outcome)
        for name, found in corpus.items()
        for payload, (state, outcome) in zip(found, table[name], strict=True)
    ]
