"""What can be wrong with an image's settings beyond their shape: who logs in, what does nothing."""

from __future__ import annotations

from collections.abc import Iterator

from master.pipeline import EventKind, Stage
from master.settings_docker import ImageSettings
from master.settings_models import Settings
from master.settings_problems import Problem, listed
from master.settings_stages import StageSettings


def docker_problems(settings: Settings, own: StageSettings, stage: Stage, key: str) -> Iterator[Problem]:
    image = own.image
    if image is None:
        return
    yield from _login(settings, own, image, key)
    yield from _pull_requests(image, stage, key)
    yield from _tools(stage, image, key)
    if not stage.publishes:
        message, allowed = "is seen outside; runs that publish nothing must not push it", "true, or left out"
        yield Problem(key=f"{key}.publishes", message=message, found="false", allowed=allowed)
    if "fail_on" in image.model_fields_set and not image.scan:
        yield Problem(
            key=f"{key}.image.fail_on",
            message="has no report to be held against",
            found=image.fail_on,
            allowed=f"only with {key}.image.scan",
        )
    if image.version_script == "" and "directory" in image.model_fields_set:
        message, allowed = "is read with a version_script only", f"only with {key}.image.version_script"
        yield Problem(key=f"{key}.image.directory", message=message, found=image.directory, allowed=allowed)


def _login(settings: Settings, own: StageSettings, image: ImageSettings, key: str) -> Iterator[Problem]:
    where = f"{key}.image.login"
    if image.login != "token":
        if image.login.secret not in own.secrets:
            message = "names a secret that the stage does not have"
            allowed = f'"{image.login.secret}" in {key}.secrets'
            yield Problem(key=f"{where}.secret", message=message, found=image.login.secret, allowed=allowed)
        return
    if own.permissions.get("packages") != "write":
        message = "the stage's token may not push"
        found = f"packages = {own.permissions.get('packages', 'nothing')}"
        allowed = f'{key}.permissions with packages = "write", or login = {{ user = …, secret = … }}'
        yield Problem(key=where, message=message, found=found, allowed=allowed)
    elif image.registry != "ghcr.io":
        message = "GitHub's token opens GitHub's registry alone"
        allowed = 'registry = "ghcr.io", or login = { user = …, secret = … }'
        yield Problem(key=where, message=message, found=image.registry, allowed=allowed)
    elif settings.github is None or settings.github.access == "none":
        found = "no [github]" if settings.github is None else 'github.access = "none"'
        allowed = 'github.access = "app" or "token", or login = { user = …, secret = … }'
        message = "there is no token to log in with: the stage would build and then not be let in"
        yield Problem(key=where, message=message, found=found, allowed=allowed, severity="warning")


def _pull_requests(image: ImageSettings, stage: Stage, key: str) -> Iterator[Problem]:
    told = EventKind.PULL_REQUEST in stage.when
    if image.validates and not told:
        message = "no pull request would get there"
        allowed = f'{key}.when with "pull_request" (or no {key}.when), or pull_requests = "skip"'
        yield Problem(key=f"{key}.image.pull_requests", message=message, found="validate", allowed=allowed)
    elif told and not image.validates:
        message = "a pull request's run publishes nothing, so it would skip this stage"
        allowed = f'{key}.image.pull_requests = "validate", or {key}.when without "pull_request"'
        yield Problem(key=f"{key}.when", message=message, found=listed(sorted(stage.when)), allowed=allowed)


def _tools(stage: Stage, image: ImageSettings, key: str) -> Iterator[Problem]:
    if not any(tool.startswith(("docker", "buildx")) for tool in (*stage.requires.tools, *stage.requires.versions)):
        message = f"the image {image.repository} is built with docker, which its workers need not have"
        found = listed(sorted(stage.requires.tools)) or "no tools"
        allowed = 'tools = ["docker", …]'
        yield Problem(key=f"{key}.requires.tools", message=message, found=found, allowed=allowed, severity="warning")
