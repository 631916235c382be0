"""The notes of a release, from manifests; and manifests that cannot go out with their wheel."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from master import wheel_manifests
from master.database.records import Artifact
from master.release_notes import BadTemplate, BuiltWheel, MissingPlatform, notes, shipped_template
from master.wheel_manifests import WheelManifest
from workers.wheel.beside import InvalidManifest

COMMIT = "c" * 40
LINUX = "mlc_llm-0.20.0-py3-none-manylinux_2_28_x86_64.whl"
CUDA = "mlc_llm-0.20.0+cu128-py3-none-manylinux_2_28_x86_64.whl"
WINDOWS = "mlc_llm-0.20.0-py3-none-win_amd64.whl"


def manifest(name: str, **changes: Any) -> WheelManifest:
    values: dict[str, Any] = {
        "format": 1,
        "file": name,
        "version": name.split("-")[1],
        "size": 10,
        "sha256": "a" * 64,
        "commit": COMMIT,
        "requires_dist": ["apache-tvm-ffi<0.2,>=0.1.15", "numpy", 'apache-tvm>=0.27; extra == "test"'],
        "requires_python": ">=3.9",
        "submodules": {"3rdparty/tvm": "d" * 40, "3rdparty/tvm/3rdparty/tvm-ffi": "e" * 40, "3rdparty/json": "f" * 40},
        "modified": ["pyproject.toml"],
        "config_cmake": "set(USE_VULKAN ON)\n",
        "environment": {"apache-tvm-ffi": "0.1.15", "apache-tvm": None},
        "tvm": {"apache_tvm_ffi-0.1.15-cp310-abi3-manylinux_2_28_x86_64.whl": "b" * 64},
        "tools": {"compiler": "c++ 14.2.0", "cuda_compiler": None, "rustc": "rustc 1.80.0"},
        "libraries": {"mlc_llm/libmlc_llm.so": ["libvulkan.so.1", "libc.so.6", "libtvm_ffi.so"]},
        **changes,
    }
    return WheelManifest.model_validate(values)


def wheel(name: str, variant: str = "", **changes: Any) -> BuiltWheel:
    return BuiltWheel(name=name, stage="build-linux", variant=variant, manifest=manifest(name, **changes))


def written(*wheels: BuiltWheel, missing: tuple[MissingPlatform, ...] = (), template: str = "") -> str:
    text = template or shipped_template()
    return notes(text, project="mlc-llm", tag="v0.20.0", commit=COMMIT, wheels=wheels, missing=missing)


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """The lines of the code blocks, as a shell would read them."""
    return [
        shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]


def test_the_documents_sections_are_there_in_its_order() -> None:
    titles = re.findall(r"^## (.*)$", written(wheel(LINUX)), re.MULTILINE)
    assert titles == ["TVM compatibility", "Installation", "Use cases", "Platforms", "How they were built"]


def test_tvm_is_named_exactly() -> None:
    said = section(written(wheel(LINUX)), "TVM compatibility")
    assert "- requires `apache-tvm-ffi<0.2,>=0.1.15`" in said
    assert "- installed and tried with `apache-tvm-ffi==0.1.15`" in said
    assert "is exported by `apache_tvm_ffi-0.1.15-cp310-abi3-manylinux_2_28_x86_64.whl`" in said
    assert f"- built with `3rdparty/tvm` at `{'d' * 40}`" in said
    assert f"- built with `3rdparty/tvm/3rdparty/tvm-ffi` at `{'e' * 40}`" in said
    assert "numpy" not in said and "extra" not in said and "3rdparty/json" not in said and "None" not in said


def test_several_files_export_its_symbols_together() -> None:
    said = section(written(wheel(LINUX, tvm={"a.so": "1" * 64, "b.so": "2" * 64})), "TVM compatibility")
    assert "- every TVM symbol that it uses is exported by `a.so` and `b.so` together\n" in said
    assert said.count("exported") == 1


def test_a_wheel_that_names_no_tvm_says_so() -> None:
    bare = wheel(LINUX, requires_dist=["numpy"], submodules={}, environment={}, tvm={})
    assert "- it names no TVM" in section(written(bare), "TVM compatibility")
    assert "it names no TVM" not in written(wheel(LINUX))


def test_the_install_commands_pin_what_the_wheel_was_tried_with() -> None:
    found = commands(section(written(wheel(LINUX), wheel(WINDOWS)), "Installation"))
    assert found == [
        ["sha256sum", "--check", "--ignore-missing", "SHA256SUMS"],
        ["python3", "-m", "pip", "install", f"./{LINUX}", "apache-tvm-ffi==0.1.15"],
        ["python", "-m", "pip", "install", f"./{WINDOWS}", "apache-tvm-ffi==0.1.15"],
    ]


def test_without_an_environment_the_command_pins_what_the_symbols_were_held_against() -> None:
    alone = {"environment": {"apache-tvm-ffi": None}}
    assert wheel(LINUX, **alone).install.endswith(f"./{LINUX} apache-tvm-ffi==0.1.15")
    assert wheel(LINUX, **alone, requires_dist=["numpy"]).pins == {}, "it would install what nobody asked for"
    assert wheel(LINUX, **alone, tvm={"libtvm_ffi.so": "b" * 64, "tvm.whl": "c" * 64}).pins == {}
    assert wheel(LINUX, environment={"apache-tvm-ffi": "0.1.16"}).pins == {"apache-tvm-ffi": "0.1.16"}


def test_use_cases_say_what_it_computes_on() -> None:
    cuda = wheel(CUDA, config_cmake='set(USE_VULKAN OFF)\nset(USE_CUDA ON)\nset(CMAKE_CUDA_ARCHITECTURES "80;90")\n')
    cpu = wheel(WINDOWS, config_cmake='set(CMAKE_CUDA_ARCHITECTURES "80;90")\n')
    said = section(written(wheel(LINUX), cuda, cpu), "Use cases")
    assert f"- `{LINUX}`: GPUs through Vulkan\n" in said
    assert f"- `{CUDA}`: GPUs through CUDA; CUDA architectures 80, 90\n" in said
    assert f"- `{WINDOWS}`: no GPU, by its CMake options\n" in said


def test_the_platform_matrix_says_what_the_system_needs_and_names_what_is_missing() -> None:
    windows = wheel(WINDOWS, libraries={"mlc_llm/mlc_llm.dll": ["VCRUNTIME140.dll", "KERNEL32.dll", "vulkan-1.dll"]})
    gone = MissingPlatform(stage="build-linux", variant="rocm", reason="no worker")
    said = section(written(wheel(LINUX), wheel(CUDA, "cuda"), windows, missing=(gone,)), "Platforms")
    assert f"| Linux x86_64 | `{LINUX}` | 0.20.0 | >=3.9 | glibc 2.28, `libvulkan.so.1` |" in said
    assert f"| Linux x86_64 (cuda) | `{CUDA}` | 0.20.0+cu128 |" in said
    assert f"| Windows x86_64 | `{WINDOWS}` | 0.20.0 | >=3.9 | `VCRUNTIME140.dll`, `vulkan-1.dll` |" in said
    assert "| Linux (rocm) | not in this release: no worker |" in said


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("a | b", r"a \| b"),
        ("two\nlines\r\n\n", "two lines"),
        ("<script>x</script>", "&lt;script>x&lt;/script>"),
        ("a \\| b", r"a \\\| b"),
    ],
)
def test_a_reason_from_elsewhere_stays_in_its_cell(reason: str, shown: str) -> None:
    gone = MissingPlatform(stage="build-linux", variant="", reason=reason)
    rows = section(written(wheel(LINUX), missing=(gone,)), "Platforms").strip().splitlines()
    assert rows[-1] == f"| Linux | not in this release: {shown} | – | – | – |"


def test_how_it_was_built_is_told() -> None:
    said = section(written(wheel(LINUX)), "How they were built")
    assert "- CMake options: `USE_VULKAN=ON`\n" in said
    assert "- compiler: `c++ 14.2.0`" in said
    assert "cuda" not in said
    assert f"- `3rdparty/json`: `{'f' * 40}`" in said
    assert "- changed after the checkout: pyproject.toml" in said


def test_a_wheel_without_manifest_claims_nothing() -> None:
    bare = BuiltWheel(name=LINUX, stage="build", variant="", manifest=None)
    text = written(bare)
    assert "nothing is recorded of it" in text
    assert ["python3", "-m", "pip", "install", f"./{LINUX}"] in commands(text)
    assert f"| Linux x86_64 | `{LINUX}` | 0.20.0 | any | – |" in text


def test_it_is_markdown_that_renders() -> None:
    """No run of empty lines, no table torn apart, no block that is left open."""
    text = written(wheel(LINUX), wheel(CUDA, "cuda"), missing=(MissingPlatform(stage="x", variant="", reason="y"),))
    assert "\n\n\n" not in text
    assert text.count("```") % 2 == 0
    rows = section(text, "Platforms").strip().splitlines()
    assert all(row.startswith("|") and row.count("|") == 6 for row in rows), rows


def test_a_template_of_ones_own_is_filled() -> None:
    own = "{{ project }} {{ tag }}: {% for wheel in wheels %}{{ wheel.install }}{% endfor %}.\n"
    assert written(wheel(LINUX), template=own) == f"mlc-llm v0.20.0: {wheel(LINUX).install}.\n"


@pytest.mark.parametrize(
    ("template", "said"), [("\n{% for %}", "line 2: "), ("{{ wheels.nothing }}", "nothing"), ("{{ 1 / 0 }}", "zero")]
)
def test_a_broken_template_is_refused_with_its_line(template: str, said: str) -> None:
    with pytest.raises(BadTemplate, match=said):
        written(wheel(LINUX), template=template)


# --- the manifest and its wheel ---------------------------------------------------------------------------------------

ARTIFACT = Artifact(name=LINUX, path="1/x", size=10, sha256="a" * 64)


def test_a_manifest_that_fits_has_no_problem() -> None:
    assert wheel_manifests.problems(manifest(LINUX), ARTIFACT, tag="v0.20.0", commit=COMMIT) == []
    local = Artifact(name=CUDA, path="1/x", size=10, sha256="a" * 64)
    assert wheel_manifests.problems(manifest(CUDA), local, tag="v0.20", commit=COMMIT) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file": WINDOWS}, "its file is"),
        ({"size": 11}, "its size is 11; the wheel's is 10"),
        ({"sha256": "0" * 64}, "its sha256 is"),
        ({"commit": "b" * 40}, "its commit is"),
        ({"version": "0.19.0"}, "its version is 0.19.0; the tag's is 0.20.0"),
        ({"version": "new"}, "new"),
    ],
)
def test_a_manifest_of_something_else_is_told(changes: dict[str, Any], said: str) -> None:
    (found,) = wheel_manifests.problems(manifest(LINUX, **changes), ARTIFACT, tag="v0.20.0", commit=COMMIT)
    assert said in found


def test_a_manifest_is_read_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.manifest.json"
    values = {**manifest(LINUX).model_dump(), "unknown": 1}
    file.write_text(json.dumps(values))
    assert wheel_manifests.read(file) == manifest(LINUX)
    for change, said in (
        ({"size": "10"}, "its size"),
        ({"tools": {"c": 1}}, "its tools.c"),
        ({"commit": None}, "commit"),
    ):
        file.write_text(json.dumps({**values, **change}))
        with pytest.raises(InvalidManifest, match=said):
            wheel_manifests.read(file)
    with pytest.raises(InvalidManifest, match="is gone"):
        wheel_manifests.read(tmp_path / "gone")
