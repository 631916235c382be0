"""``ci/up --once`` from a clean clone into a new environment, as a newcomer types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE_S = 25 * 60

pytestmark = [pytest.mark.xdist_group("once"), pytest.mark.slow, pytest.mark.timeout(PATIENCE_S + 60)]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that other users can pass through: with root, the workers run as users of their own."""
    folder = Path(tempfile.mkdtemp(prefix="mlc-ci-e2e-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def clone(place: Path) -> Path:
    """The checkout as it is committed, and the changes on top of it, without what lies about beside them."""
    target = place / "clone with spaces"
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(target)], check=True)
    listed = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    changed = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, changed.split("\0")):
        if (CHECKOUT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)
        else:
            (target / name).unlink(missing_ok=True)
    return target


@pytest.fixture(scope="module")
def once(clone: Path, place: Path) -> Any:
    """What ``ci/up --once --json`` printed; the folder for temporary files is its own, to see what is left there."""
    (place / "tmp").mkdir(mode=0o755)
    environment = {**os.environ, "MLC_CI_VENV": str(place / "venv"), "TMPDIR": str(place / "tmp")}
    environment.pop("PYTEST_CURRENT_TEST", None)
    started = subprocess.Popen(
        [str(clone / "ci" / "up"), "--once", "--json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, progress = started.communicate(timeout=PATIENCE_S)
    except BaseException:
        os.killpg(started.pid, signal.SIGINT)
        started.wait(60)
        raise
    print(progress)
    assert started.returncode == 0, output + progress
    return json.loads(output)


def run_of(once: Any, event: str) -> Mapping[str, Any]:
    (run,) = [run for run in once["runs"] if run["event"] == event]
    return run


def states(run: Mapping[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in run["stages"]}


def test_nothing_is_found_wrong(once: Any) -> None:
    assert once["ok"] is True
    assert once["problems"] == []


def test_a_pull_request_has_docker_and_release_skipped_with_reasons(once: Any) -> None:
    stages = {stage["name"]: stage for stage in run_of(once, "pull_request")["stages"]}
    assert stages["docker"]["reason"] == "runs for push, tag, and this is a pull request"
    assert stages["release"]["reason"] == "runs for tag, and this is a pull request"
    assert {stages[name]["state"] for name in ("docker", "release")} == {"skipped"}


def test_every_event_builds_a_wheel_with_its_manifest(once: Any) -> None:
    for event in ("push", "pull_request", "tag"):
        (build,) = [stage for stage in run_of(once, event)["stages"] if stage["name"] == "build-linux"]
        manifest, wheel = build["history"][0]["artifacts"]  # by their names
        assert wheel["name"].endswith("_x86_64.whl")
        assert "manylinux" in wheel["name"]
        assert manifest["name"] == f"{wheel['name'].removesuffix('.whl')}.manifest.json"


def test_the_plan_was_true(once: Any, clone: Path, place: Path) -> None:
    for event in ("push", "pull_request", "tag"):
        asked = [str(place / "venv" / "bin" / "mlc-ci"), "plan", "--event", event, "--json"]
        asked += ["--settings", str(clone / "ci" / "quickstart.toml")]
        planned = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
        expected = {stage["stage"]: (stage["what"], stage["reason"]) for stage in planned["stages"]}
        what = {"success": "run", "warnings": "run", "skipped": "skip", "blocked": "blocked"}
        really = {
            stage["name"]: (what[stage["state"]], stage["reason"] if stage["state"] != "warnings" else "")
            for stage in run_of(once, event)["stages"]
        }
        assert really == expected


def test_nothing_is_left(once: Any, place: Path) -> None:
    assert list((place / "tmp").iterdir()) == []
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(place) in command:
            left.append(command)
    assert left == []
