"""The GitHub token of a stage, as its commands find it: a variable, and for git the header that goes with it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildbot.process.properties import Secret

from master.settings import Settings
from master.settings_tokens import VARIABLE, git_address, secret_of, stage_permissions


@dataclass(frozen=True, kw_only=True)
class StageToken:
    """Which token, and where git uses it: a private repository is cloned without one on any command line."""

    secret: str  #: its name, for the secrets' provider: what it may
    git: str  #: below this address; empty: nowhere

    @classmethod
    def of(cls, settings: Settings, stage: str) -> StageToken | None:
        """``None`` for a stage that gets none."""
        secret = secret_of(stage_permissions(settings, stage))
        return cls(secret=secret, git=git_address(settings)) if secret else None

    async def variables(self, properties: Any, others: Mapping[str, str]) -> dict[str, str]:
        """For the environment of a command, beside ``others``. Only for trusted runs."""
        try:
            token = await properties.render(Secret(self.secret))
        except Exception as error:  # ends the build as an exception, which has no reason of its own
            properties.setProperty("failure_class", "infrastructure", "token")
            properties.setProperty("failure_reason", f"no token of GitHub's: {error}", "token")
            raise
        found = {VARIABLE: token}
        if self.git:
            header = base64.b64encode(f"x-access-token:{token}".encode()).decode()
            properties.useSecret(header, self.secret)
            count = others.get("GIT_CONFIG_COUNT", "0")
            place = int(count) if count.isdecimal() else 0  # behind what the settings configure
            found[f"GIT_CONFIG_KEY_{place}"] = f"http.{self.git}.extraheader"
            found[f"GIT_CONFIG_VALUE_{place}"] = f"Authorization: Basic {header}"
            found["GIT_CONFIG_COUNT"] = str(place + 1)
        return found
