"""The docker stage: an image linted, built, tried locked down, scanned, and only then pushed under its tags.

Nothing is pushed before the last step: what fails earlier leaves the registry as it was. The registry's password is in
the environment of the steps that talk to the registry, in runs that publish, and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from buildbot.interfaces import IRenderable
from buildbot.locks import MasterLock
from buildbot.process.properties import Interpolate
from buildbot.process.results import SUCCESS
from buildbot.util import ComparableMixin
from twisted.internet import defer
from zope.interface import implementer

from master.database import store
from master.pipeline import Stage
from master.settings import Settings
from master.settings_docker import ImageSettings
from master.settings_tokens import VARIABLE
from steps.classify import FailureClass
from steps.command import Command, Frame, StageEnvironment, variable_of
from steps.image_tags import ImageTags, NoTag, image_tags
from steps.source import checkout
from steps.upload import upload_artifacts

SENT = "../image"  #: a folder beside the checkout; :data:`workers.image.client.STATE`
CACHE = "buildcache"
TOKEN_USER = "x-access-token"  # noqa: S105  #: GitHub's registry looks at the token alone
_SHIPPED = ("Dockerfile", "Dockerfile.dockerignore")
_REPORT = "mlc-ci-worker image: published "
_MOVING = MasterLock("image tags")
_MOST = 20  # images and tags that are told of


def build_steps(stage: Stage, variant: str, settings: Settings) -> list[Any]:
    image = settings.stages[stage.name].image
    if image is None:
        raise ValueError(f"stage {stage.name} builds an image and has no [stages.{stage.name}.image]")
    whole = Frame.of(stage, settings)
    plain = replace(whole, environment=StageEnvironment(whole.environment.templates, whole.environment.more))
    limits = plain.limits()
    steps: list[Any] = [
        checkout(whole, submodules=settings.project.submodules),
        Command(name="clean", command=["mlc-ci-worker", "image", "clean"], **limits),
    ]
    if image.version_script:
        stamp = ["mlc-ci-worker", "stamp", "--directory", image.directory, "--script", image.version_script]
        steps.append(Command(name="version", command=[*stamp, Interpolate("--tag=%(prop:tag)s")], **limits))
    if not image.dockerfile:
        steps += [
            Command(name=f"send {name}", command=["tee", f"{SENT}/{name}"], initialStdin=shipped(name), **limits)
            for name in _SHIPPED
        ]
    if image.lint:
        lint = ["mlc-ci-worker", "image", "lint", dockerfile(image)]
        steps.append(Command(name="lint", command=lint, **limits))
    logged_in = whole.limits()
    wanted: dict[str, Any] = {"image": image, "default_branch": settings.project.default_branch}
    steps += [
        RegistryCommand(name="registry", action="access", doStepIf=publishing, **wanted, **logged_in),
        Command(name="build", command=BuildWords(image, "build"), **logged_in),
    ]
    smoke = ["mlc-ci-worker", "image", "smoke", *_targets(image), *(["--", *image.smoke] if image.smoke else [])]
    steps.append(Command(name="smoke test", command=smoke, **limits))
    if image.scan:
        steps += _scan(image, plain)
    alone = [_MOVING.access("exclusive")]
    steps.append(
        PublishImages(name="publish", action="publish", doStepIf=publishing, locks=alone, **wanted, **logged_in)
    )
    steps.append(
        Command(
            name="clean up",
            command=["mlc-ci-worker", "image", "clean"],
            **{**limits, "alwaysRun": True, "haltOnFailure": False, "flunkOnFailure": False, "warnOnFailure": False},
        )
    )
    return steps


def _scan(image: ImageSettings, frame: Frame) -> list[Any]:
    """The reports are uploaded before they are judged: of a bad one most of all, somebody wants to read it."""
    scan = ["mlc-ci-worker", "image", "scan", *_targets(image), "--", *image.scan]
    judge = ["mlc-ci-worker", "image", "findings", f"--fail-on={image.fail_on}", *_targets(image)]
    return [
        Command(name="scan", command=scan, **frame.limits()),
        upload_artifacts(frame, [f"{SENT}/scan*.json"]),
        Command(name="findings", command=judge, **frame.limits()),
    ]


def _targets(image: ImageSettings) -> list[str]:
    return [f"--target={target}" for target in image.suffixes]


def publishing(step: Any) -> bool:
    """Whether the run may be seen outside."""
    return step.getProperty("publish") is True and step.getProperty("trusted") is True


def shipped(name: str) -> str:
    """A file that the master sends."""
    return resources.files("master.shipped").joinpath(name).read_text(encoding="utf-8")


def dockerfile(image: ImageSettings) -> str:
    return image.dockerfile or f"{SENT}/{_SHIPPED[0]}"


def login_words(image: ImageSettings) -> list[str]:
    if image.login == "token":
        user, variable = TOKEN_USER, VARIABLE
    else:
        user, variable = image.login.user, variable_of(image.login.secret)
    return [f"--registry={image.registry}", f"--user={user}", f"--password-variable={variable}"]


@implementer(IRenderable)
class BuildWords(ComparableMixin):
    """``mlc-ci-worker image build …`` for one build's properties: where nothing is published, without the registry."""

    compare_attrs = ("action", "image")

    def __init__(self, image: ImageSettings, action: str) -> None:
        self.image = image
        self.action = action

    def getRenderingFor(self, properties: Any) -> list[str]:
        image = self.image
        published = properties.getProperty("publish") is True and properties.getProperty("trusted") is True
        words = ["mlc-ci-worker", "image", self.action]
        words += login_words(image) if published else []
        words += [f"--dockerfile={dockerfile(image)}", f"--context={image.context}", f"--network={image.network}"]
        words += [f"--argument={name}={value}" for name, value in image.arguments.items()]
        words += [f"--secret={name}={file}" for name, file in image.secrets.items()]
        words += [f"--label={name}={value}" for name, value in labels(properties).items()]
        words += [f"--cache={image.name}:{CACHE}"] if image.cache and published else []
        return [*words, *(f"--target={target}" for target in image.suffixes if target)]


def labels(properties: Any) -> dict[str, str]:
    """What the image says of its origin (https://specs.opencontainers.org/image-spec/annotations/)."""
    found = {"org.opencontainers.image.revision": str(properties.getProperty("head_sha") or "")}
    source = str(properties.getProperty("repository") or "")
    if source.startswith("https://"):
        found["org.opencontainers.image.source"] = source.removesuffix(".git")
    if tag := properties.getProperty("tag"):
        found["org.opencontainers.image.version"] = str(tag).removeprefix("v")
    return found


class RegistryCommand(Command):
    """A command that talks to the registry about the run's tags."""

    def __init__(self, *, image: ImageSettings, action: str, default_branch: str, **kwargs: Any) -> None:
        super().__init__(command=[], **kwargs)
        self.image = image
        self.action = action
        self.default_branch = default_branch

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        try:
            tags = self.tags()
        except NoTag as error:
            return self.blame(FailureClass.CODE, str(error))
        more = yield defer.ensureDeferred(self.more())
        self.command = [*self.begin(), *self.words(tags), *more]
        result: int = yield super().run()
        return result

    def tags(self) -> ImageTags:
        return image_tags(
            ref=str(self.getProperty("ref")),
            tag=str(self.getProperty("tag") or ""),
            head=str(self.getProperty("head_sha")),
            default_branch=self.default_branch,
            latest=self.image.latest,
            bare_version=self.image.bare_version,
        )

    def begin(self) -> list[str]:
        return ["mlc-ci-worker", "image", self.action, *login_words(self.image)]

    def words(self, tags: ImageTags) -> list[str]:
        words = [f"--repository={self.image.name}", f"--revision={self.getProperty('head_sha')}"]
        words += [f"--fixed={tag}" for tag in tags.fixed]
        words += [f"--moving={tag}" for tag in tags.moving]
        return words + [f"--suffix={target}={suffix}" for target, suffix in self.image.suffixes.items()]

    async def more(self) -> list[str]:
        """Further words. For subclasses."""
        return []


class PublishImages(RegistryCommand):
    """Pushes what was tried; the build property ``images`` gets what is where.

    Each is ``target``, ``repository``, ``digest``, ``tags``, and ``kept``: tags that stayed with a newer commit. One
    after the other, of all the master's builds: none must move a tag while another one looks where it leads.
    """

    told: Sequence[dict[str, Any]] = ()

    def begin(self) -> list[str]:
        return BuildWords(self.image, self.action).getRenderingFor(self.build.getProperties())

    async def more(self) -> list[str]:
        newer = await self.master.db.pool.do(store.newer_heads, self.getProperty("run_id"))
        words = [f"--newer={head}" for head in newer]
        words += [f"--sbom={self.image.sbom}"] if self.image.sbom else []
        return words + (["--write-cache"] if self.image.cache else [])

    def line_received(self, line: str) -> None:
        if line.startswith(_REPORT):
            self.told = images_in(line.removeprefix(_REPORT))

    def accept(self) -> int:
        if not self.told:
            return self.blame(FailureClass.INFRASTRUCTURE, "the tool did not say what it has published")
        self.setProperty("images", list(self.told), "step")
        said = [f"{image['repository']}: {', '.join(image['tags'])}" for image in self.told]
        said += [f"{', '.join(image['kept'])} stayed with a newer commit" for image in self.told if image["kept"]]
        self.descriptionDone = ["; ".join(said)]
        result: int = SUCCESS
        return result


def images_in(text: str) -> list[dict[str, Any]]:
    """What the tool's last line says; nothing where it makes no sense."""
    try:
        return [
            {
                "target": str(image["target"])[:100],
                "repository": str(image["repository"])[:300],
                "digest": re.fullmatch(r"sha256:[0-9a-f]{64}", image["digest"])[0],  # type: ignore[index]  # TypeError
                "tags": [str(tag)[:128] for tag in image["tags"]][:_MOST],
                "kept": [str(tag)[:128] for tag in image["kept"]][:_MOST],
            }
            for image in json.loads(text)[:_MOST]
        ]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
