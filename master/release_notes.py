"""The notes of a release: the document's four sections, filled from what was really built. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BuiltWheel:
    """A wheel of the release and the stage that built it. ``requires`` are its ``Requires-Dist`` lines."""

    name: str
    stage: str
    version: str
    requires: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MissingPlatform:
    """A build stage of the pipeline whose wheel this release does not have, and why."""

    stage: str
    reason: str


def notes(project: str, tag: str, commit: str, wheels: Sequence[BuiltWheel], missing: Sequence[MissingPlatform]) -> str:
    """Markdown."""
    lines = [f"# {project} {tag}", "", f"Built from commit `{commit}`.", "", "## TVM compatibility", ""]
    runtime = sorted({r for w in wheels for r in w.requires if "tvm" in r.lower()})
    if runtime:
        lines.append("These wheels need, at run time, exactly what they declare; another TVM may load and misbehave:")
        lines += ["", *[f"- `{requirement}`" for requirement in runtime]]
    else:
        lines.append("The wheels declare no requirement on TVM.")
    lines += ["", "## Installation", "", "Download the wheel for your platform and install it:", "", "```sh"]
    lines += [f"pip install ./{wheel.name}" for wheel in wheels]
    lines += ["```", "", "Check what you downloaded with `sha256sum --check SHA256SUMS`.", "", "## Use cases", ""]
    lines += [
        "- Building on or changing the library itself: these wheels are built from source.",
        "- Research and development against the exact commit above.",
        "- For everyday use the project's prebuilt packages are the simpler choice.",
    ]
    lines += ["", "## Platforms", "", "| platform | wheel | version |", "|---|---|---|"]
    lines += [f"| {_platform(wheel.name)} | `{wheel.name}` | {wheel.version} |" for wheel in wheels]
    lines += [f"| {_stage_platform(gone.stage)} | not in this release: {gone.reason} | – |" for gone in missing]
    return "\n".join(lines) + "\n"


def _platform(wheel: str) -> str:
    tag = wheel.removesuffix(".whl").rpartition("-")[2]
    if "win" in tag:
        return f"Windows ({tag})"
    return f"Linux ({tag})" if "linux" in tag else tag


def _stage_platform(stage: str) -> str:
    return {"build-linux": "Linux", "build-windows": "Windows"}.get(stage, stage)
