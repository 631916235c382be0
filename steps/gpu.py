"""The first step of a build that was lent GPUs: are they there, are they fit, and do they compute what the CPU does.

It is never the code's fault when they do not. The build property ``gpus_failed`` then says of each why.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from buildbot.process.properties import renderer
from twisted.internet import defer

from steps.classify import FailureClass, Limit, Verdict
from steps.command import Command, Frame
from steps.devices import lent

FAILED = "gpus_failed"
_PATIENCE = 60  # seconds for each device: it has just been found idle
_SAID = re.compile(r"\w+ (\S+): failed: (.+)")  # what ``mlc-ci-worker check-gpu`` says of one


def check_gpus(frame: Frame) -> CheckGpus:
    return CheckGpus(name="gpu", command=check_command, **frame.limits())


@renderer
def check_command(properties: Any) -> list[str]:
    """A stage asks for devices of one API. Of a share, that much memory has to be free."""
    gpus = lent(properties)
    if not gpus:
        return []
    command = ["mlc-ci-worker", "check-gpu", f"--api={gpus[0]['api']}", f"--seconds={_PATIENCE}"]
    if least := min(gpu["memory"] or 0 for gpu in gpus):
        command.append(f"--memory={least}")
    return [*command, *(f"--device={gpu['id']}" for gpu in gpus)]


class CheckGpus(Command):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bad: dict[str, str] = {}

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        if not self.command:
            return self.blame(FailureClass.INFRASTRUCTURE, "the stage asks for a GPU, and the build was lent none")
        result: int = yield super().run()
        return result

    def line_received(self, line: str) -> None:
        if said := _SAID.fullmatch(line):
            self.bad[said[1]] = said[2]

    def judge(self, exit_code: int | None, limit: Limit | None, limit_value: float | None) -> Verdict:
        verdict = super().judge(exit_code, limit, limit_value)
        # where it said nothing of any, the check as a whole broke down
        failed = self.bad or {gpu["id"]: verdict.reason for gpu in lent(self.build.getProperties())}
        self.setProperty(FAILED, failed, "step")
        return replace(verdict, failure_class=FailureClass.INFRASTRUCTURE)
