"""The settings as types: what the TOML file says, read-only, each value of its kind. See :mod:`master.settings`."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import BeforeValidator, Field, model_validator

from master.errors import SecretUnreadable
from master.pipeline import NoWorkerPolicy, Pipeline, Stage
from master.settings_artifacts import ArtifactSettings
from master.settings_containers import ContainerSettings
from master.settings_github import GitHubSettings
from master.settings_gpus import GpuSettings
from master.settings_stages import USES, StageSettings, Use
from master.settings_types import (
    SECRET_NAME,
    Count,
    Duration,
    Environment,
    Name,
    Port,
    PositiveDuration,
    Switch,
    Table,
    Text,
    Texts,
    refused,
    web_url,
)

_SECRET = re.compile(r"\{secret:(" + SECRET_NAME.pattern + r")\}", re.ASCII)
_DATABASES = ("sqlite:", "postgresql:", "postgresql+psycopg2:")
_T = TypeVar("_T")


def _database(value: object) -> object:
    if isinstance(value, str):
        allowed = "sqlite:///FILE, postgresql://USER:{secret:NAME}@HOST/DATABASE, or {secret:NAME} for all of it"
        if not value.startswith(_DATABASES) and not _SECRET.fullmatch(value):
            raise refused("is no database that is known here", allowed)
        if "{secret:" in _SECRET.sub("", value):
            raise refused("names no secret: letters, digits, _, - and . between {secret: and }", allowed)
    return value


class ProjectSettings(Table):
    """The repository that is built."""

    name: Name
    repository: Text  #: URL or local path
    default_branch: Text = "main"
    tag_pattern: Text = "v*"
    submodules: Switch = True
    poll_interval: Duration = 60.0  #: 0: no poller, events come by webhook only
    pull_requests: Switch = True  #: whether the poller looks at ``refs/pull/*/head`` too


class MasterSettings(Table):
    title: Text = "mlc-ci"
    web_listen: Text = "127.0.0.1"
    web_port: Port = 8010  #: 0: any free one
    url: Annotated[str, BeforeValidator(web_url)] = ""
    worker_listen: Text = "127.0.0.1"  #: beyond the loopback interface only with ``worker_tls``
    worker_port: Port = 9989  #: 0: any free one (not with TLS)
    worker_tls: Switch = False
    worker_host: Texts = ()  #: names and addresses of this master as workers use them: its certificate is for these
    worker_local_port: Port = 0  #: with TLS: a plain port on loopback for this machine's own workers; 0: any free one
    worker_certificate: str = ""  #: with TLS: given certificates (PEM) instead of our own; with ``worker_key``
    worker_key: str = ""
    worker_ca: str = ""  #: what workers shall trust; left out: what their system trusts


class DatabaseSettings(Table):
    url: Annotated[str, BeforeValidator(_database)] = "sqlite:///state.sqlite"


class JanitorSettings(Table):
    """What removes old logs and builds from the database."""

    enabled: Switch = True
    keep_logs: PositiveDuration = 90 * 86400.0
    keep_build_data: PositiveDuration = 365 * 86400.0


class ThreadsSettings(Table):
    """How many threads a stage may use, by what the run acts as."""

    pull_request: Annotated[Count, Field(ge=1)] = 2
    other: Annotated[Count, Field(ge=1)] = 4


class SchedulingSettings(Table):
    """Defaults for every stage, how often a dying master may repeat a build, and when a worker is taken for lost."""

    queue_timeout: PositiveDuration = 6 * 3600.0
    no_worker: NoWorkerPolicy = "wait"
    infrastructure_retries: Count = 2
    master_restarts: Count = 10
    worker_timeout: PositiveDuration = 60.0  #: so long may a connected worker give no sign of life


class WorkerSettings(Table):
    trust: Literal["trusted", "untrusted"]
    os: Literal["linux", "windows"] = "linux"
    provides: frozenset[str] = frozenset()
    max_builds: Annotated[Count, Field(ge=1)] = 1
    local: Switch = False  #: ``mlc-ci up`` starts it, on the master's machine
    container: ContainerSettings | None = None  #: the master starts it, as a container, for each build


class Settings(Table):
    """Everything the master is told."""

    project: ProjectSettings
    master: MasterSettings = MasterSettings()
    database: DatabaseSettings = DatabaseSettings()
    janitor: JanitorSettings = JanitorSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    github: GitHubSettings | None = None
    environment: Environment = Field(default_factory=dict)
    threads: ThreadsSettings = ThreadsSettings()
    scheduling: SchedulingSettings = SchedulingSettings()
    gpus: GpuSettings = GpuSettings()
    workers: Mapping[str, WorkerSettings] = Field(default_factory=dict)
    stages: Annotated[Mapping[str, StageSettings], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _artifacts_where_workers_are(cls, data: Any) -> Any:
        """What says nothing else of ``[artifacts]`` listens where the workers' port does: a worker that reaches the
        master over TLS is one that uploads."""
        tables = data if isinstance(data, dict) else {}
        master, artifacts = tables.get("master", {}), tables.get("artifacts", {})
        if not isinstance(master, dict) or not isinstance(artifacts, dict) or not master.get("worker_tls"):
            return data
        as_workers = {"tls": master["worker_tls"]}
        if "worker_listen" in master:
            as_workers["listen"] = master["worker_listen"]
        return {**data, "artifacts": {**as_workers, **artifacts}}

    def pipeline(self) -> Pipeline:
        """The stage graph; ``ValueError`` when it is none (:func:`master.settings.load` has refused those)."""
        return Pipeline(stages=tuple(self.stage(name) for name in self.stages))

    def stage(self, name: str) -> Stage:
        """One stage with every default filled in: from its ``uses``, then from ``[scheduling]``."""
        own, scheduling = self.stages[name], self.scheduling
        used = own.used(name)
        use = USES.get(used, Use())
        timeout = own.timeout or use.timeout
        return Stage(
            name=name,
            uses=used,
            needs=own.needs,
            when=own.events(use),
            paths=own.paths,
            paths_ignore=own.paths_ignore,
            requires=own.required(name),
            variant_requires=own.required_by_variants(name),
            variants=own.variants or ("",),
            continue_on_error=_first(own.continue_on_error, use.continue_on_error),
            always=_first(own.always, use.always),
            publishes=_first(own.publishes, use.publishes),
            validates=own.validates,
            no_worker=own.no_worker or scheduling.no_worker,
            queue_timeout=own.queue_timeout or scheduling.queue_timeout,
            timeout=timeout,
            silence_timeout=own.silence_timeout or min(timeout, 20 * 60.0),
            limits=own.limits.limits(),
            infrastructure_retries=_first(own.infrastructure_retries, scheduling.infrastructure_retries),
            secrets=own.secrets,
            permissions=dict(own.permissions),
        )

    def environment_for(self, stage: str, *, workspace: str) -> dict[str, str]:
        """Variables for every command of a stage; ``workspace`` is the stage's own folder on the worker."""
        merged = {**self.environment, **self.stages[stage].environment}
        return {name: value.replace("{workspace}", workspace) for name, value in merged.items()}

    def database_url(self, secrets_folder: Path) -> str:
        """The database's URL with every ``{secret:NAME}`` replaced by that file of the secrets folder.

        Inside a URL the secret is percent-encoded; a value that is nothing but ``{secret:NAME}`` is taken as it is.
        Raises :class:`SecretUnreadable`.
        """
        url = self.database.url
        if whole := _SECRET.fullmatch(url):
            url = read_secret(secrets_folder, whole[1])
        else:
            url = _SECRET.sub(lambda found: quote(read_secret(secrets_folder, found[1]), safe=""), url)
        return re.sub(r"^postgresql:", "postgresql+psycopg2:", url)  # the driver that we install


def read_secret(folder: Path, name: str) -> str:
    """One secret, without its trailing newline. Raises :class:`SecretUnreadable`."""
    file = folder / name
    try:
        mode, text = file.stat().st_mode, file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SecretUnreadable(
            f"secret {name!r} cannot be read from {file}: {reason}",
            f"put it there, readable by its owner alone: install -m 600 /dev/stdin {file}",
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise SecretUnreadable(f"secret {name!r} in {file} can be read by others", f"chmod 600 {file}")
    if not text:
        raise SecretUnreadable(f"secret {name!r} in {file} is empty", "write the secret into it")
    return text


def _first(value: _T | None, default: _T) -> _T:
    return default if value is None else value
