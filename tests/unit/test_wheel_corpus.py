"""Every check of the wheel gate rejects what it is for, by its own id and no other; what is right passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import wheel_corpus
import wheel_corpus_archive
import wheel_corpus_content
from wheel_corpus import CASES, Case, Draft
from wheel_natives import Natives

from workers import cli
from workers.wheel.checks import CHECKS

assert wheel_corpus_archive and wheel_corpus_content  # they add the cases


@pytest.fixture(scope="session")
def natives(tmp_path_factory: pytest.TempPathFactory) -> Natives:
    return Natives(tmp_path_factory.mktemp("natives"))


def gate(
    folder: Path, capsys: pytest.CaptureFixture[str], drafts: list[Draft], expect: dict[str, Any], natives: Natives
) -> tuple[int, dict[str, Any]]:
    """What the command says of the wheels, run as a user would."""
    expect = dict(expect)
    if "tvm" in expect:
        natives.tvm(), natives.dll_module() if any(name.endswith(".dll") for name in expect["tvm"]) else None
        expect["tvm"] = [str(natives.folder / name) for name in expect["tvm"]]
    file = folder / "expect.json"
    file.write_text(json.dumps(expect))
    paths = [str(draft.write(folder)) for draft in drafts]
    code = cli.main(["verify-wheel", "--json", *(["--expect", str(file)] if expect else []), *paths])
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, answer


def ids(answer: dict[str, Any]) -> set[str]:
    return {finding["check"] for part in (answer, *answer["wheels"]) for finding in part["findings"]}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_broken_wheel_is_rejected_by_its_own_check_and_no_other(
    case: Case, natives: Natives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = case.make(natives)
    drafts = made if isinstance(made, list) else [made]
    code, answer = gate(tmp_path, capsys, drafts, {**case.base, **case.expect}, natives)
    assert ids(answer) == {case.check}, answer
    assert code == (2 if CHECKS[case.check].unreadable else 1)
    for finding in (*answer["findings"], *(f for wheel in answer["wheels"] for f in wheel["findings"])):
        assert "\n" not in finding["reason"] and finding["reason"] and finding["hint"]


def test_every_check_has_a_broken_wheel() -> None:
    assert {case.check for case in CASES} == set(CHECKS)


def test_checks_of_libraries_have_broken_wheels_of_both_systems() -> None:
    both = {"library-missing", "library-format", "library-duplicate", "library-forbidden", "grafted-library"}
    both |= {"native-foreign", "tvm-symbol", "static-archive", "size"}
    for_windows = {case.check for case in CASES if case.base is wheel_corpus.WINDOWS_EXPECTATIONS}
    assert both <= for_windows


GOOD: dict[str, tuple[Any, dict[str, Any]]] = {
    "linux": (wheel_corpus.linux, {**wheel_corpus.LINUX_EXPECTATIONS, "tvm": ["libtvm_ffi.so"], "tag": "v1.2.3"}),
    "windows": (wheel_corpus.windows, {**wheel_corpus.WINDOWS_EXPECTATIONS, "tvm": ["tvm_ffi.dll"]}),
    "with its manifest": (
        lambda _: wheel_corpus.changed(wheel_corpus.pure(), manifest={}),
        {**wheel_corpus.PURE_EXPECTATIONS, "manifest": True},
    ),
    "one of several builds": (
        lambda natives: wheel_corpus.changed(wheel_corpus.linux(natives), version="1.2.3+cu128"),
        {**wheel_corpus.LINUX_EXPECTATIONS, "tag": "v1.2.3+cu128"},
    ),
    "pure": (lambda _: wheel_corpus.pure(), {**wheel_corpus.PURE_EXPECTATIONS, "install": True}),
    "linux, nothing demanded": (wheel_corpus.linux, {}),
    "windows, nothing demanded": (wheel_corpus.windows, {}),
    "unrepaired on purpose": (
        lambda natives: wheel_corpus.changed(wheel_corpus.linux(natives), tag="py3-none-linux_x86_64"),
        {**wheel_corpus.LINUX_EXPECTATIONS, "allow": ["tag-bare-linux=*"]},
    ),
    "allowed on purpose": (
        wheel_corpus_content.adding(wheel_corpus.linux, **{"sample/libx.a": b"!<arch>\n", "docs/x.md": b""}),
        {**wheel_corpus.LINUX_EXPECTATIONS, "allow": ["static-archive=sample/*.a", "toplevel=docs"]},
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_wheel_is_accepted(
    name: str, natives: Natives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expect = GOOD[name]
    code, answer = gate(tmp_path, capsys, [make(natives)], expect, natives)
    assert (code, ids(answer), answer["state"]) == (0, set(), "passed"), answer


def test_wheels_of_both_platforms_are_one_release(
    natives: Natives, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drafts = [wheel_corpus.linux(natives), wheel_corpus.windows(natives)]
    expect = {"platforms": ["linux_x86_64", "win_amd64"], "exclude": ["libtvm_ffi.so", "tvm_ffi.dll"]}
    code, answer = gate(tmp_path, capsys, drafts, expect, natives)
    assert (code, ids(answer)) == (0, set()), answer
