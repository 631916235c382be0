"""An accepted artifact, asked for on the page: sent from here, or by a link to where it is sent from.

Where the artifact process has an address of its own for browsers, or the files are in a bucket, the page leads there by
a link that is good for this one file and a short time. So the master's event loop sends nothing, and a file that is not
for everybody needs no second login.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from buildbot.www.authz import Forbidden
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.util import Redirect

from master.artifacts import announced
from master.artifacts.tokens import KEY, sign_link
from master.database import reads
from master.places import SECRETS, Places
from master.settings import read_secret
from master.settings_artifacts import ArtifactSettings
from master.web.downloads import download, located
from master.web.requests import Failed

LINK_S = 3600.0  #: how long a link is good for


async def artifact(
    master: Any, settings: ArtifactSettings, request: Request, run_id: int, attempt_id: int, name: str
) -> Resource:
    """What is answered.

    Raises:
        Failed: there is no such artifact, or only its row.
        Forbidden: artifacts are not public, and nobody has logged in.
    """
    if not settings.public and master.www.getUserInfos(request).get("anonymous"):
        raise Forbidden(b"artifacts of this master are not public: log in first")
    found = await master.db.pool.do(reads.artifact, run_id, attempt_id, name)
    if found is None:
        raise Failed(http.NOT_FOUND, f"run {run_id} has no such artifact")
    artifact_id, file = found
    if file.removed:
        raise Failed(http.GONE, f"{name} was removed when its time was over")
    basedir = Path(master.basedir)
    if settings.s3 or settings.url:
        link = sign_link(read_secret(basedir / SECRETS, KEY), artifact_id, until=time.time() + LINK_S)
        where = f"{announced.url(basedir)}/artifacts/{artifact_id}/{quote(file.name)}?link={link}"
        request.setHeader(b"cache-control", b"no-store")
        return Redirect(where.encode())
    path = located(Places(basedir=basedir, url="").artifacts, file)
    if path is None:
        raise Failed(http.NOT_FOUND, f"the file of {name} is no longer there")
    return download(request, path, file)
