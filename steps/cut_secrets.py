"""Secrets that a cut in a command's output hides from Buildbot.

Buildbot strikes a secret's value out of each piece of output by itself. But a line of more than 4096 characters reaches
it as several, and a value of several lines in several pieces: nobody finds what stands on both sides of such a cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.internet import defer

_SHORTEST = 8  #: characters; less may well stand at a line's end and the next one's beginning by chance


class CutSecrets:
    """The output of one command, with the secrets struck out that a cut has split.

    What ends like the beginning of a secret is held back, from its line on, until more of its stream is there.

    Args:
        used: the secrets that were handed out until now, each with what stands for it.
    """

    def __init__(self, used: Callable[[], Mapping[str, str]]) -> None:
        self._used = used
        self._held: dict[str, str] = {}

    def pass_on(self, stream: str, text: str, *, last: bool = False) -> str:
        """What may be shown now of a stream that has said more; ``last``: everything."""
        text = self._held.pop(stream, "") + text
        secrets = {flat: name for value, name in self._used().items() if len(flat := _flat(value)) >= _SHORTEST}
        for secret in sorted(secrets, key=len, reverse=True):
            if secret in _flat(text):
                text = re.sub("\n*".join(map(re.escape, secret)), lambda _, name=secrets[secret]: name, text)  # type: ignore[misc]
        begun = 0 if last else _begun(_flat(text), secrets)
        if not begun:
            return text
        place = [at for at, character in enumerate(text) if character != "\n"][-begun]
        line = text.rfind("\n", 0, place) + 1
        self._held[stream] = text[line:]
        return text[:line]

    def rest(self) -> Iterator[tuple[str, str]]:
        """What is still held back, by stream: no more of it comes."""
        while self._held:
            yield self._held.popitem()


def _flat(text: str) -> str:
    return text.replace("\n", "")


def _begun(text: str, secrets: Mapping[str, str]) -> int:
    """How many characters at the end of a text are the beginning of a secret, at most."""
    lengths = ((secret, length) for secret in secrets for length in range(1, len(secret)))
    return max((length for secret, length in lengths if text.endswith(secret[:length])), default=0)


def struck(command: Any, used: Callable[[], Mapping[str, str]]) -> Callable[[str, Any, bool], Any]:
    """A remote command's ``remoteUpdate`` with :class:`CutSecrets` before it; all is shown when the command ends."""
    deliver, complete = command.remoteUpdate, command.remoteComplete
    output = CutSecrets(used)

    def release() -> list[Any]:
        return [deliver(stream, text, False) for stream, text in output.rest()]

    def update(key: str, value: Any, is_flushed: bool) -> Any:
        if key in ("stdout", "stderr"):
            shown = output.pass_on(key, value, last=is_flushed)
            return deliver(key, shown, is_flushed) if shown else defer.succeed(None)
        if key in ("header", "rc"):
            release()
        return deliver(key, value, is_flushed)

    def completed(failure: Any) -> Any:
        return defer.gatherResults(release()).addCallback(lambda _: complete(failure))

    command.remoteComplete = completed
    return update
