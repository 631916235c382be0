"""The page's session cookie is for nobody but the page, and what a form holds is not looked at beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from buildbot.www.authz.endpointmatchers import AnyControlEndpointMatcher
from buildbot.www.service import BuildbotSite
from twisted.web.resource import Resource
from twisted.web.server import Request
from web_site import Browser, Master


class LogsIn(Resource):
    """As Buildbot's login does; and says what was made of the request."""

    def render_POST(self, request: Any) -> bytes:
        session = request.getSession()
        session.user_info = {"username": "root"}
        session.updateSession(request)
        args = sorted(name.decode() for name in request.args)
        return json.dumps({"args": args, "body": request.content.read().decode()}).encode()


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    master = Master(tmp_path, [AnyControlEndpointMatcher(role="admins")])
    master.site.resource.putChild(b"login", LogsIn())
    return Browser(master, [])


def flags(browser: Browser, **headers: str) -> set[str]:
    """Of the session's cookie, in lower case."""
    cookie = browser.ask("/login", method="POST", absolute=True, **headers).headers["set-cookie"]
    name, *said = cookie.split("; ")
    assert name.startswith("TWISTED_SESSION=")
    return {flag.lower() for flag in said} - {"path=/"}


def test_scripts_and_other_sites_cannot_use_the_session(browser: Browser) -> None:
    assert {"httponly", "samesite=lax"} <= flags(browser)
    browser.master.site.requestFactory = Request
    assert flags(browser) == set(), "Buildbot's own"


@pytest.mark.parametrize(
    ("url", "host", "secure"),
    [
        ("https://ci.example.org/", "ci.example.org", True),
        ("https://ci.example.org:8443/", "CI.example.org:8443", True),
        ("https://ci.example.org/", "127.0.0.1:8010", False),  # a program of this machine, without the proxy
        ("http://ci.example.org/", "ci.example.org", False),
    ],
)
def test_behind_a_tls_proxy_the_session_never_goes_over_plain_http(
    browser: Browser, url: str, host: str, secure: bool
) -> None:
    browser.master.config = SimpleNamespace(buildbotURL=url, builders=[])
    assert ("secure" in flags(browser, host=host)) is secure


@pytest.mark.parametrize("parsed", [False, True])
def test_a_form_is_not_taken_apart_before_it_is_known_whose_it_is(browser: Browser, parsed: bool) -> None:
    if parsed:
        browser.master.site.requestFactory = BuildbotSite.requestFactory
    form = {"method": "POST", "body": b"payload=1", "content_type": "application/x-www-form-urlencoded"}
    answer = browser.ask("/login?asked=1", absolute=True, **form)  # type: ignore[arg-type]
    assert answer.json == {"args": ["asked", "payload"] if parsed else ["asked"], "body": "payload=1"}
