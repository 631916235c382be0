"""The webhook's door: what GitHub signed comes in and is kept first; all else is turned away, and told why."""

from __future__ import annotations

import hashlib
import hmac
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from settings_sample import read, usable
from twisted.internet import defer
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from master.github import hook
from master.github.deliveries import SERVICE
from master.github.hook import GitHubHook

SECRET = "what GitHub and the master share"
SETTINGS = usable(read('[github]\nrepository = "Acme/Sample"\nformerly = ["acme/old"]\n'))
PAYLOAD = {"ref": "refs/heads/main", "repository": {"full_name": "acme/sample"}}
DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


class Kept:
    """Stands for the service: remembers what it was given to keep, or fails as a database does."""

    settings = SETTINGS

    def __init__(self) -> None:
        self.deliveries: list[tuple[str, str, Any]] = []
        self.digests: list[str] = []
        self.trouble: Exception | None = None

    async def keep(self, *, delivery: str, name: str, payload: Any, digest: str = "") -> bool:
        if self.trouble:
            raise self.trouble
        self.digests.append(digest)
        self.deliveries.append((delivery, name, payload))
        return True


@pytest.fixture
def kept() -> Kept:
    return Kept()


def request(body: bytes, method: bytes = b"POST", **headers: str | None) -> Request:
    """As GitHub would make it, but for the headers given (``None``: left out)."""
    about: dict[str, str | None] = {
        "X_GitHub_Event": "push",
        "X_GitHub_Delivery": DELIVERY,
        "Content_Type": "application/json",
        "Content_Length": str(len(body)),
        "X_Hub_Signature_256": signature(body),
        **headers,
    }
    made = Request(DummyChannel(), False)
    made.method = method
    for name, value in about.items():
        if value is not None:
            made.requestHeaders.setRawHeaders(name.replace("_", "-"), [value])
    made.gotLength(len(body))
    made.handleContentChunk(body)
    return made


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(kept: Kept, made: Request, secret: str = SECRET) -> defer.Deferred[Any]:
    master = SimpleNamespace(service_manager=SimpleNamespace(namedServices={SERVICE: kept}))
    return GitHubHook(secret, True, master=master).process(made)  # type: ignore[arg-type]


def taken_in(kept: Kept, made: Request) -> None:
    found: list[Any] = []
    post(kept, made).addCallback(found.append)
    assert found == [([], "git")], "Buildbot gets no change"


def refused(kept: Kept, made: Request, secret: str = SECRET) -> str:
    """Buildbot answers a ``ValueError`` with 400 and its text, and logs no traceback of it."""
    found: list[Any] = []
    post(kept, made, secret).addErrback(found.append)
    assert found, "it was taken in"
    assert found[0].check(ValueError), found[0]
    assert kept.deliveries == []
    return str(found[0].value)


BODY = json.dumps(PAYLOAD).encode()


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_a_signed_delivery_is_kept(kept: Kept, kind: str) -> None:
    taken_in(kept, request(BODY, Content_Type=kind))
    assert kept.deliveries == [(DELIVERY, "push", PAYLOAD)]


def test_a_form_is_kept_too_and_its_very_bytes_are_what_is_signed(kept: Kept) -> None:
    body = urlencode({"payload": json.dumps(PAYLOAD)}).encode()
    taken_in(kept, request(body, Content_Type="application/x-www-form-urlencoded"))
    assert kept.deliveries == [(DELIVERY, "push", PAYLOAD)]


def test_bytes_that_are_no_ascii_are_signed_as_they_are(kept: Kept) -> None:
    body = json.dumps({**PAYLOAD, "x": "grüß"}, ensure_ascii=False).encode()
    taken_in(kept, request(body))
    assert kept.deliveries[0][2]["x"] == "grüß"


def test_a_body_that_can_come_once_only_is_known_by_its_bytes(kept: Kept) -> None:
    for name in ("issue_comment", "push", "repository_dispatch"):
        taken_in(kept, request(BODY, X_GitHub_Event=name))
    assert kept.digests == [hashlib.sha256(BODY).hexdigest(), "", ""], "two equal dispatches may both be meant"


SHA1 = "sha1=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Hub_Signature_256": None},
        {"X_Hub_Signature_256": ""},
        {"X_Hub_Signature_256": None, "X_Hub_Signature": SHA1},
        {"X_Hub_Signature_256": SHA1},
        {"X_Hub_Signature_256": signature(BODY, "guessed"), "X_Hub_Signature": SHA1},
        {"X_Hub_Signature_256": signature(BODY + b" ")},
        {"X_Hub_Signature_256": signature(BODY).removeprefix("sha256=")},
        {"X_Hub_Signature_256": signature(BODY)[:-1]},
        {"X_Hub_Signature_256": "sha256=" + "é" * 64},
        {"X_Hub_Signature_256": signature(BODY, "")},
    ],
)
def test_what_github_did_not_sign_is_refused_and_told_so(kept: Kept, headers: dict[str, str | None]) -> None:
    said = refused(kept, request(BODY, **headers))
    assert "X-Hub-Signature-256" in said
    assert SECRET not in said
    assert hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest() not in said


def test_the_signature_is_judged_before_anything_is_made_of_the_body(kept: Kept) -> None:
    assert "Signature" in refused(kept, request(b"{no json", X_Hub_Signature_256=None))


def test_what_is_not_signed_is_not_even_read(kept: Kept) -> None:
    made = request(BODY, X_Hub_Signature_256=SHA1)
    made.content = None  # type: ignore[assignment] # reading it would say that there is none
    assert "64 hexadecimal digits" in refused(kept, made)


@pytest.mark.parametrize(("size", "threads"), [(1 << 20, 0), ((1 << 20) + 1, 1)])
def test_a_large_body_is_parsed_in_a_thread(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, size: int, threads: int
) -> None:
    used: list[object] = []

    def in_a_thread(function: Any, *arguments: Any) -> defer.Deferred[Any]:
        used.append(function)
        return defer.maybeDeferred(function, *arguments)

    monkeypatch.setattr(hook, "deferToThread", in_a_thread)
    body = BODY + b" " * (size - len(BODY))
    taken_in(kept, request(body))
    assert kept.deliveries == [(DELIVERY, "push", PAYLOAD)]
    assert len(used) == threads
    kept.deliveries.clear()
    assert "JSON" in refused(kept, request(body + b"{"))


def test_an_empty_secret_signs_nothing(kept: Kept) -> None:
    with pytest.raises(ValueError, match="no secret"):
        post(kept, request(BODY), secret="")
    with pytest.raises(hook.Refused, match="no webhook secret"):
        hook._assert_signed(BODY, "", signature(BODY, ""))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"X_GitHub_Delivery": None}, "X-GitHub-Delivery"),
        ({"X_GitHub_Delivery": "short"}, "X-GitHub-Delivery"),
        ({"X_GitHub_Delivery": "x" * 65}, "X-GitHub-Delivery"),
        ({"X_GitHub_Delivery": "72d3162e cc78 11e3"}, "X-GitHub-Delivery"),
        ({"X_GitHub_Event": None}, "X-GitHub-Event"),
        ({"X_GitHub_Event": "push; rm"}, "X-GitHub-Event"),
        ({"Content_Type": None}, "Content-Type"),
        ({"Content_Type": "text/plain"}, "Content-Type"),
        ({"Content_Type": "multipart/form-data"}, "Content-Type"),
    ],
)
def test_headers_that_are_wrong(kept: Kept, headers: dict[str, str | None], said: str) -> None:
    assert said in refused(kept, request(BODY, **headers))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b'"text"', b'{"x": NaN}', b"\xff", b"[" * 100_000, b'{"x": ' + b"9" * 5000 + b"}"]
)
def test_bodies_that_are_no_payload(kept: Kept, body: bytes) -> None:
    assert "JSON" in refused(kept, request(body))


@pytest.mark.parametrize("body", [b"", b"payload", b"other={}", b"payload={}&payload={}", b"payload=%7B"])
def test_forms_that_are_no_payload(kept: Kept, body: bytes) -> None:
    assert "JSON" in refused(kept, request(body, Content_Type="application/x-www-form-urlencoded"))


def test_a_delivery_is_at_most_as_large_as_github_sends_them(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unread:
        def seek(self, _place: int) -> None:
            raise AssertionError("the body was touched")

    made = request(BODY, Content_Length=str(hook.LARGEST + 1))
    made.content = Unread()  # type: ignore[assignment]
    assert "larger" in refused(kept, made)
    monkeypatch.setattr(hook, "LARGEST", len(BODY) - 1)
    assert "larger" in refused(kept, request(BODY, Content_Length=None))
    monkeypatch.setattr(hook, "LARGEST", len(BODY))
    taken_in(kept, request(BODY))


@pytest.mark.parametrize("name", ["acme/sample", "ACME/SAMPLE", "Acme/Old"])
def test_repositories_of_the_settings_are_served_whatever_their_case(kept: Kept, name: str) -> None:
    taken_in(kept, request(json.dumps({"repository": {"full_name": name}}).encode()))


@pytest.mark.parametrize("repository", [{"full_name": "acme/other"}, {"full_name": "acme/sample "}, None, {}, 7])
def test_other_repositories_are_not(kept: Kept, repository: object) -> None:
    assert "repository" in refused(kept, request(json.dumps({"repository": repository}).encode()))


def test_what_is_about_no_repository_is_kept_where_it_can_start_nothing(kept: Kept) -> None:
    taken_in(kept, request(b'{"zen": "Design for failure."}', X_GitHub_Event="ping"))
    assert len(kept.deliveries) == 1


def test_only_post_delivers(kept: Kept) -> None:
    assert "POST" in refused(kept, request(BODY, method=b"GET"))


def test_a_database_that_fails_is_no_mistake_of_githubs(kept: Kept) -> None:
    kept.trouble = OSError("disk full")
    found: list[Any] = []
    post(kept, request(BODY)).addErrback(found.append)
    assert found[0].check(OSError), "Buildbot answers 500 to all that is no ValueError"
