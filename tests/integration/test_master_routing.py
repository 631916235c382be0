"""A stage that asks for versions or GPUs goes to the worker whose host has them, and says why it waits while none has.

Real workers. Once the first probe of each is written, a recorded one takes its place; the next is minutes away.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pipelines import Tables, commands, pipeline, workers
from rig import MakeRig, Rig

from master import launch

pytestmark = pytest.mark.slow

PROBES = Path(__file__).parents[1] / "recorded_probes"
NO_CUDA = "waiting: reliable has no cuda: no NVIDIA driver; reliable-2 has no cuda: no NVIDIA driver"


def tables(**stages: Tables) -> Tables:
    found = pipeline(gpus={"probe_interval": "1s"}, workers=workers("reliable", "stranger", "reliable-2"))
    found["stages"] = {"plain": commands("plain"), **stages, "summary": {"needs": ["plain", *stages]}}
    return found


def wanting(stage: str, **requires: Any) -> Tables:
    return commands(stage, requires={"os": "linux", **requires}, infrastructure_retries=0)


def has(rig: Rig, **kinds: str) -> None:
    """From now on, these hosts are as recorded; returns once the master knows."""
    for name, kind in kinds.items():
        worker = name.replace("_", "-")
        file = rig.site.folder / "workers" / worker / "info" / "probe.json"
        rig.wait(file.exists, f"the first probe of {worker}")
        new = file.with_suffix(".new")
        new.write_text((PROBES / f"{kind}.json").read_text())
        new.replace(file)
        recorded = json.loads((PROBES / f"{kind}.json").read_text())
        rig.wait(lambda w=worker, r=recorded: known(rig, w).get("gpus") == r["gpus"], f"{worker} known as {kind}")


def known(rig: Rig, worker: str) -> Mapping[str, Any]:
    rows = rig.rows("select facts from worker_probes where worker = ?", worker)
    facts = rows[0]["facts"] if rows else None
    return json.loads(facts) if isinstance(facts, str) else facts or {}


def mlc_ci(*words: str) -> str:
    done = subprocess.run([launch.script("mlc-ci"), *words], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def test_it_waits_with_the_reason_and_starts_when_a_host_becomes_fit(make_rig: MakeRig) -> None:
    rig = make_rig(tables(newer=wanting("newer", tools=["python", "cmake>=4"])))
    rig.start()
    has(rig, reliable="lavapipe", reliable_2="lavapipe", stranger="h100")
    pushed = rig.push()
    run = rig.run(pushed)
    waits = "waiting: reliable cmake 3.25.1 is older than 4; reliable-2 cmake 3.25.1 is older than 4"
    rig.wait(lambda: rig.attempt(run["id"], "newer")["reason"] == waits, "the attempt says why it waits")
    assert rig.wait_for_state(run["id"], "plain", "success"), "who asks for no version is not held up"
    assert waits in mlc_ci("show", str(run["id"]), "--master", rig.site.url)
    told = mlc_ci(
        "plan", "--event", "push", "--ref", "refs/heads/main", "--master", rig.site.url,
        "--settings", str(rig.site.basedir / "settings.toml"),
    )  # fmt: skip
    assert "linux, python, cmake>=4" in told
    assert "waits: reliable cmake 3.25.1 is older than 4" in told

    has(rig, reliable_2="h100")
    ended = rig.ended(pushed)
    attempt = rig.attempt(run["id"], "newer")
    assert (ended["result"], attempt["worker"], attempt["reason"]) == ("success", "reliable-2", "")


def test_a_gpu_is_sought_by_variant_and_only_among_workers_of_the_runs_trust(make_rig: MakeRig) -> None:
    stage = wanting("gpu", variants={"cuda": {"gpu": {"api": "cuda", "min_vram_gib": 16}}})
    rig = make_rig(tables(gpu={**stage, "variants": ["cpu", "cuda"]}))
    rig.start()
    has(rig, reliable="no-driver", reliable_2="no-driver", stranger="h100")
    run = rig.run(rig.push())

    def reason(variant: str) -> Any:
        return next((row["reason"] for row in rig.attempts(run["id"], "gpu") if row["variant"] == variant), None)

    rig.wait(lambda: reason("cuda") == NO_CUDA, "the variant that wants CUDA says why it waits")
    rig.wait(lambda: rig.states(run["id"])["plain"] == "success", "the others run")
    assert reason("cpu") == ""
    page = mlc_ci("worker", "list", "--master", rig.site.url)
    assert "gpu GPU-6f5807f4-7436-b82c-2cd6-a79121ed7e18 NVIDIA H100 80GB HBM3: cuda 13.0, compute 9.0" in page
    assert "stranger, probed" in page and "tools" in page

    has(rig, reliable="h100")

    def started() -> Any:
        return next(row["worker"] for row in rig.attempts(run["id"], "gpu") if row["variant"] == "cuda")

    rig.wait(started, "the build starts where the GPU is")
    assert started() == "reliable"


def test_nonsense_in_the_file_is_told_and_harms_nobody(make_rig: MakeRig) -> None:
    rig = make_rig(tables(newer=wanting("newer", tools=["python", "cmake>=4"])))
    rig.start()
    has(rig, reliable="h100", reliable_2="h100")
    for worker in ("reliable", "reliable-2"):
        (rig.site.folder / "workers" / worker / "info" / "probe.json").write_text('{"format": 1, "trust": "trusted"}')
    told = "says what it has wrongly"
    problems = "select problem from worker_probes where worker like 'r%'"
    rig.wait(lambda: all(told in row["problem"] for row in rig.rows(problems)), "the master read it")
    run = rig.run(rig.push())
    rig.wait(lambda: told in rig.attempt(run["id"], "newer")["reason"], "the attempt says why it waits")
    assert rig.wait_for_state(run["id"], "plain", "success")
    has(rig, reliable="h100")
    assert rig.wait_for_state(run["id"], "newer", "success")["worker"] == "reliable"
