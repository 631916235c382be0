"""What the master learns of a commit, from a real repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import json, sys
from pathlib import Path
from twisted.internet import defer, task
from master.repository import Repository

def ask(reactor, url, cache, *asked):
    told = defer.ensureDeferred(Repository(url, Path(cache), reactor).describe(*asked))
    return told.addCallback(lambda details: print(json.dumps([details.message, details.author, details.files])))

task.react(ask, sys.argv[1:])
"""


class Developer:
    """A repository with one commit, on ``main``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.first = self.commit(**{"src/a.c": "int a;\n" * 20, "docs/b.md": "b\n"})

    def git(self, *arguments: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        command = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", f"Change {', '.join(files) or 'nothing'}")
        return self.git("rev-parse", "HEAD")

    def told(self, *asked: str) -> list[object]:
        """What the master is told of a commit: message, author, changed files."""
        cache = self.folder.with_suffix(".cache")
        command = [sys.executable, "-c", ASK, str(self.folder), str(cache), *asked]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        answer: list[object] = json.loads(done.stdout)
        return answer


@pytest.fixture
def ann(tmp_path: Path) -> Developer:
    return Developer(tmp_path / "upstream")


def test_a_push_is_described_with_what_it_changed(ann: Developer) -> None:
    head = ann.commit(**{"src/a.c": "int b;\n"})
    assert ann.told("refs/heads/main", head, ann.first) == ["Change src/a.c", "Ann", ["src/a.c"]]


def test_a_moved_file_has_changed_in_both_places(ann: Developer) -> None:
    ann.git("mv", "src/a.c", "docs/a.c")
    head = ann.commit()
    assert ann.told("refs/heads/main", head, ann.first)[2] == ["docs/a.c", "src/a.c"]


def test_a_forced_push_has_changed_what_it_took_back_too(ann: Developer) -> None:
    taken_back = ann.commit(**{"src/a.c": "int c;\n"})
    ann.told("refs/heads/main", taken_back, ann.first)  # the poller has seen it, so it is in the cache
    ann.git("reset", "--quiet", "--hard", ann.first)
    head = ann.commit(**{"docs/d.md": "d\n"})
    assert ann.told("refs/heads/main", head, taken_back)[2] == ["docs/d.md", "src/a.c"]


def test_a_pull_request_has_changed_nothing_that_its_base_did_meanwhile(ann: Developer) -> None:
    ann.git("checkout", "--quiet", "-b", "topic")
    head = ann.commit(**{"docs/b.md": "better\n"})
    ann.git("update-ref", "refs/pull/1/head", head)
    ann.git("checkout", "--quiet", "main")
    base = ann.commit(**{"src/a.c": "int d;\n"})
    assert ann.told("refs/pull/1/head", head, base, "refs/heads/main")[2] == ["docs/b.md"]


def test_what_cannot_be_had_is_not_described(ann: Developer) -> None:
    assert ann.told("refs/heads/gone", "f" * 40, ann.first) == ["", "", None]
