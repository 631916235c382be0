"""``mlc-ci-worker checkout``: exactly the pinned commits, in a folder that lives on from build to build.

The folder is the worker's own: whatever an earlier build or a killed fetch left in it is repaired, or it is made
again. A pull request is merged here, from the pinned head and base, by a fixed identity at a fixed time: every
stage of a run gets the same merge commit.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from workers.errors import CodeError, InfrastructureError, ToolError, UsageError, of_os_error
from workers.git import Git, GitFailed, Kind, is_local, redacted
from workers.submodules import update_submodules

MARKER = "mlc-ci-checkout"  #: a file in .git: this folder may be cleaned and made again
PINNED = "refs/mlc-ci/pinned"
IDENTITY = ("mlc-ci", "mlc-ci@localhost")
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = false\n"
_LONGEST_DELAY = 60.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to check out, and where."""

    url: str
    head: str
    directory: Path
    base: str = ""  #: merged with ``head`` where given
    pull_request: int = 0
    ref: str = ""  #: asked for where the server does not give a commit by its name
    submodules: bool = False
    retries: int = 3  #: further attempts after a failure of the network
    retry_delay: float = 2.0  #: seconds before the first of them; doubles each time
    timeout: float = 1800.0  #: seconds for one git command


def checkout(request: Request) -> list[str]:
    """Does it, and returns the lines that say what is there now. Raises :class:`ToolError`."""
    recreated = False
    attempt = 0
    while True:
        reused = (request.directory / ".git").exists()
        try:
            with tempfile.TemporaryDirectory(prefix="mlc-ci-checkout-") as scratch:
                return _Checkout(request, Path(scratch)).run()
        except GitFailed as failure:
            if failure.kind is Kind.NETWORK and attempt < request.retries:
                delay = min(request.retry_delay * 2**attempt, _LONGEST_DELAY) * random.uniform(0.5, 1.5)  # noqa: S311
                attempt += 1
                print(f"{failure}: attempt {attempt} of {request.retries} follows in {delay:.1f} s", flush=True)
                time.sleep(delay)
            elif failure.kind is Kind.UNKNOWN and reused and not recreated:
                print(f"{failure}: making {request.directory} again", flush=True)
                recreated = True
                empty(request.directory)
            else:
                raise _judged(failure, request) from failure


def _judged(failure: GitFailed, request: Request) -> ToolError:
    where = redacted(request.url)
    if failure.kind is Kind.NETWORK:
        return InfrastructureError(f"{where} is unreachable: {failure.complaint}")
    if failure.kind in (Kind.ACCESS, Kind.NOT_FOUND):
        return InfrastructureError(f"{where} gives no access: {failure.complaint}")
    if failure.kind is Kind.HOST or (failure.kind is Kind.UNKNOWN and failure.command == "fetch"):
        return InfrastructureError(str(failure))
    return CodeError(str(failure))


class _Checkout:
    def __init__(self, request: Request, scratch: Path) -> None:
        self.request = request
        self.folder = request.directory
        self.git = Git(self.folder, local=is_local(request.url), scratch=scratch, timeout=request.timeout)

    def run(self) -> list[str]:
        self.prepare()
        self.fetch()
        commit = self.commit(self.request.head)
        if self.request.base:
            self.switch_to(self.commit(self.request.base))
            self.merge(commit)
        else:
            self.switch_to(commit)
        lines = [f"commit {self.git('rev-parse', 'HEAD')}", f"tree {self.git('rev-parse', 'HEAD^{tree}')}"]
        try:
            lines.append(f"describe {self.git('describe', '--tags')}")
        except GitFailed:
            lines.append("describe (no tag)")
        if self.request.submodules:
            for path, sha in update_submodules(self.git, self.folder):
                lines.append(f"submodule {sha} {path}")
        self.forget_other_pins()
        return lines

    def prepare(self) -> None:
        """A repository in the folder, without what a killed git or an earlier build left behind."""
        internal = self.folder / ".git"
        if not internal.exists() and self.folder.exists() and any(self.folder.iterdir()):
            raise UsageError(f"{self.folder} holds files and no checkout of ours: empty it, or name another folder")
        if internal.exists() and not (internal / MARKER).exists():
            raise UsageError(f"{self.folder} is a repository that mlc-ci did not make: name another folder")
        internal.mkdir(parents=True, exist_ok=True)
        (internal / MARKER).touch()
        remove_leftovers(internal)
        # Steps of earlier builds ran in here: what they configured must not reach this one.
        (internal / "config").write_text(_CONFIG, encoding="utf-8")
        for name in ("hooks", "info"):
            shutil.rmtree(internal / name, ignore_errors=True)
        self.git("init", "--quiet", "--template=")
        self.git("config", "remote.origin.url", self.request.url)  # what a submodule's relative URL is relative to

    def fetch(self) -> None:
        wanted = [sha for sha in (self.request.head, self.request.base) if sha]
        if missing := [sha for sha in wanted if not self.has(sha)]:
            try:
                self._fetch(*(f"+{sha}:{PINNED}/{sha}" for sha in missing))
            except GitFailed as failure:
                if failure.kind is not Kind.MISSING:
                    raise
                self.fetch_by_ref(missing)
        # Tags move and vanish; `git describe` has to see them as the server does now.
        self._fetch("--prune", "+refs/tags/*:refs/tags/*")

    def _fetch(self, *arguments: str) -> None:
        options = [argument for argument in arguments if argument.startswith("-")]
        refspecs = [argument for argument in arguments if not argument.startswith("-")]
        flags = ("--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--progress")
        self.git("fetch", *flags, *options, "--", self.request.url, *refspecs)

    def fetch_by_ref(self, missing: list[str]) -> None:
        """For servers that give no commit by its name: all branches, and the run's own ref."""
        ref = self.request.ref or (f"refs/pull/{self.request.pull_request}/head" if self.request.pull_request else "")
        self._fetch("--prune", "+refs/heads/*:refs/mlc-ci/heads/*")
        if ref:
            try:
                self._fetch(f"+{ref}:refs/mlc-ci/ref")
            except GitFailed as failure:
                if failure.kind is not Kind.MISSING:
                    raise
        for sha in missing:
            if not self.git.succeeds("rev-list", "--max-count=1", "--quiet", f"{sha}^{{commit}}", "--"):
                where = f" (nor is it on {ref})" if ref else ""
                raise CodeError(
                    f"commit {sha} is not in {redacted(self.request.url)}{where}: it was replaced by a forced push, or"
                    " never pushed"
                )
            self.git("update-ref", f"{PINNED}/{sha}", sha)

    def has(self, sha: str) -> bool:
        # Objects alone prove nothing (a killed fetch leaves some); the ref is written once all of them are there.
        return self.git.succeeds("rev-parse", "--verify", "--quiet", f"{PINNED}/{sha}^{{commit}}")

    def commit(self, sha: str) -> str:
        return self.git("rev-parse", "--verify", "--quiet", f"{PINNED}/{sha}^{{commit}}")

    def switch_to(self, commit: str) -> None:
        self.git("checkout", "--force", "--quiet", "--detach", commit)
        self.git("clean", "-ffdxq")

    def merge(self, head: str) -> None:
        request = self.request
        when = self.git("show", "--no-patch", "--format=%ct +0000", head)
        environment = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{role}_NAME": IDENTITY[0], f"GIT_{role}_EMAIL": IDENTITY[1]}
            environment[f"GIT_{role}_DATE"] = when
        what = f"pull request {request.pull_request}" if request.pull_request else request.head
        message = f"Merge {what} ({request.head}) into {request.base}"
        try:
            self.git("merge", "--no-ff", "--no-verify", "--quiet", "-m", message, head, environment=environment)
        except GitFailed as failure:
            if conflicts := sorted(set(filter(None, self.git("diff", "--name-only", "--diff-filter=U").splitlines()))):
                shown = ", ".join(conflicts[:20]) + (f" and {len(conflicts) - 20} more" if len(conflicts) > 20 else "")
                raise CodeError(
                    f"{what} does not merge into {request.base[:12]}: conflict in {shown}. Rebase it, or merge its base"
                ) from failure
            raise

    def forget_other_pins(self) -> None:
        ours = {f"{PINNED}/{sha}" for sha in (self.request.head, self.request.base) if sha}
        for ref in self.git("for-each-ref", "--format=%(refname)", PINNED).split():
            if ref not in ours:
                self.git("update-ref", "-d", ref)


def remove_leftovers(internal: Path) -> None:
    """Locks and half packs of a git that was killed. Only one build at a time works in a folder."""
    for name, below, files in os.walk(internal):
        folder = Path(name)
        if folder.name == "objects":
            below[:] = [name for name in below if name == "pack"]
        in_objects = "objects" in folder.relative_to(internal).parts
        for file in files:
            if file.endswith(".lock") or (in_objects and file.startswith(("tmp_", ".tmp-"))):
                (folder / file).unlink()


def empty(folder: Path) -> None:
    """Removes everything in the folder, its marker last, so that a kill in between leaves a folder that is ours."""
    internal = folder / ".git"
    outside = [entry for entry in folder.iterdir() if entry != internal]
    for entry in outside + [entry for entry in internal.iterdir() if entry.name != MARKER]:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="the repository: a URL without credentials, or a local path")
    parser.add_argument("--head", required=True, metavar="SHA", help="the commit to check out, or to merge")
    parser.add_argument("--base", default="", metavar="SHA", help="the commit to merge it into")
    parser.add_argument("--pull-request", type=int, default=0, metavar="N")
    parser.add_argument("--ref", default="", help="where the server has the commit, if it gives none by its name")
    parser.add_argument("--submodules", action="store_true", help="check out submodules too, recursively")
    parser.add_argument("--directory", type=Path, required=True, help="the folder, kept from build to build")
    parser.add_argument("--retries", type=int, default=3, help="further attempts when the network fails (default 3)")
    parser.add_argument("--retry-delay", type=float, default=2.0, metavar="SECONDS", help="before the first of them")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help="for one git command")


def main(options: argparse.Namespace) -> int:
    for name in ("head", "base"):
        sha = getattr(options, name)
        if (sha or name == "head") and not _SHA.fullmatch(sha):
            raise UsageError(f"--{name} {sha!r} is no full commit name (40 hexadecimal digits)")
    if options.url.startswith("-") or options.ref.startswith("-"):
        raise UsageError("--url and --ref must not start with a dash")
    if re.match(r"https?://[^/]*@", options.url, re.IGNORECASE) or re.match(r"[a-z+]+://[^/@]*:[^/@]*@", options.url):
        raise UsageError("--url holds credentials, which every user of this host could read: use a credential helper")
    request = Request(
        url=options.url,
        head=options.head,
        directory=Path(os.path.realpath(options.directory)),
        base=options.base,
        pull_request=options.pull_request,
        ref=options.ref,
        submodules=options.submodules,
        retries=options.retries,
        retry_delay=options.retry_delay,
        timeout=options.timeout,
    )
    try:
        lines = checkout(request)
    except FileNotFoundError as error:
        if error.filename == "git":
            raise InfrastructureError("git is not installed on this worker") from None
        raise of_os_error(error) from error
    except OSError as error:
        raise of_os_error(error) from error
    sys.stderr.flush()
    print("\n".join(lines), flush=True)
    return 0
