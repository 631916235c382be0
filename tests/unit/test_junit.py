"""JUnit reports, written by a stranger's build: read within bounds, or refused with a reason."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.junit import MOST_BYTES, MOST_TESTS, Ended, InvalidReport, TestCase, for_the_page, parse


def report(cases: str) -> bytes:
    return f"<testsuites><testsuite>{cases}</testsuite></testsuites>".encode()


def test_each_way_to_end() -> None:
    found = parse(
        report(
            '<testcase classname="m.C" name="a" time="1.5"/>'
            '<testcase name="b"><failure message="1 != 2">trace</failure></testcase>'
            '<testcase name="c"><error>broke</error></testcase>'
            '<testcase name="d"><skipped message="needs a model"/></testcase>'
        )
    )
    assert found == [
        TestCase(name="m.C.a", ended=Ended.PASSED, seconds=1.5),
        TestCase(name="b", ended=Ended.FAILED, seconds=0.0, message="1 != 2"),
        TestCase(name="c", ended=Ended.ERROR, seconds=0.0, message="broke"),
        TestCase(name="d", ended=Ended.SKIPPED, seconds=0.0, message="needs a model"),
    ]


@pytest.mark.parametrize("seconds", ["", "x", "nan", "-1", "inf", "1e999"])
def test_an_odd_duration_is_none_or_bounded(seconds: str) -> None:
    (case,) = parse(report(f'<testcase name="a" time="{seconds}"/>'))
    assert 0 <= case.seconds <= 1e6


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no xml",
        b"<html/>",
        b"<testsuites>",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="nonsense"?><testsuites/>',
        b'<!DOCTYPE x [<!ENTITY a "b">]><testsuites>&a;</testsuites>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuites/>',
    ],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidReport):
        parse(data)


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "boom">{entities}]><testsuites>&e11;</testsuites>'.encode()
    started = time.monotonic()
    with pytest.raises(InvalidReport):
        parse(bomb)
    assert time.monotonic() - started < 5


def test_too_much_is_refused() -> None:
    with pytest.raises(InvalidReport, match="bytes"):
        parse(b" " * (MOST_BYTES + 1))
    with pytest.raises(InvalidReport, match="tests"):
        parse(report("<testcase/>" * (MOST_TESTS + 1)))


def test_the_page_gets_counts_and_the_first_failures() -> None:
    cases = [TestCase(name=str(n), ended=Ended.FAILED, seconds=0, message="m") for n in range(80)]
    told = json.loads(for_the_page([*cases, TestCase(name="p", ended=Ended.PASSED, seconds=0)]))
    assert told["counts"] == {"passed": 1, "failed": 80, "error": 0, "skipped": 0}
    assert [case["name"] for case in told["failed"]] == [str(n) for n in range(50)]


@given(
    st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc"))),
    st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc"))),
)
def test_any_text_survives_within_bounds(name: str, message: str) -> None:
    root = ElementTree.Element("testsuite")
    ElementTree.SubElement(ElementTree.SubElement(root, "testcase", name=name), "failure", message=message)
    (case,) = parse(ElementTree.tostring(root))
    assert case.name == (name[:500] or "(no name)")
    assert case.message == message.strip()[:2000]


def test_what_pytest_really_writes(tmp_path: Path, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 1 == 2\n@pytest.mark.skip\ndef test_c(): pass"
    )
    pytester.runpytest_subprocess(f"--junitxml={tmp_path}/x.xml", "-p", "no:xdist", "-p", "no:cacheprovider")
    found = {case.name.rpartition(".")[2]: case for case in parse((tmp_path / "x.xml").read_bytes())}
    assert {name: case.ended for name, case in found.items()} == {
        "test_a": Ended.PASSED,
        "test_b": Ended.FAILED,
        "test_c": Ended.SKIPPED,
    }
    assert "assert 1 == 2" in found["test_b"].message
