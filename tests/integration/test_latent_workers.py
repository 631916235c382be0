"""Stages in containers that the master starts for them: a real engine, the shipped image, a real master."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from docker_engine import engine, on_demand
from docker_images import derived, worker_image
from pipelines import Tables, hold
from rig import MakeRig, Rig, Row, toml

from master.containers import ContainerFailed, Containers, Owner, Wanted
from master.settings_containers import ContainerSettings
from master.site.engine import BASE_IMAGE, Engine
from steps.commands import step_name

__all__ = ["engine"]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docker"), on_demand]

#: Said by a build of what it can do and see.
INSIDE = r"""
echo "began $(date +%s.%N)"
echo "user $(id -u):$(id -g)"
grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status | tr -s '\t ' ' '
touch /written 2>/dev/null && echo 'the root is writable' || echo 'the root is read-only'
echo "memory $(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null)"
echo "processes $(cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null)"
echo "password $(ls $MLC_CI_WORKER_DIR/password 2>/dev/null || echo gone)"
echo "earlier $(ls $MLC_CI_WORKER_DIR/earlier 2>/dev/null || echo nothing)"; touch $MLC_CI_WORKER_DIR/earlier
for one in /proc/[0-9]*; do tr '\0' '\n' < $one/environ 2>/dev/null; done | sort -u | sed 's/^/variable /'
"""


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    return worker_image(engine)


def containers(engine: Engine) -> list[str]:
    return engine.docker("ps", "--all", "--format", "{{.Names}} {{.State}}").split("\n")[:-1]


def boxes(engine: Engine) -> list[str]:
    """Ids of the containers of the worker ``box``; one in which its image is only asked what it has is none."""
    return engine.docker("ps", "--all", "--quiet", "--filter", "label=mlc-ci.worker=box").split()


@pytest.fixture(autouse=True)
def nothing_is_left(engine: Engine) -> Iterator[None]:
    """No container, no volume, no network that was not there before, whatever the test did."""
    before = _things(engine)
    yield
    assert _things(engine) == before


def _things(engine: Engine) -> list[str]:
    networks = engine.docker("network", "ls", "--quiet")
    return [*containers(engine), engine.docker("volume", "ls", "--quiet"), networks]


def worker(engine: Engine, image: str, trust: str = "trusted", *provides: str, **container: Any) -> Tables:
    seen = {f'"{{rig}}/{name}"': f"{{rig}}/{name}" for name in ("repositories", "flags")}  # a key of TOML, in quotes
    made = {"image": image, "docker_host": engine.host, "network": "host", "memory": "1G", "processes": 256}
    return {"trust": trust, "provides": ["python", *provides], "container": made | {"mounts": seen} | container}


def commands(*lines: str, tool: str = "python", **more: Any) -> Tables:
    return {"uses": "commands", "requires": {"os": "linux", "tools": [tool]}, "commands": list(lines), **more}


def tables(workers: Tables, stages: Tables, **scheduling: Any) -> Tables:
    return {"scheduling": {"no_worker": "skip", **scheduling}, "workers": workers, "stages": stages}


def both(engine: Engine, image: str, **container: Any) -> Tables:
    return {name: worker(engine, image, name, **container) for name in ("trusted", "untrusted")}


def waited(rig: Rig, attempt: Row) -> float:
    """Seconds from when the attempt might start to its first own command, the checkout before it included."""
    (began,) = re.findall(r"^began (\S+)$", rig.step_log(attempt["build_id"], step=step_name(INSIDE)), re.M)
    return float(began) - float(attempt["waiting_since"])


def test_stages_run_in_fresh_locked_down_containers_and_nothing_is_left(
    engine: Engine, image: str, make_rig: MakeRig
) -> None:
    stages = {
        "test": commands(INSIDE, "test -e $MLC_CI_WORKER_DIR/earlier"),
        "build": commands(INSIDE, "echo contents > built.txt", needs=["test"], artifacts=["*.txt"]),
        "summary": {"needs": ["test", "build"]},
    }
    rig = make_rig(tables(both(engine, image), stages))
    rig.start([])
    run = rig.ended(rig.push())
    assert run["result"] == "success", rig.state() + rig.log()[-3000:]
    pull_request = rig.ended(rig.pull_request(1))
    assert pull_request["result"] == "success"
    for each, trust in ((run, "trusted"), (pull_request, "untrusted")):
        for stage in ("test", "build"):
            attempt = rig.attempt(each["id"], stage)
            assert attempt["worker"] == trust
            said = rig.step_log(attempt["build_id"], step=step_name(INSIDE))
            for line in (
                "user 10001:10001",
                "CapBnd: 0000000000000000",
                "NoNewPrivs: 1",
                "the root is read-only",
                f"memory {1 << 30}",
                "processes 256",
                "password gone",
                "earlier nothing",
            ):
                assert line in said.splitlines(), said
            assert not [line for line in said.splitlines() if line.startswith("variable ") and "PASS" in line.upper()]
            print(f"{stage} of a {each['kind']}: {waited(rig, attempt):.1f} s to its first command")
    assert rig.rows("select 1 from artifacts where name = 'built.txt'")
    rig.wait(lambda: not containers(engine), "the containers are gone, the master still running")


def test_a_container_that_cannot_become_a_worker_ends_the_stage_with_its_reason(
    engine: Engine, image: str, make_rig: MakeRig
) -> None:
    probe = "[ $1 = probe ] && exec /opt/mlc-ci-worker/bin/real probe --json"
    said = derived(engine, "crashes", f"{probe}; echo no disk; exit 3")
    lost = derived(
        engine,
        "astray",
        f'{probe}\nsed -i "s/\\"port\\": [0-9]*/\\"port\\": 9/" worker.json; exec /opt/mlc-ci-worker/bin/real "$@"',
    )
    broken = {
        "absent": (worker(engine, "nowhere.example/none:1"), "image 'nowhere.example/none:1' is not on unix://"),
        "empty": (worker(engine, BASE_IMAGE), "exec mlc-ci-worker failed: No such file or directory"),
        "crashes": (worker(engine, said), "its container ended (exit code 3) before it connected; it said: no disk"),
        "astray": (worker(engine, lost, start_timeout="8s"), "did not connect within 8 s (start_timeout); it said: "),
        "down": (worker(engine, image, docker_host="unix:///nowhere/docker.sock"), "does not answer: "),
    }
    workers = {name: {**made, "provides": [name]} for name, (made, _) in broken.items()}
    stages = {name: commands("true", tool=name) for name in broken}
    summary = {"summary": {"needs": list(broken)}}
    rig = make_rig(tables(workers, stages | summary, infrastructure_retries=1))
    rig.start([])
    run = rig.ended(rig.push(), seconds=150)
    assert run["result"] == "infrastructure"
    for name, (_, reason) in broken.items():
        attempts = rig.attempts(run["id"], name)
        assert [each["state"] for each in attempts] == ["infrastructure"] * 2, attempts
        assert all(reason in each["reason"] for each in attempts), attempts
        assert [len(rig.builds(each["request_id"])) for each in attempts] == [1, 1], "no build of it was queued again"
        assert attempts[1]["not_before"] > attempts[0]["ended_at"], "it backs off"
    assert not rig.rows("select 1 from buildrequests where complete = 0")
    with rig.browser() as browser:
        told = {each["name"]: each for each in browser.get("plugins/mlc_ci/api/workers").json()["workers"]}
    assert all(reason in told[name]["refused"] for name, (_, reason) in broken.items()), told
    assert "cannot be started: image 'nowhere" in told["absent"]["unknown"]


HELD = {"test": commands("sh ci/held.sh"), "summary": {"needs": ["test"]}}


def held(rig: Rig, engine: Engine, text: str = "") -> int:
    """A run whose only stage is being built, until the flag is raised."""
    run_id = int(rig.run(rig.push({"ci/held.sh": text + hold(rig, "go")}))["id"])
    rig.wait(
        lambda: any("sh ci/held.sh" in engine.docker("top", box) for box in boxes(engine)), "it runs in a container"
    )
    return run_id


def test_what_a_killed_master_left_running_is_removed_and_the_run_goes_on(
    engine: Engine, image: str, make_rig: MakeRig
) -> None:
    rig = make_rig(tables({"box": worker(engine, image)}, HELD))
    rig.start([])
    run_id = held(rig, engine)
    (before,) = boxes(engine)
    rig.kill("master")
    assert boxes(engine) == [before], "nobody has removed it"
    rig.flag("go")
    rig.start_master()
    assert rig.run_ended(run_id)["result"] == "success"
    assert before not in boxes(engine)
    assert rig.attempt(run_id, "test")["lost_with_master"] == 1
    assert "removed containers that an earlier life of this master left: " in rig.log()


def test_cancelling_ends_the_container_and_so_does_an_orderly_stop(
    engine: Engine, image: str, make_rig: MakeRig
) -> None:
    rig = make_rig(tables({"box": worker(engine, image)}, HELD))
    rig.start([])
    run_id = held(rig, engine)
    assert rig.order(f"runs/{run_id}/cancel").status_code == 200
    assert rig.run_ended(run_id)["result"] == "cancelled"
    rig.wait(lambda: not containers(engine), "the container of the cancelled run is gone")
    held(rig, engine, "# another\n")
    rig.end("master")
    assert not containers(engine)


def test_a_build_that_takes_too_much_hurts_itself_only(engine: Engine, image: str, make_rig: MakeRig) -> None:
    bomb = "python3 -c 'import os\nfor n in range(300): os.fork() or os._exit(__import__(\"time\").sleep(5) or 0)'"
    hog = "python3 -c 'b = bytearray(600 << 20); print(len(b))'"
    stages = {
        "bomb": commands(bomb),
        "hog": commands(hog, needs=["bomb"]),
        "test": commands("true", needs=["hog"]),
        "summary": {"needs": ["test"]},
    }
    stages["bomb"]["continue_on_error"] = stages["hog"]["continue_on_error"] = True
    workers = {"box": worker(engine, image, memory="256M", processes=64)}
    rig = make_rig(tables(workers, stages, infrastructure_retries=1))
    rig.start([])
    run = rig.ended(rig.push(), seconds=90)
    attempts = rig.attempts(run["id"])
    reasons = {each["stage"]: each["reason"] for each in attempts}
    assert "a limit of the host was hit: BlockingIOError" in reasons["bomb"]
    assert "memory limit of its container: memory ran out: Killed" in reasons["hog"]
    assert sorted(each["stage"] for each in attempts) == ["bomb", "bomb", "hog", "summary", "test"], (
        "the host may have too few"
    )
    assert rig.states(run["id"])["test"] == "success", "the same worker builds on"


def test_a_network_of_its_own_is_left_over_tls_only(engine: Engine, image: str, make_rig: MakeRig) -> None:
    gateway = engine.docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    stages = {"build": commands("echo x > built.txt", artifacts=["*.txt"]), "summary": {"needs": ["build"]}}
    rig = make_rig(tables({"box": worker(engine, image, network="bridge")}, stages))
    master = {"worker_listen": "0.0.0.0", "worker_tls": True, "worker_host": [gateway]}  # noqa: S104
    text = toml({**rig.tables, "master": rig.tables["master"] | master})
    (rig.site.basedir / "settings.toml").write_text(text.replace("{rig}", str(rig.folder)))
    rig.start([])
    run = rig.ended(rig.push())
    assert run["result"] == "success", rig.attempts(run["id"])
    assert rig.rows("select 1 from artifacts where name = 'built.txt'")


def test_a_container_gets_the_gpus_of_its_lease_and_none_without(engine: Engine, image: str) -> None:
    """There is no GPU here: that the engine looks for its driver shows that one was asked for."""
    own = ContainerSettings(image=image, docker_host=engine.host, gpus=True)
    some = Containers(own, Owner(master="test", life="this"))
    with pytest.raises(ContainerFailed, match=r"could not select device driver .*gpu compute utility graphics"):
        some.start(Wanted(worker="w", files={}, gpus=["GPU-1"]))
    some.remove(some.start(Wanted(worker="w", files={})))


def test_a_sweep_takes_what_earlier_lives_of_the_same_master_left(engine: Engine, image: str) -> None:
    own = ContainerSettings(image=image, docker_host=engine.host)
    mine, before, other = (
        Containers(own, Owner(master=master, life=life)) for master, life in (("a", "2"), ("a", "1"), ("b", "1"))
    )
    kept = [mine.start(Wanted(worker="w1", files={})), other.start(Wanted(worker="w", files={}))]
    before.start(Wanted(worker="w2", files={}))
    assert mine.sweep() == ["mlc-ci-a-w2"]
    assert mine.sweep() == []
    for each in kept:
        mine.remove(each)
