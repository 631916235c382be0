"""What ``[stages.NAME.limits]`` may say, and what it comes to."""

from __future__ import annotations

import pytest
from settings_sample import problem, read, usable

from master.pipeline import Limits
from workers.sizes import size_text

TABLE = "[stages.lint.limits]\n"
LINUX = '[stages.lint.requires]\nos = "linux"\n'


def test_without_it_log_and_artifacts_are_bounded_and_the_rest_is_the_workers() -> None:
    found = usable(read()).stage("lint").limits
    assert found == Limits(memory=None, processes=None, log=100 << 20, artifacts=4 << 30)


def test_sizes_are_in_binary_units() -> None:
    table = TABLE + 'memory = "8G"\nprocesses = 1024\nlog = "200M"\nartifacts = "1G"'
    found = usable(read(LINUX, table)).stage("lint").limits
    assert found == Limits(memory=8 << 30, processes=1024, log=200 << 20, artifacts=1 << 30)


def test_one_of_them_alone_leaves_the_others_at_their_defaults() -> None:
    assert usable(read(TABLE + 'log = "7M"')).stage("lint").limits == Limits(log=7 << 20)


def test_the_environment_may_set_them() -> None:
    environ = {"MLC_CI_STAGES__LINT__LIMITS__LOG": "7M"}
    assert usable(read(TABLE + 'log = "9M"', environ=environ)).stage("lint").limits.log == 7 << 20


WRONG = ['"0M"', '"8"', "8", '"8 G"', '"1.5G"', '"-1G"', '"8K"', '"8GB"', '"off"', "true", '"\u0668G"', '""', "[]"]


@pytest.mark.parametrize("key", ["memory", "log", "artifacts"])
@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_size_is_told_what_is(key: str, value: str) -> None:
    told = problem(read(LINUX, f"{TABLE}{key} = {value}"), f"stages.lint.limits.{key}")
    assert told.message == "is no size"
    assert told.allowed == '"200M" or "8G": a whole number of MiB or GiB'


@pytest.mark.parametrize("value", ["0", "-1", "1.5", '"many"', "true"])
def test_processes_are_a_whole_number(value: str) -> None:
    assert problem(read(LINUX, f"{TABLE}processes = {value}"), "stages.lint.limits.processes").severity == "error"


def test_an_unknown_limit_is_told() -> None:
    assert problem(read(TABLE + "cpu = 3"), "stages.lint.limits.cpu").severity == "error"


@pytest.mark.parametrize(
    ("size", "text"),
    [(8 << 30, "8 GiB"), (200 << 20, "200 MiB"), (3 << 29, "1.5 GiB"), (2_100_000, "2.003 MiB"), (512, "512 bytes")],
)
def test_a_size_is_said_in_the_units_of_the_settings(size: int, text: str) -> None:
    assert size_text(size) == text


# --- together with the rest of a stage --------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ['memory = "8G"', "processes = 9"])
@pytest.mark.parametrize("requires", ["", '[stages.lint.requires]\nos = "windows"\n'])
def test_what_only_linux_workers_hold_is_refused_for_a_stage_that_others_may_run(limit: str, requires: str) -> None:
    name = limit.split(maxsplit=1)[0]
    told = problem(read(requires, TABLE + limit), f"stages.lint.limits.{name}")
    assert "is held by Linux workers only" in told.message
    assert told.allowed == f'requires.os = "linux", or no limit of {name}'


def test_log_and_artifacts_are_held_on_every_worker() -> None:
    requires = '[stages.lint.requires]\nos = "windows"\n'
    keys = [each.key for each in read(requires, TABLE + 'log = "9M"\nartifacts = "9M"').problems]
    assert not [key for key in keys if "limits" in key]


def test_a_stage_without_commands_has_none_to_limit() -> None:
    told = problem(
        read('[stages.summary]\nneeds = ["lint"]\n[stages.summary.limits]\nlog = "9M"'), "stages.summary.limits"
    )
    assert "runs no command" in told.message
    assert told.found == "log"


def test_a_log_that_would_fill_the_masters_memory_is_warned_of() -> None:
    told = problem(read(TABLE + 'log = "2G"'), "stages.lint.limits.log")
    assert (told.severity, told.found) == ("warning", "2 GiB")
    assert not [each for each in read(TABLE + 'log = "500M"').problems if "limits" in each.key]
