"""The test stage: published packages in a fresh environment, imported, and the checkout's own suite against them.

It is the baseline that a build is compared with; a suite in which everything is skipped is no baseline, so a minimum
number of tests has to have *passed*.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from buildbot.process.remotetransfer import StringFileWriter
from buildbot.process.results import FAILURE, SUCCESS
from buildbot.steps.worker import CompositeStepMixin
from twisted.internet import defer, threads

from master.pipeline import Stage
from master.settings import Settings
from master.settings_stages import PrebuiltSettings, PytestSettings
from steps import junit
from steps.classify import FailureClass, Limit, Verdict
from steps.command import Command, Frame
from steps.source import checkout

ENVIRONMENT = "../test-environment"  #: beside the checkout, which is cleaned by git
PYTHON = f"{ENVIRONMENT}/bin/python"
REPORT = "../pytest.xml"  #: JUnit XML, beside the checkout
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|deselected|warnings?)\b")
_SUMMARY = re.compile(r"^=* ?(no tests ran|\d+ [a-z]+(, \d+ [a-z]+)*) in [\d.]+s.*$")
_IMPORTED = re.compile(r"imported \S+ of (\S+) (\S+)")  # what ``mlc-ci-worker imports`` says of each
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: Exit codes of pytest beyond "some test failed", https://docs.pytest.org/en/stable/reference/exit-codes.html
_EXIT_CODES = {
    2: "pytest was interrupted (collection errors end it too)",
    3: "pytest broke down",
    4: "pytest was called wrongly",
    5: "pytest collected no test",
}


def build_steps(stage: Stage, variant: str, settings: Settings) -> list[Any]:
    own = settings.stages[stage.name]
    prebuilt = own.prebuilt.for_variant(variant) if own.prebuilt else None
    frame = Frame.of(stage, settings)
    limits = frame.limits()
    steps: list[Any] = [
        checkout(frame, submodules=settings.project.submodules),
        Command(name="environment", command=["python3", "-m", "venv", "--clear", ENVIRONMENT], **limits),
    ]
    suite = (own.pytest or PytestSettings()).for_variant(variant)
    needed = list(prebuilt.dependencies) if prebuilt else []
    if "pytest" not in map(distribution_name, needed):
        needed.append("pytest")
    steps.append(Command(name="dependencies", command=[PYTHON, "-m", "pip", "install", *needed], **limits))
    if prebuilt:
        steps.append(Command(name="prebuilt packages", command=install_command(prebuilt), **limits))
        steps.append(PrebuiltImports(name="imports", command=imports_command(prebuilt), **limits))
    steps.append(Command(name="old report", command=["rm", "-f", "--", REPORT], **limits))
    steps.append(Pytest(suite, name="pytest", **limits))
    return steps


def distribution_name(requirement: str) -> str:
    """The name of a requirement, normalised (PEP 503); empty for a URL or path."""
    found = _NAME.match(requirement)
    bare = " @ " not in requirement
    if found is None or (bare and ("://" in requirement or requirement.endswith((".whl", ".tar.gz")))):
        return ""
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def install_command(prebuilt: PrebuiltSettings) -> list[str]:
    command = [PYTHON, "-m", "pip", "install"]
    if not prebuilt.index:
        command.append("--no-index")
    if prebuilt.no_deps:
        command.append("--no-deps")
    if prebuilt.find_links:
        command += ["--find-links", prebuilt.find_links]
    return [*command, *prebuilt.packages]


def imports_command(prebuilt: PrebuiltSettings) -> list[str]:
    """Versions (a placeholder's 0.1 is refused: it is what PyPI holds under the nightly names) and imports."""
    command = ["mlc-ci-worker", "imports", "--python", PYTHON]
    for package in prebuilt.packages:
        if name := distribution_name(package):
            command += ["--installed", name]
    for name in prebuilt.same_version:
        command += ["--same-version", name]
    for module in prebuilt.imports:
        command += ["--import", module]
    return command


class PrebuiltImports(Command):
    """The imports. The build property ``prebuilt`` gets the versions of what was installed and imported, also when an
    import fails: the summary holds them against what was built."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked = {word for option, word in pairwise(self.command) if option == "--installed"}
        self.versions: dict[str, str] = {}

    def line_received(self, line: str) -> None:
        if told := _IMPORTED.fullmatch(line):
            self.versions[distribution_name(told[1])] = told[2]
        elif (words := line.split(" ")) and len(words) == 2 and words[0] in self.asked:
            self.versions[words[0]] = words[1]

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        result: int = yield super().run()
        self.setProperty("prebuilt", self.versions, "step")
        return result


class Pytest(CompositeStepMixin, Command):
    """The suite. Counts what passed from pytest's last line; too few is a failure like any other.

    Its JUnit report becomes a Buildbot test result set, and the build data that the run's page shows.
    """

    def __init__(self, suite: PytestSettings, **kwargs: Any) -> None:
        command = [PYTHON, "-m", "pytest", *suite.paths]
        if suite.marker:
            command += ["-m", suite.marker]
        command += ["-ra", "--color=no", f"--junitxml={REPORT}", *suite.arguments]
        super().__init__(command=command, **kwargs)
        self.minimum = suite.minimum_passed
        self.counts: dict[str, int] = {}
        self.summary = ""

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        result: int = yield super().run()
        if result in (SUCCESS, FAILURE):
            yield self.take_results()
        return result

    @defer.inlineCallbacks
    def take_results(self) -> Generator[Any, Any, None]:
        """The report, if the suite got so far as to write one. A bad one changes nothing of the step's result."""
        writer = StringFileWriter()
        arguments = {"workdir": self.workdir, "workersrc": REPORT, "writer": writer}
        arguments |= {"maxsize": junit.MOST_BYTES, "blocksize": 64 * 1024}
        there = yield self.runRemoteCommand(
            "uploadFile", arguments, abandonOnFailure=False, evaluateCommand=lambda done: not done.didFail()
        )
        if not there:
            return
        try:
            cases = yield threads.deferToThread(junit.parse, writer.buffer.encode())
        except junit.InvalidReport as error:
            yield self.addCompleteLog("report", f"{error}\n")
            return
        setid = yield self.addTestResultSet("pytest", "pass_fail", "boolean")
        for case in cases:
            if case.ended is not junit.Ended.SKIPPED:
                passed = "1" if case.ended is junit.Ended.PASSED else "0"
                self.addTestResult(setid, passed, test_name=case.name, duration_ns=int(case.seconds * 1e9))
        yield self.setBuildData(junit.RESULTS, junit.for_the_page(cases), "pytest")

    def line_received(self, line: str) -> None:
        if _SUMMARY.match(line):
            self.summary = line.strip("= ")
            self.counts = {what.rstrip("s"): int(number) for number, what in _COUNT.findall(line)}

    def accept(self) -> int:
        self.setProperty("tests", self.counts, "step")
        passed = self.counts.get("passed", 0)
        if passed < self.minimum:
            said = self.summary or "pytest printed no summary"
            return self.blame(FailureClass.CODE, f"{passed} tests passed, at least {self.minimum} have to ({said})")
        self.descriptionDone = [self.summary or "no minimum was set"]
        result: int = SUCCESS
        return result

    def judge(self, exit_code: int | None, limit: Limit | None, limit_value: float | None) -> Verdict:
        self.setProperty("tests", self.counts, "step")
        verdict = super().judge(exit_code, limit, limit_value)
        if verdict.failure_class is FailureClass.INFRASTRUCTURE or limit is not None:
            return verdict
        said = _EXIT_CODES.get(exit_code or 0) or self.summary
        first = verdict.first_error
        reason = f"{said}; first: {first}" if said and first else said or verdict.reason
        return replace(verdict, reason=reason)
