"""The small tools of a worker: programs, version stamps, imports."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from workers.cli import main
from workers.errors import CodeError
from workers.stamp import require_version


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("mlc-ci ")


def test_tools_are_listed_with_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "git", "no-such-compiler/sh"]) == 0
    assert "git version" in capsys.readouterr().out


def test_missing_tools_are_all_named_and_infrastructure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "git", "no-such-a", "no-such-b/no-such-c"]) == 75
    assert "lacks no-such-a, no-such-b or no-such-c" in capsys.readouterr().err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text('[project]\nname = "x"\nversion = "0.1.dev0"\n', encoding="utf-8")
    return tmp_path


def write_script(version: str) -> None:
    text = "from pathlib import Path\nfile = Path('pyproject.toml')\n"
    text += f"file.write_text(file.read_text().replace('0.1.dev0', {version!r}))\n"
    Path("version.py").write_text(text, encoding="utf-8")


def test_a_stamp_that_is_the_tags(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_script("1.2.3")
    assert main(["stamp", "--script", "version.py", "--tag=v1.2.3"]) == 0
    assert "version 1.2.3" in capfd.readouterr().out


def test_the_fallback_on_a_tag_fails_loudly(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_script("0.1.dev0")
    assert main(["stamp", "--script", "version.py", "--tag=v0.27.0-rc1"]) == 1
    assert "tag v0.27.0-rc1 was stamped as version 0.1.dev0, not 0.27.0rc1" in capfd.readouterr().err


def test_without_a_tag_any_version_will_do(project: Path) -> None:
    assert main(["stamp", "--tag="]) == 0


def test_a_version_script_that_fails_or_is_missing_fails(project: Path) -> None:
    Path("version.py").write_text("raise SystemExit(3)", encoding="utf-8")
    assert main(["stamp", "--script", "version.py"]) == 1
    assert main(["stamp", "--script", "nowhere.py"]) == 1


def test_one_of_several_builds_says_so_in_its_version(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_script("1.2.3")
    assert main(["stamp", "--script", "version.py", "--tag=v1.2.3", "--local", "cu128"]) == 0
    assert "version 1.2.3+cu128" in capfd.readouterr().out
    assert tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"] == "1.2.3+cu128"


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "x"\ndynamic = ["version"]\n',
        '[project]\nname = "x"\nversion = "1.0+a"\n',
        '[project]\nname = "x"\nversion = "1.0"\n[tool.x]\nversion = "1.0"\n',
    ],
    ids=["dynamic", "local already", "twice"],
)
def test_a_version_that_cannot_be_made_longer_fails(
    project: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("pyproject.toml").write_text(text, encoding="utf-8")
    assert main(["stamp", "--local", "cu128"]) == 1
    assert "+cu128" in capfd.readouterr().err
    assert Path("pyproject.toml").read_text() == text


def test_a_dynamic_version_is_left_to_the_wheel(project: Path) -> None:
    Path("pyproject.toml").write_text('[project]\nname = "x"\ndynamic = ["version"]\n', encoding="utf-8")
    assert main(["stamp", "--tag=v1.2.3"]) == 0


def test_a_pyproject_that_cannot_be_read_fails(project: Path) -> None:
    Path("pyproject.toml").write_text("[project", encoding="utf-8")
    assert main(["stamp"]) == 1


@pytest.mark.parametrize(("found", "tag"), [("1.2.3", "v1.2.3"), ("1.2", "v1.2.0"), ("0.27rc1", "v0.27-rc1")])
def test_versions_are_compared_normalised(found: str, tag: str) -> None:
    require_version(found, tag)


@pytest.mark.parametrize(
    ("found", "tag"), [("1.2.4", "v1.2.3"), ("0.1.dev0", "v1.2.3"), ("1.2.3", "vNext"), ("next", "v1.2.3")]
)
def test_any_other_version_is_refused(found: str, tag: str) -> None:
    with pytest.raises(CodeError):
        require_version(found, tag)


# Imports, in a real environment


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    asked = [str(interpreter), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    for name, version, text in (
        ("good", "1.5", ""),
        ("twin", "1.5", ""),
        ("odd", "1.6", ""),
        ("placeholder", "0.1", ""),
        ("broken", "1.0", "raise OSError('libtvm.so: cannot open shared object file')"),
        ("crashing", "1.0", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
    ):
        (packages / name).mkdir()
        (packages / name / "__init__.py").write_text(text, encoding="utf-8")
        about = packages / f"{name}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (about / "top_level.txt").write_text(f"{name}\n", encoding="utf-8")
    return str(interpreter)


def imports(python: str, *arguments: str) -> int:
    return main(["imports", "--python", python, *arguments])


def test_what_is_installed_is_imported_and_said(python: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--installed", "good", "--same-version", "good", "--same-version", "twin", "--import", "good"]
    assert imports(python, *arguments, "--file", "good/__init__.py") == 0
    said = capfd.readouterr().out
    assert "good 1.5\n" in said
    assert "imported good of good 1.5\n" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--installed", "absent"], "absent is not installed"),
        (["--installed", "placeholder"], "placeholder 0.1 is the empty placeholder on PyPI"),
        (["--same-version", "good", "--same-version", "odd"], "versions must be the same: good 1.5, odd 1.6"),
        (["--file", "good/libgood.so"], "good/libgood.so was not installed"),
        (["--import", "broken"], "import broken: OSError: libtvm.so: cannot open shared object file"),
        (["--import", "nowhere"], "import nowhere: ModuleNotFoundError: No module named 'nowhere'"),
        (["--import", "crashing"], "the interpreter crashed with signal 11 while importing"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], reason: str, python: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert imports(python, *arguments) == 1
    assert f"mlc-ci-worker imports: error: {reason}" in capfd.readouterr().err


def test_the_checkout_cannot_stand_in_for_what_was_installed(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nowhere.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert imports(python, "--import", "nowhere") == 1


def test_an_interpreter_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert imports("/nowhere/python") == 1
    assert "/nowhere/python does not run" in capfd.readouterr().err


def test_the_tools_need_nothing_but_the_standard_library() -> None:
    # A worker host gets them alone; Twisted is imported by the worker itself only.
    code = "import workers.cli as c; c.build_parser(); import sys; print(*sorted(m for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"twisted", "buildbot_worker", "buildbot", "packaging", "master", "steps", "pydantic"})
