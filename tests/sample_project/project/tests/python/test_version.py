"""The version that version.py makes of an answer of `git describe`."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.unittest


@pytest.fixture(scope="module")
def version():
    spec = importlib.util.spec_from_file_location("version", Path(__file__).resolve().parents[2] / "version.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("v1.2.3", "1.2.3"),
        ("v1.2.3-14-g0d07a329e", "1.2.4.dev14"),
        ("v0.9.9-1-gabc", "0.9.10.dev1"),
        ("v0.27.0-rc1", None),
        ("v0.27.0-rc1-3-gabc", None),
        ("v1.2", None),
    ],
)
def test_version_of_a_description(version, description, expected):
    assert version.version_of(description) == expected


def test_only_the_version_of_the_project_is_stamped(version, tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nversion = "0.1.dev0"\n[tool.x]\ntarget-version = "py39"\n')
    version.stamp(path, "1.2.3")
    assert path.read_text() == '[project]\nversion = "1.2.3"\n[tool.x]\ntarget-version = "py39"\n'
