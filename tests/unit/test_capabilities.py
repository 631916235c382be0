"""What a stage asks against what a host has: refused with every reason, or with the devices that fit, best first."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from pydantic import ValidationError

from master.capabilities import GIB, Capabilities, Device, GpuWanted, Wanted, match


def device(id: str = "GPU-a", free: float | None = 8, total: float = 8, **more: Any) -> Device:
    facts: dict[str, Any] = {"name": "Board", "vendor": "nvidia", "apis": {"cuda": "12.8", "vulkan": "1.3.200"}}
    facts |= {"compute": "8.6", "memory_total": int(total * GIB)} | more
    return Device(id=id, memory_free=None if free is None else int(free * GIB), **facts)


def host(*devices: Device, **more: Any) -> Capabilities:
    return Capabilities(**{"os": "linux", "devices": devices} | more)


def gpu(api: str = "cuda", **more: Any) -> Wanted:
    return Wanted.model_validate({"gpu": {"api": api, **more}})


def tools(*names: str) -> Wanted:
    return Wanted(tools=names)


def test_who_asks_nothing_is_served() -> None:
    assert match(Wanted(), host()).refusals == ()


@pytest.mark.parametrize(
    ("wanted", "has", "refusals"),
    [
        (Wanted(os="windows"), host(), ("is linux, not windows",)),
        (Wanted(os="linux"), host(), ()),
        (tools("cmake"), host(), ("has no cmake",)),
        (tools("cmake"), host(tools={"cmake": "3.20"}), ()),
        (tools("cmake"), host(provides=frozenset({"cmake"})), ()),
        (tools("cmake>=3"), host(provides=frozenset({"cmake"})), ("does not say which version of cmake it has",)),
        (tools("cmake>=3.24"), host(tools={"cmake": "3.20"}), ("cmake 3.20 is older than 3.24",)),
        (tools("cmake >= 3.24, <4"), host(tools={"cmake": "4.0.1"}), ("cmake 4.0.1 is not older than 4",)),
        (tools("cmake<=3.24"), host(tools={"cmake": "3.25"}), ("cmake 3.25 is newer than 3.24",)),
        (tools("cmake>3.24"), host(tools={"cmake": "3.24"}), ("cmake 3.24 is not newer than 3.24",)),
        (tools("cmake==3.24.*"), host(tools={"cmake": "3.25"}), ("cmake 3.25 is not ==3.24.*",)),
        (tools("cmake~=3.24"), host(tools={"cmake": "4.1"}), ("cmake 4.1 is not ~=3.24",)),
        (
            tools("cmake>=3"),
            host(tools={"cmake": "?"}),
            ("cmake says the version '?', which cannot be compared with >=3",),
        ),
        (tools("gcc>=12,<13"), host(tools={"gcc": "9.1"}), ("gcc 9.1 is older than 12",)),
        (
            tools("docker"),
            host(provides=frozenset({"docker"}), broken={"docker": "no daemon"}),
            ("has no docker that works: no daemon",),
        ),
        (gpu(), host(), ("has no cuda",)),
        (gpu(), host(broken={"cuda": "no NVIDIA driver"}), ("has no cuda: no NVIDIA driver",)),
        (gpu("vulkan"), host(device(apis={"cuda": "12.8"})), ("has no vulkan",)),
        (gpu(min_vram_gib=8), host(device(free=6.19)), ("has 6.1 of 8 GiB free",)),
        (gpu(min_vram_gib=8), host(device(free=7.9999)), ("has 7.9 of 8 GiB free",)),
        (gpu(min_vram_gib=8), host(device(free=8)), ()),
        (gpu(min_vram_gib=8), host(device(free=None, total=6)), ("has 6.0 of 8 GiB",)),
        (gpu(min_vram_gib=8), host(device(free=None, total=8)), ()),
        (
            gpu(min_vram_gib=1),
            host(device(free=None, memory_total=None)),
            ("GPU-a does not say how much memory it has",),
        ),
        (gpu(min_compute="9.0"), host(device()), ("has compute capability 8.6, and 9.0 is needed",)),
        (gpu(min_compute="8.6"), host(device()), ()),
        (gpu(min_compute="10.0"), host(device(compute="9.0")), ("has compute capability 9.0, and 10.0 is needed",)),
        (
            gpu(min_compute="8.0"),
            host(device(compute=None)),
            ("has compute capability (it does not say which), and 8.0 is needed",),
        ),
        (gpu(min_api="13.0"), host(device()), ("has cuda 12.8, and 13.0 is needed",)),
        (gpu("vulkan", min_api="1.4"), host(device()), ("has vulkan 1.3.200, and 1.4 is needed",)),
        (gpu("vulkan", vendor="amd"), host(device()), ("GPU-a is of nvidia, not amd",)),
        (gpu("vulkan"), host(device(software=True)), ("GPU-a is software (Board)",)),
        (gpu("vulkan", software=True), host(device(software=True)), ()),
        (gpu(), host(device(mig=True)), ("GPU-a is split by MIG, whose slices are not scheduled",)),
        (gpu(count=2), host(device()), ("has 1 of 2 GPUs that fit",)),
        (
            gpu(min_vram_gib=8),
            host(device("GPU-a", 1), device("GPU-0123456789abcdef", 2)),
            ("has 0 of 1 GPUs that fit", "GPU-a has 1.0 of 8 GiB free", "GPU-01234567… has 2.0 of 8 GiB free"),
        ),
    ],
)
def test_every_refusal_has_its_reason(wanted: Wanted, has: Capabilities, refusals: tuple[str, ...]) -> None:
    assert match(wanted, has).refusals == refusals


def test_all_reasons_are_said_not_the_first_alone() -> None:
    wanted = Wanted.model_validate({"os": "windows", "tools": ["msvc", "conda"], "gpu": {"api": "cuda"}})
    said = ("is linux, not windows", "has no msvc", "has no conda", "has no cuda")
    assert match(wanted, host()).refusals == said


def test_a_quarantined_device_is_not_used_and_says_why() -> None:
    has, why = host(device("GPU-a"), device("GPU-b")), {"GPU-a": "XID 79"}
    assert match(gpu(), has, why).devices == ("GPU-b",)
    assert match(gpu(), has, why).refusals == ()
    assert match(gpu(count=2), has, why).refusals == ("has 1 of 2 GPUs that fit", "GPU-a is quarantined: XID 79")
    assert match(gpu(), host(device("GPU-a")), why).refusals == ("GPU-a is quarantined: XID 79",)


def test_the_least_that_is_enough_comes_first_and_the_ailing_last() -> None:
    sick = device("GPU-sick", 8, ailing=("2 uncorrected memory errors",))
    has = host(sick, device("GPU-80", 80), device("GPU-16", 16), device("GPU-4", 4), device("GPU-24", 24))
    assert match(gpu(min_vram_gib=8), has).devices == ("GPU-16", "GPU-24", "GPU-80", "GPU-sick")


def test_a_real_device_comes_before_software() -> None:
    has = host(device("VK-0", 1, software=True), device("GPU-b", 80))
    assert match(gpu("vulkan", software=True), has).devices == ("GPU-b", "VK-0")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"tools": ["cmake>=new"]}, "names no tool"),
        ({"tools": ["cmake 3.24"]}, "names no tool"),
        ({"tools": [">=3"]}, "names no tool"),
        ({"tools": [""]}, "names no tool"),
        ({"tools": "cmake"}, "valid tuple"),
        ({"os": "macos"}, "linux"),
        ({"gpu": {}}, "api"),
        ({"gpu": {"api": "rocm"}}, "cuda"),
        ({"gpu": {"api": "cuda", "count": 0}}, "greater than or equal to 1"),
        ({"gpu": {"api": "cuda", "count": True}}, "valid integer"),
        ({"gpu": {"api": "cuda", "min_vram_gib": -1}}, "greater than or equal to 0"),
        ({"gpu": {"api": "cuda", "min_vram_gib": float("nan")}}, "greater than or equal to 0"),
        ({"gpu": {"api": "cuda", "min_vram_gib": float("inf")}}, "less than or equal to 65536"),
        ({"gpu": {"api": "cuda", "min_vram_gib": "8"}}, "valid number"),
        ({"gpu": {"api": "cuda", "min_compute": 8.0}}, "valid string"),
        ({"gpu": {"api": "cuda", "min_compute": "sm_90"}}, "'sm_90' is no version"),
        ({"gpu": {"api": "vulkan", "min_compute": "8.0"}}, "min_compute is CUDA's"),
        ({"gpu": {"api": "cuda", "software": True}}, "software devices are Vulkan's"),
        ({"gpu": {"api": "cuda", "software": "yes"}}, "valid boolean"),
        ({"gpu": {"api": "cuda", "vendor": "amd"}}, "no board of amd has CUDA"),
        ({"gpu": {"api": "cuda", "vendor": "NVIDIA"}}, "pattern"),
        ({"gpu": {"api": "cuda", "memory": 8}}, "Extra inputs"),
    ],
)
def test_what_cannot_be_asked_is_refused(said: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Wanted.model_validate(said)


VERSIONS = ["1", "1.0", "1.0.0", "1.9", "1.10", "2.0", "2.0.1", "10.2"]
SURE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def padded(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split("."))) + (0,) * (3 - version.count(".") - 1)


@pytest.mark.parametrize("operator", SURE)
def test_versions_compare_as_numbers_whatever_their_length(operator: str) -> None:
    for known, needed in product(VERSIONS, VERSIONS):
        refusals = match(tools(f"x{operator}{needed}"), host(tools={"x": known})).refusals
        assert (refusals == ()) == SURE[operator](padded(known), padded(needed)), (known, operator, needed)


apis = st.fixed_dictionaries({}, optional={"cuda": st.sampled_from(["12.0", "13.0", None]), "vulkan": st.just("1.3.5")})
memory = st.none() | st.integers(0, 12 * GIB) | st.sampled_from([8 * GIB, 8 * GIB - 1])
devices = st.lists(
    st.builds(
        Device,
        id=st.integers(0, 10**6).map("GPU-{}".format),
        name=st.just("Board"),
        vendor=st.sampled_from(["nvidia", "amd"]),
        apis=apis,
        memory_total=memory,
        memory_free=memory,
        compute=st.sampled_from([None, "7.5", "9.0"]),
        software=st.booleans(),
        mig=st.booleans(),
        ailing=st.sampled_from([(), ("ill",)]),
    ),
    max_size=5,
    unique_by=lambda one: one.id,
)
asked_of_cuda = {"api": st.just("cuda"), "min_compute": st.sampled_from([None, "8.0"])}
asked_of_vulkan = {"api": st.just("vulkan"), "software": st.booleans(), "vendor": st.sampled_from([None, "amd"])}
asked_of_both = {
    "count": st.integers(1, 3),
    "min_vram_gib": st.sampled_from([0, 0.5, 8]),
    "min_api": st.sampled_from([None, "1.4", "12.5"]),
}
gpus_asked = (
    st.fixed_dictionaries(asked_of_cuda | asked_of_both) | st.fixed_dictionaries(asked_of_vulkan | asked_of_both)
).map(GpuWanted.model_validate)


def fits(wanted: GpuWanted, one: Device, quarantined: set[str]) -> bool:
    """The rule said a second time, without reasons."""
    usable = one.memory_free if one.memory_free is not None else one.memory_total
    version = one.apis.get(wanted.api)
    return (
        wanted.api in one.apis
        and one.id not in quarantined
        and not one.mig
        and (wanted.software or not one.software)
        and wanted.vendor in (None, one.vendor)
        and (
            not wanted.min_compute or (one.compute is not None and Version(one.compute) >= Version(wanted.min_compute))
        )
        and (not wanted.min_api or (version is not None and Version(version) >= Version(wanted.min_api)))
        and (not wanted.min_vram_gib or (usable is not None and usable >= wanted.min_vram_gib * GIB))
    )


@given(gpus_asked, devices, st.data())
def test_it_is_the_rule_and_nothing_else(wanted: GpuWanted, has: list[Device], data: st.DataObject) -> None:
    ids = [one.id for one in has]
    why = dict.fromkeys(data.draw(st.sets(st.sampled_from(ids)) if ids else st.just(set())), "XID 79")
    found = match(Wanted(gpu=wanted), host(*has), why)
    fitting = [one for one in has if fits(wanted, one, set(why))]
    assert sorted(found.devices) == sorted(one.id for one in fitting)
    assert (found.refusals == ()) == (len(fitting) >= wanted.count)
    assert all(line and line.isprintable() for line in found.refusals)
    ill = {one.id: len(one.ailing) for one in has}
    order = [ill[id] for id in found.devices]
    assert order == sorted(order)
    if not fitting and (having := [one for one in has if wanted.api in one.apis]):
        said = "\n".join(found.refusals)
        assert len(having) == 1 or all(one.id in said for one in having)


@given(gpus_asked, devices, st.integers(0, 4 * GIB))
def test_more_memory_never_makes_a_host_unfit(wanted: GpuWanted, has: list[Device], more: int) -> None:
    def grown(one: Device) -> Device:
        free = one.memory_free if one.memory_free is None else one.memory_free + more
        total = one.memory_total if one.memory_total is None else one.memory_total + more
        return Device(**{**vars(one), "memory_free": free, "memory_total": total})

    before, after = (match(Wanted(gpu=wanted), host(*these)) for these in (has, map(grown, has)))
    assert set(before.devices) <= set(after.devices)


@given(gpus_asked, devices)
def test_asking_less_never_makes_a_host_unfit(wanted: GpuWanted, has: list[Device]) -> None:
    less = GpuWanted(api=wanted.api, software=wanted.software)
    assert set(match(Wanted(gpu=wanted), host(*has)).devices) <= set(match(Wanted(gpu=less), host(*has)).devices)
