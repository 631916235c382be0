#!/usr/bin/env python3
"""Makes real git repositories of the sample project and plays its developer.

    repository.py create FOLDER                   FOLDER/sample.git and FOLDER/kernels.git, its submodule
    repository.py push FOLDER                     a commit on main
    repository.py pull-request FOLDER 7           a commit at refs/pull/7/head and GitHub's event for it
    repository.py tag FOLDER v1.2.3               an annotated tag
    repository.py break FOLDER compile-error      a commit on main that does not build (negative control)
    repository.py fix FOLDER                      takes back what `break` did

Each prints one JSON object. `push`, `pull-request` and `tag` print the event that GitHub would post as `payload`.

The same calls give the same commit ids on every machine: author and dates are fixed (each commit is a minute younger
than its parent) and no configuration of the user or the system is read or written. Only the standard library and git.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent
SUBMODULE = "3rdparty/kernels"
FULL_NAME = "sample/sample"
OWNER, FORK_OWNER = "sample", "contributor"
FIRST_TAG = "v0.1.0"
EPOCH = 1767225600  # 2026-01-01T00:00:00Z: the date of the first commit
STEP_SECONDS = 60
NO_COMMIT = "0" * 40
TRAILER = "Negative-control"

# What `break` writes, by kind. `missing-submodule` writes no file: it moves the gitlink to a commit that nobody has.
BREAKAGES: Mapping[str, Mapping[str, str]] = {
    "compile-error": {
        "cpp/negative_control.cc": "// Does not compile, on purpose.\nint negative_control() { return undeclared; }\n"
    },
    "missing-submodule": {},
    "failing-test": {
        "tests/python/test_negative_control.py": (
            '"""Fails, on purpose."""\n\nimport pytest\n\n\n@pytest.mark.unittest\n'
            "def test_negative_control():\n    assert 1 + 1 == 3\n"
        )
    },
}
MISSING_COMMIT = "deadbeef" * 5
TRUSTED_ASSOCIATIONS = ("OWNER", "MEMBER", "COLLABORATOR")
ASSOCIATIONS = (*TRUSTED_ASSOCIATIONS, "CONTRIBUTOR", "FIRST_TIME_CONTRIBUTOR", "FIRST_TIMER", "NONE")

Answer = dict[str, Any]


class SampleError(Exception):
    """A mistake of the caller's, or a git that failed; the message says what to do."""


# --- git ------------------------------------------------------------------------------------------------------------


def _environment(when: int) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = {
        "core.attributesFile": os.devnull,
        "core.autocrlf": "false",
        "core.excludesFile": os.devnull,
        "core.fileMode": "false",
        "init.defaultBranch": "main",
        "init.templateDir": "",
    }
    for index, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{index}"] = key
        environment[f"GIT_CONFIG_VALUE_{index}"] = value
    environment.update(
        GIT_CONFIG_COUNT=str(len(settings)),
        GIT_CONFIG_GLOBAL=os.devnull,
        GIT_CONFIG_NOSYSTEM="1",
        GIT_TERMINAL_PROMPT="0",
        GIT_AUTHOR_NAME="Sample Developer",
        GIT_AUTHOR_EMAIL="developer@sample.invalid",
        GIT_AUTHOR_DATE=f"{when} +0000",
        GIT_COMMITTER_NAME="Sample Developer",
        GIT_COMMITTER_EMAIL="developer@sample.invalid",
        GIT_COMMITTER_DATE=f"{when} +0000",
        LC_ALL="C",
        TZ="UTC",
    )
    return environment


def git(*arguments: str, cwd: Path, when: int = EPOCH) -> str:
    """What git prints, without the last newline. Raises SampleError with git's own words when it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, env=_environment(when), capture_output=True, encoding="utf-8", check=False
        )
    except FileNotFoundError as error:
        raise SampleError("git is not installed, or not on the PATH (Debian: apt-get install git)") from error
    if done.returncode != 0:
        raise SampleError(f"`git {' '.join(arguments)}` failed with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def sample_repository(folder: Path) -> Path:
    """The bare repository in that folder. Raises SampleError where there is none."""
    repository = folder.resolve() / "sample.git"
    if not repository.is_dir():
        raise SampleError(f"{repository} does not exist: make it with `repository.py create {folder}`")
    return repository


def ref_sha(repository: Path, ref: str) -> str | None:
    """The commit that a ref or revision names, or None."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", cwd=repository)
    except SampleError:
        return None


def _commit_time(repository: Path, revision: str) -> int:
    return int(git("show", "--no-patch", "--format=%ct", revision, cwd=repository))


def _iso(when: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


@contextmanager
def _checkout(repository: Path, ref: str) -> Iterator[Path]:
    """A throwaway clone with `ref` of the repository checked out; its submodule is left alone."""
    with tempfile.TemporaryDirectory(prefix="sample-developer-") as scratch:
        work = Path(scratch) / "work"
        git("clone", "--quiet", "--no-checkout", str(repository), str(work), cwd=Path(scratch))
        git("fetch", "--quiet", "origin", ref, cwd=work)
        git("checkout", "--quiet", "--detach", "FETCH_HEAD", cwd=work)
        yield work


def _write(work: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = work / name
        if Path(name).is_absolute() or {"..", ".git"} & set(Path(name).parts) or path == work:
            raise SampleError(f"{name!r} is not a path inside the repository")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8"))


def _commit(work: Path, message: str, when: int) -> str:
    """Commits what is staged."""
    if not git("diff", "--cached", "--name-only", cwd=work) and ref_sha(work, "HEAD") is not None:
        raise SampleError("nothing would change: the files have this content already")
    git("commit", "--quiet", "--no-verify", "--message", message, cwd=work, when=when)
    return git("rev-parse", "HEAD", cwd=work)


def _commit_and_push(work: Path, ref: str, message: str) -> str:
    """Commits everything on top of HEAD and pushes it to that ref of the repository."""
    git("add", "--all", cwd=work)
    after = _commit(work, message, _commit_time(work, "HEAD") + STEP_SECONDS)
    git("push", "--quiet", "origin", f"HEAD:{ref}", cwd=work)
    return after


# --- GitHub's events ------------------------------------------------------------------------------------------------


def _user(login: str) -> Answer:
    return {
        "login": login,
        "id": {OWNER: 1, FORK_OWNER: 2}.get(login, 3),
        "type": "User",
        "site_admin": False,
        "url": f"https://api.github.com/users/{login}",
        "html_url": f"https://github.com/{login}",
    }


def _repository_object(repository: Path, owner: str) -> Answer:
    """GitHub's description; `clone_url` is the repository on this machine, so that what it names can be fetched."""
    full_name = f"{owner}/sample"
    return {
        "id": 1000 if owner == OWNER else 1001,
        "name": "sample",
        "full_name": full_name,
        "private": False,
        "owner": _user(owner),
        "html_url": f"https://github.com/{full_name}",
        "description": "A small project shaped like MLC-LLM",
        "fork": owner != OWNER,
        "url": f"https://api.github.com/repos/{full_name}",
        "clone_url": repository.as_uri(),
        "ssh_url": f"git@github.com:{full_name}.git",
        "default_branch": "main",
        "visibility": "public",
    }


def _commit_object(repository: Path, sha: str) -> Answer:
    lines = git("show", "--no-renames", "--name-status", "--format=", sha, cwd=repository).splitlines()
    files: dict[str, list[str]] = {"A": [], "D": [], "M": []}
    for line in lines:
        status, name = line.split("\t", 1)
        files.setdefault(status[0], []).append(name)
    person = {"name": "Sample Developer", "email": "developer@sample.invalid", "username": OWNER}
    return {
        "id": sha,
        "tree_id": git("rev-parse", f"{sha}^{{tree}}", cwd=repository),
        "distinct": True,
        "message": git("show", "--no-patch", "--format=%B", sha, cwd=repository).strip(),
        "timestamp": _iso(_commit_time(repository, sha)),
        "url": f"https://github.com/{FULL_NAME}/commit/{sha}",
        "author": person,
        "committer": person,
        "added": files["A"],
        "removed": files["D"],
        "modified": files["M"],
    }


def push_payload(repository: Path, ref: str, before: str, after: str) -> Answer:
    """GitHub's `push` event for one ref; `after` of an annotated tag is the tag object, as GitHub sends it."""
    commit = git("rev-parse", f"{after}^{{commit}}", cwd=repository)
    is_tag = ref.startswith("refs/tags/")
    revisions = [] if is_tag else git("rev-list", "--reverse", f"{before}..{after}", cwd=repository).splitlines()
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "created": before == NO_COMMIT,
        "deleted": False,
        "forced": False,
        "base_ref": "refs/heads/main" if is_tag else None,
        "compare": f"https://github.com/{FULL_NAME}/compare/{before[:12]}...{after[:12]}",
        "commits": [_commit_object(repository, sha) for sha in revisions],
        "head_commit": _commit_object(repository, commit),
        "repository": _repository_object(repository, OWNER),
        "pusher": {"name": OWNER, "email": "developer@sample.invalid"},
        "sender": _user(OWNER),
    }


def pull_request_payload(
    repository: Path, number: int, *, base: str, head: str, before: str | None, title: str, association: str
) -> Answer:
    """GitHub's `pull_request` event: `synchronize` when there was a head before, else `opened`.

    Who is not trusted proposes from a fork, as on GitHub.
    """
    owner = OWNER if association in TRUSTED_ASSOCIATIONS else FORK_OWNER
    commits = git("rev-list", f"{base}..{head}", cwd=repository).splitlines()
    merge_base = git("merge-base", base, head, cwd=repository)
    counts = [
        line.split("\t")[:2]
        for line in git("diff", "--no-renames", "--numstat", merge_base, head, cwd=repository).splitlines()
    ]
    api = f"https://api.github.com/repos/{FULL_NAME}"
    html = f"https://github.com/{FULL_NAME}/pull/{number}"
    first = _commit_time(repository, commits[-1])
    pull_request = {
        "id": 5000 + number,
        "number": number,
        "url": f"{api}/pulls/{number}",
        "html_url": html,
        "diff_url": f"{html}.diff",
        "statuses_url": f"{api}/statuses/{head}",
        "state": "open",
        "locked": False,
        "draft": False,
        "title": title,
        "body": None,
        "user": _user(owner),
        "labels": [],
        "created_at": _iso(first),
        "updated_at": _iso(_commit_time(repository, head)),
        "closed_at": None,
        "merged_at": None,
        "merged": False,
        "mergeable": None,
        "merge_commit_sha": None,
        "author_association": association,
        "head": {
            "label": f"{owner}:change-{number}",
            "ref": f"change-{number}",
            "sha": head,
            "user": _user(owner),
            "repo": _repository_object(repository, owner),
        },
        "base": {
            "label": f"{OWNER}:main",
            "ref": "main",
            "sha": base,
            "user": _user(OWNER),
            "repo": _repository_object(repository, OWNER),
        },
        "commits": len(commits),
        "additions": sum(int(added) for added, _ in counts if added != "-"),
        "deletions": sum(int(deleted) for _, deleted in counts if deleted != "-"),
        "changed_files": len(counts),
    }
    payload: Answer = {"action": "opened" if before is None else "synchronize", "number": number}
    if before is not None:
        payload.update(before=before, after=head)
    payload.update(pull_request=pull_request, repository=_repository_object(repository, OWNER), sender=_user(owner))
    return payload


# --- The developer --------------------------------------------------------------------------------------------------


def create(folder: Path, *, if_missing: bool = False) -> Answer:
    """Makes both repositories: two commits on main, FIRST_TAG on the first. They appear whole or not at all.

    Raises SampleError where there are some already, unless `if_missing`: then they stay as they are.
    """
    folder = folder.resolve()
    repository = folder / "sample.git"
    if repository.exists() and not if_missing:
        raise SampleError(f"{repository} exists already: remove it, or say --if-missing to keep it")
    created = not repository.exists()
    if created:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".creating-", dir=folder) as scratch_name:
            scratch = Path(scratch_name)
            kernels_sha = _first_commit(scratch, "kernels", "Kernels of the sample project", EPOCH)
            _first_commit(scratch, "sample", "Sample project", EPOCH, gitlink=kernels_sha)
            git("tag", "--annotate", "--message", f"Release {FIRST_TAG}", FIRST_TAG, cwd=scratch / "sample")
            git("push", "--quiet", "origin", FIRST_TAG, cwd=scratch / "sample")
            _write(scratch / "sample", {"changes/0001.md": "The first change after the release.\n"})
            _commit_and_push(scratch / "sample", "refs/heads/main", "Begin the next version")
            kernels = folder / "kernels.git"
            if kernels.exists():  # left by a creation that was killed between the two renames
                shutil.rmtree(kernels)
            (scratch / "kernels.git").rename(kernels)
            (scratch / "sample.git").rename(repository)
    return {
        "repository": str(repository),
        "submodule": str(folder / "kernels.git"),
        "main": ref_sha(repository, "refs/heads/main"),
        "tag": FIRST_TAG,
        "tag_commit": ref_sha(repository, f"refs/tags/{FIRST_TAG}"),
        "kernels": git("rev-parse", f"refs/tags/{FIRST_TAG}:{SUBMODULE}", cwd=repository),
        "created": created,
    }


def _first_commit(scratch: Path, name: str, message: str, when: int, gitlink: str | None = None) -> str:
    bare, work = scratch / f"{name}.git", scratch / name
    git("init", "--quiet", "--bare", str(bare), cwd=scratch)
    # As on GitHub: a commit that was seen once can be fetched by its id.
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=bare)
    source = SOURCE / ("project" if name == "sample" else name)
    if not source.is_dir():
        raise SampleError(f"{source} is missing: this checkout of the CI is not complete")
    shutil.copytree(source, work, ignore=shutil.ignore_patterns("3rdparty", "__pycache__"))
    git("init", "--quiet", cwd=work)
    git("remote", "add", "origin", str(bare), cwd=work)
    git("add", "--all", cwd=work)
    if gitlink is not None:
        (work / SUBMODULE).mkdir(parents=True)
        git("update-index", "--add", "--cacheinfo", f"160000,{gitlink},{SUBMODULE}", cwd=work)
    sha = _commit(work, message, when)
    git("push", "--quiet", "origin", "HEAD:refs/heads/main", cwd=work)
    return sha


def _next_change(repository: Path, ref: str) -> str:
    return f"{int(git('rev-list', '--count', ref, cwd=repository)):04}"


def push(folder: Path, *, files: Mapping[str, str] | None = None, message: str | None = None) -> Answer:
    """Pushes a commit with those files (path to content; a note of its own when None) to main."""
    repository = sample_repository(folder)
    number = _next_change(repository, "refs/heads/main")
    with _checkout(repository, "refs/heads/main") as work:
        before = git("rev-parse", "HEAD", cwd=work)
        _write(work, {f"changes/{number}.md": f"Change {number}.\n"} if files is None else files)
        after = _commit_and_push(work, "refs/heads/main", message or f"Change {number}")
    return _pushed(repository, before, after)


def _pushed(repository: Path, before: str, after: str) -> Answer:
    payload = push_payload(repository, "refs/heads/main", before, after)
    return {"ref": "refs/heads/main", "before": before, "after": after, "payload": payload}


def pull_request(
    folder: Path,
    number: int,
    *,
    files: Mapping[str, str] | None = None,
    message: str | None = None,
    synchronize: bool = False,
    association: str = "CONTRIBUTOR",
) -> Answer:
    """Pushes a commit to refs/pull/NUMBER/head: on top of main, or with `synchronize` on top of the pull request."""
    if number < 1:
        raise SampleError(f"{number} is no number of a pull request: they begin at 1")
    repository = sample_repository(folder)
    ref = f"refs/pull/{number}/head"
    before = ref_sha(repository, ref)
    if before is None and synchronize:
        raise SampleError(f"there is no pull request {number}: open it first, without --synchronize")
    if before is not None and not synchronize:
        raise SampleError(f"pull request {number} exists already: add to it with --synchronize, or take another number")
    base = git("rev-parse", "refs/heads/main", cwd=repository)
    with _checkout(repository, ref if synchronize else "refs/heads/main") as work:
        if files is None:
            name = f"changes/pull-{number}.md"
            path = work / name
            files = {name: (path.read_text(encoding="utf-8") if path.exists() else "") + "Proposed.\n"}
        _write(work, files)
        head = _commit_and_push(work, ref, message or f"Change of pull request {number}")
    # The title is that of the first commit, as it was when the pull request was opened.
    title = git("log", "--reverse", "--format=%s", f"{base}..{head}", cwd=repository).splitlines()[0]
    payload = pull_request_payload(
        repository, number, base=base, head=head, before=before, title=title, association=association
    )
    return {"number": number, "ref": ref, "head": head, "base": base, "before": before, "payload": payload}


def tag(folder: Path, name: str, *, revision: str = "main") -> Answer:
    """Pushes an annotated tag. Raises SampleError when the tag exists, or is not v and a version."""
    if not re.fullmatch(r"v\d+\.\d+(\.\d+)?[0-9A-Za-z.+-]*", name):
        raise SampleError(f"{name!r} is no release tag: expected vX.Y.Z, such as v1.2.3 or v1.2.3-rc1")
    repository = sample_repository(folder)
    if ref_sha(repository, f"refs/tags/{name}") is not None:
        raise SampleError(f"the tag {name} exists already")
    commit = ref_sha(repository, revision)
    if commit is None:
        raise SampleError(f"{revision!r} names no commit of {repository}")
    with _checkout(repository, "refs/heads/main") as work:
        git("fetch", "--quiet", "origin", commit, cwd=work)
        when = _commit_time(work, commit)
        git("tag", "--annotate", "--message", f"Release {name}", name, commit, cwd=work, when=when)
        git("push", "--quiet", "origin", f"refs/tags/{name}", cwd=work)
    tag_object = git("rev-parse", f"refs/tags/{name}", cwd=repository)
    payload = push_payload(repository, f"refs/tags/{name}", NO_COMMIT, tag_object)
    return {"tag": name, "ref": f"refs/tags/{name}", "commit": commit, "object": tag_object, "payload": payload}


def break_main(folder: Path, kind: str) -> Answer:
    """Pushes a commit to main that makes a stage fail; `kind` is one of BREAKAGES."""
    if kind not in BREAKAGES:
        raise SampleError(f"{kind!r} is no way to break main: expected one of {', '.join(BREAKAGES)}")
    repository = sample_repository(folder)
    with _checkout(repository, "refs/heads/main") as work:
        before = git("rev-parse", "HEAD", cwd=work)
        if kind == "missing-submodule":
            git("update-index", "--cacheinfo", f"160000,{MISSING_COMMIT},{SUBMODULE}", cwd=work)
        _write(work, BREAKAGES[kind])
        after = _commit_and_push(work, "refs/heads/main", f"Break main: {kind}\n\n{TRAILER}: {kind}")
    return {"kind": kind, **_pushed(repository, before, after)}


def fix_main(folder: Path) -> Answer:
    """Pushes a commit to main that takes back every `break` that is still there."""
    repository = sample_repository(folder)
    with _checkout(repository, "refs/heads/main") as work:
        before = git("rev-parse", "HEAD", cwd=work)
        broken: list[tuple[str, str]] = []
        log = git("log", "--first-parent", f"--format=%H %(trailers:key={TRAILER},valueonly,separator=%x2C)", cwd=work)
        for sha, _, kind in (line.partition(" ") for line in log.splitlines()):
            if kind == "fixed":
                break
            if kind:
                broken.append((sha, kind))
        if not broken:
            raise SampleError("main is not broken: there is nothing to fix")
        for sha, _ in broken:
            git("revert", "--no-commit", sha, cwd=work)
        kinds = [kind for _, kind in broken]
        after = _commit_and_push(work, "refs/heads/main", f"Fix main: {', '.join(kinds)}\n\n{TRAILER}: fixed")
    return {"kinds": kinds, **_pushed(repository, before, after)}


# --- The command ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="repository.py", description="Make real git repositories of the sample project and play its developer."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, changes: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("folder", type=Path, metavar="FOLDER", help="where sample.git and kernels.git are")
        if changes:
            added.add_argument("--file", metavar="PATH", help="the file to write, inside the repository")
            added.add_argument("--content", metavar="TEXT", help="what to write into it")
            added.add_argument("--message", metavar="M", help="the commit's message")
        return added

    create_command = command("create", "make both repositories")
    create_command.add_argument("--if-missing", action="store_true", help="keep repositories that exist")
    command("push", "push a commit to main", changes=True)
    pull = command("pull-request", "open a pull request, or add to it", changes=True)
    pull.add_argument("number", type=int, metavar="NUMBER")
    pull.add_argument("--synchronize", action="store_true", help="add a commit to the pull request that exists")
    pull.add_argument("--association", choices=ASSOCIATIONS, default="CONTRIBUTOR", help="who proposes it")
    tagged = command("tag", "push an annotated tag")
    tagged.add_argument("name", metavar="vX.Y.Z")
    tagged.add_argument("--rev", default="main", help="what to tag (main)")
    command("break", "make main fail, for a negative control").add_argument("kind", choices=tuple(BREAKAGES))
    command("fix", "take back every break that is still there")
    return parser


def _answer(options: argparse.Namespace) -> Answer:
    folder: Path = options.folder
    if options.command == "create":
        return create(folder, if_missing=options.if_missing)
    if options.command == "tag":
        return tag(folder, options.name, revision=options.rev)
    if options.command == "break":
        return break_main(folder, options.kind)
    if options.command == "fix":
        return fix_main(folder)
    if (options.file is None) != (options.content is None):
        raise SampleError("--file and --content belong together")
    files = None if options.file is None else {options.file: options.content}
    if options.command == "push":
        return push(folder, files=files, message=options.message)
    return pull_request(
        folder,
        options.number,
        files=files,
        message=options.message,
        synchronize=options.synchronize,
        association=options.association,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command: prints the answer as JSON; 1 and a sentence on the error output when that is impossible."""
    try:
        answer = _answer(_parser().parse_args(arguments))
    except (SampleError, OSError) as error:
        print(f"repository.py: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
