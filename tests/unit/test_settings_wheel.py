"""What the settings may demand of a wheel, and which variants make sense: each refusal says what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from settings_sample import problem, read, usable

from workers.wheel.expectations import ALLOWABLE

BUILD = """
[stages.build-linux]
no_worker = "skip"
[stages.build-linux.wheel]
package = "x"
[stages.build-linux.wheel.expect]
"""


@pytest.mark.parametrize(
    ("line", "key", "allowed"),
    [
        ('requires = ["tvm=="]', "requires[0]", "apache-tvm-ffi>=0.1.15,<0.2"),
        ('max_size = "big"', "max_size", '"200M"'),
        ("max_size = -1", "max_size", "0 or more"),
        ('tvm = ["apache-tvm-ffi>=0.1"]', "tvm[0]", '"NAME==VERSION"'),
        ('tvm = ["apache-tvm-ffi==0.1.*"]', "tvm[0]", '"NAME==VERSION"'),
        ('tvm = ["a b"]', "tvm[0]", '"NAME==VERSION"'),
        ('glibc = "new"', "glibc", '"2.28"'),
        ('platform = "win_amd64"', "platform", "linux_aarch64"),
        ("bounds = { second = 3 }", "bounds", "seconds"),
        ("bounds = { seconds = 0 }", "bounds.seconds", "1 or more"),
        ('allow = [{ check = "rpth", files = "*", reason = "r" }]', "allow[0].check", ", ".join(ALLOWABLE)),
        ('allow = [{ check = "record-hash", files = "*", reason = "r" }]', "allow[0].check", ", ".join(ALLOWABLE)),
        ('allow = [{ check = "rpath", files = "*" }]', "allow[0].reason", ""),
        ('allow = [{ check = "rpath", files = "*", reason = "" }]', "allow[0].reason", "at least 1 character"),
        ('forbid = ["x"]', "forbid", "forbidden"),
    ],
)
def test_a_wrong_expectation_is_told_with_what_is_allowed(line: str, key: str, allowed: str) -> None:
    told = problem(read(BUILD, line), f"stages.build-linux.wheel.expect.{key}")
    assert told.severity == "error"
    assert allowed in told.allowed


def test_expectations_are_read() -> None:
    text = """
    requires = ["apache-tvm-ffi>=0.1.15,<0.2"]
    max_size = "200M"
    tvm = ["apache-tvm-ffi==0.1.15", "tvm @ https://example.org/tvm.whl", "build/libtvm.so"]
    allow = [{ check = "rpath", files = "x/*.so", reason = "relocated" }]
    """
    wheel = usable(read(BUILD, text)).stages["build-linux"].wheel
    assert wheel
    assert wheel.expect.max_size == 200 << 20
    assert wheel.expect.tvm_files() == ["build/libtvm.so"]
    assert wheel.expect.tvm_requirements() == ["apache-tvm-ffi==0.1.15", "tvm @ https://example.org/tvm.whl"]


# --- variants ---------------------------------------------------------------------------------------------------------


def build(variants: str, more: str = "") -> str:
    return f"""
    [stages.build-linux]
    no_worker = "skip"
    variants = {variants}
    [stages.build-linux.wheel]
    package = "x"
    {more}
    [stages.release]
    needs = ["build-linux"]
    """


CUDA = 'variants.cuda.config_cmake = { USE_CUDA = "ON" }'


def test_two_variants_that_would_build_the_same_are_refused() -> None:
    told = problem(read(build('["vulkan", "cuda"]')), "stages.build-linux.variants")
    assert told.message.startswith("'vulkan' and 'cuda' would do the same")
    assert told.allowed == "stages.build-linux.wheel.variants.cuda or stages.build-linux.requires.variants.cuda"


def test_each_variants_packages_must_come_from_somewhere() -> None:
    text = """
    [stages.test]
    variants = ["cpu", "cuda"]
    [stages.test.prebuilt]
    packages = ["x"]
    variants.cuda = { packages = ["y"], index = false }
    """
    key = "stages.test.prebuilt"
    told = problem(read(text), f"{key}.variants.cuda.index")
    assert told.allowed == "true, or find_links"
    assert usable(read(text.replace("index = false", 'index = false, find_links = "https://example.org/wheels"')))
    shared = text.replace('packages = ["x"]', 'packages = ["x"]\nindex = false').replace(", index = false", "")
    assert problem(read(shared), f"{key}.index").found == "false"
    each = 'variants.cpu.find_links = "https://example.org/a"\nvariants.cuda.find_links = "https://example.org/b"'
    alone = shared.partition("variants.cuda = ")[0] + each + '\nvariants.cuda.packages = ["y"]'
    assert usable(read(alone))


def test_two_wheels_of_one_name_cannot_be_released() -> None:
    key = "stages.build-linux.wheel.variants.cuda.local_version"
    told = problem(read(build('["vulkan", "cuda"]', CUDA)), key)
    assert "have one name, and stage 'release' needs both" in told.message
    same = 'variants.vulkan.local_version = "gpu"\nvariants.cuda.local_version = "gpu"'
    assert problem(read(build('["vulkan", "cuda"]', f"{CUDA}\n{same}")), key).found == 'local_version = "gpu" for both'
    one = 'variants.vulkan.local_version = "01"\nvariants.cuda.local_version = "1"'
    found = problem(read(build('["vulkan", "cuda"]', f"{CUDA}\n{one}")), key).found
    assert found == '"01" and "1", which are one version'
    assert usable(read(build('["vulkan", "cuda"]', f'{CUDA}\nvariants.cuda.local_version = "cu128"')))


def test_two_variants_that_nobody_releases_may_have_one_name() -> None:
    text = build('["vulkan", "cuda"]', CUDA).replace('needs = ["build-linux"]', 'needs = ["lint"]')
    assert usable(read(text))


@pytest.mark.parametrize("version", ["CU128", "+cu", "cu-128", "cu 128", ".cu"])
def test_a_local_version_is_small_letters_and_digits(version: str) -> None:
    text = build('["cuda"]', f'variants.cuda.local_version = "{version}"')
    assert "cu128" in problem(read(text), "stages.build-linux.wheel.variants.cuda.local_version").allowed


def test_the_test_stage_varies_in_packages_and_in_the_suite() -> None:
    text = """
    [stages.test]
    variants = ["cpu", "vulkan"]
    no_worker = "skip"
    [stages.test.prebuilt]
    packages = ["tvm"]
    imports = ["tvm"]
    [stages.test.pytest]
    marker = "unittest"
    """
    assert "would do the same" in problem(read(text), "stages.test.variants").message
    stage: Any = usable(read(text, 'variants.vulkan.marker = "gpu"')).stages["test"]
    assert [stage.pytest.for_variant(name).marker for name in ("cpu", "vulkan")] == ["unittest", "gpu"]
    varied = text.replace('imports = ["tvm"]', 'variants.vulkan.packages = ["tvm-vulkan"]')
    stage = usable(read(varied)).stages["test"]
    assert [stage.prebuilt.for_variant(name).packages for name in ("cpu", "vulkan")] == [("tvm",), ("tvm-vulkan",)]
    told = problem(
        read(text, 'variants.vulcan.marker = "gpu"\nvariants.cpu.marker = "x"'), "stages.test.pytest.variants"
    )
    assert 'did you mean "vulkan"?' in told.message


@pytest.mark.parametrize(("uses", "more"), [("release", 'needs = ["lint"]'), ("summary", "")])
def test_a_stage_that_is_there_once_has_no_variants(uses: str, more: str) -> None:
    told = problem(read(f'[stages.{uses}]\nvariants = ["a"]\n{more}'), f"stages.{uses}.variants")
    assert (told.severity, told.found, told.allowed) == ("error", "a", "none")
