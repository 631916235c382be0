"""A master killed with SIGKILL between any two writes: nothing is lost, and nothing takes effect twice."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from judge import Expected, all_well, assert_right, release_identity, settled, superseded
from pipelines import hold, pipeline
from rig import HERE, Pushed, Rig, git, load_module

pytestmark = pytest.mark.slow

Scenario = Callable[[Rig], list[Expected]]
_NUMBERS = itertools.count(1)  # of pull requests and tags: all tests of a process share a site


def a_push(rig: Rig) -> list[Expected]:
    return all_well([rig.push()])


def a_tag(rig: Rig) -> list[Expected]:
    return all_well([rig.tag(f"v1.{next(_NUMBERS)}")])


def a_push_and_a_pull_request(rig: Rig) -> list[Expected]:
    return all_well([rig.push(), rig.pull_request(next(_NUMBERS))])


def a_newer_push_to_a_pull_request(rig: Rig) -> list[Expected]:
    """The older run is being built when the newer push comes, and would never end by itself."""
    number = next(_NUMBERS)
    older = rig.pull_request(number, {"ci/build-a.sh": hold(rig, "never")})
    rig.wait_for_state(rig.run(older)["id"], "build-a", "running")
    newer = rig.pull_request(number, {"ci/build-a.sh": ""}, again=True)
    return [superseded(older, test="success", build_a="cancelled", summary="success"), *all_well([newer])]


def _a_failure(rig: Rig) -> int:
    """A run whose build-a has failed, and would not fail again."""
    flag = f"mended-{next(_NUMBERS)}"
    script = f"[ -e {rig.flags}/{flag} ] || exit 1\n"
    run = rig.ended(rig.push({"ci/build-a.sh": script}))
    rig.wait(lambda: not rig.rows("select 1 from buildrequests where complete = 0"), "no request is open")
    rig.flag(flag)
    return int(run["id"])


def _twice(rig: Rig, run_id: int) -> list[Expected]:
    row = rig.rows("select kind, ref, head from runs where id = ?", run_id)[0]
    return [Expected(pushed=Pushed(**row), attempts={"build-a": 2, "summary": 2})]


def a_rebuild(rig: Rig) -> list[Expected]:
    run_id = _a_failure(rig)
    build = rig.attempt(run_id, "build-a")["build_id"]
    with contextlib.suppress(httpx.HTTPError):  # the answer may die with the master
        rig.control(f"builds/{build}", "rebuild")
    return _twice(rig, run_id)


def a_repetition(rig: Rig) -> list[Expected]:
    run_id = _a_failure(rig)
    with contextlib.suppress(httpx.HTTPError):
        rig.order(f"runs/{run_id}/repeat", stage="")
    return _twice(rig, run_id)


def a_force(rig: Rig) -> list[Expected]:
    with contextlib.suppress(httpx.HTTPError):
        rig.force(ref="main")
    head = git("rev-parse", "refs/heads/main", cwd=rig.repositories / "sample.git")
    return [Expected(pushed=Pushed(kind="manual", ref="refs/heads/main", head=head), acts_as="push")]


WINDOWS: dict[str, Scenario] = {
    "refs seen / events not kept": a_push_and_a_pull_request,
    "events kept / inbox not read": a_push_and_a_pull_request,
    "inbox written / run not created": a_push_and_a_pull_request,
    "within the transaction that creates the run": a_push,
    "within the transaction that supersedes a run": a_newer_push_to_a_pull_request,
    "run created / attempts not": a_push,
    "attempts created / intent not": a_push,
    "intent written / buildset not added": a_push,
    "buildset added / id not stored": a_push,
    "id stored / gate's ticket not issued": a_push,
    "ticket issued / request not claimed": a_push,
    "request claimed / build not begun": a_push,
    "build begun / its steps not": a_push,
    "commands done / build not finished": a_push,
    "build finished / request not completed": a_push,
    "request completed / outcome not accepted": a_push,
    "outcome read / not accepted": a_push,
    "within the transaction that accepts": a_push,
    "outcome accepted / next stage not queued": a_push,
    "supersession written / not withdrawn": a_newer_push_to_a_pull_request,
    "cancel intent written / not carried out": a_newer_push_to_a_pull_request,
    "request cancelled / build not stopped": a_newer_push_to_a_pull_request,
    "first of two assets copied": a_tag,
    "draft complete / not revealed": a_tag,
    "release revealed / build not finished": a_tag,
    "release accepted / summary not queued": a_tag,
    "summary queued / buildset not added": a_tag,
    "summary accepted / run not ended": a_tag,
    "rebuild asked for / no attempt made": a_rebuild,
    "attempt made / rebuild's request not cancelled": a_rebuild,
    "wish to repeat written / not acted on": a_repetition,
}


class Chain:
    """One site that goes through window after window, with all that must have become of it so far."""

    def __init__(self, make: Callable[[], Rig]) -> None:
        self.make = make
        self.rig: Rig | None = None
        self.expected: list[Expected] = []

    def kill_and_judge(self, window: str, scenario: Scenario) -> None:
        rig, self.rig = self.rig, None  # a site in which something went wrong is not used again
        if rig is None:
            rig, self.expected = self.make(), []
            rig.inject()
            rig.start()
        rig.inject(window=window)
        self.expected += scenario(rig)
        rig.wait_for_the_window()
        public = release_identity(rig)
        rig.start_master(wait=False)
        settled(rig, self.expected)
        assert_right(rig, self.expected)
        assert release_identity(rig).items() >= public.items(), "a release was replaced"
        self.rig = rig


@pytest.fixture(scope="module")
def chain(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    rigs: list[Rig] = []

    def make() -> Rig:
        while rigs:
            rigs.pop().stop()
        rigs.append(Rig(tmp_path_factory.mktemp("chain") / "rig", template, pipeline()))
        return rigs[-1]

    yield Chain(make)
    for rig in rigs:
        rig.stop()


@pytest.mark.parametrize("window", WINDOWS)
def test_a_kill_in_the_window(window: str, chain: Chain) -> None:
    chain.kill_and_judge(window, WINDOWS[window])


def test_a_kill_between_a_force_and_its_run(chain: Chain) -> None:
    chain.kill_and_judge("inbox written / run not created", a_force)


def test_every_window_is_hit_by_a_test() -> None:
    windows = load_module(HERE / "injection.py").WINDOWS
    assert set(windows) == set(WINDOWS)
