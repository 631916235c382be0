"""What can be wrong with what a stage asks of its worker."""

from __future__ import annotations

from collections.abc import Iterator

from master.capabilities import split_tool
from master.pipeline import Stage
from master.settings_problems import Problem, did_you_mean, listed
from master.settings_stages import StageSettings
from workers.probe.tools import KNOWN


def requires_problems(own: StageSettings, stage: Stage, key: str) -> Iterator[Problem]:
    """``key``: of the stage."""
    asks = own.requires
    said = [name for name in ("os", "tools", "gpu", "variants") if getattr(asks, name)]
    if stage.requires.local and said:
        message = "a local stage runs in the master and asks no worker for anything"
        found = f"{listed(said)} of a stage that is local" + ("" if asks.local else f" (uses = {stage.uses!r})")
        yield Problem(key=f"{key}.requires", message=message, found=found, allowed="either")
    for variant in asks.variants:
        if variant not in own.variants:
            message = f"{variant!r} is no variant of stage {stage.name!r}{did_you_mean(variant, own.variants)}"
            allowed = listed(own.variants) or f"nothing, while {key}.variants is empty"
            yield Problem(key=f"{key}.requires.variants", message=message, found=variant, allowed=allowed)
    yield from _untold(stage.requires.versions, f"{key}.requires.tools")
    for variant, requires in stage.variant_requires.items():
        if requires.versions != stage.requires.versions:
            yield from _untold(requires.versions, f"{key}.requires.variants.{variant}.tools")


def _untold(versions: tuple[str, ...], key: str) -> Iterator[Problem]:
    """A stage that asks for the version of what no probe knows would wait for good."""
    for text in versions:
        name = (split_tool(text) or (text,))[0]
        if name not in KNOWN:
            message = f"no worker's probe tells the version of {name!r}{did_you_mean(name, KNOWN)}"
            allowed = f"{name!r} alone, which a worker then has to provide, or versions of {listed(sorted(KNOWN))}"
            yield Problem(key=key, message=message, found=text, allowed=allowed)
