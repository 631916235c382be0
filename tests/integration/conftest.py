"""Rigs for the tests of this folder: each in a folder of its own, and no process left when its test is over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from github_double import GitHubDouble
from pipelines import TRUST, pipeline, workers
from prism import Prism
from rig import MakeRig, Rig, make_template
from s3_server import S3Server


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    make_template(folder, pipeline(workers=workers(*TRUST)))
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3-speaking server, shared: each test has buckets of its own."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def github_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubDouble]:
    double = GitHubDouble(tmp_path_factory.mktemp("github"))
    double.start()
    yield double
    double.stop()


@pytest.fixture
def github(github_process: GitHubDouble) -> GitHubDouble:
    """A GitHub that knows the repository ``acme/sample`` and nothing of earlier tests."""
    github_process.forget()
    return github_process


@pytest.fixture(scope="session")
def prism(github_process: GitHubDouble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prism]:
    """In front of the double: what both sides say must be as GitHub describes it. For tests of the group ``prism``."""
    server = Prism(tmp_path_factory.mktemp("prism"), github_process.url)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def _ended(rigs: list[Rig]) -> Iterator[None]:
    try:
        yield
    finally:
        for rig in rigs:
            rig.stop()


@pytest.fixture
def make_rig(template: Path, tmp_path: Path) -> Iterator[MakeRig]:
    """Makes rigs, not started, for one test."""
    rigs: list[Rig] = []

    def make(tables: Mapping[str, Any] | None = None) -> Rig:
        rigs.append(Rig(tmp_path / f"rig{len(rigs)}", template, tables or pipeline()))
        return rigs[-1]

    with _ended(rigs):
        yield make


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A started rig with the plain pipeline, shared by a module's tests: each brings its own refs. A module that asks
    for it is a group, so that one process runs it; and it ends with its module: a master is never idle, it polls."""
    # two of each trust: a worker builds a stage once at a time, and a test may hold one
    made = Rig(tmp_path_factory.mktemp("shared") / "rig", template, pipeline(workers=workers(*TRUST)))
    with _ended([made]):
        made.start()
        yield made
