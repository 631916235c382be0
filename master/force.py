"""Manual dispatch: a force that creates a run, from the page, the command line (``mlc-ci run``) or REST."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from buildbot.plugins import util
from buildbot.schedulers.forcesched import CollectedValidationError, ForceScheduler
from buildbot.util.twisted import async_to_deferred

from master.database import store
from master.pipeline import EventKind
from master.repository import Repository, RepositoryUnreachable, UnknownRef, resolve
from master.scheduler import NAME
from master.settings import Settings
from master.triggers import Event, InvalidEvent

SCHEDULER = "run"
_MOST_THREADS = 1024


def force_scheduler(settings: Settings, builders: list[str]) -> ForceRun:
    """The force form: ref, stages, threads, publish, reason."""
    return ForceRun(
        name=SCHEDULER,
        label="Run the pipeline",
        buttonName="Run the pipeline",
        builderNames=builders,
        codebases=[util.CodebaseParameter(codebase="", hide=True)],
        reason=util.StringParameter(name="reason", label="Reason", default="", size=60),
        username=util.UserNameParameter(label="Who", size=60),
        priority=util.IntParameter(name="priority", default=0, hide=True),
        properties=[
            util.StringParameter(
                name="ref",
                label="Branch, tag or full ref",
                default=settings.project.default_branch,
                required=True,
                size=60,
            ),
            util.ChoiceStringParameter(
                name="stages",
                label="Stages (none chosen: all)",
                choices=list(settings.stages),
                default=[],
                multiple=True,
            ),
            util.IntParameter(name="threads", label="Threads (0: as the settings say)", default=0),
            util.BooleanParameter(name="publish", label="Publish (default branch and tags only)", default=False),
        ],
    )


class ForceRun(ForceScheduler):
    """A force scheduler whose force is an event like any other; no buildset is added past the stage graph."""

    @async_to_deferred
    async def force(self, owner: str, builderNames: Any = None, builderid: Any = None, **kwargs: Any) -> Any:
        """Create a run. Returns what Buildbot's page expects: a buildset and ``{builder id: request id}``."""
        given = {name: value if isinstance(value, list) else [value] for name, value in kwargs.items()}
        event = await self._event(owner, given)
        scheduler = self.master.scheduler_manager.namedServices[NAME]
        key = f"manual:{uuid.uuid4()}"
        try:
            await scheduler.dispatch(event, key=key)
        except InvalidEvent as error:
            raise CollectedValidationError({"ref": str(error)}) from None
        return await self.master.db.pool.do(_first_request, key)

    async def _event(self, owner: str, given: dict[str, list[Any]]) -> Event:
        unknown = sorted(
            set(given) - {"ref", "stages", "threads", "publish", "reason", "username", "priority", "owner"}
        )
        unknown = [name for name in unknown if not name.startswith(("branch", "repository", "revision", "project"))]
        errors = dict.fromkeys(unknown, "is no field of this form")
        values: dict[str, Any] = {}
        for parameter in self.forcedProperties:
            if parameter.name in ("ref", "stages", "threads", "publish"):
                try:
                    values[parameter.name] = parameter.getFromKwargs(given)
                except ValueError as error:
                    errors[parameter.name] = str(error)
        if not errors and not 0 <= int(values["threads"]) <= _MOST_THREADS:
            errors["threads"] = f"must be 0 to {_MOST_THREADS}"
        if not errors:
            try:
                ref, head = resolve(await self._repository().refs(), values["ref"].strip())
            except (UnknownRef, RepositoryUnreachable) as error:
                errors["ref"] = str(error)
        if errors:
            raise CollectedValidationError(errors)
        said = str((given.get("reason") or [""])[0])
        details = await self._repository().describe(ref, head)
        return Event(
            kind=EventKind.MANUAL,
            ref=ref,
            head=head,
            message=details.message,
            author=details.author,
            stages=tuple(values["stages"]) or None,
            threads=int(values["threads"]) or None,
            publish=bool(values["publish"]),
            reason=f"by {owner}" + (f": {said}" if said else ""),
        )

    def _repository(self) -> Repository:
        scheduler = self.master.scheduler_manager.namedServices[NAME]
        return Repository(
            scheduler.handover.repository, Path(self.master.basedir) / "repository.git", self.master.reactor
        )


def _first_request(connection: sa.Connection, key: str) -> tuple[int | None, dict[int, int]]:
    """Buildset and requests of the run's first attempt that Buildbot has queued."""
    run_id = store.run_of_event(connection, key)
    for attempt in store.attempts(connection, [run_id]) if run_id else []:
        if attempt.request_id is not None:
            return attempt.buildset_id, {0: attempt.request_id}
    return None, {}
