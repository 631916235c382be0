"""Cross-checks: settings whose every value is fine, and which still cannot work."""

from __future__ import annotations

import pytest

from master.check import rendered
from master.settings import Examined, Problem, parse

PROJECT = """
[project]
name = "sample"
repository = "sample.git"
"""
WORKERS = """
[workers.linux-trusted]
trust = "trusted"
provides = ["python", "cmake"]
[workers.linux-untrusted]
trust = "untrusted"
provides = ["python", "cmake"]
"""
LINT = """
[stages.lint]
uses = "commands"
commands = ["make lint"]
"""


def stage(name: str, more: str = "") -> str:
    return f'[stages.{name}]\nuses = "commands"\ncommands = ["true"]\n{more}\n'


def checked(*parts: str, workers: str = WORKERS) -> Examined:
    return parse("\n".join((PROJECT, workers, *parts)), file="x.toml")


def the(examined: Examined, key: str) -> Problem:
    found = [each for each in examined.problems if each.key == key]
    assert len(found) == 1, "\n".join(map(str, examined.problems))
    return found[0]


def keys(examined: Examined) -> set[str]:
    return {each.key for each in examined.problems}


def test_settings_that_fit_have_no_problem() -> None:
    assert checked(LINT, stage("pack", 'needs = ["lint"]\nrequires = { tools = ["cmake"] }')).problems == []


# --- the graph --------------------------------------------------------------------------------------------------------


def test_an_unknown_need_is_told_with_the_near_miss() -> None:
    told = the(checked(LINT, stage("pack", 'needs = ["lnt"]')), "stages.pack.needs")
    assert (told.severity, told.found, told.allowed) == ("error", "lnt", "lint")
    assert 'did you mean "lint"?' in told.message


def test_a_circle_is_told_stage_by_stage() -> None:
    told = the(checked(stage("a", 'needs = ["b"]'), stage("b", 'needs = ["c"]'), stage("c", 'needs = ["a"]')), "stages")
    assert "a -> b -> c -> a" in told.message


def test_a_stage_that_needs_itself_is_a_circle() -> None:
    assert "a -> a" in the(checked(stage("a", 'needs = ["a"]')), "stages").message


def test_two_stages_cannot_share_a_builder() -> None:
    told = the(checked(stage("a", 'variants = ["b-c"]'), stage("a-b", 'variants = ["c"]')), "stages")
    assert "'a-b-c'" in told.message


def test_a_variant_named_twice_is_an_error() -> None:
    assert the(checked(stage("a", 'variants = ["x", "x"]')), "stages.a.variants").found == "x"


def test_a_need_that_an_event_always_skips_is_worth_a_warning() -> None:
    told = the(
        checked(stage("a", 'when = ["push"]'), stage("b", 'needs = ["a"]\nwhen = ["push", "tag"]')), "stages.b.when"
    )
    assert told.severity == "warning"
    assert "for tag" in told.message


@pytest.mark.parametrize("more", ["continue_on_error = true", ""])
def test_a_need_that_may_be_missing_is_no_warning(more: str) -> None:
    always = "" if more else "always = true\n"
    examined = checked(
        stage("a", f'when = ["push"]\n{more}'), stage("b", f'{always}needs = ["a"]\nwhen = ["push", "tag"]')
    )
    assert "stages.b.when" not in keys(examined)


def test_a_need_that_does_not_name_manual_is_no_warning_as_manual_runs_act_as_one_of_the_others() -> None:
    assert checked(stage("a", 'when = ["push", "pull_request", "tag"]'), stage("b", 'needs = ["a"]')).problems == []


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1st", "_hidden", '"a b"', '"a.b"', '"ä"', "x" * 65, '""'])
def test_stages_need_names_that_buildbot_takes(name: str) -> None:
    assert "64 characters" in the(checked(stage(name)), f"stages.{name.strip(chr(34))}").allowed


def test_a_builder_name_counts_its_variant() -> None:
    assert "stages.a.variants" in keys(checked(stage("a", f'variants = ["{"v" * 63}"]')))
    assert checked(stage("a", f'variants = ["{"v" * 62}"]')).problems == []


@pytest.mark.parametrize("name", ['"a b"', "1w", "w" * 51])
def test_workers_need_names_that_buildbot_takes(name: str) -> None:
    examined = checked(LINT, workers=f'{WORKERS}\n[workers.{name}]\ntrust = "trusted"')
    assert "50 characters" in the(examined, f"workers.{name.strip(chr(34))}").allowed


# --- what a stage reads -----------------------------------------------------------------------------------------------


def test_a_stage_of_another_name_must_say_what_it_uses() -> None:
    told = the(checked("[stages.build-linx]"), "stages.build-linx.uses")
    assert 'did you mean "build-linux"?' in told.message


@pytest.mark.parametrize(
    ("text", "key", "readers"),
    [
        (stage("a", '[stages.a.wheel]\npackage = "x"'), "stages.a.wheel", "build-linux"),
        (stage("a", '[stages.a.prebuilt]\npackages = ["x"]'), "stages.a.prebuilt", "test"),
        (stage("a", "[stages.a.pytest]"), "stages.a.pytest", "test"),
        (stage("a", "[stages.a.target]"), "stages.a.target", "release"),
        ('[stages.test]\ncommands = ["x"]\n[stages.test.pytest]', "stages.test.commands", "commands"),
        ('[stages.summary]\nartifacts = ["*.whl"]', "stages.summary.artifacts", "commands"),
    ],
)
def test_a_table_that_the_stages_steps_never_read_is_an_error(text: str, key: str, readers: str) -> None:
    assert readers in the(checked(text), key).allowed


RELEASE = '[stages.release]\nneeds = ["test"]\n[stages.release.target]\nkind = "github"\n'
GITHUB = '[github]\nrepository = "acme/sample"\naccess = "{}"\napp_id = 1\n'


@pytest.mark.parametrize(
    ("text", "key", "found"),
    [
        (RELEASE, "stages.release.target.kind", "no [github]"),
        (RELEASE + GITHUB.format("none"), "stages.release.target.kind", 'github.access = "none"'),
        (RELEASE + 'folder = "x"\n' + GITHUB.format("app"), "stages.release.target.folder", "x"),
    ],
)
def test_a_release_on_github_needs_access_and_no_folder(text: str, key: str, found: str) -> None:
    assert the(checked(text), key).found == found


@pytest.mark.parametrize("access", ["app", "token"])
def test_a_release_on_github_with_access_is_well(access: str) -> None:
    assert not [key for key in keys(checked(RELEASE + GITHUB.format(access))) if "target" in key]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[stages.build-linux]", "stages.build-linux.wheel"),
        ('[stages.a]\nuses = "commands"', "stages.a.commands"),
        ("[stages.test]", "stages.test.prebuilt"),
    ],
)
def test_a_stage_without_what_it_works_on_is_an_error(text: str, key: str) -> None:
    assert the(checked(text), key).severity == "error"


def test_a_wheel_can_only_vary_with_the_stages_variants() -> None:
    text = """
    [stages.build-linux]
    variants = ["vulkan"]
    no_worker = "skip"
    [stages.build-linux.wheel]
    package = "x"
    variants.vulcan.config_cmake = {}
    """
    assert 'did you mean "vulkan"?' in the(checked(text), "stages.build-linux.wheel.variants").message


def test_packages_must_come_from_somewhere() -> None:
    text = '[stages.test.prebuilt]\npackages = ["x"]\nindex = false\n'
    assert "find_links" in the(checked(text), "stages.test.prebuilt.index").allowed
    assert checked(text + 'find_links = "https://example.org/wheels"').problems == []


def test_a_silence_timeout_that_is_never_reached_is_worth_a_warning() -> None:
    told = the(checked(stage("a", 'timeout = "1m"\nsilence_timeout = "2m"')), "stages.a.silence_timeout")
    assert told.severity == "warning"


# --- secrets and strangers --------------------------------------------------------------------------------------------

HELD = ['secrets = ["key"]', 'permissions = { contents = "write" }']


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize(
    ("when", "word"),
    [
        ("", "a pull request could"),
        ('when = ["tag", "pull_request"]', "a pull request could"),
        ('when = ["manual"]', "manual run"),
    ],
)
def test_what_a_pull_request_could_reach_has_no_secrets_and_writes_nothing(held: str, when: str, word: str) -> None:
    errors = checked(LINT, stage("deploy", f"{held}\n{when}")).errors
    assert [each.key for each in errors] == [f"stages.deploy.{held.split(maxsplit=1)[0]}"]
    assert word in errors[0].message


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("when", ['when = ["push", "tag"]', 'when = ["tag", "manual"]\npublishes = true'])
def test_trusted_stages_may_have_them(held: str, when: str) -> None:
    assert checked(LINT, stage("deploy", f"{held}\n{when}")).errors == []


def test_permission_to_read_is_for_everybody() -> None:
    assert checked(stage("a", 'permissions = { contents = "read" }')).problems == []


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[stages.summary]\nalways = false", "stages.summary.always"),
        ("[stages.summary]\nrequires = { local = false }", "stages.summary.requires.local"),
        (stage("a", "requires = { local = true }"), "stages.a.requires.local"),
        ('[stages.release]\nneeds = ["lint"]\npublishes = false', "stages.release.publishes"),
        ('[stages.release]\nneeds = ["lint"]\nrequires = { local = true, os = "linux" }', "stages.release.requires"),
    ],
)
def test_stages_keep_their_roles(text: str, key: str) -> None:
    assert the(checked(LINT, text), key).severity == "error"


def test_a_release_of_nothing_is_worth_a_warning() -> None:
    assert the(checked(LINT, "[stages.release]"), "stages.release.needs").severity == "warning"


def test_a_local_release_asks_for_no_worker() -> None:
    assert checked(LINT, '[stages.release]\nneeds = ["lint"]\nrequires = { local = true }').problems == []


# --- stages and workers -----------------------------------------------------------------------------------------------


def test_a_stage_that_no_worker_serves_is_an_error_that_says_what_is_missing() -> None:
    told = the(checked(LINT, stage("pack", 'requires = { tools = ["cmkae"] }')), "stages.pack.requires")
    assert told.severity == "error"
    assert "lacks cmkae" in told.message
    assert 'did you mean "cmake"?' in told.message


@pytest.mark.parametrize("policy", ["wait", "fail", "skip"])
def test_what_becomes_of_an_unserved_stage_is_a_choice(policy: str) -> None:
    text = stage("pack", f'requires = {{ os = "windows" }}\nno_worker = "{policy}"')
    assert the(checked(LINT, text), "stages.pack.requires").severity == "warning"


def test_the_choice_may_stand_for_all_stages() -> None:
    text = stage("pack", 'requires = { os = "windows" }') + '\n[scheduling]\nno_worker = "wait"'
    assert the(checked(LINT, text), "stages.pack.requires").severity == "warning"


def test_a_variant_may_not_be_called_default() -> None:
    assert the(checked(LINT, stage("pack", 'variants = ["default"]')), "stages.pack.variants").severity == "error"


@pytest.mark.parametrize("name", ["docker", "build-windows"])
def test_docker_and_windows_may_wait_for_their_workers(name: str) -> None:
    assert the(checked(LINT, f"[stages.{name}]"), f"stages.{name}.requires").severity == "warning"


@pytest.mark.parametrize(
    ("when", "trust", "served"),
    [
        ('["push"]', "trusted", True),
        ('["push"]', "untrusted", False),
        ('["pull_request"]', "untrusted", True),
        ('["pull_request"]', "trusted", False),
        ('["push", "pull_request"]', "trusted", False),
        ('["manual"]', "trusted", False),
    ],
)
def test_each_trust_needs_a_worker_of_its_own(when: str, trust: str, served: bool) -> None:
    examined = checked(stage("a", f"when = {when}"), workers=f'[workers.w]\ntrust = "{trust}"\n')
    assert ("stages.a.requires" not in keys(examined)) is served


def test_what_publishes_needs_no_untrusted_worker() -> None:
    text = stage("a", 'when = ["push", "manual"]\npublishes = true')
    assert checked(text, workers='[workers.w]\ntrust = "trusted"\n').problems == []


def test_a_worker_that_no_stage_can_use_is_worth_a_warning() -> None:
    workers = f'{WORKERS}\n[workers.idle]\ntrust = "trusted"\nos = "windows"\n'
    told = the(checked(stage("a", 'requires = { os = "linux" }'), workers=workers), "workers.idle")
    assert (told.severity, told.found) == ("warning", "trusted, windows")


def test_a_mistake_in_a_worker_is_not_told_again_as_a_stage_without_workers() -> None:
    examined = checked(LINT, workers='[workers.w]\ntrust = "trusted"\nprovides = "python"\n')
    assert keys(examined) == {"workers.w.provides"}


# --- the wire ---------------------------------------------------------------------------------------------------------


def test_plain_text_beyond_loopback_is_an_error() -> None:
    assert the(checked(LINT, '[master]\nworker_listen = "0.0.0.0"'), "master.worker_listen").severity == "error"


def test_page_and_workers_need_ports_of_their_own() -> None:
    assert "master.worker_port" in keys(checked(LINT, "[master]\nweb_port = 9989"))
    assert checked(LINT, "[master]\nweb_port = 0\nworker_port = 0").problems == []


def test_the_number_of_threads_is_said_in_one_place() -> None:
    examined = checked(stage("a", 'environment = { NUM_THREADS = "8" }'), '[environment]\nNUM_THREADS = "8"')
    assert keys(examined) == {"stages.a.environment.NUM_THREADS", "environment.NUM_THREADS"}


# --- what is printed --------------------------------------------------------------------------------------------------


def test_the_report_puts_errors_first_and_counts() -> None:
    examined = checked('[stages.release]\n[stages.a]\nuses = "commands"')
    printed = rendered("x.toml", examined.problems, examined.settings)
    assert printed.startswith("error: x.toml: stages.a.commands: ")
    assert printed.endswith("x.toml: 1 error, 1 warning")


def test_the_report_of_usable_settings_says_their_size() -> None:
    examined = checked(LINT, stage("a", 'variants = ["x", "y"]'))
    assert rendered("x.toml", examined.problems, examined.settings) == (
        "x.toml: usable: 2 stages, 3 builders, 2 workers; 0 errors, 0 warnings"
    )
