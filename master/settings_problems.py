"""What is wrong with settings, told so that the reader can mend it: file, key, what was found, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from master.errors import UserError

Location = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong. ``file`` may also name an environment variable; cross-checks leave it empty."""

    key: str
    message: str
    file: str = ""
    found: str = ""
    allowed: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.key) if part)
        lines = [f"{self.severity}: {where}: {self.message}"]
        lines += [f"    found    {self.found}"] if self.found else []
        lines += [f"    allowed  {self.allowed}"] if self.allowed else []
        return "\n".join(lines)


class SettingsError(UserError):
    """The settings cannot be used; ``problems`` is everything that is wrong with them."""

    exit_code = 3

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(location: Iterable[str | int]) -> str:
    """``stages.build-linux.commands[0]``: the key as its reader would write it."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'
            text += f".{bare}" if text else bare
    return text


def listed(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean "needs"?`` when a known word is near, else nothing."""
    names = {name.lower().replace("-", "_"): name for name in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), names, n=1, cutoff=0.6)
    return f'; did you mean "{names[near[0]]}"?' if near else ""


# --- from pydantic's words to ours ---------------------------------------------------------------------------------

_KINDS = {
    "string_type": "a string",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_LIMITS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "too_short": "at least {min_length}",
    "string_too_short": "at least {min_length} character",
}


def translated(error: ErrorDetails, root: type[BaseModel], shown: Callable[[object], str]) -> Problem:
    """One pydantic error as a problem. ``shown`` turns a value into text that is safe to print."""
    location, kind, context = error["loc"], error["type"], error.get("ctx", {})
    key, found = dotted(location), shown(error["input"])
    if kind == "extra_forbidden":
        known = sorted(fields_at(root, location[:-1]))
        name = str(location[-1])
        message = f"unknown key {name!r}{did_you_mean(name, known)}"
        return Problem(key=key, message=message, found=name, allowed=listed(known))
    if kind == "missing":
        return Problem(key=key, message="is required and missing", found="nothing", allowed=described(root, location))
    if kind in ("literal_error", "enum"):
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        near = did_you_mean(error["input"], known) if isinstance(error["input"], str) else ""
        return Problem(key=key, message=f"is none of the allowed values{near}", found=found, allowed=listed(known))
    if kind in _KINDS:
        return Problem(key=key, message=f"must be {_KINDS[kind]}", found=found, allowed=_KINDS[kind])
    if kind in _LIMITS:
        limit = _LIMITS[kind].format(**context)
        return Problem(key=key, message=f"must be {limit}", found=found, allowed=limit)
    if kind == "allowed":
        return Problem(key=key, message=context["reason"], found=found, allowed=context["allowed"])
    return Problem(key=key, message=error["msg"], found=found, allowed=described(root, location))


def fields_at(root: type[BaseModel], location: Location) -> frozenset[str]:
    """The keys that the table at this place may have; empty where any key may stand."""
    model = _type_at(root, location)
    return frozenset(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else frozenset()


def described(root: type[BaseModel], location: Location) -> str:
    """What the value at this place must be, for a reader."""
    annotation = _type_at(root, location)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a table with " + listed(sorted(annotation.model_fields))
    words = [arg for arg in get_args(annotation) if isinstance(arg, str)]
    return listed(words) if words else {str: "a string", int: "a whole number"}.get(annotation, "")


def _type_at(root: type[BaseModel], location: Location) -> Any:
    """The type annotated at a place, ``Optional`` and ``Mapping`` unwrapped on the way; ``None`` off the map."""
    here: Any = root
    for part in location:
        if isinstance(here, type) and issubclass(here, BaseModel):
            info = here.model_fields.get(str(part))
            here = info.annotation if info else None
        elif isinstance(getattr(here, "__origin__", None), type) and issubclass(here.__origin__, Mapping):
            here = get_args(here)[1]
        else:
            return None
        here = _without_none(here)
    return here


def _without_none(annotation: Any) -> Any:
    arguments = get_args(annotation)
    if type(None) in arguments:
        left = [argument for argument in arguments if argument is not type(None)]
        return left[0] if len(left) == 1 else annotation
    return annotation
