"""Cold against warm: the sample's wheel with empty compiler caches, and at once again, on one real worker.

Both builds of a round are of the same commit, by the same worker, in the same folder, one after the other: what else
the machine does falls on both. All of `pip wheel` is measured. pip's own environment, CMake and linking are in both, so
the ratio is what a user gains and not what the caches could gain at best.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from master.bench.figures import Measured, Round
from master.client import Client, of_site
from master.errors import UserError
from master.settings import load
from master.site import host
from master.site.owners import owners
from master.site.processes import NotStarted, Site, running
from master.site.sample import SampleRepository, source

WORKER, STAGE = "bench", "build-linux"  #: as ci/bench.toml names them
_PATIENCE_S = 20 * 60.0
_POLL_S = 0.2
_PROPERTIES = (
    "select p.name, p.value from build_properties p join stage_attempts a on a.build_id = p.buildid"
    " where a.run_id = ? and a.stage = ?"
)


class NotMeasured(UserError):
    """A build failed, or left no figures."""


def measure(rounds: int, said: Callable[[str], None]) -> list[Round]:
    """Set up a throwaway site and measure. ``said`` is told of the progress.

    Raises:
        UserError: the site could not be started, or a build failed or was not measured.
    """
    settings_file = source() / "ci" / "bench.toml"
    settings = load(settings_file)
    if missing := host.missing_tools(settings):
        raise NotMeasured("the sample cannot be built here", "; ".join(host.advice(missing)))
    with _throwaway() as folder:
        sample = SampleRepository(folder / "repositories")
        sample.create()
        overrides = host.overrides(settings_file, sample.path, any_port=True)
        site = Site(folder, settings_file, overrides=overrides, owners=owners(lasting=False))
        said("starting a master and a worker …")
        with running(site):
            client = of_site(folder)
            _wait(site, "the worker to connect", lambda: WORKER in client.connected_workers())
            said("a first build, which fills pip's cache: not measured")
            _built(site, client)
            found = []
            for number in range(1, rounds + 1):
                _empty_caches(site.folder / "workers" / WORKER)
                one = Round(cold=_built(site, client), warm=_built(site, client))
                said(f"round {number}: cold {one.cold.seconds:.1f} s, warm {one.warm.seconds:.1f} s")
                found.append(one)
            return found


def _built(site: Site, client: Client) -> Measured:
    """One more build of the default branch."""
    before = {run["id"] for run in client.runs()}
    client.dispatch(ref="main", stages=[STAGE], threads=0, publish=False, reason="ci/bench")
    new: list[Any] = []

    def ended() -> bool:
        new[:] = [run for run in client.runs() if run["id"] not in before]
        return bool(new) and not new[0]["live"]

    _wait(site, "a build to end", ended)
    run = new[0]
    if run["result"] not in ("success", "warnings"):
        raise NotMeasured(f"a build ended as {run['result']}: {run['result_reason']}")
    with contextlib.closing(sqlite3.connect(f"file:{site.basedir / 'state.sqlite'}?mode=ro", uri=True)) as database:
        properties = {name: json.loads(value) for name, value in database.execute(_PROPERTIES, (run["id"], STAGE))}
    try:
        return Measured.of(properties)
    except KeyError as error:
        why = "; ".join(properties.get("cache_warnings", ())) or "its build says nothing of it"
        raise NotMeasured(f"{error.args[0]} is not known: {why}") from None


def _empty_caches(worker: Path) -> None:
    for folder in (*worker.glob("*/.ccache"), worker / "cache" / "ccache", worker / "cache" / "sccache"):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise NotMeasured(f"{folder} could not be emptied")


@contextlib.contextmanager
def _throwaway() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mlc-ci-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(site: Site, what: str, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        if dead := site.failed():
            raise NotStarted(f"{dead.name} ended with {dead.exit_code}:\n{dead.last_words()}")
        if time.monotonic() > until:
            raise NotStarted(f"gave up waiting for {what} after {_PATIENCE_S / 60:g} minutes")
        time.sleep(_POLL_S)
