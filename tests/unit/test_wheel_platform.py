"""What a platform tag promises, against auditwheel's own policies; and how expectations are read."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from workers.errors import UsageError
from workers.wheel.bounds import Bounds
from workers.wheel.expectations import Expectations, merged, parse_size, read_json
from workers.wheel.platform import MANYLINUX_LIBRARIES, numbers, promise
from workers.wheel.symbols import read_offer


def policies() -> list[dict[str, Any]]:
    spec = find_spec("auditwheel")
    if spec is None or spec.origin is None:
        pytest.skip("auditwheel is not installed")
    text = (Path(spec.origin).parent / "policy" / "manylinux-policy.json").read_text(encoding="utf-8")
    return [policy for policy in json.loads(text) if policy["name"].startswith("manylinux_2_")]


def newest(versions: list[str]) -> tuple[int, ...]:
    return max(numbers(version) for version in versions if re.fullmatch(r"[\d.]+", version))


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_ceilings_are_those_of_auditwheel(arch: str) -> None:
    checked = 0
    for policy in policies():
        symbols = policy["symbol_versions"].get(arch)
        if not symbols:
            continue
        found = promise([f"{policy['name']}_{arch}"])
        assert found.glibcxx == newest(symbols["GLIBCXX"]), policy["name"]
        assert found.cxxabi == newest(symbols["CXXABI"]), policy["name"]
        minor = int(policy["name"].rpartition("_")[2])
        assert found.glibc == max(newest(symbols["GLIBC"]), (2, minor)), policy["name"]
        checked += 1
    assert checked > 8


def test_libraries_of_every_system_are_those_of_auditwheel() -> None:
    known = set(policies()[-1]["lib_whitelist"])
    assert known == {name for name in MANYLINUX_LIBRARIES if not name.startswith("ld")}


def test_the_strictest_of_several_tags_binds() -> None:
    assert promise(["manylinux_2_28_x86_64", "manylinux2014_x86_64"]).glibc == (2, 17)
    assert promise(["manylinux1_x86_64"]).glibcxx == (3, 4, 8)


def test_a_tag_between_two_policies_has_the_lower_ones_libstdcxx() -> None:
    found = promise(["manylinux_2_30_x86_64"])
    assert (found.glibc, found.glibcxx) == ((2, 30), (3, 4, 24))


def test_tags_without_ceilings() -> None:
    assert promise(["linux_x86_64"]).bare and not promise(["linux_x86_64"]).glibc
    assert promise(["musllinux_1_2_aarch64"]).musl
    assert promise(["win_amd64"]).pe_machine == 0x8664
    assert promise(["any"]).platforms == {"any"}


def test_nothing_expected_means_structure_only() -> None:
    assert not merged({}, {}).policy
    assert merged({}, {"package": "sample"}).policy


def test_options_add_to_lists_and_replace_values() -> None:
    found = merged({"exclude": ["a"], "glibc": "2.17"}, {"exclude": ["b"], "glibc": "2.28", "max_size": "2K"})
    assert found == Expectations(policy=True, exclude=("a", "b"), glibc="2.28", max_size=2048)


@pytest.mark.parametrize(
    "values",
    [
        {"unknown": 1},
        {"exclude": "libtvm.so"},
        {"exclude": [1]},
        {"version": "not one"},
        {"tag": "release"},
        {"platforms": ["linux"]},
        {"glibc": "new"},
        {"max_size": "many"},
        {"max_size": -1},
        {"policy": "yes"},
        {"libraries": ["libx.so"]},
        {"requires_dist": ["tvm ==== 1"]},
        {"allow": ["record-hash=*"]},
        {"allow": ["rpath"]},
    ],
    ids=str,
)
def test_an_expectation_that_nothing_can_meet_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        merged({}, values)


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("2K", 2048), ("3 MiB", 3 << 20), ("1g", 1 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("change", ["members", "members=", "members=0", "members=-1", "nothing=1", "members=1e3"])
def test_a_bound_that_is_none(change: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=VALUE"):
        Bounds.of([change])


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, "\xff"])
def test_an_expectations_file_that_is_none(text: str, tmp_path: Path) -> None:
    file = tmp_path / "expect.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"expect\.json"):
        read_json(file)


def test_a_tvm_that_cannot_be_read_is_the_callers_mistake(tmp_path: Path) -> None:
    for name in ("gone.so", "gone.whl"):
        with pytest.raises(UsageError, match=name):
            read_offer([tmp_path / name], Bounds())
