"""Whether the three runs of ``ci/up --once`` did what the pipeline's document says: judged from outside, by the
release folder and by installing the released wheel."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from master.releases import NOTES, SUMS
from master.settings import Settings
from master.site import judge_images
from master.site.registry import Registry
from workers.wheel.beside import manifest_name

Run = Mapping[str, Any]

_GOOD = ("success", "warnings")
#: What each event makes of each stage. A stage that no worker here can serve may be skipped instead, with a reason.
_EXPECTED: Mapping[str, Mapping[str, Sequence[str]]] = {
    "push": {"test": _GOOD, "docker": _GOOD, "build-linux": _GOOD, "build-windows": _GOOD, "release": ("skipped",)},
    "pull_request": {
        "test": _GOOD,
        "docker": ("skipped",),
        "build-linux": _GOOD,
        "build-windows": _GOOD,
        "release": ("skipped",),
    },
    "tag": {"test": _GOOD, "docker": _GOOD, "build-linux": _GOOD, "build-windows": _GOOD, "release": _GOOD},
}
_MAY_BE_UNAVAILABLE = ("docker", "build-windows")


def rows(basedir: Path, query: str) -> list[Any]:
    """Read the master's database, without disturbing it."""
    connection = sqlite3.connect(f"file:{basedir / 'state.sqlite'}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def problems(
    runs: Sequence[Run],
    basedir: Path,
    settings: Settings,
    tag: str,
    progress: Console,
    *,
    registry: Registry | None = None,
) -> list[str]:
    """Everything that is not as it should be; nothing when all is. ``registry``: where images had to go."""
    needed = {"docker"} if registry else set[str]()
    found = []
    for event, stages in _EXPECTED.items():
        mine = [run for run in runs if run["event"] == event]
        if len(mine) != 1:
            found.append(f"{event}: {len(mine)} runs, expected one")
            continue
        found += _run_problems(mine[0], stages, settings, needed)
    image = settings.stages["docker"].image if registry else None
    if registry and image and not found:
        found += judge_images.problems(runs, image, settings, registry)
    wheels = list((basedir / "releases" / tag).glob("*.whl"))
    broken = _release_problems(basedir / "releases" / tag, wheels)
    found += broken
    for wheel in wheels if not broken else ():
        if "linux" in wheel.name:
            progress.print(f"installing {wheel.name} into a fresh environment, as the release notes say …")
            found += _install_problems(wheel, settings)
    return found


def _run_problems(
    run: Run, expected: Mapping[str, Sequence[str]], settings: Settings, needed: Collection[str]
) -> list[str]:
    found = []
    name = f"run {run['id']} ({run['event']})"
    trust = "untrusted" if run["event"] == "pull_request" else "trusted"
    stages = {stage["name"]: stage for stage in run["stages"]}
    for stage_name, allowed in {**expected, "summary": ("success",)}.items():
        stage = stages.get(stage_name)
        if stage is None:
            found.append(f"{name}: there is no stage {stage_name}")
            continue
        unavailable = stage["state"] == "skipped" and stage_name in _MAY_BE_UNAVAILABLE and stage_name not in needed
        if stage["state"] not in allowed and not unavailable:
            found.append(f"{name}: {stage_name} is {stage['state']} ({stage['reason']}), not {' or '.join(allowed)}")
        if stage["state"] == "skipped" and not stage["reason"]:
            found.append(f"{name}: {stage_name} was skipped without a reason")
        worker = settings.workers.get(stage["worker"])
        if worker is not None and worker.trust != trust:
            found.append(f"{name}: {stage_name} ran on {stage['worker']}, which is not {trust}")
    if run["result"] not in _GOOD:
        found.append(f"{name} ended as {run['result']}: {run['result_reason']}")
    return found


def _release_problems(folder: Path, wheels: Sequence[Path]) -> list[str]:
    if not wheels:
        return [f"no wheel was released in {folder.name}"]
    found = [f"the release has no {name}" for name in (SUMS, NOTES) if not (folder / name).exists()]
    if found:
        return found
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines())}
    for asset in [path for wheel in wheels for path in (wheel, folder / manifest_name(wheel.name))]:
        if not asset.exists():
            found.append(f"the release has no {asset.name}")
        elif sums.get(asset.name) != hashlib.sha256(asset.read_bytes()).hexdigest():
            found.append(f"{SUMS} does not fit {asset.name}")
    return found


def _install_command(wheel: Path) -> str:
    """The line of the release notes that installs this wheel; empty where they have none."""
    lines = (wheel.parent / NOTES).read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if "pip install" in line and f"./{wheel.name}" in line.split()), "")


def _install_problems(wheel: Path, settings: Settings) -> list[str]:
    """Install the released wheel and import it, as its user would: by the command that the release notes give."""
    install = _install_command(wheel)
    if not install:
        return [f"the release notes have no command that installs {wheel.name}"]
    own = settings.stages["build-linux"].wheel
    imports = "; ".join(f"import {name}" for name in own.imports) if own else "pass"
    with tempfile.TemporaryDirectory(prefix="mlc-ci-install-") as place:
        programs = Path(place) / "venv" / "bin"
        environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        for command, folder in (
            ([sys.executable, "-m", "venv", str(programs.parent)], Path(place)),
            (["sh", "-ec", install], wheel.parent),
            ([str(programs / "python"), "-c", imports], Path(place)),
        ):
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                return [f"{wheel.name} could not be used: {' '.join(command[1:3])}: {done.stderr.strip()[-500:]}"]
    return []
