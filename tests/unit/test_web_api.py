"""The API over HTTP: who may read, who may give orders, and what is never served."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from buildbot.www.authz.endpointmatchers import AnyControlEndpointMatcher, AnyEndpointMatcher
from twisted.internet import _producer_helpers
from twisted.internet.task import Cooperator
from twisted.python import log
from web_site import WHEEL, Browser, Master

from master.artifacts import announced
from master.artifacts.tokens import KEY, InvalidToken, verify_link
from master.database.tables import artifacts
from master.places import SECRETS
from master.secret_files import ensure
from master.settings import read_secret
from master.settings_artifacts import ArtifactSettings


@pytest.fixture
def pending(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What Twisted wants to do later while it streams a file; no reactor runs here."""
    calls: list[Callable[[], None]] = []
    later = Cooperator(scheduler=lambda call: (calls.append(call), SimpleNamespace(cancel=lambda: None))[1])
    monkeypatch.setattr(_producer_helpers, "cooperate", later.cooperate)
    return calls


@pytest.fixture
def browser(tmp_path: Path, pending: list[Callable[[], None]]) -> Browser:
    return Browser(Master(tmp_path, [AnyControlEndpointMatcher(role="admins")]), pending)


# -- reading


def test_anybody_reads_the_list_and_a_run(browser: Browser) -> None:
    listed = browser.ask("runs")
    assert listed.status == 200
    assert listed.headers["content-type"] == "application/json"
    assert [run["id"] for run in listed.json["runs"]] == [1]
    assert listed.json["default_branch"] == "trunk"
    assert listed.json["trouble"] == "the repository cannot be asked"
    run = browser.ask("runs/1").json
    assert [stage["name"] for stage in run["stages"]] == ["test", "build"]
    assert run["may_control"] is False


def test_only_an_admin_is_told_that_they_may_control(browser: Browser) -> None:
    assert browser.ask("runs/1", user="root").json["may_control"] is True
    assert browser.ask("runs/1", user="guest").json["may_control"] is False


@pytest.mark.parametrize(
    "path",
    ["", "run", "runs/", "runs/2", "runs/0", "runs/-1", "runs/x", "runs/1/", "runs/1/x", f"runs/{10**30}", "runs/%FF"],
)
def test_an_unknown_address_is_a_404(browser: Browser, path: str) -> None:
    answer = browser.ask(path)
    assert answer.status == 404
    assert answer.json["error"]


@pytest.mark.parametrize("path", ["runs/%D9%A1", "runs/1/artifacts", "runs/1/artifacts/2", "runs/1/artifacts/x/y"])
def test_what_only_looks_like_an_address_is_one_too(browser: Browser, path: str) -> None:
    assert browser.ask(path).status == 404


@pytest.mark.parametrize(
    "query",
    [
        *("limit=x", "limit=0", "limit=-1", "before=", "before=1&before=2", "before=%FF"),
        *(f"before={'0' * 19}1{'9' * 30}", f"before={'9' * 5000}"),
    ],
)
def test_a_garbled_query_is_a_400_that_names_it(browser: Browser, query: str) -> None:
    answer = browser.ask(f"runs?{query}")
    assert answer.status == 400
    assert query.partition("=")[0] in answer.json["error"]


def test_an_answer_that_has_not_changed_is_not_sent_again(browser: Browser) -> None:
    first = browser.ask("runs")
    again = browser.ask("runs", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")


def test_an_answer_is_compressed_for_those_who_can_read_it(browser: Browser) -> None:
    answer = browser.ask("runs/1", accept_encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body)) == browser.ask("runs/1").json


def test_a_head_request_has_no_body(browser: Browser) -> None:
    answer = browser.ask("runs", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == len(browser.ask("runs").body)


@pytest.mark.parametrize(
    ("path", "allowed"), [("runs", "GET, HEAD"), ("runs/1", "GET, HEAD"), ("runs/1/cancel", "POST")]
)
def test_the_wrong_method_is_a_405(browser: Browser, path: str, allowed: str) -> None:
    answer = browser.ask(path, method="DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_no_other_site_is_granted_a_preflight(browser: Browser) -> None:
    answer = browser.ask("runs/1/cancel", method="OPTIONS", origin="https://evil.example")
    assert answer.status == 405
    assert "access-control-allow-origin" not in answer.headers


def test_a_master_that_hides_itself_hides_its_runs(tmp_path: Path, pending: list[Callable[[], None]]) -> None:
    browser = Browser(Master(tmp_path, [AnyEndpointMatcher(role="admins")]), pending)
    wheel = f"runs/1/artifacts/{browser.master.attempt_id}/dist/a%20b.whl"
    for path in ("runs", "runs/1", wheel):
        assert browser.ask(path).status == 403
        assert browser.ask(path, user="root").status == 200


def test_static_files_are_served_and_not_listed(browser: Browser) -> None:
    script = browser.ask("/plugins/mlc_ci/scripts.js", absolute=True)
    assert script.status == 200
    assert "javascript" in script.headers["content-type"]
    assert browser.ask("/plugins/mlc_ci/", absolute=True).status == 404


# -- artifacts


def test_an_artifact_arrives_as_it_was_hashed_and_is_never_rendered(browser: Browser) -> None:
    link = browser.ask("runs/1").json["stages"][1]["history"][0]["artifacts"][0]["link"]
    answer = browser.ask(link)
    assert (answer.status, answer.body) == (200, WHEEL)
    assert answer.headers["etag"] == f'"{hashlib.sha256(WHEEL).hexdigest()}"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.whl"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")


def test_an_artifact_is_sent_by_the_artifact_process_where_browsers_reach_it(browser: Browser) -> None:
    basedir, attempt = Path(browser.master.basedir), browser.master.attempt_id
    browser.master.scheduler.settings.artifacts = ArtifactSettings(url="https://files.example.org")
    ensure(basedir / SECRETS, KEY)
    announced.announce(basedir, port=8020, url="https://files.example.org")
    answer = browser.ask(f"runs/1/artifacts/{attempt}/dist/a%20b.whl")
    where, _, link = answer.headers["location"].partition("?link=")
    assert (answer.status, where) == (302, "https://files.example.org/artifacts/1/dist/a%20b.whl")
    key = read_secret(basedir / SECRETS, KEY)
    verify_link(key, link, 1)
    with pytest.raises(InvalidToken, match="another artifact"):
        verify_link(key, link, 2)


def test_an_artifact_whose_time_is_over_is_gone_and_says_so(browser: Browser) -> None:
    with browser.master.database.engine.begin() as connection:
        connection.execute(artifacts.update().where(artifacts.c.path == "1/a b.whl").values(removed_at=5.0))
    answer = browser.ask(f"runs/1/artifacts/{browser.master.attempt_id}/dist/a%20b.whl")
    assert (answer.status, answer.json) == (410, {"error": "dist/a b.whl was removed when its time was over"})
    shown = browser.ask("runs/1").json["stages"][1]["history"][0]["artifacts"][0]
    assert (shown["name"], shown["removed"]) == ("dist/a b.whl", True)


def test_private_artifacts_need_a_login(browser: Browser) -> None:
    browser.master.scheduler.settings.artifacts = ArtifactSettings(public=False)
    path = f"runs/1/artifacts/{browser.master.attempt_id}/dist/a%20b.whl"
    assert browser.ask(path).status == 403
    assert browser.ask(path, user="anybody").status == 200
    assert browser.ask("runs/1").status == 200


def test_an_artifact_is_sent_by_ranges(browser: Browser) -> None:
    path = f"runs/1/artifacts/{browser.master.attempt_id}/dist/a%20b.whl"
    answer = browser.ask(path, range="bytes=5-11")
    assert (answer.status, answer.body) == (206, WHEEL[5:12])
    assert answer.headers["content-range"] == f"bytes 5-11/{len(WHEEL)}"


@pytest.mark.parametrize("name", ["gone", "outside", "link", "a%20b.whl", "../../outside.txt", "%2e%2e%2foutside.txt"])
def test_only_accepted_files_below_the_artifact_folder_are_served(browser: Browser, name: str) -> None:
    answer = browser.ask(f"runs/1/artifacts/{browser.master.attempt_id}/{name}")
    assert answer.status == 404
    assert b"secret" not in answer.body


# -- orders


def test_an_admin_approves_a_commit(browser: Browser) -> None:
    assert browser.order("runs/1/approve", {"head": "a" * 40}).json == {"run": 1, "approved": "root"}
    assert browser.master.scheduler.orders == [("approve", 1, "a" * 40, "root")]
    browser.master.scheduler.refuses = "run 1 is for another commit"
    refused = browser.order("runs/1/approve", {"head": "b" * 40})
    assert (refused.status, refused.json) == (409, {"error": "run 1 is for another commit"})


@pytest.mark.parametrize(
    "order", [{}, {"head": ""}, {"head": 1}, {"head": None}, {"head": "a" * 12}, {"sha": "a" * 40}]
)
def test_an_approval_that_does_not_name_a_whole_commit_is_a_400(browser: Browser, order: dict[str, Any]) -> None:
    assert browser.order("runs/1/approve", order).status == 400
    assert browser.master.scheduler.orders == []


def test_an_admin_cancels_and_repeats(browser: Browser) -> None:
    assert browser.order("runs/1/cancel").json == {"run": 1, "cancelled": True}
    assert browser.order("runs/1/repeat").status == 200
    assert browser.order("runs/1/repeat", {"stage": "test"}).json == {"run": 1, "attempts": ["test/default/2"]}
    assert browser.master.scheduler.orders == [
        ("cancel", 1, "cancelled by root"),
        ("repeat", 1, "", "run again by root"),
        ("repeat", 1, "test", "run again by root"),
    ]


@pytest.mark.parametrize("user", ["", "guest"])
@pytest.mark.parametrize("rules", [[], [AnyControlEndpointMatcher(role="*")]], ids=["no rules", "a rule for everybody"])
def test_nobody_but_admins_gives_orders_whatever_the_rules(
    tmp_path: Path, pending: list[Callable[[], None]], rules: list[Any], user: str
) -> None:
    browser = Browser(Master(tmp_path, rules), pending)
    for action in ("cancel", "repeat", "approve"):
        answer = browser.order(f"runs/1/{action}", {"head": "a" * 40} if action == "approve" else {}, user=user)
        assert answer.status == 403
        assert "admins" in answer.json["error"]
    assert browser.master.scheduler.orders == []


def test_a_rule_can_keep_admins_from_it_too(tmp_path: Path, pending: list[Callable[[], None]]) -> None:
    browser = Browser(Master(tmp_path, [AnyControlEndpointMatcher(role="owners")]), pending)
    assert browser.order("runs/1/cancel").status == 403
    assert browser.ask("runs/1", user="root").json["may_control"] is False


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"origin": "https://ci.example.org.evil.example"},
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": ""},
    ],
)
def test_another_sites_page_cannot_give_an_admins_orders(browser: Browser, headers: dict[str, str]) -> None:
    assert browser.order("runs/1/cancel", **headers).status == 403
    assert browser.order("runs/1/approve", {"head": "a" * 40}, **headers).status == 403
    assert browser.master.scheduler.orders == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": ""},
        {"origin": "https://ci.example.org"},
        {"host": "10.0.0.5:8010", "origin": "http://10.0.0.5:8010"},
        {"content_type": "application/json; charset=utf-8"},
    ],
    ids=["no browser", "the configured address", "another address of ours", "a charset"],
)
def test_our_own_page_can(browser: Browser, headers: dict[str, str]) -> None:
    assert browser.order("runs/1/cancel", **headers).status == 200


def test_a_refusal_is_a_409_with_its_reason(browser: Browser) -> None:
    browser.master.scheduler.refuses = "release has already published"
    repeated = browser.order("runs/1/repeat")
    assert (repeated.status, repeated.json) == (409, {"error": "release has already published"})
    cancelled = browser.order("runs/1/cancel")
    assert (cancelled.status, cancelled.json) == (409, {"error": "run 1 has ended"})


def test_orders_for_a_run_that_is_not_there_are_a_404(browser: Browser) -> None:
    assert browser.order("runs/2/cancel").status == 404
    assert browser.order("runs/2/repeat").status == 404


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"\xff", b'{"stage": 1}', b'{"stage": null}', b'{"other": ""}', b"[" * 60_000, b" " * 70_000],
)
def test_garbage_is_a_400(browser: Browser, body: bytes) -> None:
    answer = browser.order("runs/1/repeat", body)
    assert answer.status == 400
    assert answer.json["error"]
    assert browser.master.scheduler.orders == []


def test_a_defect_shows_no_traceback(browser: Browser) -> None:
    browser.master.scheduler.breaks = True
    logged: list[Any] = []
    log.addObserver(logged.append)
    try:
        answer = browser.order("runs/1/cancel")
    finally:
        log.removeObserver(logged.append)
    assert answer.status == 500
    assert b"secret detail" not in answer.body
    assert any("secret detail" in str(event.get("failure")) for event in logged)


def test_a_master_without_a_pipeline_says_so(browser: Browser) -> None:
    browser.master.scheduler_manager.namedServices.clear()
    answer = browser.ask("runs")
    assert (answer.status, answer.json) == (503, {"error": "this master runs no pipeline"})
