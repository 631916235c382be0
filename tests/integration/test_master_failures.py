"""What goes wrong around a pipeline ends in a clear message on the page and in the summary, and the master lives on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pipelines import WELL, hold, pipeline
from rig import MakeRig, Rig, Row, git, repository

from master.site.processes import NotStarted

pytestmark = pytest.mark.slow

ONCE = {"infrastructure_retries": 0}
Mount = Callable[[Path, str], None]


@pytest.fixture
def tiny_disk() -> Iterator[Mount]:
    """Mounts a file system of a given size on a folder; a real full disk needs root's rights."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        order = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if os.geteuid() != 0 or subprocess.run(order, capture_output=True, check=False).returncode != 0:
            pytest.skip("a small file system can only be mounted by root")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _said_everywhere(rig: Rig, run: Row, stage: str, words: str) -> None:
    """On the run's page, on Buildbot's page of the build, and in the summary."""
    attempt = rig.attempt(run["id"], stage)
    assert words in attempt["reason"]
    with rig.browser(login=False) as client:
        told = client.get(f"plugins/mlc_ci/api/runs/{run['id']}").json()
    assert words in next(s["reason"] for s in told["stages"] if s["name"] == stage)
    assert any(
        words in step["state_string"] for step in rig.rows("select * from steps where buildid = ?", attempt["build_id"])
    )
    assert words in rig.summary(run["id"])


def test_a_repository_that_the_poller_cannot_reach(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start(["reliable"])
    there, gone = rig.repositories / "sample.git", rig.repositories / "gone.git"
    there.rename(gone)
    said = "the repository cannot be asked for its refs"
    rig.wait(lambda: said in rig.log(), "the log says so")
    line = next(line for line in rig.log().splitlines() if said in line)
    assert str(there) in line
    assert "does not appear to be a git repository" in line
    gone.rename(there)
    run = rig.ended(rig.push())
    assert run["result"] == "success"
    assert rig.log().count(said) == 1, "said once, not at every look"


def test_a_repository_that_the_checkout_cannot_reach(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling=ONCE))
    rig.start(["reliable"])
    pushed = rig.push({"ci/test.sh": hold(rig, "go")})
    rig.wait_for_state(rig.run(pushed)["id"], "test", "running")
    there, gone = rig.repositories / "sample.git", rig.repositories / "gone.git"
    there.rename(gone)
    rig.flag("go")
    run = rig.ended(pushed)
    assert run["result"] == "infrastructure"
    _said_everywhere(rig, run, "build-a", f"{there} gives no access")
    gone.rename(there)
    rig.order(f"runs/{run['id']}/repeat", stage="")
    rig.wait(lambda: rig.runs(pushed)[0]["result"] == "success", "all is well once it is back")


def test_a_repository_without_submodules(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(project={"submodules": True}))
    where = rig.repositories / "sample.git"
    work = rig.folder / "work"
    git("clone", "--quiet", str(where), str(work), cwd=rig.folder)
    git("rm", "--quiet", "-r", "--cached", "3rdparty", ".gitmodules", cwd=work)
    author = ("-c", "user.name=T", "-c", "user.email=t@sample.invalid")
    git(*author, "commit", "--quiet", "-m", "No submodules", cwd=work)
    git("push", "--quiet", "origin", "HEAD:main", cwd=work)
    rig.start(["reliable"])
    run = rig.ended(rig.push())
    assert (run["result"], rig.states(run["id"])) == ("success", WELL["push"])


def test_a_submodule_whose_commit_nobody_has(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(project={"submodules": True}, scheduling=ONCE))
    rig.start(["reliable"])
    well = rig.ended(rig.push())
    assert well["result"] == "success", well["result_reason"]
    repository.break_main(rig.repositories, "missing-submodule")
    rig.wait(lambda: len(rig.runs()) == 2, "a run for it")
    run = rig.run_ended(rig.runs()[-1]["id"])
    assert run["result"] in ("failure", "infrastructure")
    _said_everywhere(rig, run, "build-a", "3rdparty/kernels")


def test_a_command_that_meets_a_full_disk(make_rig: MakeRig) -> None:
    """/dev/full: every write to it ends with the kernel's own ENOSPC."""
    rig = make_rig(pipeline(scheduling=ONCE))
    rig.start(["stranger"])
    run = rig.ended(rig.pull_request(1, {"ci/build-a.sh": "cat /proc/version > /dev/full || exit 1\n"}))
    assert run["result"] == "infrastructure"
    _said_everywhere(rig, run, "build-a", "the disk is full: ")


def test_a_checkout_on_a_full_disk(make_rig: MakeRig, tiny_disk: Mount) -> None:
    rig = make_rig(pipeline(scheduling=ONCE))
    full = rig.site.folder / "workers" / "stranger" / "build-a"
    full.parent.mkdir(exist_ok=True)
    full.parent.joinpath("info").mkdir(exist_ok=True)
    tiny_disk(full, "64k")
    rig.start(["stranger"])
    pushed = rig.pull_request(1)
    run = rig.ended(pushed)
    assert run["result"] == "infrastructure"
    _said_everywhere(rig, run, "build-a", "No space left on device")
    assert rig.states(run["id"])["build-b"] == "success"
    subprocess.run(["mount", "-o", "remount,size=64m", str(full)], check=True)
    rig.order(f"runs/{run['id']}/repeat", stage="build-a")
    rig.wait(lambda: rig.runs(pushed)[0]["result"] == "success", "all is well once there is room")


def test_an_artifact_folder_on_a_full_disk(make_rig: MakeRig, tiny_disk: Mount) -> None:
    rig = make_rig(pipeline(scheduling=ONCE))
    artifacts = rig.site.basedir / "artifacts"
    tiny_disk(artifacts, "4m")
    (artifacts / "fill").write_bytes(bytes(3500 * 1024))  # less is left than the reserve
    rig.start(["reliable"])
    pushed = rig.push()
    run = rig.ended(pushed)
    assert run["result"] == "infrastructure"
    _said_everywhere(rig, run, "build-a", "the artifact store is full")
    assert not rig.rows("select 1 from artifacts")
    (artifacts / "fill").unlink()
    rig.order(f"runs/{run['id']}/repeat", stage="")
    rig.wait(lambda: rig.runs(pushed)[0]["result"] == "success", "all is well once there is room")


def test_an_artifact_folder_that_cannot_be_used_is_told_before_anything_starts(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling=ONCE))
    artifacts = rig.site.basedir / "artifacts"
    shutil.rmtree(artifacts, ignore_errors=True)
    artifacts.write_text("not a folder\n")
    with pytest.raises(NotStarted, match="artifacts is no folder that this user may write to"):
        rig.start(["reliable"])
    rig.stop()
    artifacts.unlink()
    rig.start(["reliable"])
    assert rig.ended(rig.push())["result"] == "success"


def test_an_artifact_that_is_not_there(make_rig: MakeRig) -> None:
    tables = pipeline()
    tables["stages"]["build-a"]["artifacts"] = ["*.whl", "*.tar.gz"]
    rig = make_rig(tables)
    rig.start(["stranger"])
    run = rig.ended(rig.pull_request(1))
    assert run["result"] == "failure"
    _said_everywhere(rig, run, "build-a", "no file matches *.tar.gz")
    listed = rig.rows(
        "select f.name from artifacts f join stage_attempts a on a.id = f.attempt_id where a.stage = 'build-a'"
    )
    assert listed == []


def test_a_release_that_cannot_be_written_is_published_once_it_can(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling=ONCE))
    releases = rig.site.basedir / "releases"
    releases.write_text("not a folder\n")
    rig.start(["reliable"])
    tagged = rig.tag("v1.0")
    run = rig.ended(tagged)
    assert (rig.states(run["id"])["release"], run["result"]) == ("infrastructure", "infrastructure")
    assert str(releases) in rig.attempt(run["id"], "release")["reason"]
    releases.unlink()
    rig.order(f"runs/{run['id']}/repeat", stage="")
    rig.wait(lambda: rig.runs(tagged)[0]["result"] == "success", "all is well once it can")
    assert (releases / "v1.0" / "release.json").exists()


def test_a_tag_that_is_public_already_is_never_replaced(make_rig: MakeRig) -> None:
    """The tag is moved to another commit: that is another run, and its release is refused."""
    rig = make_rig()
    rig.start(["reliable"])
    first = rig.tag("v1.0")
    rig.ended(first)
    public = rig.site.basedir / "releases" / "v1.0" / "release.json"
    before = public.read_bytes()
    moved = rig.push()
    git("tag", "--force", "v1.0", moved.head, cwd=rig.repositories / "sample.git")
    query = "select * from runs where kind = 'tag' and head = ?"
    rig.wait(lambda: rig.rows(query, moved.head), "a run for the moved tag")
    run = rig.run_ended(rig.rows(query, moved.head)[0]["id"])
    assert run["result"] == "failure"
    said = f"v1.0 is public already, made from commit {first.head}: a release is never replaced"
    assert rig.attempt(run["id"], "release")["reason"] == said
    assert said in rig.summary(run["id"])
    assert public.read_bytes() == before


def test_a_folder_that_somebody_else_made_is_no_release_of_ours(make_rig: MakeRig) -> None:
    rig = make_rig()
    (rig.site.basedir / "releases" / "v1.0").mkdir(parents=True)
    rig.start(["reliable"])
    run = rig.ended(rig.tag("v1.0"))
    assert rig.states(run["id"])["release"] == "failure"
    assert "exists and was not made by this master: move it away first" in rig.attempt(run["id"], "release")["reason"]


def test_settings_that_are_no_toml_change_nothing(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start(["stranger"])
    (rig.site.basedir / "settings.toml").write_text("[project\n")
    rig.reload()
    assert "settings.toml" in rig.log()
    assert rig.ended(rig.pull_request(1))["result"] == "success"


def test_a_command_that_says_nothing_for_too_long(make_rig: MakeRig) -> None:
    tables = pipeline()
    tables["stages"]["build-a"]["silence_timeout"] = 1
    rig = make_rig(tables)
    rig.start(["stranger"])
    run = rig.ended(rig.pull_request(1, {"ci/build-a.sh": "echo compiling; sleep 60\n"}))
    assert run["result"] == "failure"
    _said_everywhere(rig, run, "build-a", "silence timeout: no output for 1 seconds; its last line: compiling")
