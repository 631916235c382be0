"""A stage that failed opens at its first error line, and fails again by hand: a real compiler, a real master.

The run's own logs are the judge: what each step ran, and where it failed.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pipelines import commands, workers
from rig import Rig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reproduce run")]
LOOK = "env -0 > ../seen-environment"
GOOD = "int twice(int number) { return 2 * number; }\n"
BROKEN = "int twice(int number) {\n    return 2 * numbre;\n}\n"
COMPILE = ["c++", "-c", "src/twice.cc", "-o", "twice.o"]


def tables() -> dict[str, Any]:
    look = {"commands": [LOOK], "environment": {"WHERE": "{workspace}/here", "LEVEL": 'it\'s "2" $HOME'}}
    return {
        "environment": {"EVERYWHERE": "yes"},
        "scheduling": {"no_worker": "skip"},
        "workers": workers("reliable", "stranger"),
        "stages": {
            "look": commands("look", variants=["near", "far"], secrets=["deploy-key"], when=["push"]) | look,
            "pack": commands("pack", artifacts=["*.txt"]) | {"commands": ["echo packed > packed.txt"]},
            "use": commands("use", needs=["pack"], downloads=[{"stage": "pack", "globs": ["*.txt"], "into": "got"}])
            | {"commands": ["grep packed got/packed.txt && false"]},
            "compile": commands("compile") | {"commands": ["echo compiling; cat src/twice.cc", COMPILE]},
            "tolerant": commands("tolerant", continue_on_error=True)
            | {"commands": [COMPILE], "limits": {"memory": "2G", "processes": 500}},
            "summary": {"needs": ["look", "use", "compile", "tolerant"]},
        },
    }


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("reproduce") / "rig", template, tables())
    secret = made.site.basedir / "secrets" / "deploy-key"
    secret.touch(mode=0o600)
    secret.write_text("canary-5d0c\n")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def broken(rig: Rig) -> int:
    """A run whose compiler failed."""
    run: int = rig.ended(rig.push({"src/twice.cc": BROKEN}))["id"]
    states = {"look": "success", "pack": "success", "use": "failure", "compile": "failure", "tolerant": "warnings"}
    assert rig.states(run) == {**states, "summary": "success"}, rig.state()
    return run


def api(rig: Rig, path: str) -> Any:
    with rig.browser(login=False) as client:
        answer = client.get(f"plugins/mlc_ci/api/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def attempt(rig: Rig, run: int, stage: str) -> Mapping[str, Any]:
    (found,) = [found for found in api(rig, f"runs/{run}")["stages"] if found["name"] == stage]
    newest: Mapping[str, Any] = found["history"][0]
    return newest


def raw_log(rig: Rig, build_id: int, step: str) -> list[str]:
    """The lines of a log as Buildbot keeps them: letter of the stream, text."""
    query = "select l.id, s.name from logs l join steps s on s.id = l.stepid where s.buildid = ? and l.name = 'stdio'"
    (log_id,) = [row["id"] for row in rig.rows(query, build_id) if row["name"] == step]
    with rig.browser(login=False) as client:
        answer = client.get(f"api/v2/logs/{log_id}/contents").json()
    content: str = answer["logchunks"][0]["content"]
    return content.removesuffix("\n").split("\n")


def mlc_ci(rig: Rig, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("mlc-ci"), "reproduce", *words, "--master", rig.site.url]
    return ran(command, rig.folder, **environment)


def ran(command: Sequence[str | Path], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


# -- the first error line


@pytest.mark.parametrize("stage", ["compile", "tolerant"])
def test_a_failed_stage_opens_at_the_compilers_first_error(rig: Rig, broken: int, stage: str) -> None:
    row = rig.attempt(broken, stage)
    failed = attempt(rig, broken, stage)
    assert failed["failure"] == "code"
    page = api(rig, f"runs/{broken}/attempts/{row['id']}/failure")
    assert page["class"] == "code"
    whole = raw_log(rig, row["build_id"], page["step"])
    (marked,) = [line for line in page["lines"] if line["number"] == page["line"]]
    assert "numbre" in marked["text"]
    assert "error:" in marked["text"]
    assert [line[1:] for line in whole[page["lines"][0]["number"] - 1 :]][: len(page["lines"])] == [
        line["text"] for line in page["lines"]
    ]
    first = next(place for place, line in enumerate(whole) if "error:" in line and not line.startswith("h"))
    assert page["line"] == first + 1
    logs = [(log["step_number"], log["slug"]) for log in failed["logs"]]
    assert (page["step_number"], page["log"]) in logs, "its link would lead nowhere"


def test_a_stage_that_did_its_work_has_no_failure(rig: Rig, broken: int) -> None:
    row = rig.attempt(broken, "look")
    assert attempt(rig, broken, "summary")["failure"] == ""
    with rig.browser(login=False) as client:
        answer = client.get(f"plugins/mlc_ci/api/runs/{broken}/attempts/{row['id']}/failure")
    assert answer.status_code == 404


# -- the recipe is what ran


def argv(lines: list[str]) -> list[str]:
    (noted,) = [line.removeprefix("h argv: ") for line in lines[:8] if line.startswith("h argv: ")]
    words = ast.literal_eval(noted)
    if isinstance(words, bytes):
        words = [b"/bin/sh", b"-c", words]
    return [word.decode() for word in words]


@pytest.mark.parametrize(
    ("stage", "variant"), [("look", "near"), ("look", "far"), ("use", ""), ("compile", ""), ("tolerant", "")]
)
def test_each_command_is_the_one_that_the_run_logged(rig: Rig, broken: int, stage: str, variant: str) -> None:
    (row,) = [row for row in rig.attempts(broken, stage) if row["variant"] == variant]
    recipe = api(rig, f"runs/{broken}/stages/{stage}/recipe?variant={variant}")
    steps = [step for step in recipe["steps"] if step["argv"]]
    assert len(steps) >= 2
    for step in steps:
        assert step["argv"] == argv(raw_log(rig, row["build_id"], step["name"]))
    assert recipe["changed"] == []


@pytest.mark.parametrize("variant", ["near", "far"])
def test_the_environment_is_the_one_that_the_run_had_but_for_its_secrets(rig: Rig, broken: int, variant: str) -> None:
    recipe = api(rig, f"runs/{broken}/stages/look/recipe?variant={variant}")
    (seen,) = (rig.site.folder / "workers" / "reliable").glob(f"look-{variant}/seen-environment")
    had = dict(line.split("=", 1) for line in seen.read_text().split("\0") if line)
    told = recipe["steps"][1]["environment"]
    folder = str(seen.parent)
    filled = {
        name: text if isinstance(text, str) else "".join(folder if isinstance(part, dict) else part for part in text)
        for name, text in told.items()
    }
    assert {name: had.get(name) for name in filled} == filled
    assert filled["WHERE"] == f"{folder}/here"
    assert had["DEPLOY_KEY"] == "canary-5d0c"
    assert recipe["steps"][1]["secrets"] == {"DEPLOY_KEY": "deploy-key"}
    assert "canary" not in str(recipe)


# -- again, by hand


def test_it_fails_again_with_the_same_failure(rig: Rig, broken: int, tmp_path: Path) -> None:
    done = mlc_ci(rig, str(broken), "compile", "--into", str(tmp_path / "again"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"the same failure as in run {broken}" in done.stdout
    (log,) = (tmp_path / "again" / "logs").glob("03-*.log")
    (told,) = [line for line in done.stdout.splitlines() if line.strip().startswith(f"{log}:")]
    number = int(told.rpartition(":")[2])
    assert "error:" in log.read_text().splitlines()[number - 1]


def test_another_failure_is_told_from_it(rig: Rig, broken: int, tmp_path: Path) -> None:
    """The compiler is another one here."""
    fake = tmp_path / "bin" / "c++"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'src/twice.cc:1:1: error: this is another world' >&2\nexit 3\n")
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    done = mlc_ci(rig, str(broken), "compile", "--into", str(tmp_path / "again"), PATH=path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"another failure than in run {broken}" in done.stdout


def test_what_went_well_goes_well_and_gets_the_secret_that_the_user_has(rig: Rig, broken: int, tmp_path: Path) -> None:
    more = {"DEPLOY_KEY": "mine", "GITHUB_TOKEN": "nobody's business"}
    done = mlc_ci(rig, str(broken), "look", "--variant", "far", "--into", str(tmp_path / "again"), **more)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = (tmp_path / "again" / "seen-environment").read_text().split("\0")
    assert "DEPLOY_KEY=mine" in seen
    assert not [line for line in seen if "nobody's business" in line]
    head = ran(["git", "rev-parse", "HEAD"], tmp_path / "again" / "build")
    assert head.stdout.strip() == rig.rows("select head from runs where id = ?", broken)[0]["head"]


def test_what_an_earlier_stage_left_is_there(rig: Rig, broken: int, tmp_path: Path) -> None:
    done = mlc_ci(rig, str(broken), "use", "--into", str(tmp_path / "again"))
    assert (tmp_path / "again" / "build" / "got" / "packed.txt").read_text() == "packed\n", done.stdout + done.stderr
    assert f"the same failure as in run {broken}" in done.stdout


def test_a_repository_that_this_machine_cannot_read_is_named(rig: Rig, broken: int, tmp_path: Path) -> None:
    bare = rig.repositories / "sample.git"
    aside = bare.rename(rig.repositories / "aside.git")
    try:
        done = mlc_ci(rig, str(broken), "compile", "--into", str(tmp_path / "again"))
    finally:
        aside.rename(bare)
    assert done.returncode == 75, done.stdout + done.stderr
    assert f"another failure than in run {broken}" in done.stdout
    assert f"can you clone {bare} here?" in done.stdout


def test_a_strangers_code_runs_only_once_somebody_agrees(rig: Rig, tmp_path: Path) -> None:
    run = rig.ended(rig.pull_request(5, {"src/twice.cc": GOOD}))["id"]
    again = tmp_path / "again"
    refused = mlc_ci(rig, str(run), "compile", "--into", str(again))
    assert refused.returncode == 7
    assert "pull request 5" in refused.stdout
    assert not again.exists()
    agreed = mlc_ci(rig, str(run), "compile", "--into", str(again), "--yes")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    assert (again / "build" / "twice.o").exists()


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize(("stage", "code"), [("compile", 1), ("look", 0)])
def test_the_script_is_clean_and_does_the_same(rig: Rig, broken: int, tmp_path: Path, stage: str, code: int) -> None:
    variant = ["--variant", "near"] if stage == "look" else []
    printed = mlc_ci(rig, str(broken), stage, *variant, "--print").stdout
    script = tmp_path / "again.sh"
    script.write_text(printed)
    checked = ran(["shellcheck", script], tmp_path)
    assert checked.returncode == 0, checked.stdout + printed
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    where = tmp_path / "with space"
    done = ran(["/bin/sh", script, where], tmp_path, PATH=path)
    assert done.returncode == code, done.stdout + done.stderr
    if stage == "look":
        seen = (where / "seen-environment").read_text().split("\0")
        assert f"WHERE={where}/here" in seen
        assert 'LEVEL=it\'s "2" $HOME' in seen
    else:
        assert "numbre" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["999", "compile"], "there is no run 999"),
        (["{run}", "compiler"], "it has compile, look, pack, summary, tolerant, use"),
        (["{run}", "look"], "far, near: say which"),
        (["{run}", "look", "--variant", "nowhere"], "no variant nowhere"),
        (["{run}", "summary"], "no commands to run elsewhere"),
        (["{run}", "compile", "--into", "/dev/null"], "not an empty folder"),
        (["{run}", "compile", "--into", "/proc/no/such"], "cannot be made"),
    ],
)
def test_what_cannot_be_done_is_said(rig: Rig, broken: int, words: list[str], said: str) -> None:
    done = mlc_ci(rig, *[word.format(run=broken) for word in words])
    assert done.returncode not in (0, 1)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_tools_that_are_missing_are_named(rig: Rig, broken: int) -> None:
    done = mlc_ci(rig, str(broken), "compile", PATH="/nowhere")
    assert done.returncode == 7
    assert "c++" in done.stderr


# -- last: it changes the settings


def test_a_command_that_the_settings_have_changed_since_is_told(rig: Rig, broken: int) -> None:
    changed = tables()
    changed["stages"]["compile"]["commands"][1] = [*COMPILE, "-O2"]
    rig.configure(changed)
    rig.reload()
    recipe = api(rig, f"runs/{broken}/stages/compile/recipe")
    (told,) = recipe["changed"]
    assert told.endswith(" ".join(COMPILE))
