"""Whose pull request runs at once, and what the others are told."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from settings_sample import read, usable
from stored import A, pull_request, push

from master.pipeline import EventKind
from master.plan import plan
from master.run_model import HELD
from master.settings_github import Association, GitHubSettings
from master.triggers import Event, Rules, RunRequest, classify

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


def test_settings_can_vouch_for_nobody_or_be_without_github() -> None:
    member = replace(pull_request(A), association="MEMBER")
    assert held(member, Rules(vouched=frozenset())) != ""
    assert held(pull_request(A), Rules(vouched=None)) == ""


def test_only_a_pull_requests_own_events_are_held() -> None:
    manual = Event(kind=EventKind.MANUAL, ref="refs/pull/7/head", head=A)
    assert held(manual) == "", "somebody who may give orders has asked for it"
    assert held(push(A)) == ""


def test_a_plan_says_that_it_would_be_held_and_what_would_run_then() -> None:
    settings = usable(read('[github]\nrepository = "you/yours"\nwebhook = false\nvouched = ["MEMBER"]'))
    planned = plan(settings, replace(pull_request(A), association="NONE", author="ann"))
    assert planned.held == f"{HELD} (/ci ok aaaaaaaaaaaa): ann is NONE here"
    assert planned.as_json()["held"] == planned.held
    assert [(stage.stage, stage.what) for stage in planned.stages] == [("lint", "run")]
    assert plan(settings, replace(pull_request(A), association="MEMBER")).held == ""
