"""From settings to Buildbot's configuration: all that ``master.cfg`` does."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from buildbot.plugins import util

from master.announce import Announcement
from master.builders import configured_builders, unavailable
from master.database.engine import engine_kwargs
from master.force import force_scheduler
from master.gate import Gate
from master.github.access import Access, access_of
from master.github.stage_tokens import StageSecrets
from master.places import SECRETS, SETTINGS, Places, password_name
from master.poller import Complete, RefPoller
from master.probes import Probes
from master.scheduler import PipelineScheduler, rules_of
from master.secret_files import ensure
from master.settings import Settings, load, read_secret
from master.settings_github import WEBHOOK_SECRET
from master.settings_models import MasterSettings
from master.web.login import login
from master.worker_port import TlsPort, chain_for
from master.workers import configured_workers

_HERE = "this machine"


def configure(basedir: Path) -> dict[str, Any]:
    """Buildbot's configuration for the master in this folder, from its ``settings.toml`` and ``secrets/``.

    Raises:
        SettingsError: with everything that is wrong.
    """
    settings = load(basedir / SETTINGS)
    for name, worker in settings.workers.items():  # also of a worker that was added while the master ran
        if not worker.container:
            ensure(basedir / SECRETS, password_name(name))
    places = Places(basedir=basedir, url=_url(settings))
    gate = Gate()
    gate.trust = {name: worker.trust for name, worker in settings.workers.items()}
    gate.ledger.shares = settings.gpus.shares
    gate.ledger.sites = {name: _HERE for name, worker in settings.workers.items() if worker.local}
    access = access_of(settings, basedir / SECRETS)
    builders = configured_builders(settings, gate, places, access)
    names = [builder.name for builder in builders]
    url = settings.database_url(basedir / SECRETS)
    master = settings.master
    if master.worker_tls:
        chain_for(master, basedir)  # what is wrong with them is said before anything starts
    scheduler = PipelineScheduler(builderNames=names, settings=settings, unavailable=unavailable, gate=gate)
    return {
        "title": master.title,
        "titleURL": places.url,
        "buildbotURL": places.url,
        "buildbotNetUsageData": None,
        "db": {"db_url": url, "engine_kwargs": engine_kwargs(url)},
        "protocols": {"pb": {"port": _plain_port(master)}, "null": {}},
        "secretsProviders": [StageSecrets(str(basedir / SECRETS), access)],
        "workers": configured_workers(settings, basedir),
        "builders": builders,
        "schedulers": [scheduler, force_scheduler(settings, names)],
        "change_source": _pollers(settings, access),
        "services": [
            Announcement(master.web_port),
            Probes(settings=settings, gate=gate),
            *_container_probes(settings),
            *([TlsPort(settings=master)] if master.worker_tls else []),
            *_github(settings, access, places),
        ],
        "collapseRequests": False,
        "logCompressionMethod": "zstd",
        "configurators": _configurators(settings),
        "www": _www(settings, basedir),
    }


def _url(settings: Settings) -> str:
    master = settings.master
    host = f"[{master.web_listen}]" if ":" in master.web_listen else master.web_listen
    return master.url.rstrip("/") + "/" if master.url else f"http://{host}:{master.web_port}/"


def _plain_port(master: MasterSettings) -> str:
    """Buildbot's port for workers: with TLS, it is for this machine's own workers only."""
    if master.worker_tls:
        return _tcp(master.worker_local_port, "127.0.0.1")
    return _tcp(master.worker_port, master.worker_listen)


def _tcp(port: int, interface: str) -> str:
    """Twisted's description of a port, in which a colon separates."""
    escaped = interface.replace(":", r"\:")
    return f"tcp:{port}:interface={escaped}"


def _pollers(settings: Settings, access: Access | None) -> list[RefPoller]:
    project = settings.project
    if not project.poll_interval:
        return []
    return [
        RefPoller(
            repository=project.repository,
            rules=rules_of(settings),
            pollInterval=project.poll_interval,
            complete=_complete(settings, access) if access else None,
        )
    ]


def _github(settings: Settings, access: Access | None, places: Places) -> list[Any]:
    """The services that only a master with GitHub has; without, they are not even imported."""
    found: list[Any] = []
    if settings.github:
        from master.github.deliveries import Deliveries  # noqa: PLC0415

        found.append(Deliveries(settings=settings, access=access))
    if access:
        from master.github.poster import Poster  # noqa: PLC0415

        found.append(Poster(settings=settings, access=access, page=places.url))
    return found


def _container_probes(settings: Settings) -> list[Any]:
    if not any(worker.container for worker in settings.workers.values()):
        return []
    from master.container_probes import ContainerProbes  # noqa: PLC0415 - docker's SDK is large

    return [ContainerProbes(settings=settings)]


def _complete(settings: Settings, access: Access) -> Complete:
    from master.github.questions import polled  # noqa: PLC0415

    rules, with_files = rules_of(settings), settings.pipeline().reads_changes
    return partial(polled, access, rules=rules, with_files=with_files)


def _webhook(settings: Settings) -> bool:
    return settings.github is not None and settings.github.webhook


def _hook(settings: Settings, basedir: Path) -> dict[str, Any]:
    """Buildbot's settings of the webhook; none without its secret."""
    if not _webhook(settings):
        return {}
    from master.github.hook import dialects  # noqa: PLC0415 (Buildbot's hooks import much)

    read_secret(basedir / SECRETS, WEBHOOK_SECRET)  # said before anything starts, and read anew for each delivery
    return {"change_hook_dialects": dialects(util.Secret(WEBHOOK_SECRET))}


def _configurators(settings: Settings) -> list[Any]:
    janitor = settings.janitor
    if not janitor.enabled:
        return []
    return [
        util.JanitorConfigurator(
            logHorizon=timedelta(seconds=janitor.keep_logs),
            build_data_horizon=timedelta(seconds=janitor.keep_build_data),
            hour=3,
        )
    ]


def _www(settings: Settings, basedir: Path) -> dict[str, Any]:
    master = settings.master
    return {
        "port": _tcp(master.web_port, master.web_listen),
        "plugins": {"mlc_ci": {}, "waterfall_view": {}, "console_view": {}, "grid_view": {}},
        **login(settings.github, basedir / SECRETS),
        **_hook(settings, basedir),
    }
