"""One thing that was tried, and what to do when it did not work: what ``mlc-ci init`` and ``github check`` print."""

from __future__ import annotations

from dataclasses import dataclass

_WORDS = {True: "ok", False: "problem", None: "unknown"}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """``ok`` is None where it could not be found out; ``hint`` says what to do, or what to look at, when not ok."""

    name: str
    ok: bool | None
    message: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f"\n            {self.hint}" if self.hint and not self.ok else ""
        return f"{_WORDS[self.ok]:<8}  {self.name}: {self.message}{hint}"

    def as_json(self) -> dict[str, str]:
        hint = {} if self.ok or not self.hint else {"hint": self.hint}
        return {"name": self.name, "state": _WORDS[self.ok], "message": self.message, **hint}
