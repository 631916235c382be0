"""Probes of hosts of several kinds, for the tests of routing.

``h100`` and ``lavapipe`` are what the probe wrote on such hosts; the others have the shape of these, with the facts of
hosts that were not at hand.
"""

from __future__ import annotations

from pathlib import Path

from master.probe_facts import ProbeSaid, read

FOLDER = Path(__file__).parents[1] / "recorded_probes"
KINDS = sorted(file.stem for file in FOLDER.glob("*.json"))


def text(kind: str) -> str:
    return (FOLDER / f"{kind}.json").read_text()


def said(kind: str) -> ProbeSaid:
    found = read(text(kind))
    assert isinstance(found, ProbeSaid), found
    return found
