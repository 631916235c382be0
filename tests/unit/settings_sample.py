"""Small settings that the tests of settings add to."""

from __future__ import annotations

from master.settings import Examined, Problem, Settings, parse

MINIMAL = """
[project]
name = "sample"
repository = "sample.git"
[workers.here]
trust = "trusted"
provides = ["python"]
[workers.there]
trust = "untrusted"
provides = ["python"]
[stages.lint]
uses = "commands"
commands = ["make lint", ["git", "status"]]
"""


def problem(examined: Examined, key: str) -> Problem:
    found = [each for each in examined.problems if each.key == key]
    assert len(found) == 1, "\n".join(map(str, examined.problems))
    return found[0]


def read(*more: str, environ: dict[str, str] | None = None) -> Examined:
    return parse("\n".join((MINIMAL, *more)), file="ci/x.toml", environ=environ)


def usable(examined: Examined) -> Settings:
    assert examined.settings is not None, "\n".join(map(str, examined.problems))
    return examined.settings
