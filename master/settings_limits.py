"""``[stages.NAME.limits]``: how much a stage may take of its worker and of the master."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from master.pipeline import Limits
from master.settings_types import Number, Table, refused

_UNITS = {"M": 1 << 20, "G": 1 << 30}


def _size(value: object) -> object:
    found = re.fullmatch(r"0*([1-9][0-9]{0,5})([MG])", value, re.ASCII) if isinstance(value, str) else None
    if not found:
        raise refused("is no size", '"200M" or "8G": a whole number of MiB or GiB')
    return int(found[1]) * _UNITS[found[2]]


Size = Annotated[int, BeforeValidator(_size)]  #: in bytes


class LimitSettings(Table):
    """``None``: no limit. The others always hold: a stranger's build must not fill the master's disk."""

    memory: Size | None = None  #: of all processes of one command together
    processes: Annotated[Number, Field(ge=1)] | None = None  #: and threads, of one command together
    log: Size = Limits().log  #: of all logs of one build together
    artifacts: Size = Limits().artifacts  #: of all artifacts of one build together

    def limits(self) -> Limits:
        return Limits(memory=self.memory, processes=self.processes, log=self.log, artifacts=self.artifacts)
