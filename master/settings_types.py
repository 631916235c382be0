"""The kinds of value that settings are made of, each with an error that says what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt
from pydantic_core import PydanticCustomError

from master.durations import ALLOWED, validate_duration

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)  #: what Buildbot takes as a name, and URLs and files too
SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*", re.ASCII)  #: a file in the secrets folder
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
PLACEHOLDERS = ("workspace",)  #: what ``{…}`` may stand for in a value of an ``environment`` table


class Table(BaseModel):
    """A table of the settings: read-only once read, and without a key that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def refused(reason: str, allowed: str) -> PydanticCustomError:
    return PydanticCustomError("allowed", "{reason}", {"reason": reason, "allowed": allowed})


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise refused("must be longer than nothing", ALLOWED)
    return seconds


def validate_name(value: object) -> object:
    if isinstance(value, str) and not IDENTIFIER.fullmatch(value):
        raise refused(f"{value!r} is no name", "a letter, then letters, digits, - and _")
    return value


def _module(value: object) -> object:
    if isinstance(value, str) and not _MODULE.fullmatch(value):
        raise refused(f"{value!r} is no importable name", "package or package.module")
    return value


def _secret_name(value: object) -> object:
    if isinstance(value, str) and not SECRET_NAME.fullmatch(value):
        raise refused("is no name of a secret", "the name of a file in the secrets folder: letters, digits, _, - and .")
    return value


def _text_of_scalar(value: object) -> object:
    """Whole numbers as text; the rest is left for pydantic to judge (``true`` would be a guess)."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def validate_cmake_value(value: object) -> object:
    """``ON``/``OFF`` for booleans, text for whole numbers."""
    return ("ON" if value else "OFF") if isinstance(value, bool) else _text_of_scalar(value)


def _variables(value: object) -> object:
    if isinstance(value, Mapping):
        for name, text in value.items():
            if not _VARIABLE.fullmatch(name):
                raise refused(f"{name!r} is no variable name", "letters, digits and _, not starting with a digit")
            for placeholder in _PLACEHOLDER.findall(text) if isinstance(text, str) else ():
                if placeholder not in PLACEHOLDERS:
                    allowed = "".join(f"{{{known}}}" for known in PLACEHOLDERS)
                    raise refused(f"{name}: {{{placeholder}}} stands for nothing", f"{allowed}, or no braces")
    return value


def web_url(value: object) -> object:
    if isinstance(value, str) and value and not re.match(r"https?://[^/\s]+", value):
        raise refused("is no web address", "https://HOST/ or http://HOST:PORT/ (left out: derived from the port)")
    return value


def validate_command(value: object) -> object:
    """A shell line, or a program with its arguments."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value) and value[0]:
        return tuple(value)
    raise refused("is no command", '"a shell line", or ["program", "argument"]')


Duration = Annotated[float, BeforeValidator(validate_duration)]  #: in seconds
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Switch = StrictBool
Number = StrictInt
Count = Annotated[StrictInt, Field(ge=0)]
Port = Annotated[StrictInt, Field(ge=0, le=65535)]
Name = Annotated[str, BeforeValidator(validate_name)]
Text = Annotated[str, Field(min_length=1)]
Texts = tuple[Text, ...]
Names = tuple[Annotated[str, BeforeValidator(_module)], ...]
SecretNames = tuple[Annotated[str, BeforeValidator(_secret_name)], ...]
Environment = Annotated[
    Mapping[str, Annotated[str, BeforeValidator(_text_of_scalar)]],
    BeforeValidator(_variables),
]
