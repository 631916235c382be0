"""What ``ci/up --once --with-docker`` finds wrong in a real registry: each defect by its own words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_engine import engine, log_in, registry  # noqa: F401 - fixtures

from master.settings import Settings, load
from master.settings_docker import ImageSettings
from master.site.engine import Engine
from master.site.judge_images import problems
from master.site.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docker")]

HEAD = "1a2b3c4" + "0" * 33
RUNS: list[dict[str, Any]] = [
    {"id": 1, "event": "push", "ref": "refs/heads/main", "head": HEAD},
    {"id": 2, "event": "pull_request", "ref": "refs/pull/1/head", "head": "f" * 40},
    {"id": 3, "event": "tag", "ref": "refs/tags/v0.2.0", "head": HEAD},
]
PUSHED = {"main": "one", "latest": "one", "sha-1a2b3c4": "two", "v0.2.0": "two"}


@pytest.fixture
def settings() -> Settings:
    return load(Path(__file__).resolve().parents[2] / "ci" / "quickstart.toml", {})


@pytest.fixture(scope="module")
def contents(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # noqa: F811
    folder = tmp_path_factory.mktemp("contents")
    for name in ("one", "two"):
        (folder / "Dockerfile").write_text(f"FROM scratch\nLABEL name={name}\nCOPY Dockerfile /\n")
        engine.docker("buildx", "build", "--provenance=false", f"--tag=test/{name}", str(folder))
    yield


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"buildcache": "one"}, []),
        ({"latest": ""}, ["run 1 (push): the registry answers 404 for the image's tag latest"]),
        ({"v0.2.0": ""}, ["run 3 (tag): the registry answers 404 for the image's tag v0.2.0"]),
        ({"latest": "two"}, ["run 1 (push): its image's tags lead to different images"]),
        ({"pull-1": "one"}, ["the registry has tags that no run was to push: pull-1"]),
    ],
)
def test_the_registry_is_asked_for_what_the_runs_were_to_push(
    engine: Engine,  # noqa: F811
    registry: Registry,  # noqa: F811
    contents: None,
    settings: Settings,
    changes: dict[str, str],
    found: list[str],
) -> None:
    repository = f"case{abs(hash(tuple(changes.items()))) % 10**9}"
    log_in(engine, registry)
    for tag, name in {**PUSHED, **changes}.items():
        if name:
            engine.docker("tag", f"test/{name}", f"{registry.address}/{repository}:{tag}")
            engine.docker("push", f"{registry.address}/{repository}:{tag}")
    image = ImageSettings.model_validate({"registry": registry.address, "repository": repository})
    said = problems(RUNS, image, settings, registry)
    assert len(said) == len(found), said
    assert [text[: len(start)] for text, start in zip(said, found, strict=True)] == found
