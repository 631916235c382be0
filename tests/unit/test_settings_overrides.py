"""``MLC_CI_TABLE__KEY=value`` overrides the file, and what fits nowhere is told."""

from __future__ import annotations

import pytest
from settings_sample import problem, read, usable


@pytest.mark.parametrize(
    ("variable", "text", "place", "value"),
    [
        ("MLC_CI_MASTER__WEB_PORT", "8011", "master.web_port", 8011),
        ("MLC_CI_PROJECT__REPOSITORY", "/srv/a b.git", "project.repository", "/srv/a b.git"),
        ("MLC_CI_PROJECT__DEFAULT_BRANCH", '"2024"', "project.default_branch", "2024"),
        ("MLC_CI_PROJECT__SUBMODULES", "false", "project.submodules", False),
        ("MLC_CI_PROJECT__POLL_INTERVAL", "5m", "project.poll_interval", 300),
        ("MLC_CI_SCHEDULING__NO_WORKER", "skip", "scheduling.no_worker", "skip"),
    ],
)
def test_variables_override_the_file(variable: str, text: str, place: str, value: object) -> None:
    table, key = place.split(".")
    assert getattr(getattr(usable(read(environ={variable: text})), table), key) == value


def test_variables_reach_lists_names_with_hyphens_and_the_environment_table() -> None:
    environ = {
        "MLC_CI_STAGES__BUILD_IT__NEEDS": '["lint"]',
        "MLC_CI_ENVIRONMENT__RUSTFLAGS": "-D warnings",
        "MLC_CI_WORKERS__HERE__MAX_BUILDS": "3",
    }
    changed = usable(read('[stages.build-it]\nuses = "commands"\ncommands = ["x"]', environ=environ))
    assert changed.stages["build-it"].needs == ("lint",)
    assert changed.environment == {"RUSTFLAGS": "-D warnings"}
    assert changed.workers["here"].max_builds == 3


def test_errors_name_the_variable_at_fault() -> None:
    told = problem(read(environ={"MLC_CI_MASTER__WEB_PORT": "many"}), "master.web_port")
    assert told.file == "environment variable MLC_CI_MASTER__WEB_PORT"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [("MLC_CI_MSTER__WEB_PORT", '"master"'), ("MLC_CI_MASTER_WEB_PORT", '"MLC_CI_MASTER__WEB_PORT"')],
)
def test_misspelt_variables_are_errors(variable: str, meant: str) -> None:
    assert f"did you mean {meant}" in problem(read(environ={variable: "1"}), variable).message


def test_a_variable_below_a_value_is_an_error() -> None:
    assert "no table" in problem(read(environ={"MLC_CI_PROJECT__NAME__X": "1"}), "MLC_CI_PROJECT__NAME__X").message


def test_other_variables_are_left_alone() -> None:
    assert usable(read(environ={"MLC_CI_HOME": "/x", "PATH": "/bin"})) == usable(read())
