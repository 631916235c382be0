"""Submodules, level by level: each failure names the submodule and whose fault it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workers.errors import CodeError, InfrastructureError, ToolError
from workers.git import Git, GitFailed, Kind

_DEEPEST = 20  # a repository can be its own submodule


def update_submodules(git: Git, folder: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Checks out the submodules of ``folder`` and theirs; gives each one's path and commit.

    Raises :class:`CodeError` for a commit, URL or ``.gitmodules`` entry that is wrong or missing, and
    :class:`GitFailed` (a network failure, worth a retry) for an unreachable host.
    """
    links = _gitlinks(git, folder)
    if not links:
        return
    if depth == _DEEPEST:
        raise CodeError(f"submodules are nested more than {_DEEPEST} levels deep, at {prefix}")
    known = _paths_in_gitmodules(git, folder, prefix)
    for path in links:
        if path not in known:
            raise CodeError(f"submodule {prefix}{path} is in the tree, but .gitmodules has no entry for it")
    try:
        git("submodule", "--quiet", "sync", cwd=folder)
        git("submodule", "update", "--init", "--force", "--checkout", "--jobs", "4", "--progress", cwd=folder)
    except GitFailed as failure:
        raise _judged(failure, prefix) from failure
    for path, pinned in links.items():
        inner = folder / path
        git("clean", "-ffdxq", cwd=inner)
        there = git("rev-parse", "HEAD", cwd=inner)
        if there != pinned:
            raise CodeError(f"submodule {prefix}{path} is at {there}, but the tree pins {pinned}")
        yield prefix + path, there
        yield from update_submodules(git, inner, f"{prefix}{path}/", depth + 1)


def _gitlinks(git: Git, folder: Path) -> dict[str, str]:
    links = {}
    for entry in git("ls-files", "--stage", "-z", cwd=folder).split("\0"):
        if entry.startswith("160000 "):
            about, path = entry.split("\t", 1)
            links[path] = about.split()[1]
    return links


def _paths_in_gitmodules(git: Git, folder: Path, prefix: str) -> set[str]:
    file = folder / ".gitmodules"
    if file.is_symlink() or not file.is_file():
        return set()
    try:
        listed = git("config", "--file", ".gitmodules", "--null", "--list", cwd=folder)
    except GitFailed as failure:
        raise CodeError(f"{prefix}.gitmodules cannot be read: {failure.complaint}") from failure
    pairs = (entry.partition("\n") for entry in listed.split("\0"))
    return {value for key, _, value in pairs if key.startswith("submodule.") and key.endswith(".path")}


def _judged(failure: GitFailed, prefix: str) -> ToolError | GitFailed:
    of = f"a submodule of {prefix.rstrip('/')}" if prefix else "a submodule"
    detail = "; ".join(line for line in failure.output.splitlines() if line.startswith(("fatal:", "error:"))) or str(
        failure
    )
    if failure.kind in (Kind.MISSING, Kind.NOT_FOUND, Kind.CONTENT):
        return CodeError(f"{of} cannot be checked out: {detail}")
    if failure.kind in (Kind.HOST, Kind.ACCESS):
        return InfrastructureError(f"{of} cannot be fetched: {detail}")
    return failure
