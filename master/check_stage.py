"""What can be wrong with one stage by itself: tables it does not read, secrets strangers reach, impossible roles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pathspec

from master.artifacts import tokens
from master.check_docker import docker_problems
from master.check_requires import requires_problems
from master.check_variants import variant_problems
from master.pipeline import EventKind, Stage
from master.places import ADMIN_PASSWORD, password_name
from master.settings_artifacts import ACCESS_KEY, SECRET_KEY
from master.settings_github import OWN_SECRETS
from master.settings_models import Settings
from master.settings_problems import Problem, did_you_mean, listed
from master.settings_stages import IN_MASTER, PARTS, USES, PrebuiltSettings, StageSettings
from workers.sizes import size_text

_MUCH_LOG = 512 << 20  # bytes
_MASTERS_OWN = (ADMIN_PASSWORD, tokens.KEY, tokens.PASSWORD, ACCESS_KEY, SECRET_KEY, *OWN_SECRETS)


def stage_problems(settings: Settings, stage: Stage) -> Iterator[Problem]:
    own, key = settings.stages[stage.name], f"stages.{stage.name}"
    if not stage.uses:
        near = did_you_mean(stage.name, USES)
        message = f"the stage's own name is none of these, so it must say which steps it uses{near}"
        yield Problem(key=f"{key}.uses", message=message, found="nothing", allowed=listed(USES))
    else:
        yield from _parts(own, stage, key)
    yield from _strangers(stage, key)
    yield from _role(own, stage, key)
    yield from requires_problems(own, stage, key)
    yield from _tables(own, key)
    yield from variant_problems(settings, stage)
    yield from _patterns(stage, key)
    yield from _downloads(own, stage, key)
    yield from _own_secrets(stage, key)
    yield from _limits(own, stage, f"{key}.limits")
    yield from _target(settings, own, f"{key}.target")
    yield from docker_problems(settings, own, stage, key)
    if stage.silence_timeout > stage.timeout:
        message = "is longer than the stage's timeout and so never reached"
        found, allowed = f"{stage.silence_timeout:g} s", f"up to {stage.timeout:g} s"
        yield Problem(key=f"{key}.silence_timeout", message=message, found=found, allowed=allowed, severity="warning")


def _parts(own: StageSettings, stage: Stage, key: str) -> Iterator[Problem]:
    use = USES[stage.uses]
    for part in PARTS:
        if own.has(part) and part not in use.reads:
            readers = listed(name for name, other in USES.items() if part in other.reads)
            message = f"stage {stage.name!r} uses {stage.uses!r}, which does not read {part!r}"
            yield Problem(key=f"{key}.{part}", message=message, found=part, allowed=f"only with uses = {readers}")
    for part in sorted(use.must_have):
        if not own.has(part):
            message = f"is required by uses = {stage.uses!r} and missing"
            yield Problem(key=f"{key}.{part}", message=message, found="nothing", allowed=f"{key}.{part}")
    if stage.uses == "test" and not own.has("prebuilt") and not own.has("pytest"):
        message = "would test nothing"
        yield Problem(
            key=f"{key}.prebuilt", message=message, found="neither", allowed=f"{key}.prebuilt, {key}.pytest, or both"
        )


def _own_secrets(stage: Stage, key: str) -> Iterator[Problem]:
    """Whoever has these is the master: no build of whatever run may see them."""
    for name in stage.secrets:
        if name in _MASTERS_OWN or name.startswith(password_name("")):
            message, allowed = "is the master's own secret", "secrets that were made for a build"
            yield Problem(key=f"{key}.secrets", message=message, found=name, allowed=allowed)


def _downloads(own: StageSettings, stage: Stage, key: str) -> Iterator[Problem]:
    """Only what a need has left is sure to be there."""
    for wanted in own.downloads:
        if wanted.stage not in stage.needs:
            message = f"stage {stage.name!r} does not need {wanted.stage!r}, and may run before it has left anything"
            allowed = listed(stage.needs) or f"nothing, while {key}.needs is empty"
            yield Problem(key=f"{key}.downloads", message=message, found=wanted.stage, allowed=allowed)


def _strangers(stage: Stage, key: str) -> Iterator[Problem]:
    """Secrets and write permissions are for trusted runs: no code of a pull request may come near them."""
    held = []
    if stage.secrets:
        held.append((f"{key}.secrets", "secrets", listed(stage.secrets)))
    if writes := sorted(name for name, access in stage.permissions.items() if access == "write"):
        held.append((f"{key}.permissions", "permission to write", listed(writes)))
    if stage.validates:  # in an untrusted run its steps are given none of it
        return
    for name, what, found in held:
        if EventKind.PULL_REQUEST in stage.when:
            message = f"stage {stage.name!r} has {what}, and a pull request could reach it"
            yield Problem(key=name, message=message, found=found, allowed=f'{key}.when without "pull_request"')
        elif EventKind.MANUAL in stage.when and not stage.publishes:
            message = f"stage {stage.name!r} has {what}, and a manual run of a pull request's ref could reach it"
            allowed = f'{key}.when without "manual" (of the default branch and of tags, they count as push and tag)'
            yield Problem(key=name, message=message, found=found, allowed=allowed)


def _role(own: StageSettings, stage: Stage, key: str) -> Iterator[Problem]:
    if stage.uses == "summary":
        if not stage.requires.local:
            message = "a summary runs in the master"
            yield Problem(key=f"{key}.requires.local", message=message, found="false", allowed="true, or left out")
        if not stage.always:
            message = "a summary must also run after failures and skips"
            yield Problem(key=f"{key}.always", message=message, found="false", allowed="true, or left out")
    elif stage.requires.local and stage.uses != "release":
        message = f"uses = {stage.uses!r} works on a checkout, which a local stage never has"
        yield Problem(key=f"{key}.requires.local", message=message, found="true", allowed="false, or left out")
    if stage.uses == "release" and not stage.publishes:
        message = "a release is seen outside; runs that publish nothing must skip it"
        yield Problem(key=f"{key}.publishes", message=message, found="false", allowed="true, or left out")
    if stage.uses == "release" and not stage.needs:
        message = "nothing would be released: it takes the artifacts of its needs"
        allowed = "the stages that build what is released"
        yield Problem(key=f"{key}.needs", message=message, found="nothing", allowed=allowed, severity="warning")


def _tables(own: StageSettings, key: str) -> Iterator[Problem]:
    if "default" in own.variants:
        message = "is what the one build of a stage without variants is called"
        yield Problem(key=f"{key}.variants", message=message, found="default", allowed="any other name")
    if own.prebuilt:
        yield from _sources(own.prebuilt, own.variants, f"{key}.prebuilt")


def _sources(prebuilt: PrebuiltSettings, variants: Iterable[str], key: str) -> Iterator[Problem]:
    """A problem that all variants share is one of the table's own."""
    wrong = dict[str, None]()
    for variant in variants or ("",):
        told = prebuilt.for_variant(variant)
        if not told.index and not told.find_links:
            own = prebuilt.variants.get(variant)
            varied = own is not None and own.model_fields_set & {"index", "find_links"}
            wrong[f"{key}.variants.{variant}.index" if varied else f"{key}.index"] = None
    for where in wrong:
        message = "without the index and without find_links there is nowhere to install from"
        yield Problem(key=where, message=message, found="false", allowed="true, or find_links")


def _limits(own: StageSettings, stage: Stage, key: str) -> Iterator[Problem]:
    if stage.uses in IN_MASTER and "limits" in own.model_fields_set:
        message = f"stage {stage.name!r} uses {stage.uses!r}, which runs no command and uploads nothing"
        found = listed(sorted(own.limits.model_fields_set)) or "an empty table"
        yield Problem(key=key, message=message, found=found, allowed="nothing here")
        return
    if own.limits.log > _MUCH_LOG:
        message = "is more than the database takes in soon, and meanwhile the master holds it in memory"
        found, allowed = size_text(own.limits.log), f"up to {size_text(_MUCH_LOG)}, or a master with memory for it"
        yield Problem(key=f"{key}.log", message=message, found=found, allowed=allowed, severity="warning")
    for name in ("memory", "processes"):
        if getattr(own.limits, name) is not None and stage.requires.os != "linux":
            message = "is held by Linux workers only, and the stage may run on others"
            found = f'requires.os = "{stage.requires.os}"' if stage.requires.os else "no requires.os"
            allowed = f'requires.os = "linux", or no limit of {name}'
            yield Problem(key=f"{key}.{name}", message=message, found=found, allowed=allowed)


def _target(settings: Settings, own: StageSettings, key: str) -> Iterator[Problem]:
    if own.target.kind != "github":
        return
    if settings.github is None or settings.github.access == "none":
        found = "no [github]" if settings.github is None else 'github.access = "none"'
        allowed = 'github.access = "app" or "token", with contents: write'
        yield Problem(
            key=f"{key}.kind", message="GitHub takes releases from whom it knows", found=found, allowed=allowed
        )
    if "folder" in own.target.model_fields_set:
        message, allowed = 'is not read with kind = "github"', 'only with kind = "folder"'
        yield Problem(key=f"{key}.folder", message=message, found=own.target.folder, allowed=allowed)


def _patterns(stage: Stage, key: str) -> Iterator[Problem]:
    for name, patterns in (("paths", stage.paths), ("paths_ignore", stage.paths_ignore)):
        for pattern in patterns:
            try:
                pathspec.GitIgnoreSpec.from_lines([pattern])
            except ValueError:
                allowed = "patterns as in .gitignore"
                yield Problem(key=f"{key}.{name}", message="is no pattern", found=pattern, allowed=allowed)
