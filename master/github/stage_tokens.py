"""The secrets of builds: those of the folder, and for a stage with ``permissions`` a token made for it alone.

Buildbot strikes what a provider hands out from every log; that only trusted runs ask is for
:class:`steps.command.StageEnvironment`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThreadPool

from master.github.access import Access
from master.secret_files import SecretFiles
from master.settings_tokens import permissions_of

_LASTS_S = 50 * 60.0  #: GitHub's live for an hour; a command may need its own at its very end


class StageSecrets(SecretFiles):
    """Buildbot's provider. Without an ``access`` there are no tokens."""

    name = "SecretFiles"

    def checkConfig(self, folder: str, access: Access | None = None) -> None:
        """Nothing to check before a secret is asked for."""

    def reconfigService(self, folder: str, access: Access | None = None) -> None:
        super().reconfigService(folder)
        self.access = access

    def get(self, entry: str) -> Any:
        """One secret, or a Deferred of it.

        Raises:
            SecretUnreadable: its file cannot be read.
            GitHubUnavailable, GitHubRefused: GitHub gave no token.
        """
        permissions = permissions_of(entry)
        if permissions is None or self.access is None:
            return super().get(entry)
        reactor = self.master.reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), self.access.token, permissions, lasts=_LASTS_S)
