"""The plugin as Buildbot's web server sees it: static files, and the API below them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any, cast

from buildbot.www.plugin import Application
from twisted.web.pages import notFound
from twisted.web.resource import IResource
from twisted.web.server import Request
from twisted.web.static import File

from master.web.api import Api
from master.web.page_request import PageRequest


class StaticFiles(File):
    """The page's scripts and styles: looked at again after an upgrade, and not listed as a folder."""

    def render_GET(self, request: Request) -> Any:
        request.setHeader(b"cache-control", b"no-cache")
        return File.render_GET(self, request)

    def directoryListing(self) -> IResource:
        return notFound()


class PipelinesApplication(Application):
    """The plugin ``mlc_ci`` of Buildbot's ``www`` settings.

    Buildbot makes it once, before there is a master, and tells it the master at every reconfiguration.
    """

    def __init__(self) -> None:  # not upstream's, which wants a file VERSION beside the code
        self.description = "mlc-ci: pipelines"
        self.version = _version()
        self.static_dir = Path(__file__).parent / "static"
        self.api = Api()
        self.resource = StaticFiles(str(self.static_dir))
        self.resource.putChild(b"api", cast(IResource, self.api))
        self.ui = True

    def setMaster(self, master: Any) -> None:
        super().setMaster(master)
        self.api.master = master
        if master.www.site is not None:  # Buildbot calls again once it has its site, and opens the port after that
            master.www.site.requestFactory = PageRequest


def _version() -> str:
    try:
        return metadata.version("mlc-ci")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "0"
