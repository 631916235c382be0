"""What the master asks the git repository: where refs point, and what a commit is about. It never checks out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildbot.util import runprocess

_TIMEOUT_S = 120


class RepositoryUnreachable(Exception):
    """Git could not answer; the message is its own, without the noise."""


class UnknownRef(Exception):
    """A name that is no branch, tag or full ref of the repository."""


@dataclass(frozen=True)
class Details:
    """What a commit is about. ``files`` is ``None`` when it cannot be told what changed."""

    message: str = ""
    author: str = ""
    files: tuple[str, ...] | None = None


class Repository:
    """A remote repository, and a small bare one (``cache``) into which single commits are fetched."""

    def __init__(self, url: str, cache: Path, reactor: Any) -> None:
        self.url = url
        self.cache = cache
        self.reactor = reactor

    async def refs(self) -> dict[str, str]:
        """All branches, tags and pull request heads with the commit each points at (annotated tags peeled).

        Raises:
            RepositoryUnreachable: with git's message.
        """
        output = await self._git("ls-remote", "--", self.url)
        found: dict[str, str] = {}
        for line in output.splitlines():
            sha, _, ref = line.partition("\t")
            if ref.startswith("refs/"):
                found[ref.removesuffix("^{}")] = sha  # the peeled line follows the tag's own
        return found

    async def describe(self, ref: str, head: str, since: str = "", base_ref: str = "") -> Details:
        """Message and author of ``head``, and the files that changed since the commit ``since``, which is looked for
        in the history of ``ref`` and ``base_ref``; with a ``base_ref``, from their merge base on.

        What cannot be fetched is not described: a run does not depend on it.
        """
        try:
            if not (self.cache / "HEAD").exists():
                await self._git("init", "--quiet", "--bare", str(self.cache))
            wanted = [ref, base_ref] if base_ref else [ref]
            await self._git(*self._in_cache, "fetch", "--quiet", "--filter=blob:none", "--", self.url, *wanted)
            log = await self._git(*self._in_cache, "log", "-1", "--format=%an%x00%B", head)
        except RepositoryUnreachable:
            return Details()
        author, _, message = log.partition("\0")
        files = await self._changed(f"{since}{'...' if base_ref else '..'}{head}") if since else None
        return Details(message=message.strip(), author=author, files=files)

    async def _changed(self, commits: str) -> tuple[str, ...] | None:
        try:
            # a file that was moved has changed in both places
            options = ("--name-only", "--no-renames", "-z")
            names = await self._git(*self._in_cache, "diff", *options, commits)
        except RepositoryUnreachable:  # a forced push left no way from one to the other
            return None
        return tuple(name for name in names.split("\0") if name)

    @property
    def _in_cache(self) -> tuple[str, ...]:
        return ("--git-dir", str(self.cache))

    def _trusting(self) -> Path:
        """A git configuration that lets us read a local repository of another owner: the settings name it, and
        nothing of it is run. An option on the command line would not reach the process that serves it, and which
        folder git asks about depends on how the repository is made."""
        file = self.cache.with_suffix(".gitconfig")
        text = "[safe]\n\tdirectory = *\n"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
        return file

    async def _git(self, *arguments: str) -> str:
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        if self.url.startswith(("/", "file://")):
            environment["GIT_CONFIG_GLOBAL"] = str(self._trusting())
        result: tuple[int, bytes, bytes] = await runprocess.run_process(
            self.reactor,
            ["git", *arguments],
            env=environment,
            collect_stdout=True,
            collect_stderr=True,
            runtime_timeout=_TIMEOUT_S,
        )
        code, output, errors = result
        if code != 0:
            said = errors.decode(errors="replace").strip() or f"git {arguments[0]} ended with {code}"
            raise RepositoryUnreachable(f"{self.url}: {said}")
        return output.decode(errors="replace")


def resolve(refs: dict[str, str], name: str) -> tuple[str, str]:
    """The full ref that a user's name means, and the commit it points at.

    Raises:
        UnknownRef: nothing is called so, or more than one thing is.
    """
    candidates = [ref for ref in (name, f"refs/heads/{name}", f"refs/tags/{name}") if ref in refs]
    if not candidates:
        raise UnknownRef(f"{name!r} is no branch, tag or full ref (refs/…) of the repository")
    if len(candidates) > 1:
        raise UnknownRef(f"{name!r} could be {' or '.join(candidates)}: say which in full")
    return candidates[0], refs[candidates[0]]
