"""Reading the settings: one TOML file, overridden by ``MLC_CI_…`` variables, checked as a whole.

:func:`load` is for whoever wants to run: it returns usable settings or raises with everything that is wrong.
:func:`examine` is for ``mlc-ci check``: it returns both.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from master.check import check
from master.settings_artifacts import ArtifactSettings
from master.settings_models import (
    DatabaseSettings,
    JanitorSettings,
    MasterSettings,
    ProjectSettings,
    SchedulingSettings,
    Settings,
    ThreadsSettings,
    WorkerSettings,
    read_secret,
)
from master.settings_overrides import override
from master.settings_problems import Location, Problem, SettingsError, dotted, translated
from master.settings_secrets import inline_secrets, redacted, shown
from master.settings_stages import (
    USES,
    PrebuiltSettings,
    PytestSettings,
    RequiresSettings,
    StageSettings,
    TargetSettings,
)
from master.settings_wheel import WheelSettings

__all__ = [
    "ArtifactSettings",
    "DatabaseSettings",
    "Examined",
    "JanitorSettings",
    "MasterSettings",
    "PrebuiltSettings",
    "Problem",
    "ProjectSettings",
    "PytestSettings",
    "RequiresSettings",
    "SchedulingSettings",
    "Settings",
    "SettingsError",
    "StageSettings",
    "TargetSettings",
    "ThreadsSettings",
    "USES",
    "WheelSettings",
    "WorkerSettings",
    "examine",
    "load",
    "parse",
    "read_secret",
]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What reading a settings file came to. ``settings`` is there only without errors."""

    file: str
    settings: Settings | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "warning"]


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings that can be used; warnings are passed over. Raises :class:`SettingsError` with *every* error."""
    examined = examine(path, environ)
    if examined.settings is None:
        raise SettingsError(examined.errors)
    return examined.settings


def examine(path: Path, environ: Mapping[str, str] | None = None) -> Examined:
    """Read and check a file, ``environ`` (the process's own unless given) overriding it."""
    file = str(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        return Examined(file=file, problems=[_unreadable(file, error)])
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        message = f"line {line}: is not UTF-8"
        return Examined(file=file, problems=[Problem(file=file, key="(syntax)", message=message)])
    return parse(text, file=file, environ=os.environ if environ is None else environ)


def parse(text: str, *, file: str = "settings", environ: Mapping[str, str] | None = None) -> Examined:
    """Check settings given as TOML text. Nothing overrides them unless ``environ`` is given."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Examined(file=file, problems=[redacted(_syntax(file, text, str(error)))])
    except RecursionError:
        message = "is nested too deeply"
        return Examined(file=file, problems=[Problem(file=file, key="(syntax)", message=message)])
    data, origins, problems = override(data, environ or {}, Settings)
    settings, found = _validated(data)
    problems = [redacted(problem) for problem in (*problems, *(_placed(each, file, origins) for each in found))]
    usable = not any(problem.severity == "error" for problem in problems)
    return Examined(file=file, settings=settings if usable else None, problems=problems)


def _validated(data: dict[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """The settings, typed and cross-checked; what is of the wrong type is left out of the cross-checks."""
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    else:
        return settings, check(settings)
    problems = [translated(each, Settings, shown) for each in errors]
    sound = _without(data, errors)
    try:
        settings = Settings.model_validate(sound)
    except ValidationError:
        return None, problems + inline_secrets(data)
    coverage = not any(_decides_coverage(each["loc"]) for each in errors)
    told = {problem.key for problem in problems}
    further = [problem for problem in check(settings, coverage=coverage) if not _follows(problem.key, told)]
    return None, problems + further + [p for p in inline_secrets(data) if p not in further]


def _without(data: Mapping[str, Any], errors: Sequence[ErrorDetails]) -> dict[str, Any]:
    """The data less every value an error points at (a list loses all, as what is left of it may mean less)."""
    bad = {_owner(error["loc"]) for error in errors}

    def kept(value: Any, location: Location) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: kept(below, (*location, key)) for key, below in value.items() if (*location, key) not in bad}

    return {key: kept(value, (key,)) for key, value in data.items() if (key,) not in bad}


def _owner(location: Location) -> Location:
    """The key that holds what an error points at."""
    names = []
    for part in location:
        if isinstance(part, int):
            break
        names.append(part)
    return tuple(names)


def _follows(key: str, told: set[str]) -> bool:
    """Whether a cross-check may only be seeing what was left out under this key (whole stages never are)."""
    return key in told or any(
        other.startswith(f"{key}[") or (key.count(".") > 1 and other.startswith(f"{key}.")) for other in told
    )


def _decides_coverage(location: Location) -> bool:
    """Whether leaving this out may change which worker serves what."""
    return location[:1] == ("workers",) or bool({"requires", "uses", "when", "no_worker"} & set(location))


def _placed(problem: Problem, file: str, origins: Mapping[Location, str]) -> Problem:
    """The problem with its file, or the variable that set the value."""
    for location, variable in origins.items():
        key = dotted(location)
        if problem.key == key or problem.key.startswith((key + ".", key + "[")):
            return replace(problem, file=f"environment variable {variable}")
    return problem if problem.file else replace(problem, file=file)


def _syntax(file: str, text: str, reason: str) -> Problem:
    place = re.search(r" \(at line (\d+), column (\d+)\)$", reason)
    if place:
        line, column = int(place[1]), int(place[2])
    else:
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
    message = f"line {line}, column {column}: {re.sub(r' [(]at .*[)]$', '', reason)}"
    found = text.splitlines()[line - 1].strip() if line <= len(text.splitlines()) else ""
    return Problem(file=file, key="(syntax)", message=message, found=shown(found) if found else "", allowed="TOML")


def _unreadable(file: str, error: OSError) -> Problem:
    reason = "is a folder" if isinstance(error, IsADirectoryError) else (error.strerror or str(error))
    allowed = "a settings file (`mlc-ci init REPO` writes one)"
    return Problem(file=file, key="(file)", message=f"cannot be read: {reason}", allowed=allowed)
