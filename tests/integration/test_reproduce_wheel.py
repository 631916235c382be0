"""The stage with the most steps, done again: a real wheel, whose name the steps after it learn on the way."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pipelines import workers
from rig import Rig
from test_reproduce_run import api, argv, attempt, mlc_ci, raw_log

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reproduce wheel")]
ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = tomllib.loads((ROOT / "ci" / "quickstart.toml").read_text(encoding="utf-8"))
LONG = 400.0  # seconds for a real build, on a busy machine
BROKEN = "int mlc_sample_broken() { return nothing_of_this_name; }\n"
TOOLS = ["python", "compiler", "cmake", "cargo", "vulkan-sdk"]


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    tables: dict[str, Any] = {
        "project": {"submodules": True},
        "environment": QUICKSTART["environment"],
        "scheduling": {"no_worker": "skip"},
        "workers": {name: {**table, "provides": TOOLS} for name, table in workers("reliable").items()},
        "stages": {
            "build-linux": {**QUICKSTART["stages"]["build-linux"], "needs": []},
            "summary": {"needs": ["build-linux"]},
        },
    }
    with pytest.MonkeyPatch.context() as patch:
        rustup = Path.home() / ".rustup"  # a worker's home is its own folder
        if rustup.is_dir() and "RUSTUP_HOME" not in os.environ:
            patch.setenv("RUSTUP_HOME", str(rustup))
        made = Rig(tmp_path_factory.mktemp("wheel") / "rig", template, tables)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def filled(word: Any, values: dict[str, str]) -> str:
    return word if isinstance(word, str) else "".join(p if isinstance(p, str) else values[p["value"]] for p in word)


def test_each_command_of_a_wheel_is_the_one_that_the_run_logged(rig: Rig) -> None:
    run = rig.ended(rig.push(), seconds=LONG)["id"]
    row = rig.attempt(run, "build-linux")
    assert row["state"] in ("success", "warnings"), row["reason"]
    recipe = api(rig, f"runs/{run}/stages/build-linux/recipe")
    assert recipe["changed"] == []
    (folder,) = (rig.site.folder / "workers" / "reliable").glob("build-linux")
    values = {"workspace": str(folder)}
    compared = []
    for step in recipe["steps"]:
        if not step["argv"]:
            continue
        ran = argv(raw_log(rig, row["build_id"], step["name"]))
        assert [filled(word, values) for word in step["argv"]] == ran
        compared.append(step["name"])
        if step["wheel"]:
            (wheel,) = (folder / "build" / step["wheel"]["folder"]).glob("*.whl")
            values["wheel"] = wheel.name
    assert {"checkout", "wheel", "repair", "install", "verify"} <= set(compared)
    query = "select name from steps where buildid = ? and results in (0, 1) order by number"
    executed = [r["name"] for r in rig.rows(query, row["build_id"]) if r["name"] != "worker_preparation"]
    assert executed == [step["name"] for step in recipe["steps"]], "the run had a step that the recipe has not"


def test_a_wheel_that_does_not_compile_does_not_compile_here_either(rig: Rig, tmp_path: Path) -> None:
    run = rig.ended(rig.push({"cpp/broken.cc": BROKEN}), seconds=LONG)["id"]
    row = rig.attempt(run, "build-linux")
    page = api(rig, f"runs/{run}/attempts/{row['id']}/failure")
    assert (page["class"], page["step"]) == ("code", "wheel")
    (marked,) = [line["text"] for line in page["lines"] if line["number"] == page["line"]]
    assert "nothing_of_this_name" in marked
    assert attempt(rig, run, "build-linux")["failure"] == "code"
    done = mlc_ci(rig, str(run), "build-linux", "--into", str(tmp_path / "again"))
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr
    assert f"the same failure as in run {run}" in done.stdout
