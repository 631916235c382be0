"""The pages of a package index, as pip and uv read them (tests/integration installs from them)."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from master.artifacts.index import IndexedWheel, NotAcceptable, project_list, project_page, render

JSON = "application/vnd.pypi.simple.v1+json"
WHEEL = IndexedWheel(
    name="mlc_llm-0.2.0-py3-none-manylinux_2_28_x86_64.whl",
    url="../../artifacts/7/mlc_llm-0.2.0-py3-none-manylinux_2_28_x86_64.whl",
    size=123,
    sha256="a" * 64,
    published_at=1_790_000_000.0,
    requires_python=">=3.9,<4",
)
NEWER = replace(WHEEL, name=WHEEL.name.replace("0.2.0", "0.3.0"), url="x", published_at=WHEEL.published_at + 1)


class Links(HTMLParser):
    """Every link of a page, as a browser would understand its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.found += [dict(attrs)] if attrs else []


def page(name: str, *wheels: IndexedWheel, accept: str = JSON) -> Any:
    found = project_page(name, wheels)
    assert found is not None
    _, text = render(found, accept)
    return json.loads(text) if accept == JSON else Links(text).found


def test_a_wheel_in_json() -> None:
    shown = page("mlc-llm", WHEEL)
    assert (shown["meta"], shown["name"], shown["versions"]) == ({"api-version": "1.1"}, "mlc-llm", ["0.2.0"])
    assert shown["files"] == [
        {
            "filename": WHEEL.name,
            "url": WHEEL.url,
            "hashes": {"sha256": "a" * 64},
            "requires-python": ">=3.9,<4",
            "size": 123,
            "upload-time": "2026-09-21T14:13:20Z",
        }
    ]


def test_a_wheel_in_html() -> None:
    [link] = page("mlc-llm", WHEEL, accept="text/html")
    assert link == {"href": f"{WHEEL.url}#sha256={'a' * 64}", "data-requires-python": ">=3.9,<4"}


@pytest.mark.parametrize("name", ["mlc-llm", "mlc_llm", "MLC.LLM"])
def test_a_project_is_found_by_any_spelling_of_its_name(name: str) -> None:
    assert page(name, WHEEL)["name"] == "mlc-llm"


def test_only_the_projects_that_are_there() -> None:
    other = replace(WHEEL, name="other-1-py3-none-any.whl")
    noise = replace(WHEEL, name="mlc_llm-notes.whl")
    assert noise.project is None
    listed = project_list([WHEEL, NEWER, other, noise])
    assert {project["name"] for project in json.loads(render(listed, JSON)[1])["projects"]} == {"mlc-llm", "other"}
    assert project_page("third", [WHEEL]) is None
    assert [file["filename"] for file in page("other", WHEEL, other, noise)["files"]] == [other.name]


def test_of_two_wheels_with_one_name_the_newest_counts() -> None:
    again = replace(WHEEL, sha256="b" * 64, published_at=WHEEL.published_at + 60)
    for wheels in ([WHEEL, again], [again, WHEEL]):
        [file] = page("mlc-llm", *wheels)["files"]
        assert file["hashes"]["sha256"] == "b" * 64


def test_a_yanked_wheel_says_why_and_stays_listed() -> None:
    why = 'ABI "broken" <script>alert(1)</script> & more'
    assert page("mlc-llm", replace(WHEEL, yanked=why))["files"][0]["yanked"] == why
    [link] = page("mlc-llm", replace(WHEEL, yanked=why), accept="text/html")
    assert link["data-yanked"] == why
    assert page("mlc-llm", replace(WHEEL, yanked=""))["files"][0]["yanked"] is True
    assert "yanked" not in page("mlc-llm", WHEEL)["files"][0]


def test_what_a_page_links_to_cannot_break_out_of_it() -> None:
    [link] = page("mlc-llm", replace(WHEEL, url='x"><script>'), accept="text/html")
    assert link["href"] == f'x"><script>#sha256={"a" * 64}'


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "text/html"),
        ("*/*", "text/html"),
        (f"{JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01", JSON),  # pip's
        ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html"),
    ],
)
def test_the_form_is_the_clients_choice(accept: str, form: str) -> None:
    assert render(project_list([WHEEL]), accept)[0] == form


@pytest.mark.parametrize("accept", ["application/xml", "text/html; q=much", "application/vnd.pypi.simple.v9+json"])
def test_a_form_that_there_is_not(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="this index speaks"):
        render(project_list([WHEEL]), accept)
