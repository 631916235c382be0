"""Looks for a secret in everything that a site shows, keeps or hands to a build, in the forms that hide it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rig import Rig

_REST = (
    "builds",
    "buildsets",
    "buildrequests",
    "builders",
    "changes",
    "sourcestamps",
    "steps",
    "workers",
    "schedulers",
)


def forms(secret: str) -> dict[str, bytes]:
    """How a secret may stand in a text: as it is, in hexadecimal, and within anything that is base64."""
    plain = secret.encode()
    found = {"plain": plain, "hex": plain.hex().encode()}
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + plain)
        found[f"base64 at {offset}"] = encoded[(offset * 8 + 5) // 6 : (offset + len(plain)) * 8 // 6]
    return found


def shown(secrets: Mapping[str, str], where: Iterable[tuple[str, bytes]]) -> dict[tuple[str, str], set[str]]:
    """Which secrets are where, and in which forms; also where one is split over lines."""
    found: dict[tuple[str, str], set[str]] = {}
    for place, data in where:
        whole = re.sub(rb"\s", b"", data)
        for name, secret in secrets.items():
            for form, text in forms(secret).items():
                if text in data:
                    found.setdefault((name, place), set()).add(form)
                elif text in whole:
                    found.setdefault((name, place), set()).add(f"{form}, split")
    return found


def secrets_of(rig: Rig, *, but: Iterable[str] = ()) -> dict[str, str]:
    """All that the secrets folder holds, except what these may know."""
    files = [file for file in (rig.site.basedir / "secrets").iterdir() if file.is_file() and file.name not in but]
    return {file.name: file.read_text().strip() for file in files}


def of_run(rig: Rig, run_id: int) -> Iterator[tuple[str, bytes]]:
    """What a run's builds said and left, and what is told of them."""
    with rig.browser() as client:
        yield "the run", client.get(f"plugins/mlc_ci/api/runs/{run_id}").content
        for build in rig.rows("select distinct build_id id from stage_attempts where run_id = ? and build_id", run_id):
            yield f"properties of {build['id']}", client.get(f"api/v2/builds/{build['id']}/properties").content
            query = "select l.id from logs l join steps s on s.id = l.stepid where s.buildid = ?"
            for log in rig.rows(query, build["id"]):
                yield f"log {log['id']}", client.get(f"api/v2/logs/{log['id']}/raw").content
                yield f"contents of log {log['id']}", client.get(f"api/v2/logs/{log['id']}/contents").content
    query = "select a.path from artifacts a join stage_attempts s on s.id = a.attempt_id where s.run_id = ?"
    for file in rig.rows(query, run_id):
        yield f"artifact {file['path']}", (rig.site.basedir / "artifacts" / file["path"]).read_bytes()


def of_site(rig: Rig) -> Iterator[tuple[str, bytes]]:
    """What the site keeps and tells, whoever asks; not what is in the folders of workers."""
    for login in (False, True):
        with rig.browser(login=login) as client:
            for path in (*(f"api/v2/{name}" for name in _REST), "plugins/mlc_ci/api/runs"):
                yield f"{path}, {login=}", client.get(path).content
    files = [rig.site.basedir / "settings.toml", *rig.site.basedir.glob("state.sqlite*")]
    files += [*rig.site.basedir.glob("twistd.log*"), *(rig.site.folder / "logs").iterdir()]
    for file in files:
        yield file.name, file.read_bytes()


def of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below, and every name."""
    for file in sorted(folder.rglob("*")):
        yield f"name of {file.name}", str(file.relative_to(folder)).encode()
        if file.is_file():
            yield str(file.relative_to(folder)), file.read_bytes()


def of_json(name: str, what: object) -> tuple[str, bytes]:
    return name, json.dumps(what).encode()
