"""Which host will do for a stage, and every reason why not: on recorded fleets."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from recorded import KINDS, said, text

from master.capabilities import GpuWanted
from master.pipeline import Requires
from master.probe_facts import ProbeSaid, Unreadable, read
from master.routing import Hosts, Known, described, listed, told

WINDOWS = "geforce-windows"
SEVEN = ("h100", WINDOWS, "mig", "radeon", "lavapipe", "no-driver", "hanging-driver")


def fleet(*kinds: str, stale_after: float = 1200.0) -> Any:
    clock = SimpleNamespace(now=1000.0)
    hosts = Hosts(lambda: clock.now)
    provided = frozenset({"python", "vulkan-sdk"})
    workers = {kind: ("windows" if "windows" in kind else "linux", provided) for kind in kinds}
    hosts.configure(workers, stale_after)
    for kind in kinds:
        hosts.note(kind, Known(said=said(kind), read_at=clock.now))
    return SimpleNamespace(hosts=hosts, clock=clock, workers=workers)


def gpu(api: Any = "cuda", **more: Any) -> Requires:
    return Requires(gpu=GpuWanted(api=api, **more))


def against(requires: Requires, *kinds: str) -> dict[str, str]:
    hosts = fleet(*kinds).hosts
    return {kind: ", ".join(hosts.refusals(requires, kind)) for kind in kinds}


def test_every_recorded_probe_is_read() -> None:
    assert set(SEVEN) <= set(KINDS)
    assert all(isinstance(read(text(kind)), ProbeSaid) for kind in KINDS)


def test_who_has_cuda() -> None:
    assert against(gpu(), *SEVEN) == {
        "h100": "",
        WINDOWS: "",
        "mig": "GPU-0e3c1b55… is split by MIG, whose slices are not scheduled",
        "radeon": "has no cuda: no NVIDIA driver",
        "lavapipe": "has no cuda: no NVIDIA driver",
        "no-driver": "has no cuda: no NVIDIA driver",
        "hanging-driver": "has no cuda: hangs: no answer in 30 s",
    }


def test_who_has_vulkan_of_hardware() -> None:
    assert against(gpu("vulkan"), "radeon", "lavapipe", "h100", "no-driver", "hanging-driver") == {
        "radeon": "",
        "lavapipe": "VK-6d6573613… is software (llvmpipe (LLVM 15.0.6, 256 bits))",
        "h100": "has no vulkan: no Vulkan loader",
        "no-driver": "has no vulkan: no Vulkan loader",
        "hanging-driver": "has no vulkan: hangs: no answer in 30 s",
    }
    assert against(gpu("vulkan", software=True), "lavapipe") == {"lavapipe": ""}
    assert against(gpu("vulkan", vendor="nvidia"), "radeon")["radeon"].endswith("is of amd, not nvidia")


def test_memory_and_age_of_a_board() -> None:
    eight = against(gpu(min_vram_gib=8, min_compute="8.9"), "h100", WINDOWS)
    assert eight == {
        "h100": "",
        WINDOWS: "has compute capability 8.6, and 8.9 is needed, has 6.1 of 8 GiB free",
    }
    assert against(gpu("vulkan", min_vram_gib=22), "radeon") == {"radeon": ""}, "by what its driver says is free"


def test_versions_of_tools() -> None:
    wanted = Requires(os="linux", tools=frozenset({"python"}), versions=("cmake>=3.26", "gcc>=13"))
    found = against(wanted, "h100", "lavapipe", WINDOWS)
    assert found["h100"] == ""
    assert "cmake 3.25.1 is older than 3.26" in found["lavapipe"]
    assert found[WINDOWS] == "is windows, not linux, has no gcc"


def test_a_stage_that_asks_for_neither_is_not_held_up_by_a_probe() -> None:
    hosts = Hosts()
    plain = Requires(os="linux", tools=frozenset({"python"}))
    assert hosts.refusals(plain, "anybody") == []
    assert hosts.refusals(gpu(), "anybody") == ["has not said yet what it has"], "the negative control"
    assert hosts.refusals(Requires(local=True, gpu=GpuWanted(api="cuda")), "anybody") == []


def test_what_is_old_is_not_known_any_more() -> None:
    site = fleet("h100")
    site.clock.now += 1200
    assert site.hosts.refusals(gpu(), "h100") == []
    site.clock.now += 301
    assert site.hosts.refusals(gpu(), "h100") == ["has said nothing new of what it has for 25m1s"]
    assert site.hosts.capabilities("h100") is None
    assert site.hosts.note("h100", Known(said=said("h100"), read_at=site.clock.now)), (
        "it is news that it is known again"
    )
    assert site.hosts.refusals(gpu(), "h100") == []


def test_what_cannot_be_read_is_not_known() -> None:
    site = fleet("h100")
    assert site.hosts.note("h100", Known(said=Unreadable(reason="says no text of what it has"), read_at=1000.0))
    assert site.hosts.refusals(gpu(), "h100") == ["says no text of what it has"]
    site.hosts.note("h100", Known(said=said("h100"), read_at=1000.0))
    site.hosts.forget("h100")
    assert site.hosts.refusals(gpu(), "h100") == ["has not said yet what it has"]


def test_only_what_a_build_can_tell_is_news() -> None:
    site = fleet("h100")

    def with_free(taken: int) -> Known:
        facts = json.loads(text("h100"))
        facts["gpus"][0]["cuda"]["memory_free"] -= taken
        facts["at"] += 300
        return Known(said=read(json.dumps(facts)), read_at=1000.0)

    assert not site.hosts.note("h100", with_free(0)), "the same host, asked again"
    assert not site.hosts.note("h100", with_free(1 << 20))
    assert site.hosts.note("h100", with_free(8 << 30))
    assert site.hosts.note("h100", Known(said=said("no-driver"), read_at=1000.0))


def test_what_our_own_builds_use_is_not_held_against_a_board() -> None:
    hosts, board = fleet(WINDOWS).hosts, said(WINDOWS).gpus[0].id
    wanted = gpu(min_vram_gib=7)
    assert hosts.refusals(wanted, WINDOWS) == ["has 6.1 of 7 GiB free"]
    assert hosts.refusals(wanted, WINDOWS, lent={"GPU-another"}) == ["has 6.1 of 7 GiB free"]
    assert hosts.refusals(wanted, WINDOWS, lent={board}) == []
    assert hosts.refusals(wanted, WINDOWS, lent={board}, quarantined={board: "XID 79"}) == [
        "GPU-77aa3b5c… is quarantined: XID 79"
    ]


def test_what_passes_by_itself_is_left_out_when_asked_for_ever() -> None:
    hosts = fleet(WINDOWS).hosts
    assert hosts.refusals(gpu(min_vram_gib=7), WINDOWS, ever=True) == []
    assert hosts.refusals(gpu(min_vram_gib=9), WINDOWS, ever=True) == ["has 8.0 of 9 GiB"]


def test_new_settings_change_what_a_worker_is() -> None:
    site = fleet("radeon", "h100")
    linux = Requires(os="linux", versions=("git>=2",))
    assert site.hosts.refusals(linux, "h100") == []
    site.hosts.configure({"h100": ("windows", frozenset())}, 1200.0)
    assert site.hosts.refusals(linux, "h100") == ["is windows, not linux"]
    assert site.hosts.refusals(linux, "radeon") == ["has not said yet what it has"], "no worker of these settings"


def test_reasons_in_one_line() -> None:
    assert told({"win-1": ["has no cuda"], "linux-2": ["has 6.1 of 8 GiB free", "is old"]}) == (
        "linux-2 has 6.1 of 8 GiB free, is old; win-1 has no cuda"
    )
    assert told({f"w{n:02}": ["has no cuda"] for n in range(200)}).endswith("w07 has no cuda; and 192 more")


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        (Requires(), []),
        (
            Requires(os="linux", tools=frozenset({"python", "cargo"}), versions=("cmake>=3.24",)),
            ["linux", "cargo", "python", "cmake>=3.24"],
        ),
        (gpu(count=2, min_vram_gib=16, min_compute="8.0"), ["2 cuda GPUs, 16 GiB free, compute 8.0"]),
        (
            gpu("vulkan", vendor="amd", min_api="1.3", software=True),
            ["vulkan GPU, of amd, vulkan 1.3, software will do"],
        ),
    ],
)
def test_what_a_stage_asks_for_in_words(requires: Requires, said: list[str]) -> None:
    assert listed(requires) == said
    assert requires.gpu is None or described(requires.gpu) == said[-1]
