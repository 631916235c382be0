"""Whether the variants of a stage differ in something, and whether a release can hold what they all build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from packaging.version import Version

from master.pipeline import Stage
from master.settings_models import Settings
from master.settings_problems import Problem, did_you_mean, listed
from master.settings_stages import IN_MASTER, StageSettings

#: What tells the variants of a stage apart, by what it uses; ``commands`` are told their variant and do what they want.
_VARY = {
    "test": ("prebuilt", "pytest"),
    "build-linux": ("wheel",),
}


def variant_problems(settings: Settings, stage: Stage) -> Iterator[Problem]:
    own, key = settings.stages[stage.name], f"stages.{stage.name}"
    if stage.uses in IN_MASTER and own.variants:
        message = f"uses = {stage.uses!r} is there once in a run, and reads no variant"
        yield Problem(key=f"{key}.variants", message=message, found=listed(own.variants), allowed="none")
    for part in _VARY.get(stage.uses, ()):
        yield from _unknown(own, stage, part, key)
    yield from _alike(own, stage, key)
    if stage.uses == "release":
        yield from _clashes(settings, stage)


def _tables(own: StageSettings, part: str) -> Mapping[str, object]:
    table = getattr(own, part)
    return table.variants if table else {}


def _unknown(own: StageSettings, stage: Stage, part: str, key: str) -> Iterator[Problem]:
    for variant in _tables(own, part):
        if variant not in own.variants:
            message = f"{variant!r} is no variant of stage {stage.name!r}{did_you_mean(variant, own.variants)}"
            allowed = listed(own.variants) or f"nothing, while {key}.variants is empty"
            yield Problem(key=f"{key}.{part}.variants", message=message, found=variant, allowed=allowed)


def _alike(own: StageSettings, stage: Stage, key: str) -> Iterator[Problem]:
    """Two variants that would do the very same cost twice and say nothing more."""
    parts = _VARY.get(stage.uses, ())
    for one, other in combinations(own.variants, 2):
        if stage.requires_for(one) != stage.requires_for(other):
            continue
        if parts and all(_of(own, part, one) == _of(own, part, other) for part in parts):
            allowed = " or ".join(f"{key}.{part}.variants.{other}" for part in (*parts, "requires"))
            message = f"{one!r} and {other!r} would do the same: no table says what one of them has for itself"
            yield Problem(key=f"{key}.variants", message=message, found=f"{one}, {other}", allowed=allowed)


def _of(own: StageSettings, part: str, variant: str) -> object:
    if part == "wheel":
        return (own.wheel.config_for(variant), own.wheel.variant(variant).local_version) if own.wheel else None
    table = getattr(own, part)
    return table.for_variant(variant) if table else None


def _clashes(settings: Settings, stage: Stage) -> Iterator[Problem]:
    """Wheels of one project, version and platform have one name: a release can hold only one of them."""
    for need in stage.needs:
        own = settings.stages.get(need)
        if own is None or own.wheel is None:
            continue
        for one, other in combinations(own.variants, 2):
            local = own.wheel.variant(other).local_version
            if _normal(own.wheel.variant(one).local_version) == _normal(local):
                message = (
                    f"the wheels of variants {one!r} and {other!r} have one name, and stage {stage.name!r} needs both"
                )
                others = own.wheel.variant(one).local_version
                both = f'local_version = "{local}" for both'
                alike = both if others == local else f'"{others}" and "{local}", which are one version'
                found = alike if local else "no local_version"
                allowed = "a local_version that no other variant has"
                key = f"stages.{need}.wheel.variants.{other}.local_version"
                yield Problem(key=key, message=message, found=found, allowed=allowed)


def _normal(local: str) -> str:
    """As a wheel's name has it: ``01`` and ``1`` are one."""
    return str(Version(f"0+{local}").local) if local else ""
