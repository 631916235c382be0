"""The docker stage: what an image is called, which steps a run has, what they are told, and what they say."""

from __future__ import annotations

import json
import tomllib
from types import SimpleNamespace
from typing import Any

import pytest
from buildbot.process.properties import Properties
from hypothesis import given
from hypothesis import strategies as st

import steps
from master.settings import Settings
from steps.docker import BuildWords, images_in, login_words, publishing, shipped
from steps.image_tags import ImageTags, NoTag, image_tags, sanitised

HEAD = "0123456789abcdef0123456789abcdef01234567"
TEXT = """
[project]
name = "sample"
repository = "https://github.com/acme/sample.git"
[stages.docker]
secrets = ["registry"]
[stages.docker.image]
registry = "registry.example.org"
repository = "acme/sample"
login = { user = "ci", secret = "registry" }
targets = { runtime = "", development = "-dev" }
arguments = { VARIANT = "vulkan" }
secrets = { ca = "/etc/ca.pem" }
scan = ["scanner"]
"""


@pytest.mark.parametrize(
    ("ref", "tag", "more", "fixed", "moving"),
    [
        ("refs/heads/main", "", {}, ["sha-0123456"], ["main", "latest"]),
        ("refs/heads/main", "", {"latest": False}, ["sha-0123456"], ["main"]),
        ("refs/heads/feature/a b", "", {}, ["sha-0123456"], ["feature-a-b"]),
        ("refs/tags/v1.0.0", "v1.0.0", {}, ["sha-0123456", "v1.0.0"], []),
        ("refs/tags/v1.0.0", "v1.0.0", {"bare_version": True}, ["sha-0123456", "v1.0.0", "1.0.0"], []),
        ("refs/tags/vnext", "vnext", {"bare_version": True}, ["sha-0123456", "vnext"], []),
    ],
)
def test_what_an_image_is_called(
    ref: str, tag: str, more: dict[str, bool], fixed: list[str], moving: list[str]
) -> None:
    found = image_tags(ref=ref, tag=tag, head=HEAD, default_branch="main", **more)
    assert found == ImageTags(fixed=tuple(fixed), moving=tuple(moving))


@pytest.mark.parametrize(
    ("ref", "tag", "said"),
    [
        ("refs/heads/latest", "", "means something else"),
        ("refs/heads/sha-0123456", "", "means something else"),
        ("refs/heads/v1.0.0", "", "means something else"),
        ("refs/heads/buildcache-runtime", "", "means something else"),
        ("refs/tags/v1+cu128", "v1+cu128", "cannot have the tag"),
    ],
)
def test_a_name_that_would_be_taken_for_another_is_refused(ref: str, tag: str, said: str) -> None:
    with pytest.raises(NoTag, match=said):
        image_tags(ref=ref, tag=tag, head=HEAD, default_branch="main")


@given(st.text(min_size=1))
def test_every_branch_gets_a_tag_that_a_registry_takes(name: str) -> None:
    import re

    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", sanitised(name))


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(tomllib.loads(TEXT))


def made(settings: Settings) -> list[Any]:
    return steps.build_steps(settings.pipeline()["docker"], "", settings)


def test_nothing_is_pushed_before_everything_else_went_well(settings: Settings) -> None:
    names = [step.name for step in made(settings)]
    before = ["checkout", "clean", "send Dockerfile", "send Dockerfile.dockerignore", "lint", "registry"]
    tried = ["build", "smoke test", "scan", "artifacts", "findings"]
    assert names == [*before, *tried, "publish", "clean up"]
    assert all(step.haltOnFailure for step in made(settings)[:-1])
    assert made(settings)[-1].alwaysRun


def test_every_target_is_tried_scanned_and_judged(settings: Settings) -> None:
    both = {"--target=runtime", "--target=development"}
    told = {step.name: step.command for step in made(settings) if step.name in ("smoke test", "scan", "findings")}
    assert {name: both & {*command} for name, command in told.items()} == {
        "smoke test": both,
        "scan": both,
        "findings": both,
    }


def test_only_a_trusted_run_that_publishes_goes_near_the_registry(settings: Settings) -> None:
    conditional = [step.name for step in made(settings) if step.doStepIf is publishing]
    assert conditional == ["registry", "publish"]
    for trusted, publish in ((True, True), (True, False), (False, True), (False, False)):
        step = SimpleNamespace(getProperty={"trusted": trusted, "publish": publish}.get)
        assert publishing(step) is (trusted and publish)


def words(settings: Settings, **told: Any) -> list[str]:
    image = settings.stages["docker"].image
    assert image
    properties = Properties()
    for name, value in {"head_sha": HEAD, "repository": settings.project.repository, **told}.items():
        properties.setProperty(name, value, "test")
    return BuildWords(image, "build").getRenderingFor(properties)


def test_what_a_build_is_told(settings: Settings) -> None:
    told = words(settings, trusted=True, publish=True, tag="v1.0.0")
    assert "--password-variable=REGISTRY" in told
    assert "--cache=registry.example.org/acme/sample:buildcache" in told
    assert {"--argument=VARIANT=vulkan", "--secret=ca=/etc/ca.pem", "--target=runtime", "--target=development"} < {
        *told
    }
    assert "--label=org.opencontainers.image.version=1.0.0" in told
    assert "--label=org.opencontainers.image.source=https://github.com/acme/sample" in told
    for untrusted in ({"trusted": False, "publish": False}, {"trusted": True, "publish": False}):
        assert not [
            word for word in words(settings, **untrusted) if word.startswith(("--registry", "--pass", "--cache"))
        ]


def test_steps_that_do_not_talk_to_the_registry_have_no_password(settings: Settings) -> None:
    have = [step.name for step in made(settings) if getattr(step.env, "secrets", ())]
    assert have == ["checkout", "registry", "build", "publish"]


def test_githubs_registry_is_entered_with_the_stages_token() -> None:
    text = TEXT.replace('login = { user = "ci", secret = "registry" }', "")
    image = Settings.model_validate(tomllib.loads(text)).stages["docker"].image
    assert image
    assert "--password-variable=GITHUB_TOKEN" in login_words(image)


def test_the_shipped_dockerfile_is_sent() -> None:
    assert shipped("Dockerfile").count("FROM ") > 3
    assert ".git" in shipped("Dockerfile.dockerignore")


DIGEST = "sha256:" + "a" * 64
IMAGE = {"target": "", "repository": "r/x", "digest": DIGEST, "tags": ["main"], "kept": []}


def test_what_a_build_says_that_it_has_published_is_read_within_bounds() -> None:
    assert images_in(json.dumps([IMAGE])) == [IMAGE]
    for nonsense in (
        "",
        "{",
        "[1]",
        '"x"',
        json.dumps([{**IMAGE, "digest": "sha256:1"}]),
        json.dumps([{**IMAGE, "tags": 3}]),
    ):
        assert images_in(nonsense) == []
    assert len(images_in(json.dumps([{**IMAGE, "tags": ["x" * 500] * 500}] * 500))) == 20
