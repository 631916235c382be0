"""``verify-wheel`` and ``wheel-manifest`` as they are typed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from wheel_corpus import LINUX, Draft, changed, linux, pure
from wheel_natives import Natives

from workers import cli
from workers.errors import CodeError
from workers.wheel.checks import CHECKS
from workers.wheel.provenance import installed_versions


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_the_table_names_the_check_the_file_the_value_and_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(pure(), record=lambda lines: lines[1:]).write(tmp_path)
    assert run("verify-wheel", path) == 1
    text = capsys.readouterr().out
    assert text.startswith(f"FAILED      {path.name}")
    assert "record-unlisted  sample/__init__.py: it is in the wheel" in text
    assert f"hint: {CHECKS['record-unlisted'].hint}" in text


def test_the_json_has_a_stable_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = pure().write(tmp_path)
    assert run("verify-wheel", "--json", path) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"format", "state", "wheels", "findings"}
    assert (answer["format"], answer["state"]) == (1, "passed")
    (wheel,) = answer["wheels"]
    assert set(wheel) == {"file", "name", "version", "tags", "size", "sha256", "state", "checks", "findings"}
    assert wheel["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert wheel["checks"]["record-hash"] == "passed"
    assert "version" not in wheel["checks"], "a check that nothing asked for was not made"


def test_unreadable_wins_over_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = changed(pure(), record=lambda lines: lines[1:]).write(tmp_path)
    unreadable = tmp_path / f"other-1-{LINUX}.whl"
    unreadable.write_bytes(b"")
    assert run("verify-wheel", failed, unreadable) == 2
    assert "UNREADABLE  other-1" in capsys.readouterr().out


def test_a_folder_means_the_wheels_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify-wheel", tmp_path) == 2
    assert "holds no wheel" in capsys.readouterr().err
    pure().write(tmp_path)
    assert run("verify-wheel", tmp_path) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--expect", "gone.json", "x.whl"],
        ["--bound", "x=1", "x.whl"],
        ["--glibc", "x", "x.whl"],
        ["--tvm", "x", "x.whl"],
    ],
    ids=str,
)
def test_a_wrong_call_ends_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify-wheel", *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_all_checks_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify-wheel", "--checks") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CHECKS)


def test_options_are_expectations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = pure().write(tmp_path)
    good = ["--package", "sample", "--platform", "any", "--requires", "apache-tvm-ffi", "--tag", "v1.2.3"]
    assert run("verify-wheel", *good, path) == 0
    assert run("verify-wheel", *good, "--max-size", "1K", "--tag=", "--expect-version", "1.2.3", path) == 0
    capsys.readouterr()
    assert run("verify-wheel", "--json", "--tag", "v1.2.4", "--max-size", "100", path) == 1
    answer = json.loads(capsys.readouterr().out)
    assert {finding["check"] for finding in answer["wheels"][0]["findings"]} == {"version", "size"}


def test_the_manifest_that_the_tool_wrote_is_the_one_that_the_gate_wants(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    found = manifest(pure(), out, "--source", checkout, "--python", sys.executable)
    assert "in its environment: " in capsys.readouterr().out
    assert run("verify-wheel", "--manifest", out) == 0
    assert Draft(members={"sample/__init__.py": b"x = 1\n"}, tag=pure().tag).write(out) == out / found["file"]
    capsys.readouterr()
    assert run("verify-wheel", "--manifest", out) == 1
    assert "its sha256 is" in capsys.readouterr().out


def test_the_lists_of_the_gate_can_be_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    natives = Natives(tmp_path / "natives")
    natives.folder.mkdir()
    natives.tvm()
    grafted = {"sample.libs__libx-1.so": (natives.folder / "libtvm_ffi.so").read_bytes()}
    path = linux(natives, **grafted).write(tmp_path)
    base = ["verify-wheel", "--package", "sample", "--exclude", "libtvm_ffi.so", path]
    assert run(*base) == 0
    refused = {"--forbid": ("libtvm_*", "library-forbidden"), "--never-graft": ("libx*", "grafted-library")}
    refused["--placeholder"] = ("1.2.3", "placeholder-version")
    for option, (value, check) in refused.items():
        capsys.readouterr()
        assert run(*base, option, value) == 1, option
        assert f"  {check}" in capsys.readouterr().out


def test_a_folder_of_tvm_means_the_wheels_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    natives = Natives(tmp_path / "natives")
    natives.folder.mkdir()
    path = linux(natives).write(tmp_path)
    (tmp_path / "tvm").mkdir()
    assert run("verify-wheel", "--tvm", tmp_path / "tvm", path) == 2
    assert "holds no wheel" in capsys.readouterr().err
    natives.tvm()
    members = {"sample/lib/libtvm_ffi.so": (natives.folder / "libtvm_ffi.so").read_bytes()}
    Draft(members=members).write(tmp_path / "tvm")
    assert run("verify-wheel", "--tvm", tmp_path / "tvm", "--exclude", "libtvm_ffi.so", path) == 0


def test_a_missing_library_of_ours_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("workers.wheel.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pefile", None)
    import workers.wheel

    for name in ("verify", "pe", "contents"):
        monkeypatch.delattr(workers.wheel, name, raising=False)
    assert run("verify-wheel", "x.whl") == 75
    assert "pip install 'mlc-ci[worker]'" in capsys.readouterr().err


# --- the manifest -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A commit with a submodule, and a stamped file that differs from it."""
    inner, outer = tmp_path / "kernels", tmp_path / "source"
    for folder in (inner, outer):
        folder.mkdir()
        (folder / "pyproject.toml").write_text("old\n")
        git(folder, "init", "-q")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "first")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "3rdparty/kernels")
    git(outer, "commit", "-qm", "with kernels")
    (outer / "pyproject.toml").write_text("stamped\n")
    (outer / "config.cmake").write_text("set(USE_VULKAN ON)\n")
    return outer


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def manifest(draft: Draft, folder: Path, *options: object) -> dict[str, Any]:
    path = draft.write(folder)
    assert run("wheel-manifest", "--wheel", path, *options) == 0
    found: dict[str, Any] = json.loads(path.with_name(f"{path.stem}.manifest.json").read_text(encoding="utf-8"))
    assert not list(folder.glob("*.part"))
    return found


def test_the_manifest_says_what_the_wheel_is_and_is_from(checkout: Path, tmp_path: Path) -> None:
    natives = Natives(tmp_path / "natives")
    natives.folder.mkdir()
    out = tmp_path / "out"
    out.mkdir()
    found = manifest(
        linux(natives), out, "--source", checkout, "--config", checkout / "config.cmake", "--python", sys.executable
    )
    assert (found["format"], found["name"], found["version"]) == (1, "sample", "1.2.3")
    assert found["sha256"] == hashlib.sha256((out / found["file"]).read_bytes()).hexdigest()
    assert found["commit"] == git(checkout, "rev-parse", "HEAD")
    assert found["submodules"] == {"3rdparty/kernels": git(checkout / "3rdparty/kernels", "rev-parse", "HEAD")}
    assert found["modified"] == ["pyproject.toml"]
    assert found["config_cmake"] == "set(USE_VULKAN ON)\n"
    assert found["requires_dist"] == ["apache-tvm-ffi<0.2,>=0.1.15"]
    assert found["libraries"]["sample/libsample_module.so"] == ["libsample.so", "libtvm_ffi.so"]
    assert found["highest"] == {"GLIBC": "2.2.5", "GLIBCXX": "", "CXXABI": ""}
    assert "apache-tvm-ffi" in found["environment"]
    assert found["tvm"] == {}
    assert set(found["tools"]) >= {"compiler", "rustc", "cmake"}
    assert set(found["auditwheel"]) == {"result", "reason"}


def test_the_versions_of_tvm_are_asked_of_the_environment_by_every_name_it_is_published_under(tmp_path: Path) -> None:
    venv.create(tmp_path / "env")
    (site,) = (tmp_path / "env" / "lib").glob("python3*/site-packages")
    for name, version in (("mlc_ai_nightly_cpu", "0.21.dev1"), ("Apache.TVM_FFI", "0.1.15"), ("mlc_llm", "2")):
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    assert installed_versions(str(tmp_path / "env" / "bin" / "python")) == {
        "apache-tvm-ffi": "0.1.15",
        "apache-tvm": None,
        "mlc-ai": None,
        "mlc-ai-nightly-cpu": "0.21.dev1",
    }
    with pytest.raises(CodeError, match="does not say what is installed"):
        installed_versions("/bin/false")


def test_a_manifest_of_no_checkout_or_no_wheel_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkout: Path
) -> None:
    path = pure().write(tmp_path)
    assert run("wheel-manifest", "--wheel", path, "--source", tmp_path / "kernels" / "gone") == 1
    assert run("wheel-manifest", "--wheel", tmp_path / "gone.whl", "--source", checkout) == 1
    assert run("wheel-manifest", "--wheel", path, "--source", checkout, "--config", tmp_path / "gone") == 2
    assert "Traceback" not in capsys.readouterr().err
