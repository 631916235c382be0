"""Tools with their versions: there, absent, or there and not working."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.probe.facts import Problem
from workers.probe.tools import Question, look, visual_studio


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    (folder / name).chmod(0o755)


def test_tools_are_there_absent_or_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {
        "git": "echo git version 2.41.0.windows.1",
        "clang": "echo 'Debian clang version 14.0.6'",
        "nvcc": "echo 'Cuda compiler driver of 2005-2024'; echo 'Cuda compilation tools, release 12.8, V12.8.93'",
        "loud": "echo warning: 3 things >&2; echo loud v1.2",
        "mute": "exit 0",
        "crashing": "kill -SEGV $$",
        "failing": "echo no licence >&2; exit 7",
        "hanging": "trap '' TERM; sleep 3600",
    }
    for name, text in cases.items():
        program(tmp_path, name, text)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    questions = {name: Question(program=name) for name in [*cases, "no-such-tool"]}
    questions["nvcc"] = Question(program="nvcc", after=", V")
    tools, problems = look(questions, seconds=2.0)
    assert {tool.name: tool.version for tool in tools} == {
        "git": "2.41.0", "clang": "14.0.6", "nvcc": "12.8.93", "loud": "1.2",
    }  # fmt: skip
    said = {each.part: each.what.removeprefix(f"{tmp_path}/{each.part}: ") for each in problems}
    assert said == {
        "mute": "says no version, but nothing",
        "crashing": "crashed: SIGSEGV",
        "failing": "ended with exit code 7: no licence",
        "hanging": "hangs: no answer in 2 s",
    }


@pytest.mark.parametrize("said", ["unknown command: docker buildx", "'buildx' is not a docker command."])
def test_dockers_plugin_may_be_absent(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "docker", f'echo "docker: {said}" >&2; echo "Run docker --help" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    question = {"buildx": Question(program="docker", arguments=("buildx", "version"))}
    assert look(question) == ((), ())
    program(tmp_path, "docker", "echo broken pipe >&2; exit 1")
    assert [each.what.partition(": ")[2] for each in look(question)[1]] == ["ended with exit code 1: broken pipe"]


def test_a_tool_outside_the_path_is_found_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "nvcc-of-a-test", "echo 1.2.3")
    question = {"nvcc": Question(program="nvcc-of-a-test", elsewhere=("HOME_OF_A_TEST",))}
    assert look(question) == ((), ())
    monkeypatch.setenv("HOME_OF_A_TEST", str(tmp_path))
    assert [tool.path for tool in look(question)[0]] == [str(tmp_path / "bin" / "nvcc-of-a-test")]


@pytest.mark.parametrize(
    ("answer", "toolset", "found"),
    [
        ('[{{"installationPath": "{0}"}}]', "14.38.33130\r\n", "14.38.33130"),
        ('[{{"installationPath": "{0}"}}]', "none", "its toolset says no version, but none"),
        ('[{{"installationPath": "{0}/gone"}}]', "14.38", "No such file"),
        ("[]", "14.38", None),
        ("oops", "14.38", "names no Visual Studio whose toolset can be read"),
    ],
)
def test_msvc_is_what_vswhere_names(answer: str, toolset: str, found: str | None, tmp_path: Path) -> None:
    """With a program that answers as Microsoft's does: its own runs on Windows only."""
    build = tmp_path / "VC" / "Auxiliary" / "Build"
    build.mkdir(parents=True)
    (build / "Microsoft.VCToolsVersion.default.txt").write_text(toolset, encoding="ascii")
    installer = tmp_path / "Microsoft Visual Studio" / "Installer"
    installer.mkdir(parents=True)
    program(installer, "vswhere.exe", f"echo '{answer.format(tmp_path)}'")
    said = visual_studio({"ProgramFiles(x86)": str(tmp_path)})
    if found is None:
        assert said is None
    else:
        assert said and found in (said.what if isinstance(said, Problem) else said.version)
    assert visual_studio({}) is None
