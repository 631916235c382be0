"""A master killed at random moments, also while it starts, in a burst of pushes, pull requests and tags.

``MLC_CI_SEED=N`` replays a burst: the same events and the same delays, in the order of the same seed.
"""

from __future__ import annotations

import os
import random
import threading
import time

import pytest
from judge import Expected, assert_right, release_identity, settled
from rig import MakeRig, Pushed, Rig

from master.site.processes import NotStarted

pytestmark = pytest.mark.slow

KILLS = 10  # of each of the two bursts
_LONGEST_LIFE_S = 5.0  # of a master, from its start: it needs about two seconds to open its ports
_SLOW = {"ci/build-a.sh": "sleep 0.4\n", "ci/test.sh": "sleep 0.2\n"}


class Developer:
    """Does something at random, and keeps what must become of it."""

    def __init__(self, rig: Rig, chance: random.Random) -> None:
        self.rig = rig
        self.chance = chance
        self.newest: dict[str, Pushed] = {}
        self.older: list[Pushed] = []
        self.count = 0

    def act(self) -> None:
        self.count += 1
        what = self.chance.choice(["push", "pull request", "pull request", "again", "tag"])
        if what == "push":
            self.done(self.rig.push({f"changes/{self.count}": "", **_SLOW}))
        elif what == "tag":
            self.done(self.rig.tag(f"v1.{self.count}"))
        elif what == "again" and (pulls := [p for p in self.newest.values() if p.kind == "pull_request"]):
            number = int(self.chance.choice(pulls).ref.split("/")[2])
            self.done(self.rig.pull_request(number, {f"changes/{self.count}": ""}, again=True))
        else:
            self.done(self.rig.pull_request(self.count, {f"changes/{self.count}": "", **_SLOW}))

    def done(self, pushed: Pushed) -> None:
        if older := self.newest.get(pushed.ref):
            self.older.append(older)
        self.newest[pushed.ref] = pushed

    def expected(self) -> list[Expected]:
        older = [Expected(pushed=p, optional=True, or_cancelled=p.kind == "pull_request") for p in self.older]
        return [*older, *(Expected(pushed=p) for p in self.newest.values())]


def _seed() -> int:
    """The same in every process of one test run: test names must be."""
    return int(os.environ.get("MLC_CI_SEED") or time.time_ns() % 1_000_000)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("burst", [1, 2])
def test_kills_at_random_moments(burst: int, make_rig: MakeRig) -> None:
    seed = _seed()
    print(f"MLC_CI_SEED={seed} replays this")
    chance = random.Random(seed * 2 + burst)  # noqa: S311
    rig = make_rig()
    rig.inject()
    rig.start()
    developer = Developer(rig, chance)
    public: dict[str, tuple[int, int]] = {}
    lives = True
    for _ in range(KILLS):
        for _ in range(chance.randint(1, 2)):
            developer.act()
        time.sleep(chance.uniform(0.0, 4.0))
        if lives:
            rig.kill("master")
        now = release_identity(rig)
        assert now.items() >= public.items(), f"a release was replaced (seed {seed})"
        public = now
        lives = _start_for(rig, chance.uniform(0.0, _LONGEST_LIFE_S))
    if not lives:
        rig.start_master()
    expected = developer.expected()
    settled(rig, expected, seconds=90)
    lost = rig.rows("select count(*) n from builds where results = 5")[0]["n"]
    builds = rig.rows("select count(*) n from builds")[0]["n"]
    print(f"{len(rig.runs())} runs, {builds} builds, {lost} of them lost in kills")
    assert lost, "no kill met a build: this burst proves nothing"
    assert_right(rig, expected, f"MLC_CI_SEED={seed}")
    assert release_identity(rig).items() >= public.items(), f"a release was replaced (seed {seed})"


def _start_for(rig: Rig, life: float) -> bool:
    """Start the master, and kill it after so many seconds if it is still starting then; whether it lives."""
    killed = False

    def kill() -> None:
        nonlocal killed
        process = next((p for p in rig.site.processes if p.name == "master"), None)
        if process and process.running and not rig.opened:
            killed = True
            process.running.kill()

    killer = threading.Timer(life, kill)
    killer.start()
    try:
        rig.start_master(wait=False)
    except NotStarted:
        assert killed, rig.log()[-3000:]
    killer.cancel()
    killer.join()
    if killed:
        rig.kill("master")  # and wait for its end
    return not killed
