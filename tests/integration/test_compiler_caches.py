"""The compilers' caches on real workers: they hit, each worker has its own, and builds see the document's environment.

The sample project has seven objects, and CMake's probes make it ten calls; one object knows the version. With a new
commit that one is compiled again, which alone is a tenth. The first push therefore brings a dozen files more.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pipelines import workers
from rig import Pushed, Rig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("compiler caches"),
    pytest.mark.skipif(not shutil.which("ccache"), reason="ccache is not installed (Debian: apt-get install ccache)"),
]
ROOT = Path(__file__).resolve().parents[2]
PROJECT = ROOT / "tests" / "sample_project" / "project"
SHIPPED = tomllib.loads((ROOT / "ci" / "mlc-llm.toml").read_text(encoding="utf-8"))
TOOLS = ["python", "compiler", "cmake", "cargo", "vulkan-sdk"]
LONG = 280.0  # seconds for a real build, on a busy machine
SEEN = "seen-environment"
MORE = {f"cpp/more_{n}.cc": f"int mlc_sample_more_{n}(int x) {{ return x + {n}; }}\n" for n in range(12)}
STRANGE = {"cpp/strange.cc": "int mlc_sample_strange(int x) { return 3 * x; }\n"}


def tables() -> dict[str, Any]:
    both = {name: {**table, "provides": TOOLS} for name, table in workers("reliable", "stranger").items()}
    build = SHIPPED["stages"]["build-linux"]
    wheel = {"package": "mlc_sample", "version_script": "version.py", "config_cmake": {"USE_VULKAN": "ON"}}
    wheel["exclude"] = build["wheel"]["exclude"]
    return {
        "project": {"submodules": True},
        "environment": SHIPPED["environment"],
        "threads": SHIPPED["threads"],
        "scheduling": {"no_worker": "skip"},
        "workers": both,
        "stages": {
            "build-linux": {"environment": build["environment"], "wheel": {**wheel, "repair": False}},
            "summary": {"needs": ["build-linux"]},
        },
    }


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch:
        rustup = Path.home() / ".rustup"  # a worker's home is its own folder
        if rustup.is_dir() and "RUSTUP_HOME" not in os.environ:
            patch.setenv("RUSTUP_HOME", str(rustup))
        made = Rig(tmp_path_factory.mktemp("caches") / "rig", template, tables())
        try:
            made.start()
            yield made
        finally:
            made.stop()


class Built:
    """A build of the stage: what it says of its caches, and what its CMake saw."""

    def __init__(self, rig: Rig, pushed: Pushed) -> None:
        run = rig.ended(pushed, seconds=LONG)
        attempt = rig.attempt(run["id"], "build-linux")
        self.id = attempt["build_id"]
        self.worker = rig.site.folder / "workers" / attempt["worker"]
        self.log = rig.step_log(self.id, step="wheel")
        assert attempt["state"] == "success", f"{attempt['reason']}\n{self.log[-5000:]}"
        rows = rig.rows("select name, value from build_properties where buildid = ?", self.id)
        self.properties: dict[str, Any] = {row["name"]: json.loads(row["value"]) for row in rows}
        (self.line,) = (
            r["state_string"]
            for r in rig.rows("select * from steps where buildid = ?", self.id)
            if r["name"] == "wheel"
        )
        (self.seen,) = (environment(path) for path in self.worker.glob(f"*/{SEEN}"))

    def rates(self) -> dict[str, float]:
        return {tool: self.properties[f"{tool}_hit_rate"] for tool in ("ccache", "sccache")}

    def hits(self) -> tuple[int, int]:
        return self.properties["ccache_hits"], self.properties["sccache_hits"]

    def missed(self) -> set[str]:
        return {Path(line.split()[1]).name for line in self.log.splitlines() if line.startswith("  missed: ")}


def environment(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


@pytest.fixture(scope="module")
def builds(rig: Rig) -> Mapping[str, Built]:
    """A push; after it a pull request and a tag side by side; after them a push of what the pull request had."""
    look = (
        f'execute_process(COMMAND "${{CMAKE_COMMAND}}" -E environment OUTPUT_FILE "${{CMAKE_SOURCE_DIR}}/../{SEEN}")\n'
    )
    looking = {"CMakeLists.txt": (PROJECT / "CMakeLists.txt").read_text() + look}
    built = {"push": Built(rig, rig.push({**MORE, **looking}))}
    proposed, tagged = rig.pull_request(7, STRANGE), rig.tag("v0.9.0")
    built |= {"pull_request": Built(rig, proposed), "tag": Built(rig, tagged)}
    built["again"] = Built(rig, rig.push(STRANGE))
    return built


def test_the_first_build_fills_the_caches(builds: Mapping[str, Built]) -> None:
    first = builds["push"]
    assert first.hits() == (0, 0)
    assert first.properties["ccache_misses"] >= 7 + len(MORE)
    assert first.properties["sccache_misses"] >= 3  # two crates and what joins them
    assert "cache_warnings" not in first.properties


def test_the_second_build_hits(builds: Mapping[str, Built]) -> None:
    again = builds["again"]
    assert again.rates()["sccache"] == 100
    assert again.rates()["ccache"] > 90
    assert again.missed() == {"version.cc", "strange.cc"}, "only what is new is compiled again"
    tag = builds["tag"]
    assert tag.rates()["sccache"] == 100
    assert tag.rates()["ccache"] > 90
    assert tag.missed() == {"version.cc"}
    asked = tag.properties["ccache_hits"] + 1
    assert f"ccache {asked - 1}/{asked} ({tag.rates()['ccache']:g} %)" in tag.line


def test_trusted_and_untrusted_builds_share_nothing(builds: Mapping[str, Built], rig: Rig) -> None:
    stranger, trusted = builds["pull_request"], builds["push"]
    assert stranger.hits() == (0, 0), "a pull request read what a trusted build wrote"
    assert "strange.cc" in builds["again"].missed(), "a trusted build read what a pull request wrote"
    for built in (stranger, trusted):
        for name in ("CCACHE_DIR", "SCCACHE_DIR", "CARGO_HOME", "PIP_CACHE_DIR"):
            assert Path(built.seen[name]).is_relative_to(built.worker), name
        for name in ("CCACHE_DIR", "SCCACHE_DIR"):
            assert any(path.is_file() for path in Path(built.seen[name]).rglob("*/*")), f"{name} is empty"
    assert stranger.worker.name == "stranger"
    assert trusted.worker.name == "reliable"
    assert not [line for line in rig.left() if "sccache" in line], "a server outlived its build"


def test_the_properties_are_the_tools_own_numbers(builds: Mapping[str, Built]) -> None:
    """ccache adds up for ever what it also said of each build."""
    mine = [builds[name] for name in ("push", "again", "tag")]
    ours = {word: sum(b.properties[f"ccache_{word}"] for b in mine) for word in ("hits", "misses")}
    said = subprocess.run(
        ["ccache", "--print-stats"],
        env={**os.environ, "CCACHE_DIR": mine[0].seen["CCACHE_DIR"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    total = {name: int(value) for name, value in (line.split("\t") for line in said.splitlines())}
    assert ours["hits"] == total["direct_cache_hit"] + total["preprocessed_cache_hit"]
    assert ours["misses"] == total["cache_miss"]


@pytest.mark.parametrize(("event", "threads"), [("push", "4"), ("pull_request", "2"), ("tag", "4")])
def test_the_build_sees_the_documents_environment(builds: Mapping[str, Built], event: str, threads: str) -> None:
    seen, worker = builds[event].seen, builds[event].worker
    workspace = next(worker.glob(f"*/{SEEN}")).parent
    expected = {
        "CARGO_INCREMENTAL": "0",
        "CARGO_PROFILE_DEV_DEBUG": "0",
        "CARGO_TERM_COLOR": "always",
        "RUST_BACKTRACE": "short",
        "RUSTFLAGS": "-D warnings",
        "NUM_THREADS": threads,
        "CCACHE_DIR": f"{workspace}/.ccache",
        "CCACHE_COMPILERCHECK": "content",
        "CCACHE_NOHASHDIR": "1",
    }
    assert {name: seen.get(name) for name in expected} == expected
    for language in ("C", "CXX", "CUDA"):
        assert seen[f"CMAKE_{language}_COMPILER_LAUNCHER"].endswith("/ccache")
    assert seen["RUSTC_WRAPPER"].endswith("/sccache")
