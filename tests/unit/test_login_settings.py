"""Who is an administrator, by the settings of ``[github.login]``; and that the shipped example can be used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from master.settings import parse
from master.web.login import Administrators

SHIPPED = Path(__file__).resolve().parents[2] / "ci" / "mlc-llm.toml"
BASE = """
[project]
name = "sample"
repository = "sample.git"
[stages.lint]
uses = "commands"
commands = ["true"]
when = ["push"]
[workers.linux]
trust = "trusted"
[github]
repository = "acme/sample"
[github.login]
client_id = "Iv1.client"
"""


@pytest.mark.parametrize("admin", ["ann", "Ann-2", "acme/release-crew", "acme/Release.Crew_2", "octo_acme"])
def test_users_and_teams_are_administrators(admin: str) -> None:
    assert parse(BASE + f'admins = ["{admin}"]').settings is not None


@pytest.mark.parametrize("admin", ["", "@ann", "-ann", "acme/", "/crew", "acme/crew/x", "ann@example.org", "a b"])
def test_what_is_neither_is_refused(admin: str) -> None:
    (problem,) = parse(BASE + f'admins = ["{admin}"]').problems
    assert "github.login.admins" in problem.key
    assert "ORGANISATION/TEAM" in problem.allowed


def test_somebody_must_be_administrator() -> None:
    assert parse(BASE + "admins = []").settings is None


@pytest.mark.parametrize(
    ("user", "may"),
    [
        ({"username": "admin"}, True),
        ({"username": "ann"}, False),
        ({"username": "ANN", "provider": "github"}, True),
        ({"username": "ann", "provider": "github", "groups": []}, True),
        ({"username": "bob", "provider": "github", "groups": ["acme/crew"]}, True),
        ({"username": "bob", "provider": "github", "groups": ["acme/other"]}, False),
        ({"username": "bob", "groups": ["acme/crew"]}, False),
        ({"username": "admin", "provider": "github"}, False),
        ({"username": "acme/crew"}, False),
        ({"anonymous": True}, False),
        ({}, False),
    ],
)
def test_a_session_of_the_password_and_one_of_github_are_two_things(user: dict[str, object], may: bool) -> None:
    assert bool(Administrators(["Ann", "acme/Crew"]).getRolesFromUser(user)) == may


def test_the_example_in_the_shipped_settings_can_be_used() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    table = re.search(r"^\[github\].*\n(?:.+\n)+", text, re.MULTILINE)
    assert table
    instead = re.findall(r"^# (\w+) = ", table[0], re.MULTILINE)
    kept = [line for line in table[0].splitlines(keepends=True) if line.split()[0] not in instead]
    used = text.replace(table[0], re.sub(r"^# (?=\w+ = |\[)", "", "".join(kept), flags=re.MULTILINE))
    examined = parse(used)
    assert examined.problems == [], "\n".join(map(str, examined.problems))
    assert examined.settings is not None
    assert examined.settings.github is not None
    assert examined.settings.github.login is not None
