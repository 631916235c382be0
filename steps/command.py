"""The step that every other one is made of: one command on the worker, within limits, its failure classed."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from buildbot.interfaces import IRenderable
from buildbot.process.buildstep import BuildStep, ShellMixin
from buildbot.process.logobserver import LogObserver
from buildbot.process.properties import Secret
from buildbot.process.results import FAILURE, SUCCESS
from buildbot.util import ComparableMixin
from twisted.internet import defer
from zope.interface import implementer

from master.pipeline import Limits, Stage
from master.settings import Settings
from steps.classify import FailureClass, Limit, OutputReader, Verdict
from steps.cut_secrets import struck
from steps.devices import NONE, lent, variables
from steps.token import StageToken
from steps.usage import looked_at, note
from workers.gpu.usage import MARK
from workers.sizes import size_text

# attributes of a build
_STARTED = "mlc_ci_started"  # when its first command started, on the reactor's clock
_LOGGED = "mlc_ci_logged"  # bytes of output of all its commands

#: In every command, unless the settings say otherwise.
BASE_ENVIRONMENT: Mapping[str, str] = {
    "LC_ALL": "C.UTF-8",  # the classification reads English
    "PYTHONUNBUFFERED": "1",  # else a silent build looks hung
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


@implementer(IRenderable)
class StageEnvironment(ComparableMixin):
    """A stage's variables for one build: the settings' with ``{workspace}`` filled in, its number of threads, its GPUs,
    and, in a trusted run only, its secrets under their names in capitals (``deploy-key`` is ``DEPLOY_KEY``) and its
    token."""

    compare_attrs = ("templates", "more", "secrets", "token")

    def __init__(
        self,
        templates: Mapping[str, str],
        more: Mapping[str, str] | None = None,
        secrets: Collection[str] = (),
        token: StageToken | None = None,
    ) -> None:
        self.templates = dict(templates)
        self.more = dict(more or {})
        self.secrets = tuple(secrets)
        self.token = token

    async def with_secrets(self, properties: Any) -> dict[str, str]:
        """Rendered by Buildbot, which then strikes their values out of every log."""
        plain = self.plain(properties)
        values = {variable_of(name): await properties.render(Secret(name)) for name in self.secrets}
        if self.token:
            values |= await self.token.variables(properties, plain)
        return {**plain, **values}

    def getRenderingFor(self, properties: Any) -> Any:
        if (self.secrets or self.token) and properties.getProperty("trusted") is True:
            return defer.ensureDeferred(self.with_secrets(properties))
        return self.plain(properties)

    def plain(self, properties: Any) -> dict[str, str]:
        """Everything but secrets."""
        threads = str(properties.getProperty("threads") or 2)
        gpus = lent(properties)
        workspace = str(properties.getProperty("builddir") or "..")
        return {
            **BASE_ENVIRONMENT,
            **NONE,
            "NUM_THREADS": threads,
            "CMAKE_BUILD_PARALLEL_LEVEL": threads,
            **{name: value.replace(_WORKSPACE, workspace) for name, value in self.templates.items()},
            **self.more,
            **(variables(gpus) if gpus else {}),
        }


_WORKSPACE = "{workspace}"


def variable_of(secret: str) -> str:
    """The environment variable in which a build finds a secret."""
    return re.sub(r"[^A-Z0-9]", "_", secret.upper())


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What all steps of one stage share."""

    environment: StageEnvironment
    silence_timeout: float
    timeout: float
    continue_on_error: bool
    bounds: Limits = field(default_factory=Limits)
    watched: bool = False  #: whether its workers can end all that a command starts: Linux ones can

    @classmethod
    def of(cls, stage: Stage, settings: Settings) -> Frame:
        return cls(
            environment=StageEnvironment(
                settings.environment_for(stage.name, workspace=_WORKSPACE),
                secrets=stage.secrets,
                token=StageToken.of(settings, stage.name),
            ),
            silence_timeout=stage.silence_timeout,
            timeout=stage.timeout,
            continue_on_error=stage.continue_on_error,
            bounds=stage.limits,
            watched=stage.requires.os == "linux",
        )

    def with_environment(self, more: Mapping[str, str]) -> Frame:
        """The same with further variables, which nothing overrides."""
        own = self.environment
        return replace(self, environment=StageEnvironment(own.templates, {**own.more, **more}, own.secrets, own.token))

    def outcome(self) -> dict[str, bool]:
        """How a failed step counts. A stage that may fail halts just the same, and its build ends with warnings."""
        return {
            "haltOnFailure": True,
            "flunkOnFailure": not self.continue_on_error,
            "warnOnFailure": self.continue_on_error,
        }

    def limits(self) -> dict[str, Any]:
        """For the constructor of a :class:`Command`."""
        return {
            **self.outcome(),
            "env": self.environment,
            "timeout": self.silence_timeout,
            "maxTime": self.timeout,
            "bounds": self.bounds,
            "watched": self.watched,
            "logEnviron": False,
        }


class FailureMixin:
    """For steps that say whose fault their failure is: build properties, and the summary on the page."""

    failure: Verdict | None = None

    def failed(self, verdict: Verdict) -> int:
        self.failure = verdict
        step: Any = self
        step.setProperty("failure_class", str(verdict.failure_class), "step")
        step.setProperty("failure_reason", verdict.reason, "step")
        if verdict.line is not None:
            step.setProperty("failure_line", verdict.line, "step")
        result: int = FAILURE
        return result

    def blame(self, failure_class: FailureClass, reason: str) -> int:
        return self.failed(Verdict(failure_class=failure_class, reason=reason))

    def getResultSummary(self) -> dict[str, str]:
        step: Any = self
        if self.failure is None:
            summary: dict[str, str] = super().getResultSummary()  # type: ignore[misc]  # of the step this is mixed into
            return summary
        text = f"{step.name} failed ({self.failure.failure_class}): {self.failure.reason}"
        return {"step": step.build.properties.cleanupTextFromSecrets(text)}


class _Reading(LogObserver):
    """Hands a log's lines to an :class:`OutputReader` and to the step, one by one."""

    def __init__(self, step: Command) -> None:
        super().__init__()
        self.command = step

    def gotData(self, stream: str | None, data: str | None) -> None:
        if data is None:
            return
        for line in data.removesuffix("\n").split("\n"):
            self.command.reader.read(line, header=stream == "h")
            if stream != "h":
                self.command.line_received(line)
                if line.startswith(MARK):
                    self.command.usage = line  # the last is the wrapper's own


def limited(command: Any, bounds: Limits, watched: bool, gpus: Collection[str] = ()) -> Any:
    """The command within the limits that the worker holds it to, and below what ends all that it starts, daemons
    included, and says what it used of these boards; itself where there are no limits and the worker may not know how.
    """
    limits = {"memory": bounds.memory, "processes": bounds.processes}
    options = [f"--{name}={value}" for name, value in limits.items() if value is not None]
    options += [f"--gpu={gpu}" for gpu in gpus if watched]
    if not options and not watched:
        return command
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    return ["mlc-ci-worker", "limit", *options, "--", *argv]


_NO_OTHERS = Limits()


class Command(FailureMixin, ShellMixin, BuildStep):
    """One command. ``timeout`` is the silence it may keep, ``maxTime`` what the whole stage may take, in seconds;
    ``bounds`` is what else holds; what is ``watched`` leaves nothing running.

    A failure sets the build properties ``failure_class``, ``failure_reason`` and, where a line of the log says it,
    ``failure_line`` (from 0). A lost worker stays Buildbot's business: its build is retried as it is.
    """

    def __init__(self, *, bounds: Limits = _NO_OTHERS, watched: bool = False, **kwargs: Any) -> None:
        kwargs = self.setupShellMixin(kwargs)
        super().__init__(**kwargs)
        self.bounds = bounds
        self.watched = watched
        self.over_log = False
        self.usage = ""
        self.reader = OutputReader()
        self.addLogObserver("stdio", _Reading(self))

    def line_received(self, line: str) -> None:
        """One line of output, for subclasses."""

    def accept(self) -> Any:
        """What becomes of a command that ended well: a result, or a Deferred of one. For subclasses."""
        return SUCCESS

    def judge(self, exit_code: int | None, limit: Limit | None, limit_value: float | None) -> Verdict:
        """The verdict over a command that failed. For subclasses that know more than its exit code."""
        return self.reader.verdict(exit_code, limit, limit_value)

    def over_own_memory(self) -> Any:
        """Whether it was the build's own limit, not the host's, or a Deferred of that: a container can tell."""
        asked = getattr(self.worker, "ran_out_of_memory", None)
        return asked() if asked else False

    def time_left(self) -> float | None:
        """Seconds until the stage's time limit: all its commands share one."""
        if self.maxTime is None:
            return None
        now: float = self.master.reactor.seconds()
        started: float = self.build.__dict__.setdefault(_STARTED, now)
        return max(1.0, float(self.maxTime) - (now - started))

    def bound_log(self, command: Any) -> None:
        """End the command when the build has said more than it may; keep what comes before, and nothing after.

        It is counted as it arrives, not as it is written: what waits for the database waits in our memory.
        """
        deliver = struck(command, lambda: self.build.properties._used_secrets)

        def bounded(key: str, value: Any, is_flushed: bool) -> Any:
            text = value[1] if key == "log" else value
            if key not in ("stdout", "stderr", "log"):
                return deliver(key, value, is_flushed)
            if self.over_log:
                return defer.succeed(None)
            logged = self.build.__dict__.get(_LOGGED, 0) + len(text if text.isascii() else text.encode())
            self.build.__dict__[_LOGGED] = logged
            if logged <= self.bounds.log:
                return deliver(key, value, is_flushed)
            self.over_log = True
            said = f"\nlog limit: more than {size_text(self.bounds.log)} of output, the rest is dropped\n"
            deliver("header", said, False)
            return command.interrupt("log limit")

        command.remoteUpdate = bounded

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        argv = limited(self.command, self.bounds, self.watched, looked_at(self.build.getProperties()))
        began = self.master.reactor.seconds()
        command = yield self.makeRemoteShellCommand(command=argv, maxTime=self.time_left())
        self.bound_log(command)
        yield self.runCommand(command)
        note(self, self.usage, began)
        if self.over_log and not self.stopped:
            return self.failed(self.judge(command.rc, Limit.LOG, self.bounds.log))
        result: int = command.results()
        if result == FAILURE:
            limit = {
                "timeout_without_output": (Limit.SILENCE, self.timeout),
                "timeout": (Limit.TIME, self.maxTime),
            }.get(command.remote_failure_reason, (self.reader.limit, None))
            verdict = self.judge(command.rc, *limit)
            if verdict.for_memory and (yield self.over_own_memory()):
                reason = f"memory limit of its container: {verdict.reason}"
                verdict = replace(verdict, failure_class=FailureClass.CODE, reason=reason)
            return self.failed(verdict)
        if result == SUCCESS:
            result = yield defer.maybeDeferred(self.accept)
        return result

    def getCurrentSummary(self) -> dict[str, str]:
        return {"step": f"{self.name} …"}

    def getResultSummary(self) -> dict[str, str]:
        if self.failure is None and self.results == SUCCESS and self.descriptionDone is None:
            return {"step": str(self.name)}
        return super().getResultSummary()
