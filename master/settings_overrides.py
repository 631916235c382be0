"""``MLC_CI_TABLE__KEY=value`` in the environment overrides the settings file; ``__`` goes one table down.

``MLC_CI_MASTER__WEB_PORT=8011``, ``MLC_CI_STAGES__BUILD_LINUX__TIMEOUT=2h``, ``MLC_CI_STAGES__TEST__NEEDS='["lint"]'``:
case does not matter and ``_`` stands for ``-`` too. The value is read as TOML where it is a number, true, false, a
list, a table or a quoted string, and is plain text otherwise. A variable without ``__`` is none of ours, unless one
underscore is all that it lacks.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from master.settings_problems import Location, Problem, did_you_mean, dotted, fields_at, listed

PREFIX = "MLC_CI_"


def override(
    data: Mapping[str, Any], environ: Mapping[str, str], root: type[BaseModel]
) -> tuple[dict[str, Any], dict[Location, str], list[Problem]]:
    """The data with every override put in, which variable set which place, and the variables that fit nowhere."""
    result: dict[str, Any] = _copied(data)
    origins: dict[Location, str] = {}
    problems: list[Problem] = []
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        parts = variable.removeprefix(PREFIX).split("__")
        if len(parts) == 1:
            if meant := _lacks_underscore(parts[0], root):
                message = f'sets nothing; did you mean "{meant}"?'
                problems.append(Problem(file="environment", key=variable, message=message, found=variable))
            continue
        if parts[0].lower() not in root.model_fields:
            tables = sorted(root.model_fields)
            message = f"there is no table {parts[0].lower()!r}{did_you_mean(parts[0], tables)}"
            allowed = listed(f"{PREFIX}{table.upper()}__…" for table in tables)
            problems.append(Problem(file="environment", key=variable, message=message, found=variable, allowed=allowed))
            continue
        try:
            origins[_put(result, parts, environ[variable], root)] = variable
        except TypeError as error:
            problems.append(Problem(file="environment", key=variable, message=str(error), found=variable))
    return result, origins, problems


def _put(result: dict[str, Any], parts: list[str], text: str, root: type[BaseModel]) -> Location:
    """Set one value and say where it is; ``TypeError`` when something else than a table is on the way."""
    table = result
    location: Location = ()
    for depth, part in enumerate(parts):
        key = _key(part, table, fields_at(root, location), free_case=location[-1:] == ("environment",))
        location = (*location, key)
        if depth < len(parts) - 1:
            below = table.setdefault(key, {})
            if not isinstance(below, dict):
                raise TypeError(f"{dotted(location)} is no table")
            table = below
    table[key] = _value(text)
    return location


def _key(part: str, table: Mapping[str, Any], fields: frozenset[str], *, free_case: bool) -> str:
    """The key that is meant: one that is there, or a field, or a new name."""
    folded = part.lower().replace("-", "_")
    for known in (*table, *sorted(fields)):
        if known.lower().replace("-", "_") == folded:
            return known
    return part if free_case else part.lower()


def _value(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return value if isinstance(value, str | int | float | list | dict) else text


def _lacks_underscore(name: str, root: type[BaseModel]) -> str:
    for table in root.model_fields:
        rest = name.lower().removeprefix(f"{table}_")
        if rest != name.lower() and rest in fields_at(root, (table,)):
            return f"{PREFIX}{table.upper()}__{rest.upper()}"
    return ""


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in data.items()}
