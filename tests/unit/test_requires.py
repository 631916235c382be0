"""``requires`` of a stage: what the settings say, what is made of it, and what of it can never work."""

from __future__ import annotations

import pytest
from settings_sample import problem, read, usable

from master.capabilities import GpuWanted
from master.pipeline import Requires
from master.settings import Settings

PACK = '[stages.pack]\nuses = "commands"\ncommands = ["make"]\n'


def pack(requires: str, more: str = "") -> Settings:
    return usable(read(f"{PACK}{more}\n[stages.pack.requires]\n{requires}"))


def test_what_a_stage_asks_for() -> None:
    stage = pack('os = "linux"\ntools = ["python", "cmake>=3.24"]\ngpu = { api = "cuda", min_vram_gib = 16 }').stage(
        "pack"
    )
    wanted = Requires(
        os="linux",
        tools=frozenset({"python"}),
        versions=("cmake>=3.24",),
        gpu=GpuWanted(api="cuda", min_vram_gib=16),
    )
    assert stage.requires == wanted
    assert stage.requires_for("") == wanted
    assert wanted.of_probe and not Requires(os="linux", tools=frozenset({"python"})).of_probe


def test_a_variant_asks_for_something_else() -> None:
    stage = pack(
        'os = "linux"\ntools = ["python"]\n'
        '[stages.pack.requires.variants.cuda]\ngpu = { api = "cuda" }\n'
        '[stages.pack.requires.variants.nvcc]\ntools = ["python", "nvcc>=12.4"]',
        more='variants = ["cpu", "cuda", "nvcc"]',
    ).stage("pack")
    python = frozenset({"python"})
    assert stage.requires_for("cpu") == Requires(os="linux", tools=python)
    assert stage.requires_for("cuda") == Requires(os="linux", tools=python, gpu=GpuWanted(api="cuda"))
    assert stage.requires_for("nvcc") == Requires(os="linux", tools=python, versions=("nvcc>=12.4",))


def test_what_a_use_brings_along_stays_unless_tools_are_named() -> None:
    settings = usable(
        read(
            '[stages.test]\n[stages.test.pytest]\n[stages.test.requires]\ngpu = { api = "vulkan", software = true }',
        )
    )
    required = settings.stage("test").requires
    assert (required.os, required.tools, required.gpu is not None) == ("linux", {"python"}, True)


@pytest.mark.parametrize(
    ("requires", "key", "part"),
    [
        ('gpu = { api = "opencl" }', "stages.pack.requires.gpu.api", "opencl"),
        ("gpu = { count = 2 }", "stages.pack.requires.gpu.api", ""),
        ('gpu = { api = "cuda", count = 0 }', "stages.pack.requires.gpu.count", "0"),
        ('gpu = { api = "cuda", min_vram_gib = -1 }', "stages.pack.requires.gpu.min_vram_gib", "-1"),
        ('gpu = { api = "cuda", memory = 1 }', "stages.pack.requires.gpu.memory", ""),
        ('gpu = { api = "cuda", software = true }', "stages.pack.requires.gpu", ""),
        ('gpu = { api = "vulkan", min_compute = "8.0" }', "stages.pack.requires.gpu", ""),
        ('gpu = { api = "cuda", vendor = "amd" }', "stages.pack.requires.gpu", ""),
        ('gpu = { api = "cuda", min_compute = "eight" }', "stages.pack.requires.gpu.min_compute", ""),
        ('tools = ["cmake>=three"]', "stages.pack.requires.tools", ""),
        ('tools = ["cmake=>3"]', "stages.pack.requires.tools", ""),
        ('tools = ["; rm"]', "stages.pack.requires.tools", ""),
        ('variants = { cuda = { os = "linux" } }', "stages.pack.requires.variants.cuda.os", ""),
    ],
)
def test_what_is_wrong_is_refused_where_it_is(requires: str, key: str, part: str) -> None:
    examined = read(f"{PACK}[stages.pack.requires]\n{requires}")
    assert examined.settings is None
    told = [each for each in examined.problems if each.key.startswith(key)]
    assert told, "\n".join(map(str, examined.problems))
    assert part in str(told[0])


def test_a_variant_that_is_none() -> None:
    examined = read(f'{PACK}variants = ["cpu"]\n[stages.pack.requires.variants.cpuu]\ngpu = {{ api = "cuda" }}')
    told = problem(examined, "stages.pack.requires.variants")
    assert (told.severity, told.found, told.allowed) == ("error", "cpuu", "cpu")
    assert 'did you mean "cpu"?' in told.message


@pytest.mark.parametrize("requires", ['gpu = { api = "cuda" }', 'tools = ["cmake>=3"]', 'os = "linux"'])
def test_a_local_stage_asks_no_worker_for_anything(requires: str) -> None:
    for local in ("", "local = true\n"):
        examined = read(f"[stages.summary]\nneeds = ['lint']\n[stages.summary.requires]\n{local}{requires}")
        assert problem(examined, "stages.summary.requires").severity == "error"
    usable(read("[stages.summary]\nneeds = ['lint']\n[stages.summary.requires]\nlocal = true"))


def test_a_version_that_no_probe_tells() -> None:
    examined = read(f'{PACK}[stages.pack.requires]\ntools = ["cmaek>=3", "vulkan-sdk>=1.3"]')
    told = [each for each in examined.problems if each.key == "stages.pack.requires.tools"]
    assert [each.found for each in told] == ["cmaek>=3", "vulkan-sdk>=1.3"]
    assert 'did you mean "cmake"?' in told[0].message
    usable(read(f'{PACK}[stages.pack.requires]\ntools = ["cmake>=3", "msvc", "msvc>=14", "python"]', MSVC))


MSVC = """
[workers.w1]
trust = "trusted"
provides = ["msvc", "python"]
[workers.w2]
trust = "untrusted"
provides = ["msvc", "python"]
"""


def test_versions_are_the_probes_word_and_names_the_settings() -> None:
    """No worker of these settings says that it provides cmake: one with a version is asked of the hosts."""
    usable(read(f'{PACK}[stages.pack.requires]\ntools = ["cmake>=3"]'))
    told = problem(read(f'{PACK}[stages.pack.requires]\ntools = ["cmake"]'), "stages.pack.requires")
    assert "no trusted and no untrusted worker can serve stage 'pack'" in told.message


def test_a_variant_that_nobody_can_serve_is_told_by_its_own_key() -> None:
    text = f'{PACK}variants = ["a", "b"]\n[stages.pack.requires]\ntools = ["python"]\n'
    text += '[stages.pack.requires.variants.b]\ntools = ["conda"]'
    assert "conda" in problem(read(text), "stages.pack.requires.variants.b").found


def test_variants_that_differ_in_their_hosts_are_not_alike() -> None:
    test = '[stages.test]\nvariants = ["cpu", "cuda"]\n[stages.test.pytest]\n'
    assert problem(read(test), "stages.test.variants").severity == "error"
    usable(read(test + '[stages.test.requires.variants.cuda]\ngpu = { api = "cuda" }'))


def test_how_often_hosts_are_asked() -> None:
    assert (usable(read()).gpus.probe_interval, usable(read()).gpus.stale_after) == (60.0, 1200.0)
    told = usable(read('[gpus]\nprobe_interval = "5m"\nstale_after = "1h"')).gpus
    assert (told.probe_interval, told.stale_after) == (300.0, 3600.0)
    assert read("[gpus]\nprobe_interval = 0").settings is None


def test_hosts_that_would_be_forgotten_between_two_probes() -> None:
    told = problem(read('[gpus]\nstale_after = "5m"'), "gpus.stale_after")
    assert told.severity == "error"
    usable(read('[gpus]\nstale_after = "6m"'))
    assert problem(read('[gpus]\nstale_after = "30m"\nprobe_interval = "1h"'), "gpus.stale_after")
