"""The comment on a pull request: the summary's table, and nothing in it that a stranger could have meant."""

from __future__ import annotations

import re
from typing import Any

import pytest
from stored import FILE
from test_summary import BUILT, PREBUILT, attempt, facts, run

from master import summary
from master.github.comment import MARKER, body
from master.pipeline import State

PAGE = "https://ci.example/"
HOSTILE = "@maintainer see #1 | `x` | </details> <img src=x> [a](http://b) \n\n```\n@other \u202e *b* &#64;c"


def comment(attempts: Any, builds: Any = None, files: Any = (), **changes: Any) -> str:
    changes = {"ended_at": 9.0, "pull_request": 7, **changes}
    lines = summary.stage_lines(("test", "build-linux", "summary"), attempts, files, builds or {})
    return body(run(**changes), lines, "summary", ["test"], PAGE)


def outside_code(text: str) -> str:
    """What GitHub reads as more than text: all but blocks and spans of code."""
    assert text.count("```") % 2 == 0
    text = re.sub(r"^```text\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def test_it_tells_each_stage_and_where_to_read_on() -> None:
    build = attempt(2, "build-linux", State.FAILURE, reason="a.cc:7: no", number=2)
    test = attempt(1, "test", worker="w")
    said = comment([build, test, attempt(3, "summary")], {2: facts(built=BUILT), 1: facts(prebuilt=PREBUILT)})
    assert said.startswith(MARKER)
    assert "[run 12](https://ci.example/#/pipelines/12) of `cccccccccccc`: `failed: build-linux`" in said
    assert "| `test` | ✅ success | 12 s |  |" in said
    assert "| `build-linux` | ❌ failure, attempt 2 | 12 s | `a.cc:7: no` |" in said
    assert "Prebuilt against built" in said
    assert "mlc-ci retry 12" in said
    assert "| `summary`" not in said


def test_nothing_of_strangers_is_more_than_text() -> None:
    names = FILE.__class__(name=f"{HOSTILE}.whl", path="x", size=1, sha256="0" * 64)
    build = attempt(2, "build-linux", State.FAILURE, reason=HOSTILE)
    good = attempt(1, "test", State.SUCCESS)
    said = comment([build, good], {2: facts()}, [(good, names)], cancelled=HOSTILE)
    left = outside_code(said)
    for bad in ("@", "#1", "http://b", "<img", "&#64;", "*b*", "\u202e"):
        assert bad not in left, bad
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}
    assert left.count("<details") == left.count("</details>")
    assert "@" in said, "nothing hostile was there to begin with"


def test_a_held_run_says_how_it_is_approved() -> None:
    said = comment([], ended_at=None, held="waits for a maintainer to approve it: ann is NONE here")
    assert said.startswith(MARKER)
    assert "`/ci ok cccccccccccc`" in said
    assert "`waits for a maintainer to approve it: ann is NONE here`" in said


@pytest.mark.parametrize("many", [1, 50, 500])
def test_it_is_never_longer_than_github_takes(many: int) -> None:
    attempts = [attempt(n, f"s{n}", State.FAILURE, reason="\u4e2d" * 4000) for n in range(1, many + 1)]
    said = comment(attempts, {n: facts() for n in range(1, many + 1)})
    assert len(said) <= 65536
    assert outside_code(said).count("<details") == outside_code(said).count("</details>")
    assert ("more on the run's page" in said) is (many > 1 and (many > 40))
