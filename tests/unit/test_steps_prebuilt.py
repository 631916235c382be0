"""The published packages, as pip is told them."""

from __future__ import annotations

import pytest

from master.settings_stages import PrebuiltSettings
from steps.test import distribution_name, install_command
from steps.test import imports_command as prebuilt_imports


def test_prebuilt_packages_come_as_the_settings_say() -> None:
    nightly = PrebuiltSettings(
        packages=("mlc-llm-nightly-cpu", "mlc-ai-nightly-cpu"),
        find_links="https://mlc.ai/wheels",
        index=False,
        no_deps=True,
        same_version=("mlc-llm-nightly-cpu", "mlc-ai-nightly-cpu"),
        imports=("tvm", "mlc_llm"),
    )
    assert install_command(nightly)[3:] == [
        "install",
        "--no-index",
        "--no-deps",
        "--find-links",
        "https://mlc.ai/wheels",
        "mlc-llm-nightly-cpu",
        "mlc-ai-nightly-cpu",
    ]
    checked = prebuilt_imports(nightly)
    assert checked.count("--installed") == checked.count("--same-version") == checked.count("--import") == 2
    assert install_command(PrebuiltSettings(packages=("tvm",)))[3:] == ["install", "tvm"]


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("apache-tvm==0.27.0.post1", "apache-tvm"),
        ("Apache_TVM [vulkan] >= 0.27; python_version>'3'", "apache-tvm"),
        ("tvm @ https://example.org/tvm.whl", "tvm"),
        ("https://example.org/tvm.whl", ""),
        ("./dist/tvm-1-py3-none-any.whl", ""),
    ],
)
def test_the_name_in_a_requirement(requirement: str, name: str) -> None:
    assert distribution_name(requirement) == name
