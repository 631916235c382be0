"""A stage's variants on a GPU, for real: Mesa's software device, and NVIDIA boards where the machine has some."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pipelines import TRUST, workers
from rig import MakeRig, Rig, Row

from workers.gpu.check import look
from workers.probe.boards import plain_uuid
from workers.probe.facts import CUDA, VULKAN

pytestmark = pytest.mark.slow

SHOWN = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "MLC_CI_VULKAN_DEVICE")
ASKED = {
    "vulkan": {"gpu": {"api": "vulkan", "software": True}},
    "cuda": {"gpu": {"api": "cuda"}},
}


def tables(*variants: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Each variant says what it sees, and computes with it."""
    shows = "; ".join(f'echo "{name}=${{{name}-unset}}"' for name in SHOWN)
    computes = 'case "$MLC_CI_VARIANT" in cpu) ;; *) mlc-ci-worker check-gpu --api "$MLC_CI_VARIANT" ;; esac'
    stage = {
        "uses": "commands",
        "variants": list(variants),
        "requires": {"os": "linux", "variants": {v: ASKED[v] for v in variants if v in ASKED}},
        "commands": [shows, computes],
        "environment": environment or {},
    }
    summary = {"needs": ["test"], "requires": {"local": True}, "always": True}
    return {
        "scheduling": {"infrastructure_retries": 0, "no_worker": "skip"},
        "gpus": {"probe_interval": "1s"},
        "workers": workers(*list(TRUST)[:1]),
        "stages": {"test": stage, "summary": summary},
    }


def ended(rig: Rig) -> dict[str, Row]:
    """The attempts of one push, by variant."""
    rig.start()
    run = rig.ended(rig.push(), seconds=120)
    return {row["variant"]: row for row in rig.attempts(run["id"], "test")}


def steps_of(rig: Rig, attempt: Row) -> list[str]:
    """Ours, in order: before them Buildbot prepares the worker."""
    rows = rig.rows("select name from steps where buildid = ? order by number", attempt["build_id"])
    return [row["name"] for row in rows if row["name"] != "worker_preparation"]


def seen(rig: Rig, attempt: Row) -> dict[str, str]:
    """What the build's command said that it sees."""
    shows = next(name for name in steps_of(rig, attempt) if name.startswith("echo"))
    said = rig.step_log(attempt["build_id"], step=shows)
    return dict(line.split("=", 1) for line in said.splitlines() if line.startswith(SHOWN))


def test_a_variant_computes_on_the_device_that_it_was_lent(make_rig: MakeRig) -> None:
    rig = make_rig(tables("cpu", "vulkan"))
    attempts = ended(rig)
    assert {variant: row["state"] for variant, row in attempts.items()} == {"cpu": "success", "vulkan": "success"}
    assert seen(rig, attempts["cpu"]) == dict(zip(SHOWN, ("-1", "void", "unset"), strict=True))
    assert steps_of(rig, attempts["cpu"])[0] == "checkout"
    lent = seen(rig, attempts["vulkan"])["MLC_CI_VULKAN_DEVICE"]
    assert steps_of(rig, attempts["vulkan"])[:2] == ["gpu", "checkout"]
    said = rig.step_log(attempts["vulkan"]["build_id"], step="gpu")
    (line,) = [line for line in said.splitlines() if "computes as the CPU does" in line]
    assert plain_uuid(line.split()[1].removesuffix(":")) == lent
    assert lent in {plain_uuid(gpu.id) for gpu in look(VULKAN, 60).gpus}


def test_a_device_that_fails_its_check_is_the_infrastructures_fault(make_rig: MakeRig) -> None:
    """The probe found it; the build's own environment has a driver that is none."""
    rig = make_rig(tables("vulkan"))
    broken = rig.folder / "broken.json"
    said = {"file_format_version": "1.0.0", "ICD": {"library_path": "libnone_of_ours.so", "api_version": "1.3.0"}}
    broken.write_text(json.dumps(said), encoding="ascii")
    rig.configure(tables("vulkan", environment={"VK_DRIVER_FILES": str(broken), "VK_ICD_FILENAMES": str(broken)}))
    attempt = ended(rig)["vulkan"]
    assert attempt["state"] == "infrastructure"
    assert "it is not there: found none; a Vulkan loader, but no driver that works" in attempt["reason"]
    assert steps_of(rig, attempt) == ["gpu"]


@pytest.mark.skipif(not look(CUDA, 60).gpus, reason="needs an NVIDIA board")
def test_a_cuda_variant_computes_on_the_board_that_it_was_lent(make_rig: MakeRig) -> None:
    rig = make_rig(tables("cpu", "cuda"))
    attempts = ended(rig)
    assert {variant: row["state"] for variant, row in attempts.items()} == {"cpu": "success", "cuda": "success"}
    lent = seen(rig, attempts["cuda"])
    assert lent["CUDA_VISIBLE_DEVICES"] == lent["NVIDIA_VISIBLE_DEVICES"]
    assert lent["CUDA_VISIBLE_DEVICES"] in {gpu.id for gpu in look(CUDA, 60).gpus}
    assert lent["MLC_CI_VULKAN_DEVICE"] == "unset"
    assert "1 device is visible" in rig.step_log(attempts["cuda"]["build_id"], step="gpu")
