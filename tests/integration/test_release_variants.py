"""A tag of the sample project, for real: two variants of one build, one release, and a user who follows its notes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pipelines import workers
from rig import Rig, Row

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("release variants"), pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
TOOLS = ["python", "compiler", "cmake", "cargo", "vulkan-sdk"]
LONG = 600.0  # seconds for two real builds, on a busy machine
TAG = "v0.3.0"


def tables() -> dict[str, Any]:
    """The quickstart's pipeline, with a second variant of its build."""
    shipped = tomllib.loads((ROOT / "ci" / "quickstart.toml").read_text(encoding="utf-8"))
    stages = shipped["stages"]
    stages["build-linux"]["variants"] = ["vulkan", "cpu"]
    stages["build-linux"]["wheel"]["variants"] = {
        "cpu": {"config_cmake": {"USE_VULKAN": "OFF"}, "local_version": "cpu"}
    }
    return {
        "project": {"submodules": True},
        "environment": shipped["environment"],
        "scheduling": {"no_worker": "skip"},
        "workers": {"reliable": {**workers("reliable")["reliable"], "provides": TOOLS}},
        "stages": stages,
    }


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch:
        rustup = Path.home() / ".rustup"  # a worker's home is its own folder
        if rustup.is_dir() and "RUSTUP_HOME" not in os.environ:
            patch.setenv("RUSTUP_HOME", str(rustup))
        made = Rig(tmp_path_factory.mktemp("variants") / "rig", template, tables())
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="module")
def run(rig: Rig) -> Row:
    found = rig.ended(rig.tag(TAG), seconds=LONG)
    assert found["result"] in ("success", "warnings"), rig.summary(found["id"])
    return found


@pytest.fixture(scope="module")
def public(rig: Rig, run: Row) -> Path:
    return rig.site.basedir / "releases" / TAG


def names(public: Path) -> dict[str, str]:
    """The wheels by their variant."""
    found = {path.name for path in public.glob("*.whl")}
    return {"cpu" if "+cpu-" in name else "vulkan": name for name in found}


def test_both_variants_are_released_with_their_manifests(public: Path, run: Row) -> None:
    wheels = names(public)
    assert set(wheels) == {"cpu", "vulkan"}
    version = {"cpu": "0.3.0+cpu", "vulkan": "0.3.0"}
    for variant, name in wheels.items():
        assert re.fullmatch(rf"mlc_sample-{re.escape(version[variant])}-py3-none-manylinux_\w+_x86_64\.whl", name)
        manifest = json.loads((public / f"{name.removesuffix('.whl')}.manifest.json").read_text())
        assert (manifest["version"], manifest["commit"]) == (version[variant], run["head"])
        assert f"set(USE_VULKAN {'OFF' if variant == 'cpu' else 'ON'})" in manifest["config_cmake"]
        needed = {library for libraries in manifest["libraries"].values() for library in libraries}
        assert ("libvulkan.so.1" in needed) is (variant == "vulkan")
        assert manifest["environment"]["apache-tvm-ffi"] == "0.1.15"
        assert [file.split("-")[:2] for file in manifest["tvm"]] == [["apache_tvm_ffi", "0.1.15"]]


def test_the_sums_are_those_of_all_files(public: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=public, check=True, capture_output=True
    )
    checked = {line.split(": ")[0] for line in done.stdout.decode().splitlines()}
    assert checked == {path.name for path in public.glob("*.whl")} | {path.name for path in public.glob("*.json")} - {
        "release.json"
    }


def test_each_command_of_the_notes_installs_a_wheel_that_works(public: Path, tmp_path: Path) -> None:
    """As its reader would: into an environment of their own, in the folder they downloaded to."""
    notes = (public / "RELEASE_NOTES.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", notes, re.DOTALL)
    check, installs = blocks[0], blocks[1:]
    assert sum(name in block for block in installs for name in names(public).values()) == len(installs) == 2
    for number, install in enumerate(installs):
        folder = tmp_path / str(number)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        for command in (check, install, "cd /; python3 -I -c 'import mlc_sample'"):
            done = subprocess.run(
                ["sh", "-ec", command], cwd=public, env=environment, check=False, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_a_download_that_was_changed_does_not_pass_the_notes_check(public: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(public, tmp_path / "copy")
    check = re.findall(r"```sh\n(.*?)```", (copy / "RELEASE_NOTES.md").read_text(), re.DOTALL)[0]
    wheel = copy / names(public)["vulkan"]
    wheel.write_bytes(wheel.read_bytes() + b"x")
    assert subprocess.run(["sh", "-ec", check], cwd=copy, check=False, capture_output=True).returncode == 1


def test_the_notes_name_tvm_the_build_and_the_missing_platform(public: Path) -> None:
    notes = (public / "RELEASE_NOTES.md").read_text()
    for said in (
        "- requires `apache-tvm-ffi<0.2,>=0.1.15`",
        "- installed and tried with `apache-tvm-ffi==0.1.15`",
        "- CMake options: `USE_VULKAN=ON`\n",
        "- CMake options: `USE_VULKAN=OFF`\n",
        "- rustc: `rustc ",
        "| Linux x86_64 (vulkan) | ",
        "| Linux x86_64 (cpu) | ",
        "| Windows | not in this release: ",
        "`libvulkan.so.1`",
    ):
        assert said in notes


def test_the_summary_holds_prebuilt_against_built(rig: Rig, run: Row) -> None:
    said = rig.summary(run["id"]).partition("Prebuilt against built:\n")[2].partition("\n\n")[0].splitlines()
    prebuilt = [line for line in said if line.startswith("  prebuilt  test: ")]
    assert len(prebuilt) == 1
    assert "apache-tvm 0.27.0.post1, apache-tvm-ffi 0." in prebuilt[0]
    assert re.search(r"tests: .*\d+ passed", prebuilt[0])
    for variant, version in (("vulkan", "0.3.0"), ("cpu", "0.3.0+cpu")):
        (built,) = [line for line in said if line.startswith(f"  built     build-linux ({variant}): ")]
        assert re.search(rf": mlc-sample {re.escape(version)}, \d+ bytes, with apache-tvm-ffi 0\.1\.15$", built)
