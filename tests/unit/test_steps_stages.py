"""The steps of each stage, from real settings: what runs, in which order."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from buildbot.process.properties import Properties
from hypothesis import given
from hypothesis import strategies as st

import steps
from master.settings import Settings
from master.settings_wheel import WheelSettings
from steps.build_linux import (
    config_cmake,
    imports_command,
    repair_command,
    stamp_command,
    wheel_command,
)
from steps.commands import step_name

ROOT = Path(__file__).parents[2]

TEXT = """
[project]
name = "sample"
repository = "https://example.org/sample.git"
[environment]
RUSTFLAGS = "-D warnings"
[stages.test]
variants = ["cpu", "vulkan"]
[stages.test.prebuilt]
packages = ["apache-tvm==0.27.0.post1"]
imports = ["tvm"]
variants.vulkan.packages = ["apache-tvm-vulkan==0.27.0.post1"]
[stages.test.pytest]
marker = "unittest"
minimum_passed = 5
variants.vulkan = { marker = "op_correctness", minimum_passed = 1 }
[stages.build-linux]
variants = ["vulkan", "cuda"]
timeout = "1h"
silence_timeout = "10m"
[stages.build-linux.wheel]
package = "sample"
version_script = "version.py"
config_cmake = { USE_VULKAN = "ON" }
exclude = ["libtvm_ffi.so"]
imports = ["sample"]
variants.cuda.config_cmake = { USE_CUDA = "ON", CMAKE_CUDA_ARCHITECTURES = "80;90" }
variants.cuda.local_version = "cu128"
expect.tvm = ["apache-tvm-ffi==0.1.15", "build/libtvm.so"]
[stages.lint]
uses = "commands"
variants = ["fast"]
commands = ["ruff check .", ["python3", "-m", "mypy"]]
artifacts = ["report/*.txt"]
[stages.build-windows]
"""


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(tomllib.loads(TEXT))


def made(settings: Settings, stage: str, variant: str = "") -> list[Any]:
    return steps.build_steps(settings.pipeline()[stage], variant, settings)


def rendered(value: object, **properties: object) -> object:
    props = Properties()
    for name, text in properties.items():
        props.setProperty(name, text, "test")
    found: list[object] = []
    props.render(value).addCallback(found.append)
    return found[0]


def test_the_test_stage(settings: Settings) -> None:
    names = [step.name for step in made(settings, "test", "cpu")]
    assert names == ["checkout", "environment", "dependencies", "prebuilt packages", "imports", "old report", "pytest"]


def test_the_build_stage(settings: Settings) -> None:
    names = [step.name for step in made(settings, "build-linux", "vulkan")]
    before = ["checkout", "tools", "clean", "version", "config.cmake", "wheel", "repair"]
    assert names == [*before, "environment", "install", "TVM", "manifest", "verify", "imports", "artifacts"]


def test_linux_workers_end_what_a_command_leaves_and_others_are_not_asked_to(settings: Settings) -> None:
    watched = {stage: {step.watched for step in made(settings, stage)} for stage in ("test", "build-linux", "lint")}
    assert watched == {"test": {True}, "build-linux": {True}, "lint": {False}}


def test_variants_of_the_test_stage_install_and_run_what_is_theirs(settings: Settings) -> None:
    cpu, vulkan = made(settings, "test", "cpu"), made(settings, "test", "vulkan")
    assert _named(cpu, "prebuilt packages").command[-1] == "apache-tvm==0.27.0.post1"
    assert _named(vulkan, "prebuilt packages").command[-1] == "apache-tvm-vulkan==0.27.0.post1"
    assert _named(vulkan, "imports").asked == {"apache-tvm-vulkan"}
    suites = [_named(steps_of, "pytest") for steps_of in (cpu, vulkan)]
    assert [(suite.command[5], suite.minimum) for suite in suites] == [("unittest", 5), ("op_correctness", 1)]


def test_a_variant_with_a_local_version_is_stamped_and_checked_with_it(settings: Settings) -> None:
    expected = {"vulkan": ("--tag=v1.2.3", ""), "cuda": ("--tag=v1.2.3+cu128", "cu128")}
    for variant, (tag, local) in expected.items():
        steps_of = made(settings, "build-linux", variant)
        verify, stamp = (_named(steps_of, name).command for name in ("verify", "version"))
        assert tag in rendered(verify, tag="v1.2.3")  # type: ignore[operator]
        assert "--tag=" in rendered(verify, tag="")  # type: ignore[operator]
        assert rendered(stamp, tag="v1.2.3")[-1] == "--tag=v1.2.3"  # type: ignore[index]
        assert ("--local" in words(stamp)) is bool(local)
        assert [_named(steps_of, name).local for name in ("wheel", "repair")] == [local, local]


def test_the_gate_and_the_manifest_are_given_the_same_tvm(settings: Settings) -> None:
    steps_of = made(settings, "build-linux", "vulkan")
    assert words(_named(steps_of, "TVM").command)[-1] == "apache-tvm-ffi==0.1.15"
    for name in ("manifest", "verify"):
        command = words(_named(steps_of, name).command)
        given_tvm = [value for option, value in pairwise(command) if option == "--tvm"]
        assert given_tvm == ["build/libtvm.so", "../wheel-tvm"]
    without = Settings.model_validate(tomllib.loads(TEXT.replace("expect.tvm", "import_needs")))
    assert "TVM" not in [step.name for step in made(without, "build-linux", "vulkan")]


def test_each_variant_has_its_own_config_cmake(settings: Settings) -> None:
    texts = {v: _named(made(settings, "build-linux", v), "config.cmake").initialStdin for v in ("vulkan", "cuda")}
    assert texts["vulkan"] == "set(USE_VULKAN ON)\n"
    assert texts["cuda"] == 'set(USE_VULKAN ON)\nset(USE_CUDA ON)\nset(CMAKE_CUDA_ARCHITECTURES "80;90")\n'


def test_commands_run_as_they_are_and_know_their_variant(settings: Settings) -> None:
    made_steps = made(settings, "lint", "fast")
    assert [step.name for step in made_steps] == ["checkout", "ruff check .", "python3 -m mypy", "artifacts"]
    assert [step.command for step in made_steps[1:3]] == ["ruff check .", ["python3", "-m", "mypy"]]
    assert made_steps[-1].globs == ["report/*.txt"]
    environment = rendered(made_steps[1].env, builddir="/w/b", threads=2)
    assert isinstance(environment, dict)
    assert environment["MLC_CI_VARIANT"] == "fast"


def test_every_step_halts_and_every_command_is_limited_by_the_settings(settings: Settings) -> None:
    for step in made(settings, "build-linux", "vulkan"):
        assert step.haltOnFailure
        assert step.flunkOnFailure
        if step.name != "artifacts":
            assert (step.maxTime, step.timeout, step.logEnviron) == (3600, 600, False)
            assert rendered(step.env, threads=4)["RUSTFLAGS"] == "-D warnings"  # type: ignore[index]


def test_the_test_stage_may_fail(settings: Settings) -> None:
    for step in made(settings, "test"):
        assert (step.haltOnFailure, step.flunkOnFailure, step.warnOnFailure) == (True, False, True)


@pytest.mark.parametrize("stage", ["build-windows"])
def test_what_is_not_here_yet_says_so(stage: str, settings: Settings) -> None:
    with pytest.raises(steps.UnavailableStage, match="no worker can do yet"):
        made(settings, stage)
    assert stage not in steps.AVAILABLE


@pytest.mark.parametrize("name", ["quickstart.toml", "mlc-llm.toml"])
def test_the_shipped_settings_make_steps(name: str) -> None:
    shipped = Settings.model_validate(tomllib.loads((ROOT / "ci" / name).read_text(encoding="utf-8")))
    for stage in shipped.pipeline().stages:
        if stage.uses in steps.AVAILABLE:
            for variant in stage.variants:
                assert made(shipped, stage.name, variant)


def test_the_version_is_checked_against_the_tag_of_a_tags_run_only() -> None:
    command = stamp_command(WheelSettings(package="x", version_script="version.py", directory="python"))
    start = ["mlc-ci-worker", "stamp", "--directory", "python", "--script", "version.py"]
    assert rendered(command, tag="v1.2.3") == [*start, "--tag=v1.2.3"]
    assert rendered(command, tag="") == [*start, "--tag="]


def test_wheel_and_repair_commands() -> None:
    wheel = WheelSettings(package="x", exclude=("libtvm_ffi.so", "libvulkan.so.1"))
    assert wheel_command(wheel) == "python3 -m pip wheel --no-deps --wheel-dir dist . -v".split()  # noqa: SIM905
    assert wheel_command(WheelSettings(package="x", directory="python"))[-2] == "./python"
    repair = ["auditwheel", "repair", "--wheel-dir", "wheelhouse", "--exclude", "libtvm_ffi.so"]
    assert rendered(repair_command(wheel), wheel="x-1-py3-none-linux_x86_64.whl") == [
        *repair,
        "--exclude",
        "libvulkan.so.1",
        "dist/x-1-py3-none-linux_x86_64.whl",
    ]


def test_without_imports_the_wheel_is_installed_alone(settings: Settings) -> None:
    alone = Settings.model_validate(tomllib.loads(TEXT.replace('imports = ["sample"]\n', "")))
    for which, expected in ((settings, False), (alone, True)):
        install = _named(made(which, "build-linux", "vulkan"), "install").command
        # An Interpolate compares with anything: look at the words alone.
        assert ("--no-deps" in [word for word in install if isinstance(word, str)]) is expected


def test_a_wheel_that_is_not_repaired_is_uploaded_from_dist() -> None:
    settings = Settings.model_validate(tomllib.loads(TEXT.replace('imports = ["sample"]', "repair = false")))
    made_steps = made(settings, "build-linux", "vulkan")
    assert "repair" not in [step.name for step in made_steps]
    assert made_steps[-1].globs == ["dist/*.whl", "dist/*.manifest.json"]
    assert "auditwheel" not in _named(made_steps, "tools").command


def test_libraries_have_to_lie_in_the_package() -> None:
    command = imports_command(WheelSettings(package="mlc_llm", libraries=("libmlc_llm.so",), imports=("mlc_llm",)))
    assert command[2:] == [
        "--python",
        "../wheel-environment/bin/python",
        "--file",
        "mlc_llm/libmlc_llm.so",
        "--import",
        "mlc_llm",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ON", "ON"),
        ("/usr/local/cuda-12.8", "/usr/local/cuda-12.8"),
        ("80;90", '"80;90"'),
        ("", '""'),
        ('say "x" \\', '"say \\"x\\" \\\\"'),
        ("$ENV{VULKAN_SDK}", '"$ENV{VULKAN_SDK}"'),
        ("two words", '"two words"'),
    ],
)
def test_values_are_quoted_for_cmake(value: str, text: str) -> None:
    assert config_cmake({"X": value}) == f"set(X {text})\n"


@given(st.text(min_size=1))
def test_a_step_has_a_name_that_buildbot_takes(line: str) -> None:
    assert len(step_name(line)) <= 50


def words(command: list[Any]) -> list[str]:
    """The plain words: an Interpolate compares with anything."""
    return [word for word in command if isinstance(word, str)]


def _named(made_steps: list[Any], name: str) -> Any:
    (step,) = [step for step in made_steps if step.name == name]
    return step
