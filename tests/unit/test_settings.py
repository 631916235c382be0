"""Reading settings: typed, every error at once and where it is, overridden from the environment, free of secrets."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from settings_sample import problem, read, usable

from master.pipeline import EventKind
from master.settings import Settings, SettingsError, examine, load, parse
from master.settings_problems import dotted, fields_at

CI = Path(__file__).parents[2] / "ci"
MLC_LLM = tomllib.loads((CI / "mlc-llm.toml").read_text(encoding="utf-8"))

# --- what is shipped --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlc-llm.toml", "quickstart.toml"])
def test_shipped_settings_are_without_errors(name: str) -> None:
    assert examine(CI / name, {}).errors == []


def test_mlc_llm_has_the_pipeline_of_the_document() -> None:
    graph = load(CI / "mlc-llm.toml", {}).pipeline()
    assert {stage.name: stage.needs for stage in graph.stages} == {
        "test": (),
        "docker": ("test",),
        "build-linux": ("test",),
        "build-windows": ("test",),
        "release": ("build-linux", "build-windows"),
        "summary": ("docker", "build-linux", "build-windows", "release"),
    }
    assert {stage.name: stage.timeout / 60 for stage in graph.stages} == {
        "test": 20,
        "docker": 40,
        "build-linux": 70,
        "build-windows": 120,
        "release": 10,
        "summary": 2,
    }
    assert graph["release"].when == {EventKind.TAG}
    assert EventKind.PULL_REQUEST not in graph["docker"].when
    assert graph["test"].continue_on_error
    assert graph["summary"].always
    assert graph["summary"].requires.local


def test_mlc_llm_has_the_environment_of_the_document() -> None:
    shipped = load(CI / "mlc-llm.toml", {})
    assert shipped.environment_for("build-linux", workspace="/w") == {
        "CARGO_INCREMENTAL": "0",
        "CARGO_PROFILE_DEV_DEBUG": "0",
        "CARGO_TERM_COLOR": "always",
        "RUST_BACKTRACE": "short",
        "RUSTFLAGS": "-D warnings",
        "CCACHE_DIR": "/w/.ccache",
        "CCACHE_COMPILERCHECK": "content",
        "CCACHE_NOHASHDIR": "1",
    }
    assert (shipped.threads.pull_request, shipped.threads.other) == (2, 4)


def test_quickstart_skips_what_one_machine_cannot_serve() -> None:
    examined = examine(CI / "quickstart.toml", {})
    assert [each.key for each in examined.warnings] == ["stages.docker.requires", "stages.build-windows.requires"]
    graph = usable(examined).pipeline()
    assert graph["docker"].no_worker == graph["build-windows"].no_worker == "skip"
    assert graph["release"].needs == ("build-linux",)


# --- defaults ---------------------------------------------------------------------------------------------------------


def test_a_stage_takes_what_it_leaves_out_from_its_uses_and_from_scheduling() -> None:
    text = """
    [scheduling]
    no_worker = "skip"
    infrastructure_retries = 5
    [stages.release]
    needs = ["lint"]
    infrastructure_retries = 0
    [stages.final]
    uses = "summary"
    [stages.final.requires]
    """
    graph = usable(read(text)).pipeline()
    assert graph["release"].publishes
    assert graph["release"].when == {EventKind.TAG}
    assert (graph["release"].no_worker, graph["release"].infrastructure_retries) == ("skip", 0)
    assert graph["lint"].infrastructure_retries == 5
    assert graph["final"].always
    assert graph["final"].silence_timeout == graph["final"].timeout == 120


def test_a_variant_adds_to_the_stages_config_cmake() -> None:
    text = """
    [stages.build-linux]
    variants = ["vulkan", "cuda"]
    no_worker = "skip"
    [stages.build-linux.wheel]
    package = "x"
    config_cmake = { USE_VULKAN = true, JOBS = 4 }
    variants.cuda.config_cmake = { USE_VULKAN = "OFF", USE_CUDA = "ON" }
    """
    wheel = usable(read(text)).stages["build-linux"].wheel
    assert wheel is not None
    assert wheel.config_for("vulkan") == {"USE_VULKAN": "ON", "JOBS": "4"}
    assert wheel.config_for("cuda") == {"USE_VULKAN": "OFF", "JOBS": "4", "USE_CUDA": "ON"}


def test_settings_are_read_only() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        usable(read()).project.name = "other"  # type: ignore[misc]


# --- errors -----------------------------------------------------------------------------------------------------------


def test_every_error_is_told_at_once_cross_checks_included() -> None:
    text = """
    [master]
    web_port = 99999
    [janitor]
    keep_logs = "5 parsecs"
    [stages.a]
    uses = "commands"
    needs = ["b", "lnt"]
    commands = ["x"]
    [stages.b]
    uses = "comands"
    needs = ["a"]
    """
    keys = {each.key for each in read(text).problems}
    assert keys >= {"master.web_port", "janitor.keep_logs", "stages.b.uses", "stages.a.needs", "stages"}


def test_an_error_names_file_key_found_allowed_and_the_near_miss() -> None:
    told = problem(read('[stages.x]\nuses = "comands"\ncommands = ["x"]'), "stages.x.uses")
    assert told.file == "ci/x.toml"
    assert told.found == '"comands"'
    assert "build-linux" in told.allowed
    assert 'did you mean "commands"?' in told.message
    assert str(told).startswith("error: ci/x.toml: stages.x.uses: ")


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ("[master]\nweb_port = '8010'", "master.web_port", "a whole number"),
        ("[master]\nweb_port = 65536", "master.web_port", "65535 or less"),
        ("[master]\nurl = 'ci.example.org'", "master.url", "https://"),
        ("[janitor]\nenabled = 'yes'", "janitor.enabled", "true or false"),
        ("[janitor]\nkeep_logs = '0s'", "janitor.keep_logs", "15m"),
        ("[threads]\nother = 0", "threads.other", "1 or more"),
        ("[environment]\nX = 1.5", "environment.X", "a string"),
        ("[environment]\n1X = '1'", "environment", "not starting with a digit"),
        ("[environment]\nX = '{home}/x'", "environment", "{workspace}"),
        ("[database]\nurl = 'mysql://h/d'", "database.url", "postgresql://"),
        ("[workers.w]\nos = 'linux'", "workers.w.trust", "trusted, untrusted"),
        ("[workers.w]\ntrust = 'trusted'\nos = 'windoze'", "workers.w.os", "linux, windows"),
        ("[stages.x]\nneeds = 'test'", "stages.x.needs", "a list"),
        ("[stages.x]\nwhen = []", "stages.x.when", "at least 1"),
        ("[stages.x]\nwhen = ['pull-request']", "stages.x.when[0]", "pull_request"),
        ("[stages.x]\npermissions = { contents = 'all' }", "stages.x.permissions.contents", "read, write"),
        ("[stages.x]\nsecrets = ['../key']", "stages.x.secrets[0]", "the name of a file"),
        ("[stages.x]\nuses = 'commands'\ncommands = [[]]", "stages.x.commands[0]", "shell line"),
        ("[stages.x]\nuses = 'commands'\ncommands = [['git', 1]]", "stages.x.commands[0]", "shell line"),
        ("[stages.x.wheel]\npackge = 'x'", "stages.x.wheel.packge", "package"),
        ("[stages.x.wheel]", "stages.x.wheel.package", "a string"),
        ("[stages.x.prebuilt]\npackages = ['a']\nimports = ['a b']", "stages.x.prebuilt.imports[0]", "package.module"),
        ("[stages.x.target]\nkind = 'gitlab'", "stages.x.target.kind", "folder, github"),
        ("[scheduling]\nno_worker = 'wiat'", "scheduling.no_worker", "wait, skip, fail"),
    ],
)
def test_wrong_values_are_told_with_what_is_allowed(text: str, key: str, allowed: str) -> None:
    assert allowed in problem(read(text), key).allowed


def test_required_tables_are_asked_for() -> None:
    assert {each.key for each in parse("").errors} == {"project", "stages"}


def test_syntax_errors_name_line_and_column() -> None:
    assert "line 3, column 12" in problem(parse('[project]\nname = "x"\nrepository x\n'), "(syntax)").message


def test_an_unfinished_file_is_told_at_its_last_line() -> None:
    assert "line 2" in problem(parse('[project]\nname = "x'), "(syntax)").message


def test_a_stage_written_twice_is_refused() -> None:
    assert "lint" in problem(read("[stages.lint]"), "(syntax)").message


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "No such file"), (b"[project]\nname = '\xff'", "line 2"), (b"a=" + b"[" * 5000, "nested")],
)
def test_unreadable_files_are_errors_of_the_user(tmp_path: Path, content: bytes | None, word: str) -> None:
    file = tmp_path / "x.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=word):
        load(file, {})


def _tables(data: dict[str, Any], at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every table of settings that knows its keys."""
    below = [found for key, value in data.items() if isinstance(value, dict) for found in _tables(value, (*at, key))]
    return [at, *below] if fields_at(Settings, at) else below


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_an_unknown_key_in_any_table_is_told_with_its_dotted_key(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(_tables(MLC_LLM)))
    name = data.draw(st.from_regex(r"[a-z][a-z_-]{0,12}z9", fullmatch=True))
    examined = parse(_toml(_with(MLC_LLM, place, name)), file="f")
    assert dotted((*place, name)) in {each.key for each in examined.errors}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_misspelt_key_is_recognised(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([each for each in _tables(MLC_LLM) if each != ("database",)]))
    key = data.draw(st.sampled_from(sorted(key for key in fields_at(Settings, place) if len(key) > 4)))
    drop = data.draw(st.integers(1, len(key) - 2))
    misspelt = key[:drop] + key[drop + 1 :]
    if misspelt in fields_at(Settings, place):
        return
    told = {each.key: each for each in parse(_toml(_with(MLC_LLM, place, misspelt)), file="f").errors}
    assert "did you mean" in told[dotted((*place, misspelt))].message


def _with(data: dict[str, Any], place: tuple[str, ...], key: str) -> dict[str, Any]:
    if not place:
        return {**data, key: "x"}
    return {**data, place[0]: _with(data[place[0]], place[1:], key)}


def _toml(data: dict[str, Any]) -> str:
    def value(of: Any) -> str:
        if isinstance(of, dict):
            return "{" + ", ".join(f'"{key}" = {value(below)}' for key, below in of.items()) + "}"
        return "[" + ", ".join(map(value, of)) + "]" if isinstance(of, list) else json.dumps(of)

    return "\n".join(f'"{key}" = {value(below)}' for key, below in data.items())


# --- size -------------------------------------------------------------------------------------------------------------


def test_large_settings_are_read_and_checked_quickly() -> None:
    """60 workers and 200 builders; the bound is for a loaded machine, the usual time a tenth of it."""
    workers = "".join(
        f"[workers.w{n}]\ntrust = '{'un' * (n % 2)}trusted'\nprovides = ['python', 'tool{n % 10}']\n" for n in range(60)
    )
    stages = "".join(
        f"[stages.s{n}]\nuses = 'commands'\ncommands = ['x']\nneeds = {[f's{m}' for m in range(max(0, n - 4), n)]}\n"
        f"variants = ['a', 'b', 'c', 'd', 'e']\nrequires = {{ tools = ['python', 'tool{n % 5 * 2}'] }}\n"
        f"when = ['push', 'tag']\n"
        for n in range(40)
    )
    start = time.perf_counter()
    examined = read(workers, stages)
    took = time.perf_counter() - start
    assert sum(len(stage.variants) for stage in usable(examined).pipeline().stages) == 201
    assert took < 2
