"""Whose pull request runs at once, and what the others are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from settings_sample import read, usable
from stored import A, pull_request, push

from master.pipeline import EventKind
from master.plan import plan
from master.run_model import HELD
from master.scheduler import rules_of
from master.settings import load
from master.settings_github import Association, GitHubSettings
from master.triggers import Event, Rules, RunRequest, classify, from_ref

CI = Path(__file__).parents[2] / "ci"
DEFAULT = Rules(vouched=GitHubSettings(repository="you/yours").vouched)


def held(event: Event, rules: Rules = DEFAULT) -> str:
    request = classify(event, rules)
    assert isinstance(request, RunRequest)
    return request.context.held


@pytest.mark.parametrize("association", [*get_args(Association), "", "owner", "SOMETHING_NEW"])
def test_who_belongs_to_the_repository_runs_at_once_and_all_others_are_held(association: str) -> None:
    found = held(replace(pull_request(A), association=association, author="ann"))
    if association in ("OWNER", "MEMBER", "COLLABORATOR"):
        assert found == ""
    else:
        assert found.startswith(f"{HELD} (/ci ok aaaaaaaaaaaa): ")
        assert found.endswith(f"ann is {association} here" if association else "GitHub has not said who ann is")


def test_what_is_said_fits_a_status_whoever_it_is_about() -> None:
    longest = max(get_args(Association), key=len)
    for association in (longest, ""):
        assert len(held(replace(pull_request(A), association=association, author="n" * 39))) <= 140


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        ('access = "token"', "/ci ok aaaaaaaaaaaa"),
        ('access = "none"', "on the run's page"),
        ('access = "token"\nwebhook = false', "on the run's page"),
    ],
)
def test_it_is_told_where_it_can_be_approved(settings: str, how: str) -> None:
    rules = rules_of(usable(read(f'[github]\nrepository = "you/yours"\n{settings}\n')))
    assert (
        held(replace(pull_request(A), association="NONE", author="ann"), rules) == f"{HELD} ({how}): ann is NONE here"
    )


def test_the_reason_why_an_association_does_not_count_is_told_instead() -> None:
    event = replace(pull_request(A), author="ann", doubt="mallory pushed to it")
    assert held(event) == f"{HELD} (/ci ok aaaaaaaaaaaa): mallory pushed to it"
    for doubt in (f"it comes from the fork of {'n' * 39}", f"{'n' * 39} pushed to it"):
        assert len(held(replace(event, doubt=doubt))) <= 140


def test_settings_can_vouch_for_nobody_or_be_without_github() -> None:
    member = replace(pull_request(A), association="MEMBER")
    assert held(member, Rules(vouched=frozenset())) != ""
    assert held(pull_request(A), Rules(vouched=None)) == ""


REMOTE = ("https://example.org/x.git", "http://example.org/x", "ssh://git@example.org/x", "git@example.org:you/x.git")
LOCAL = ("/srv/x.git", "x.git", "file:///srv/x.git")


@pytest.mark.parametrize("repository", [*REMOTE, *LOCAL])
def test_without_github_a_repository_elsewhere_vouches_for_nobody_and_a_local_one_for_all(repository: str) -> None:
    examined = read(environ={"MLC_CI_PROJECT__REPOSITORY": repository})
    found = held(replace(pull_request(A), author="ann"), rules_of(usable(examined)))
    warned = [each.key for each in examined.warnings]
    if repository in REMOTE:
        assert found.startswith(HELD)
        assert warned == ["project.pull_requests"]
        for off in ({"PULL_REQUESTS": "false"}, {"POLL_INTERVAL": "0"}):
            changed = {f"MLC_CI_PROJECT__{name}": value for name, value in off.items()}
            assert not read(environ={"MLC_CI_PROJECT__REPOSITORY": repository} | changed).warnings
    else:
        assert (found, warned) == ("", [])


def test_the_shipped_settings_hold_every_pull_request_of_a_public_repository() -> None:
    rules = rules_of(load(CI / "mlc-llm.toml", {}))
    assert rules.pull_requests
    assert held(from_ref("refs/pull/7/head", A), rules).startswith(HELD)
    local = {"MLC_CI_PROJECT__REPOSITORY": "/srv/sample.git"}
    assert held(from_ref("refs/pull/7/head", A), rules_of(load(CI / "quickstart.toml", local))) == ""


def test_only_a_pull_requests_own_events_are_held() -> None:
    manual = Event(kind=EventKind.MANUAL, ref="refs/pull/7/head", head=A)
    assert held(manual) == "", "somebody who may give orders has asked for it"
    assert held(push(A)) == ""


def test_a_plan_says_that_it_would_be_held_and_what_would_run_then() -> None:
    settings = usable(read('[github]\nrepository = "you/yours"\nwebhook = false\nvouched = ["MEMBER"]'))
    planned = plan(settings, replace(pull_request(A), association="NONE", author="ann"))
    assert planned.held == f"{HELD} (on the run's page): ann is NONE here"
    assert planned.as_json()["held"] == planned.held
    assert [(stage.stage, stage.what) for stage in planned.stages] == [("lint", "run")]
    assert plan(settings, replace(pull_request(A), association="MEMBER")).held == ""
