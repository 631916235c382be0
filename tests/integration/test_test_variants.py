"""The shape in which a test stage ships for GPUs: one suite, variants cpu and vulkan, Mesa's device for the second."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pipelines import pipeline
from rig import MakeRig, Rig

from workers.gpu.check import look
from workers.probe.facts import VULKAN

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not look(VULKAN, 60).gpus, reason="needs a Vulkan device")]

SUITE = """
import os, subprocess

import pytest

DEVICE = os.environ.get("MLC_CI_VULKAN_DEVICE", "")

@pytest.fixture
def device():
    return DEVICE or pytest.skip("needs a device")

def test_anywhere():
    assert 1 + 1 == 2

@pytest.mark.op_correctness
def test_the_device_that_was_lent_computes(device):
    done = subprocess.run(["mlc-ci-worker", "check-gpu", "--api", "vulkan", "--device", f"VK-{device}"])
    assert done.returncode == 0
"""
CONFIGURED = "[pytest]\nmarkers = op_correctness\n"


def tables(variants: tuple[str, ...] = ("cpu", "vulkan")) -> dict[str, Any]:
    found = pipeline(gpus={"probe_interval": "1s"})
    found["stages"]["test"] = {
        "uses": "test",
        "variants": list(variants),
        "requires": {"os": "linux", "variants": {"vulkan": {"gpu": {"api": "vulkan", "software": True}}}},
        "pytest": {
            "paths": ["suite"],
            "minimum_passed": 1,
            "variants": {"vulkan": {"marker": "op_correctness", "minimum_passed": 1}},
        },
    }
    return found


def ended(rig: Rig) -> dict[str, Any]:
    rig.start()
    run = rig.ended(rig.push(files={"suite/test_suite.py": SUITE, "pytest.ini": CONFIGURED}), seconds=240)
    return {row["variant"]: row for row in rig.attempts(run["id"], "test")}


def test_one_suite_runs_on_the_cpu_and_on_a_vulkan_device(make_rig: MakeRig) -> None:
    rig = make_rig(tables())
    attempts = ended(rig)
    assert {variant: row["state"] for variant, row in attempts.items()} == dict.fromkeys(attempts, "success"), rig.log()
    assert set(attempts) == {"cpu", "vulkan"}
    on_cpu, on_device = (rig.step_log(attempts[each]["build_id"], step="pytest") for each in ("cpu", "vulkan"))
    assert "1 passed, 1 skipped" in on_cpu
    assert "1 passed, 1 deselected" in on_device
    query = "select value from build_properties where buildid = ? and name = 'gpus'"
    (lent,) = json.loads(rig.rows(query, attempts["vulkan"]["build_id"])[0]["value"])
    assert lent["id"] in {gpu.id for gpu in look(VULKAN, 60).gpus}
    assert rig.rows(query, attempts["cpu"]["build_id"]) == []


def test_a_variant_whose_tests_were_all_skipped_is_no_baseline(make_rig: MakeRig) -> None:
    """The negative control: the device's tests in a variant that was lent none."""
    found = tables(("cpu",))
    found["stages"]["test"]["pytest"] = {"paths": ["suite"], "marker": "op_correctness", "minimum_passed": 1}
    del found["stages"]["test"]["requires"]["variants"]
    attempt = ended(make_rig(found))["cpu"]
    assert attempt["state"] != "success"
    assert "1 skipped" in attempt["reason"]
