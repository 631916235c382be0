"""A real master that releases on GitHub: killed at each step of it, through outages, and refused what is wrong."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from github_double import GitHubDouble
from pipelines import pipeline
from rig import Pushed, Rig

from master.settings_github import APP_KEY

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("github release")]
FILES = {"build_a-1.0-py3-none-any.whl", "build_b-1.0-py3-none-any.whl", "SHA256SUMS", "release.json"}
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubDouble]:
    made = GitHubDouble(tmp_path_factory.mktemp("github"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def rig(double: GitHubDouble, template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    tables = pipeline()
    tables["stages"]["release"]["target"] = {"kind": "github", "manifests": False}
    tables["github"] = {"repository": "acme/sample", "access": "app", "app_id": double.app_id, "api": double.url}
    tables["github"] |= {"webhook": False, "statuses": False, "comment": False}
    made = Rig(tmp_path_factory.mktemp("github-release") / "rig", template, tables)
    key = made.site.basedir / "secrets" / APP_KEY
    key.write_text(double.app_key)
    key.chmod(0o600)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def github(double: GitHubDouble) -> Iterator[GitHubDouble]:
    double.mend()
    yield double
    double.mend()


def tagged(rig: Rig, github: GitHubDouble, *, of: str = "") -> Pushed:
    """A new tag, here and on GitHub; there perhaps ``of`` another commit."""
    number = next(_NUMBERS)
    head = rig.push({f"changes/{number}": ""}).head
    github.tag(f"v1.{number}", of or head)
    return rig.tag(f"v1.{number}")


def name(tag: Pushed) -> str:
    return tag.ref.removeprefix("refs/tags/")


def released(github: GitHubDouble, tag: Pushed) -> dict[str, Any]:
    """There is one release of the tag, public and complete."""
    (found,) = (one for one in github.releases() if one["tag_name"] == name(tag))
    assert sorted(one["name"] for one in found["assets"]) == sorted(FILES)
    assert {one["state"] for one in found["assets"]} == {"uploaded"}
    assert not found["draft"]
    assert found["body"].startswith("# sample")
    return found


@pytest.mark.parametrize(
    ("request_of", "acted"),
    [
        pytest.param("GET .*/releases$", False, id="looking"),
        pytest.param("POST .*/releases$", True, id="draft made"),
        pytest.param("POST .*/assets$", True, id="first file sent"),
        pytest.param("POST .*/assets$", False, id="first file not sent"),
        pytest.param("PATCH .*/releases/", False, id="not yet public"),
        pytest.param("PATCH .*/releases/", True, id="just public"),
    ],
)
def test_a_master_killed_while_it_releases_completes_the_release(
    rig: Rig, github: GitHubDouble, request_of: str, acted: bool
) -> None:
    before = len(github.requests())
    github.fail("hang", request_of, acted=acted)
    tag = tagged(rig, github)

    def reached() -> bool:
        return any(one["fault"] and (one["status"] or not acted) for one in github.requests()[before:])

    rig.wait(reached, "the master asked GitHub")
    rig.kill("master")
    github.mend()
    rig.start_master()
    run = rig.ended(tag)
    assert run["result"] == "success"
    released(github, tag)
    made = [one for one in github.requests()[before:] if one["method"] == "POST" and one["path"].endswith("/releases")]
    assert len(made) == 1, "one draft, made once"


def test_an_outage_and_a_storm_of_limits_cost_a_release_nothing_but_time(rig: Rig, github: GitHubDouble) -> None:
    before = len(github.requests())
    github.fail("error", count=0)
    tag = tagged(rig, github)
    rig.wait(lambda: len(github.requests()) >= before + 2, "the master found GitHub out")
    github.mend()
    github.fail("secondary", "/assets", count=2, skip=1, retry_after=1)
    github.fail("limit", "PATCH", count=1, retry_after=1)
    run = rig.ended(tag)
    assert run["result"] == "success"
    assert rig.attempt(run["id"], "release")["number"] == 1, "waited for, not begun anew"
    released(github, tag)
    assert sum(one["fault"] == "secondary" for one in github.requests()[before:]) == 2


def test_a_tag_of_another_commit_is_refused(rig: Rig, github: GitHubDouble) -> None:
    run = rig.ended(tag := tagged(rig, github, of="a" * 40))
    stage = rig.attempt(run["id"], "release")
    assert (run["result"], stage["state"]) == ("failure", "failure")
    assert stage["reason"] == f"{name(tag)} is commit {'a' * 40} on GitHub; this run built {run['head']}"
    assert name(tag) not in [one["tag_name"] for one in github.releases()]


def test_a_run_without_a_wheel_releases_nothing(rig: Rig, github: GitHubDouble) -> None:
    number = next(_NUMBERS)
    head = rig.push({"ci/build-b.sh": "exit 1\n"}).head
    github.tag(f"v1.{number}", head)
    run = rig.ended(rig.tag(f"v1.{number}"))
    rig.push({"ci/build-b.sh": "true\n"})
    assert rig.attempt(run["id"], "release")["state"] == "blocked"
    assert f"v1.{number}" not in [one["tag_name"] for one in github.releases()]


def test_a_release_that_is_cancelled_while_github_is_out_is_not_made(rig: Rig, github: GitHubDouble) -> None:
    before = len(github.requests())
    github.fail("error", "POST .*/assets", count=0)
    tag = tagged(rig, github)
    rig.wait(lambda: any(one["fault"] for one in github.requests()[before:]), "the master sent a file")
    (run,) = rig.rows("select * from runs where head = ? and tag = ?", tag.head, name(tag))
    assert rig.order(f"runs/{run['id']}/cancel").status_code < 300
    assert rig.ended(tag)["result"] == "cancelled"
    assert [one["draft"] for one in github.releases() if one["tag_name"] == name(tag)] == [True]
