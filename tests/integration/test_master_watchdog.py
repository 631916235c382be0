"""Workers that are connected and do nothing any more, and workers that are merely busy."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest
from pipelines import hold, pipeline, workers
from rig import MakeRig, Rig

pytestmark = pytest.mark.slow

PATIENCE = 4  #: s without a sign of life
SAID = "the connection of worker {!r} is ended: it has given no sign of life for 4 s (worker_timeout)"
#: Busy for twice as long: two loops that never pause, and tens of megabytes of log in between.
BUSY = """
sh -c 'while :; do :; done' & first=$!
sh -c 'while :; do :; done' & second=$!
end=$(($(date +%s) + 9)); n=0
while [ "$(date +%s)" -lt $end ]; do
    [ $n -ge 60 ] || head -c 500000 /dev/zero | tr '\\0' 'x' | fold -w 99
    n=$((n+1))
done
kill $first $second
"""


@contextlib.contextmanager
def stopped(rig: Rig, name: str) -> Iterator[None]:
    """While a worker hangs: it is there, holds its connection and does nothing."""
    rig.signal_innermost(name, signal.SIGSTOP)
    try:
        yield
    finally:
        rig.signal_innermost(name, signal.SIGCONT)


def _held(rig: Rig) -> int:
    """A pull request's run whose build-a is being built until the flag is raised."""
    run_id = int(rig.run(rig.pull_request(1, {"ci/build-a.sh": hold(rig, "go")}))["id"])
    rig.wait_for_state(run_id, "build-b", "success")
    rig.wait_for_state(run_id, "build-a", "running")
    return run_id


def test_what_a_hung_worker_was_building_is_built_on_another_and_it_may_come_back(make_rig: MakeRig) -> None:
    rig = make_rig(
        pipeline(scheduling={"worker_timeout": PATIENCE}, workers=workers("reliable", "stranger", "stranger-2"))
    )
    rig.start(["stranger"])
    run_id = _held(rig)
    with stopped(rig, "stranger"):
        rig.site.start_worker("stranger-2")
        rig.wait(lambda: SAID.format("stranger") in rig.log(), "the master has noticed")
        rig.wait(lambda: not rig.connected("stranger"), "it counts as gone")
        rig.flag("go")
        run = rig.run_ended(run_id)
    attempt = rig.attempt(run_id, "build-a")
    assert (run["result"], attempt["worker"], attempt["lost_with_worker"]) == ("success", "stranger-2", 1)
    rig.wait_for_workers("stranger")


def test_a_cancelled_run_does_not_wait_for_a_hung_worker(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling={"worker_timeout": PATIENCE}))
    rig.start(["stranger"])
    run_id = _held(rig)
    with stopped(rig, "stranger"):
        assert rig.order(f"runs/{run_id}/cancel").status_code == 200
        run = rig.run_ended(run_id)
    assert (run["result"], rig.attempt(run_id, "build-a")["state"]) == ("cancelled", "cancelled")
    assert not rig.rows("select 1 from buildrequests where complete = 0")


def test_a_worker_that_is_busy_or_hangs_for_a_moment_is_not_taken_for_lost(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling={"worker_timeout": PATIENCE}))
    rig.start(["stranger"])
    run_id = int(rig.run(rig.pull_request(1, {"ci/build-a.sh": BUSY}))["id"])
    rig.wait_for_state(run_id, "build-a", "running")
    assert rig.run_ended(run_id, seconds=90)["result"] == "success"
    attempt = rig.attempt(run_id, "build-a")
    assert attempt["ended_at"] - attempt["started_at"] > 2 * PATIENCE
    (size,) = rig.rows(
        "select sum(length(c.content)) n, max(l.num_lines) lines from logs l join logchunks c on c.logid = l.id"
    )
    assert size["lines"] > 50_000, "it was a big log"
    with stopped(rig, "stranger"):
        time.sleep(PATIENCE / 2)
    rig.flag("go")
    assert rig.ended(rig.pull_request(2))["result"] == "success"
    assert SAID.format("stranger") not in rig.log()
    assert attempt["lost_with_worker"] == 0
    assert rig.log().count("worker 'stranger' attaching from") == 1


def test_a_master_that_was_stopped_for_a_while_blames_no_worker(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(scheduling={"worker_timeout": PATIENCE}))
    rig.start(["stranger"])
    run_id = _held(rig)
    running = rig.process("master").running
    assert running
    running.send_signal(signal.SIGSTOP)
    time.sleep(2.5 * PATIENCE)
    running.send_signal(signal.SIGCONT)
    rig.flag("go")
    assert rig.run_ended(run_id)["result"] == "success"
    assert SAID.format("stranger") not in rig.log()
