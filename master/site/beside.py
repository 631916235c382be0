"""What options of ``ci/up`` put beside a site, and what master and workers have to be told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Something that runs beside the site, for its whole life.

    Attributes:
        overrides: ``MLC_CI_…`` variables for the master.
        provides: what local workers can do more, by their names.
        environments: variables for local workers, by their names.
        secrets: for the master's secrets folder.
        failure: why it can be used no more; empty while it can.
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    provides: Mapping[str, frozenset[str]] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    failure: Callable[[], str] = lambda: ""


NOTHING = Beside()
