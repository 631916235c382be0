"""Test results as JUnit XML, which a stranger's build may have written: read within bounds, by a parser that expands
nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import isnan
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

RESULTS = "tests"  #: the build data with what the page shows of a build's tests
MOST_BYTES = 20 * 1024 * 1024
MOST_TESTS = 100_000
_MOST_SHOWN = 50  #: failed tests whose message is kept for the page
_LONGEST_MESSAGE = 2000  #: characters
_LONGEST_NAME = 500


class InvalidReport(Exception):
    """A file that is no JUnit report, or too large a one."""


class Ended(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class TestCase:
    """One test: ``name`` with its class in front, how it ended, seconds, and what a failure or skip says."""

    __test__ = False  # pytest is not to collect it

    name: str
    ended: Ended
    seconds: float
    message: str = ""


def parse(report: bytes) -> list[TestCase]:
    """The tests of a report.

    Raises:
        InvalidReport: with what is wrong with it.
    """
    if len(report) > MOST_BYTES:
        raise InvalidReport(f"the report has {len(report)} bytes, more than {MOST_BYTES}")
    try:
        root = fromstring(report, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise InvalidReport(f"the report is no XML: {error}") from None
    if root.tag not in ("testsuites", "testsuite"):
        raise InvalidReport(f"the report is no JUnit report: its root is {root.tag[:60]}")
    cases = root.iter("testcase")
    found = [_case(element) for _, element in zip(range(MOST_TESTS + 1), cases, strict=False)]
    if len(found) > MOST_TESTS:
        raise InvalidReport(f"the report has more than {MOST_TESTS} tests")
    return found


def _case(element: Element) -> TestCase:
    name = ".".join(filter(None, (element.get("classname"), element.get("name"))))[:_LONGEST_NAME] or "(no name)"
    ended, message = Ended.PASSED, ""
    for tag, how in (("skipped", Ended.SKIPPED), ("failure", Ended.FAILED), ("error", Ended.ERROR)):
        if (told := element.find(tag)) is not None:
            ended, message = how, (told.get("message") or told.text or "").strip()[:_LONGEST_MESSAGE]
    try:
        seconds = min(max(float(element.get("time") or 0), 0.0), 1e6)
    except ValueError:
        seconds = 0.0
    return TestCase(name=name, ended=ended, seconds=0.0 if isnan(seconds) else seconds, message=message)


def for_the_page(cases: Sequence[TestCase]) -> bytes:
    """What the run's page shows, as JSON: counts, and the failed tests with their messages, the first ones of many."""
    failed = [case for case in cases if case.ended in (Ended.FAILED, Ended.ERROR)]
    counts = {ended.value: sum(case.ended is ended for case in cases) for ended in Ended}
    return json.dumps({"counts": counts, "failed": [asdict(case) for case in failed[:_MOST_SHOWN]]}).encode()
