"""Settings of an image that cannot work, or would do nothing."""

from __future__ import annotations

import pytest

from master.settings import Examined, Problem, parse

PROJECT = """
[project]
name = "sample"
repository = "sample.git"
[workers.linux]
trust = "trusted"
provides = ["docker"]
"""
STRANGERS = """
[workers.strangers]
trust = "untrusted"
provides = ["docker"]
"""
WELL = {"secrets": '["registry"]'}
IMAGE = {
    "registry": '"127.0.0.1:5000"',
    "repository": '"acme/sample"',
    "login": '{ user = "ci", secret = "registry" }',
}


def checked(stage: dict[str, str] | None = None, image: dict[str, str] | None = None, more: str = "") -> Examined:
    def table(told: dict[str, str]) -> str:
        return "\n".join(f"{key} = {value}" for key, value in told.items() if value)

    tables = f"[stages.docker]\n{table(WELL | (stage or {}))}\n[stages.docker.image]\n{table(IMAGE | (image or {}))}"
    return parse(f"{PROJECT}{tables}\n{more}", file="x.toml")


def the(examined: Examined, key: str) -> Problem:
    found = [each for each in examined.problems if each.key == key]
    assert len(found) == 1, "\n".join(map(str, examined.problems))
    return found[0]


def test_an_image_that_fits_has_no_problem() -> None:
    assert checked().problems == []
    validated = {"pull_requests": '"validate"', "scan": '["scanner"]', "fail_on": '"low"'}
    assert checked(image=validated, more=STRANGERS).problems == []


def test_an_image_must_be_named() -> None:
    examined = parse(f"{PROJECT}[stages.docker]\n", file="x.toml")
    assert "required" in the(examined, "stages.docker.image").message


@pytest.mark.parametrize(
    ("image", "key"),
    [
        ({"registry": '"https://ghcr.io"'}, "registry"),
        ({"registry": '"ghcr.io/acme"'}, "registry"),
        ({"registry": '"acme"'}, "registry"),
        ({"repository": '"acme/Sample"'}, "repository"),
        ({"repository": '"acme/sample:latest"'}, "repository"),
        ({"dockerfile": '"../Dockerfile"'}, "dockerfile"),
        ({"context": '"/"'}, "context"),
        ({"targets": '{ runtime = "", cli = "" }'}, "targets"),
        ({"targets": '{ runtime = "dev" }'}, "targets"),
        ({"arguments": '{ "A B" = "" }'}, "arguments"),
        ({"smoke": '"true"'}, "smoke"),
        ({"fail_on": '"severe"', "scan": '["x"]'}, "fail_on"),
        ({"insecure": "true"}, "insecure"),
    ],
)
def test_values_that_are_none(image: dict[str, str], key: str) -> None:
    examined = checked(image=image)
    assert f"stages.docker.image.{key}" in {each.key for each in examined.problems}, examined.problems


def test_a_password_is_a_secret_of_the_stage() -> None:
    told = the(checked({"secrets": ""}), "stages.docker.image.login.secret")
    assert (told.found, told.allowed) == ("registry", '"registry" in stages.docker.secrets')


def test_githubs_token_must_be_one_that_may_push_and_only_opens_githubs_registry() -> None:
    token = {"login": '"token"', "registry": '"ghcr.io"'}
    assert "may not push" in the(checked(image=token), "stages.docker.image.login").message
    permitted = {"permissions": '{ packages = "write" }'}
    warning = the(checked(permitted, token), "stages.docker.image.login")
    assert (warning.severity, warning.found) == ("warning", "no [github]")
    elsewhere = {**token, "registry": '"registry.example.org"'}
    assert the(checked(permitted, elsewhere), "stages.docker.image.login").found == "registry.example.org"
    github = '[github]\nrepository = "acme/sample"\naccess = "token"\nwebhook = false\n'
    assert "stages.docker.image.login" not in {each.key for each in checked(permitted, token, github).problems}


def test_pull_requests_get_there_exactly_if_they_are_validated() -> None:
    told = the(checked({"when": '["push", "pull_request"]'}), "stages.docker.when")
    assert told.severity == "error"
    validated = {"pull_requests": '"validate"'}
    assert checked({"when": '["push", "pull_request"]'}, validated, STRANGERS).problems == []
    assert "no untrusted worker" in the(checked(image=validated), "stages.docker.requires").message
    told = the(checked({"when": '["push"]'}, validated), "stages.docker.image.pull_requests")
    assert "no pull request would get there" in told.message


@pytest.mark.parametrize(
    ("stage", "image", "key"),
    [
        ({"publishes": "false"}, {}, "publishes"),
        ({}, {"fail_on": '"low"'}, "image.fail_on"),
        ({}, {"directory": '"python"'}, "image.directory"),
        ({"requires": '{ tools = ["python"] }'}, {}, "requires.tools"),
    ],
)
def test_what_says_nothing_or_too_much(stage: dict[str, str], image: dict[str, str], key: str) -> None:
    assert f"stages.docker.{key}" in {each.key for each in checked(stage, image).problems}
