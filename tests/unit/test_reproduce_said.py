"""What ``mlc-ci reproduce`` says and refuses; that it does what the run did is shown with a real master
(tests/integration/test_reproduce_run.py)."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from master.client import Client
from master.recipe import Pinned, Recipe, RunFailure
from master.reproduce import CannotReproduce, assert_possible, assert_wanted, compared, new_folder, read, reproduce
from master.reproduce_script import script
from steps.recipe import Fetches, Hole, LeavesWheel, PassesTests, StepRecipe

REPORT = "<testsuite>{}</testsuite>".format("".join(f'<testcase name="t{n}"/>' for n in range(3)))
PINNED = {
    "event": "push",
    "acts_as": "push",
    "ref": "refs/heads/main",
    "head_sha": "a" * 40,
    "base_sha": "",
    "pull_request": 0,
    "tag": "",
    "trusted": True,
    "threads": 2,
    "repository": "https://example.org/sample.git",
}


def sh(line: str, name: str = "", **more: Any) -> StepRecipe:
    return StepRecipe(name=name or line, argv=("/bin/sh", "-c", line), folder="build", **more)


def recipe(*steps: StepRecipe, pinned: dict[str, Any] | None = None, **more: Any) -> Recipe:
    fields: dict[str, Any] = {
        "run": 3,
        "stage": "build",
        "variant": "",
        "attempt": 1,
        "state": "failure",
        "os": "linux",
        "version": "",
        "failure": None,
        "changed": (),
        **more,
    }
    return Recipe(pinned=Pinned.model_validate(PINNED | (pinned or {})), steps=steps, **fields)


class Seen:
    """One reproduction: its exit code, what it said, and its folder."""

    def __init__(self, folder: Path, made: Recipe) -> None:
        output = io.StringIO()
        self.folder = new_folder(made, folder / "again")
        nobody = Client("http://127.0.0.1:9/")
        self.code = reproduce(Console(file=output, width=200), nobody, made, self.folder, io.BytesIO())
        self.said = output.getvalue()


# -- running


def test_steps_run_in_order_up_to_the_first_that_fails(tmp_path: Path) -> None:
    seen = Seen(tmp_path, recipe(sh("echo 1 > one"), StepRecipe(name="artifacts"), sh("exit 6"), sh("echo 2 > two")))
    assert seen.code == 6
    assert (seen.folder / "build" / "one").exists()
    assert not (seen.folder / "build" / "two").exists()
    assert "artifacts: left out" in seen.said
    assert str(seen.folder) in seen.said.splitlines()[-1]


def test_what_every_command_stands_below_is_run_and_not_shown(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    argv = ("mlc-ci-worker", "limit", "--", "/bin/sh", "-c", "exit 6")
    seen = Seen(tmp_path, recipe(StepRecipe(name="one", argv=argv, folder="build", environment={"PATH": path})))
    assert seen.code == 6, seen.said
    assert " 1 exit 6\n" in seen.said
    assert "mlc-ci-worker" not in seen.said


def test_the_name_of_a_wheel_is_learned_on_the_way(tmp_path: Path) -> None:
    name = "small-1.0-py3-none-any.whl"
    wheel = sh(f"mkdir -p dist; touch dist/{name}", wheel=LeavesWheel(folder="dist", repaired=False, tag="v1.0"))
    use = StepRecipe(name="use", argv=("cp", ("dist/", Hole(value="wheel")), "copy"), folder="build")
    seen = Seen(tmp_path, recipe(wheel, use))
    assert seen.code == 0, seen.said
    assert (seen.folder / "build" / "copy").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("true", "found: none"),
        ("mkdir dist; touch dist/small-1.0-py3-none-any.whl dist/small-1.1-py3-none-any.whl", "exactly one wheel"),
        ("mkdir dist; touch dist/small-2.0-py3-none-any.whl", "tag v1.0 was built as small 2.0"),
    ],
)
def test_a_wheel_that_the_stage_would_refuse_is_refused(tmp_path: Path, line: str, said: str) -> None:
    seen = Seen(tmp_path, recipe(sh(line, wheel=LeavesWheel(folder="dist", repaired=False, tag="v1.0"))))
    assert seen.code == 1
    assert said in seen.said


@pytest.mark.parametrize(
    ("minimum", "report", "code", "said"),
    [(3, REPORT, 0, ""), (4, REPORT, 1, "3 tests passed, at least 4 have to"), (0, "", 1, "cannot be read")],
)
def test_too_few_tests_that_passed_are_a_failure(
    tmp_path: Path, minimum: int, report: str, code: int, said: str
) -> None:
    step = sh(f"printf '%s' '{report}' > ../pytest.xml", tests=PassesTests(report="../pytest.xml", minimum=minimum))
    seen = Seen(tmp_path, recipe(step))
    assert seen.code == code
    assert said in seen.said


def test_what_comes_from_elsewhere_does_not_steer_the_terminal(tmp_path: Path) -> None:
    failure = RunFailure(failure_class="code", reason="\x1b]0;title\x07\x1b[2Jnothing", step="s")
    assert "\x1b" not in Seen(tmp_path, recipe(sh("true"), failure=failure)).said


# -- is it the same?


@pytest.mark.parametrize(
    ("step", "then", "here", "alike"),
    [
        ("wheel", "a.c:1:2: error: bad", "a.c:1:2: error: bad", True),
        ("wheel", "/home/ci/w/build/a.c:1:2: error: bad", "/srv/x/build/a.c:1:2: error: bad", True),
        ("wheel", "1 failed, 2 passed in 0.03s; first: E   assert 1 == 2", "E   assert 1 == 2", True),
        ("wheel", "memory limit: 512 MiB allowed, 540 MiB seen", "memory limit: 512 MiB allowed, 551 MiB seen", True),
        ("wheel", "ended with exit code 1", "ended with exit code 1; its last line: no", True),
        ("wheel", "the disk is full (no space)", "the disk is full", True),
        ("wheel", "a.c:1:2: error: too lo…", "a.c:1:2: error: too long to show", True),
        ("wheel", "a.c:1:2: error: bad", "a.c:1:2: error: worse", False),
        ("wheel", "a.c:1:2: error: expected 1", "a.c:1:2: error: expected 12 args", False),
        ("wheel", "E   assert 1 == 2", "1 failed in 0.03s; first: E   assert 1 == 21", False),
        ("wheel", "c:1:2: error: bad", "a.c:1:2: error: bad", False),
        ("wheel", "ended with exit code 1", "ended with exit code 2", False),
        ("wheel", "", "a.c:1:2: error: bad", False),
        ("wheel_1", "a.c:1:2: error: bad", "a.c:1:2: error: bad", True),
        ("tests", "a.c:1:2: error: bad", "a.c:1:2: error: bad", False),
    ],
)
def test_the_same_failure_is_told_from_another(step: str, then: str, here: str, alike: bool) -> None:
    made = recipe(sh("true"), failure=RunFailure(failure_class="code", reason=then, step=step))
    assert compared(made, "wheel", here).startswith("the same failure" if alike else "another failure")


def test_a_failure_of_what_did_not_fail_is_told(tmp_path: Path) -> None:
    assert "it is success" in Seen(tmp_path, recipe(sh("exit 3"), state="success")).said


# -- before anything runs


def test_a_stage_of_another_system_is_refused() -> None:
    with pytest.raises(CannotReproduce, match="runs on windows"):
        assert_possible(recipe(sh("true"), os="windows"), None)


def test_all_tools_that_are_missing_are_named_those_within_others_too() -> None:
    limited = StepRecipe(name="x", argv=("mlc-ci-worker", "limit", "--memory=1", "--", "no-such-tool", "--", "y"))
    relative = StepRecipe(name="z", argv=("../environment/bin/python", "-V"))
    with pytest.raises(CannotReproduce, match=r"PATH: no-such-tool, nor-this\n"):
        assert_possible(recipe(limited, relative, StepRecipe(name="y", argv=("nor-this",))), None)
    assert_possible(recipe(relative), None)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    for taken in (tmp_path, tmp_path / "mine"):
        with pytest.raises(CannotReproduce, match="not an empty folder"):
            assert_possible(recipe(sh("true")), taken)
    assert_possible(recipe(sh("true")), tmp_path / "new")


def test_a_strangers_code_needs_an_agreement_and_ours_none(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO())
    strange = recipe(sh("true"), pinned={"trusted": False, "pull_request": 12})
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # a pipe agrees to nothing
    with pytest.raises(CannotReproduce, match="nobody has agreed"):
        assert_wanted(screen, strange, yes=False)
    assert_wanted(screen, strange, yes=True)
    assert_wanted(screen, recipe(sh("true")), yes=False)
    assert "pull request 12" in screen.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("yes", True), ("", False), ("n", False), ("yep", False)])
def test_somebody_at_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    strange = recipe(sh("true"), pinned={"trusted": False})
    if agreed:
        assert_wanted(Console(file=io.StringIO()), strange, yes=False)
    else:
        with pytest.raises(CannotReproduce, match="nothing runs"):
            assert_wanted(Console(file=io.StringIO()), strange, yes=False)


@pytest.mark.parametrize("answer", [{}, [], None, {"run": "x"}])
def test_an_answer_that_is_no_recipe_is_refused(answer: object) -> None:
    with pytest.raises(CannotReproduce, match="cannot be read"):
        read(answer)


# -- as a script


def test_the_script_does_what_the_recipe_says(tmp_path: Path) -> None:
    wheel = "small-1.0-py3-none-any.whl"
    made = recipe(
        StepRecipe(name="given", argv=("tee", "it's"), folder="build", stdin="$HOME 'x'\n%s\n"),
        sh(
            "mkdir dist; touch dist/$NAME",
            environment={"NAME": wheel},
            wheel=LeavesWheel(folder="dist", repaired=False, tag=""),
        ),
        StepRecipe(
            name="use", argv=("cp", ("dist/", Hole(value="wheel")), (Hole(value="workspace"), "/copy")), folder="build"
        ),
        StepRecipe(name="artifacts"),
        StepRecipe(name="get", fetches=Fetches(stage="test", globs=("*.xml",), into="reports")),
        sh("exit 5", name="$(touch harm)"),
        sh("touch never"),
        pinned={"ref": "refs/heads/x\ntouch harm", "trusted": False},
    )
    text = script(made).replace("command -v mlc-ci-worker", "command -v sh")
    file = tmp_path / "again.sh"
    file.write_text(text)
    where = tmp_path / "a new folder"
    done = subprocess.run(["/bin/sh", file, where], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 5, done.stdout + done.stderr
    assert (where / "build" / "it's").read_text() == "$HOME 'x'\n%s\n"
    assert (where / "copy").exists()
    assert not list(tmp_path.rglob("never"))
    assert not list(tmp_path.rglob("harm"))
    assert "get *.xml of stage test" in done.stdout
    assert f"step 6 failed with exit code 5; everything is in {where}" in done.stderr
