"""``ci/prepare.sh``: the Python environment that ``ci/up`` and ``ci/test`` make, through interruptions."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "nothing"
version = "{version}"
[project.optional-dependencies]
test = []
"""
#: A build backend without needs, so that nothing is fetched.
BACKEND = """\
import tomllib, zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
    name = f"nothing-{version}"
    with zipfile.ZipFile(Path(folder) / f"{name}-py3-none-any.whl", "w") as wheel:
        about = ("Metadata-Version: 2.1", "Name: nothing", f"Version: {version}", "Provides-Extra: test", "")
        wheel.writestr(f"{name}.dist-info/METADATA", "\\n".join(about))
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    return f"{name}-py3-none-any.whl"
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A checkout with an environment, and what its making said."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "pyproject.toml").write_text(PROJECT.format(version="1.0"))
    (folder / "backend.py").write_text(BACKEND)
    return folder, *make(folder)


@pytest.fixture
def checkout(first: tuple[Path, str, str], tmp_path: Path) -> Path:
    """A copy of it: making an environment takes seconds, and one can be moved as long as it is run by its path."""
    return shutil.copytree(first[0], tmp_path / "checkout", symlinks=True)


def make(checkout: Path) -> tuple[str, str]:
    """Makes the environment; what it said, and which version is in it."""
    script = f'. "{REPOSITORY}/ci/prepare.sh"; make_environment "$PWD/environment" test -e'
    made = subprocess.run(
        ["bash", "-euc", script], cwd=checkout, capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert made.returncode == 0, made.stderr
    shown = subprocess.run(
        [checkout / "environment/bin/python", "-m", "pip", "show", "nothing"],
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stderr, next(line for line in shown.stdout.splitlines() if line.startswith("Version"))


def test_an_environment_is_made_once_and_renewed_when_the_project_changed(
    first: tuple[Path, str, str], checkout: Path
) -> None:
    folder, *said_first = first
    assert said_first == [f"preparing the Python environment in {folder}/environment …\n", "Version: 1.0"]
    assert make(checkout) == ("", "Version: 1.0")
    (checkout / "pyproject.toml").write_text(PROJECT.format(version="2.0"))
    said, version = make(checkout)
    assert (said != "", version) == (True, "Version: 2.0")


def test_an_environment_whose_making_was_interrupted_is_made_again(checkout: Path) -> None:
    """Killed between ``venv`` and ``ensurepip``: a Python is there, and no pip."""
    environment = checkout / "environment"
    [packages] = environment.glob("lib/python*/site-packages")
    packages.rename(checkout / "lost")
    said, version = make(checkout)
    assert (said != "", version) == (True, "Version: 1.0")


def test_an_environment_that_was_made_and_not_filled_is_filled(checkout: Path) -> None:
    (checkout / "environment/.stamp").unlink()
    said, _ = make(checkout)
    assert said != ""
