"""Releases over the API and from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from buildbot.www.authz.endpointmatchers import AnyControlEndpointMatcher
from web_site import Browser, Master

from master.database import releases
from master.database.tables import release_assets


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    made = Browser(Master(tmp_path, [AnyControlEndpointMatcher(role="admins")]), [])
    with made.master.database.engine.begin() as connection:
        releases.record(connection, "v1.0", 1, ["1/a b.whl"], 10.0)
        releases.record(connection, "v1.1", 1, ["1/a b.whl"], 20.0)
    return made


def test_releases_are_told_newest_first(browser: Browser) -> None:
    told = browser.ask("releases").json["releases"]
    assert [(release["tag"], release["published_at"], release["yanked"]) for release in told] == [
        ("v1.1", 20.0, None),
        ("v1.0", 10.0, None),
    ]


def test_a_release_that_is_recorded_again_stays_as_it_was(browser: Browser) -> None:
    engine = browser.master.database.engine
    with engine.begin() as connection:
        releases.record(connection, "v1.0", 1, ["1/a b.whl", "1/gone"], 99.0)
        assert releases.every(connection)[1].published_at == 10.0
        count = sa.select(sa.func.count()).select_from(release_assets)
        assert connection.execute(count).scalar_one() == 3


def test_a_release_is_yanked_and_taken_back_by_an_administrator(browser: Browser) -> None:
    why = {"reason": "loads another TVM"}
    for user in ("", "anybody"):
        assert browser.order("releases/v1.0/yank", why, user=user).status == 403
    assert browser.order("releases/v1.0/yank", why).status == 200
    assert browser.ask("releases").json["releases"][1]["yanked"] == "loads another TVM"
    answer = browser.order("releases/v1.0/unyank")
    assert (answer.status, answer.json) == (200, {"tag": "v1.0", "yanked": None})
    assert browser.ask("releases").json["releases"][1]["yanked"] is None


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": 5}, {"reason": "x", "more": 1}])
def test_a_yank_says_why(browser: Browser, body: dict[str, object]) -> None:
    answer = browser.order("releases/v1.0/yank", body)
    assert answer.status == 400
    assert browser.ask("releases").json["releases"][1]["yanked"] is None


def test_what_was_never_released_cannot_be_yanked(browser: Browser) -> None:
    answer = browser.order("releases/v9/yank", {"reason": "x"})
    assert (answer.status, answer.json["error"]) == (404, "there is no release v9")
