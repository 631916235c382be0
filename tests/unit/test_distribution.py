"""How pytest-xdist hands out the tests: a module that shares something costly is one group, which one process runs."""

from __future__ import annotations

import pytest

SUITE = """
import os
from pathlib import Path
import pytest

def say(name):
    with Path(name).open("a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + " ")

@pytest.mark.xdist_group("shares something")
@pytest.mark.parametrize("number", [1, 2])
def test_of_a_group(number):
    say("group")

@pytest.mark.parametrize("number", [1, 2])
def test_of_none(number):
    say("none")
"""


def test_one_process_runs_all_of_a_group(pytester: pytest.Pytester) -> None:
    """Versions of pytest and pytest-xdist that do not fit each other forget the groups without a word."""
    pytester.makepyfile(SUITE)
    done = pytester.runpytest_subprocess("-n", "2", "--dist", "loadgroup")
    done.assert_outcomes(passed=4)
    assert len(set((pytester.path / "group").read_text().split())) == 1
    assert len(set((pytester.path / "none").read_text().split())) == 2, "nothing was distributed: this shows nothing"
