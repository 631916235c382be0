"""A request to the page: form bodies stay unread, and cookies are for nobody but the page.

Twisted takes a form apart before anybody has looked at who sends it; here the only forms are GitHub's deliveries, whose
signature is checked over the raw body. Buildbot's session cookie can be read by scripts, goes along with what other
sites ask for, and behind a TLS proxy counts as one of plain HTTP.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from buildbot.util import bytes2unicode
from twisted.web.server import Request


class PageRequest(Request):
    """For ``requestFactory`` of Buildbot's site."""

    def __init__(self, channel: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(channel, *args, parsePOSTFormSubmission=False, **kwargs)  # type: ignore[no-untyped-call]

    def addCookie(self, *cookie: Any, **attributes: Any) -> None:
        attributes |= {"httpOnly": True, "sameSite": "lax"}
        attributes["secure"] = bool(attributes.get("secure")) or self._asked_over_tls()
        super().addCookie(*cookie, **attributes)  # type: ignore[no-untyped-call]

    def _asked_over_tls(self) -> bool:
        """Whether a TLS proxy stands between: the page's own address is https, and it is what was asked for. Programs
        of this machine ask for the loopback address, and would not send a secure cookie back."""
        site: Any = self.site
        page = urlsplit(str(site.master.config.buildbotURL))
        host = bytes2unicode(self.getRequestHostname())  # type: ignore[no-untyped-call]
        return page.scheme == "https" and host.lower() == page.hostname
