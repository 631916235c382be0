"""A stage as a recipe: the steps of the master's own builders, with holes and without secrets."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from buildbot.config import BuilderConfig
from buildbot.db.model import Model
from buildbot.process.factory import BuildFactory
from buildbot.process.results import FAILURE, SUCCESS
from web_site import Browser, Master

import steps
from master.database.tables import stage_attempts
from master.recipe import Recipe
from master.settings import Settings
from steps.command import Command, StageEnvironment
from steps.recipe import Fetches, Hole, StepRecipe, filled, rendered

TEXT = """
[project]
name = "sample"
repository = "https://example.org/sample.git"
[environment]
RUSTFLAGS = "-D warnings"
[stages.test]
[stages.test.pytest]
minimum_passed = 7
[stages.build-linux]
secrets = ["deploy-key"]
when = ["push"]
timeout = "1h"
silence_timeout = "10m"
environment = { CCACHE_DIR = "{workspace}/ccache:{workspace}", LITERAL = "<workspace>" }
[stages.build-linux.wheel]
package = "sample"
config_cmake = { USE_VULKAN = "ON" }
imports = ["sample"]
[stages.build]
uses = "commands"
needs = ["test"]
commands = ["make | tee log", ["make", "check"]]
artifacts = ["log"]
downloads = [{ stage = "test", globs = ["*.xml"], into = "reports" }]
"""
PROPERTIES: dict[str, Any] = {
    "repository": "https://example.org/sample.git",
    "head_sha": "a" * 40,
    "base_sha": "",
    "ref": "refs/tags/v1.0",
    "pull_request": 0,
    "tag": "v1.0",
    "trusted": True,
    "threads": 4,
}


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(tomllib.loads(TEXT))


def made(settings: Settings, stage: str, **properties: Any) -> dict[str, StepRecipe]:
    steps_of = steps.build_steps(settings.pipeline()[stage], "", settings)
    return {step.name: step for step in asyncio.run(rendered(steps_of, PROPERTIES | properties))}


# -- steps


def test_every_step_is_there_and_in_order(settings: Settings) -> None:
    wanted = [step.name for step in steps.build_steps(settings.pipeline()["build-linux"], "", settings)]
    assert list(made(settings, "build-linux")) == wanted


def test_a_command_is_told_with_all_that_it_runs_under(settings: Settings) -> None:
    step = made(settings, "build-linux")["config.cmake"]
    assert step.argv == ("mlc-ci-worker", "limit", "--", "tee", "./config.cmake")
    assert step.stdin == "set(USE_VULKAN ON)\n"
    assert (step.folder, step.silence_timeout, step.timeout) == ("build", 600.0, 3600.0)
    assert step.environment["NUM_THREADS"] == "4"
    assert step.environment["RUSTFLAGS"] == "-D warnings"


def test_a_line_of_the_shells_is_given_to_the_shell(settings: Settings) -> None:
    found = made(settings, "build")
    assert found["make | tee log"].argv == ("/bin/sh", "-c", "make | tee log")
    assert found["make check"].argv == ("make", "check")


def test_what_only_a_build_knows_is_a_hole(settings: Settings) -> None:
    found = made(settings, "build-linux")
    folder = found["wheel"].environment["CCACHE_DIR"]
    assert folder == (Hole(value="workspace"), "/ccache:", Hole(value="workspace"))
    assert filled(folder, {"workspace": "/here"}) == "/here/ccache:/here"
    assert found["wheel"].environment["LITERAL"] == "<workspace>", "only what we put there is one"
    assert ("dist/", Hole(value="wheel")) in found["repair"].argv
    with pytest.raises(KeyError):
        filled(("dist/", Hole(value="wheel")), {"workspace": "/here"})


def test_what_a_command_must_leave_is_told(settings: Settings) -> None:
    found = made(settings, "build-linux")
    left = {name: step.wheel.model_dump() for name, step in found.items() if step.wheel}
    assert left == {
        "wheel": {"folder": "dist", "repaired": False, "tag": "v1.0"},
        "repair": {"folder": "wheelhouse", "repaired": True, "tag": "v1.0"},
    }
    tests = made(settings, "test")["pytest"].tests
    assert tests is not None
    assert tests.minimum == 7


def test_a_step_without_a_command_has_its_name_only(settings: Settings) -> None:
    assert made(settings, "build")["artifacts"] == StepRecipe(name="artifacts")


def test_what_an_earlier_stage_left_is_fetched(settings: Settings) -> None:
    (fetches,) = [step.fetches for step in made(settings, "build").values() if step.fetches]
    assert fetches == Fetches(stage="test", globs=("*.xml",), into="reports")


def test_secrets_are_told_by_name_and_of_trusted_runs_only(settings: Settings) -> None:
    assert made(settings, "build-linux")["wheel"].secrets == {"DEPLOY_KEY": "deploy-key"}
    assert "DEPLOY_KEY" not in made(settings, "build-linux")["wheel"].environment
    assert made(settings, "build-linux", trusted=False)["wheel"].secrets == {}


def test_an_environment_that_could_hold_a_secret_is_not_rendered() -> None:
    step = Command(name="odd", command=["true"], env={"KEY": "value"})
    with pytest.raises(TypeError, match="odd"):
        asyncio.run(rendered([step], PROPERTIES))
    fine = Command(name="fine", command=["true"], env=StageEnvironment({}))
    assert asyncio.run(rendered([fine], PROPERTIES))[0].argv == ("true",)


# -- over the API


@pytest.fixture
def browser(tmp_path: Path, settings: Settings) -> Browser:
    master = Master(tmp_path, [])
    for stage in ("build", "test"):
        factory = BuildFactory(steps.build_steps(settings.pipeline()[stage], "", settings))
        master.config.builders.append(BuilderConfig(name=stage, workernames=["w"], factory=factory))
    return Browser(master, [])


def test_a_recipe_holds_what_the_run_is_pinned_to(browser: Browser) -> None:
    answer = browser.ask("runs/1/stages/build/recipe")
    assert answer.status == 200, answer.body
    recipe = Recipe.model_validate(answer.json)
    assert (recipe.run, recipe.stage, recipe.state, recipe.title) == (1, "build", "success", "build")
    assert (recipe.pinned.head_sha, recipe.pinned.repository) == ("a" * 40, "https://example.org/sample.git")
    assert f"--head={'a' * 40}" in recipe.steps[0].argv
    assert (recipe.failure, recipe.changed) == (None, ())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("runs/2/stages/build/recipe", "no run 2"),
        ("runs/1/stages/buidl/recipe", "it has build, test"),
        ("runs/1/stages/build/recipe?variant=cuda", "it has none"),
        ("runs/1/stages/recipe", "nothing at this address"),
    ],
)
def test_what_is_not_there_is_a_404_that_says_what_is(browser: Browser, path: str, said: str) -> None:
    answer = browser.ask(path)
    assert answer.status == 404
    assert said in answer.json["error"]


def test_a_variant_has_to_be_named_where_there_are_several(browser: Browser) -> None:
    with browser.master.database.engine.begin() as connection:
        add(connection, stage_attempts, stage="test", variant="cuda")
    answer = browser.ask("runs/1/stages/test/recipe")
    assert "say which" in answer.json["error"]
    assert browser.ask("runs/1/stages/test/recipe?variant=").json["variant"] == ""


def test_a_stage_that_nothing_builds_any_more_has_no_recipe(browser: Browser) -> None:
    browser.master.config.builders.clear()
    assert "can serve stage build" in browser.ask("runs/1/stages/build/recipe").json["error"]
    with browser.master.database.engine.begin() as connection:
        add(connection, stage_attempts, stage="gone")
    assert "no longer in the pipeline" in browser.ask("runs/1/stages/gone/recipe").json["error"]


def test_a_stage_of_the_master_itself_has_no_commands(browser: Browser, settings: Settings) -> None:
    (builder,) = [builder for builder in browser.master.config.builders if builder.name == "build"]
    builder.factory = BuildFactory([steps.upload.UploadArtifacts(["*"])])
    assert "no commands" in browser.ask("runs/1/stages/build/recipe").json["error"]


@pytest.mark.parametrize(
    ("noted", "changed"),
    [
        ("b'make | tee log'", False),
        ("[b'/bin/sh', b'-c', b'make | tee log']", False),
        ("b'make'", True),
        ("[b'make', b'|', b'tee', b'log']", True),
        ("[b'make", False),
        ("__import__('os')", False),
    ],
)
def test_a_command_line_in_the_log_that_is_another_now_is_told(browser: Browser, noted: str, changed: bool) -> None:
    checkout = browser.ask("runs/1/stages/build/recipe").json["steps"][0]["argv"]
    stored(browser, [("checkout", repr([word.encode() for word in checkout])), ("make | tee log", noted)])
    recipe = browser.ask("runs/1/stages/build/recipe").json
    assert bool(recipe["changed"]) is changed
    assert recipe["failure"]["step"] == "make | tee log"


def test_two_downloads_of_one_stage_are_none_of_the_commands(browser: Browser, settings: Settings) -> None:
    """Buildbot numbers steps of one name: without that, each command would be held against another's log."""
    (own,) = [own for own in browser.master.config.builders if own.name == "build"]
    stage = settings.stages["build"]
    twice = stage.model_copy(update={"downloads": stage.downloads * 2})
    changed = settings.model_copy(update={"stages": {**settings.stages, "build": twice}})
    own.factory = BuildFactory(steps.build_steps(changed.pipeline()["build"], "", changed))
    checkout = browser.ask("runs/1/stages/build/recipe").json["steps"][0]["argv"]
    ran = [
        ("checkout", repr([word.encode() for word in checkout])),
        ("download-test", "[b'x']"),
        ("download-test_1", "[b'x']"),
        ("make | tee log", "b'make | tee log'"),
        ("make check", "[b'make', b'check']"),
    ]
    stored(browser, ran)
    assert browser.ask("runs/1/stages/build/recipe").json["changed"] == []


def stored(browser: Browser, ran: list[tuple[str, str]]) -> None:
    """A build of the stage that ran these steps, each with its command line as the worker notes it in the log."""
    with browser.master.database.engine.begin() as connection:
        connection.execute(stage_attempts.update().where(stage_attempts.c.stage == "build").values(build_id=5))
        for number, (name, noted) in enumerate(ran, 1):
            browser.master.data.logs[number] = [f"h{name}", f"h argv: {noted}"]
            results = FAILURE if number == len(ran) else SUCCESS
            row = {"buildid": 5, "state_string": "", "urls_json": "[]", "hidden": 0, "results": results, "id": number}
            connection.execute(Model.steps.insert().values(number=number, name=name, **row))
            log = {"id": number, "name": "stdio", "slug": "stdio", "stepid": number, "complete": 1, "type": "s"}
            connection.execute(Model.logs.insert().values(num_lines=2, **log))


def add(connection: sa.Connection, table: sa.Table, **values: Any) -> None:
    """Another attempt of run 1."""
    fields = {"run_id": 1, "variant": "", "number": 1, "state": "pending", "created_at": 1.0}
    connection.execute(table.insert().values(**{**fields, **values}))
