"""``mlc-ci-worker checkout`` with real git and real repositories."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.cli import main
from workers.git import Kind, is_local, kind_of, redacted

IDENTITY = {
    f"GIT_{role}_{what}": f"{what}@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull}
    command = ["git", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


class Repository:
    """A repository with a working tree, to be cloned from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet")

    def commit(self, message: str = "change", **files: str) -> str:
        for name, text in files.items():
            file = self.folder / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "--message", message)
        return git(self.folder, "rev-parse", "HEAD")

    def add_submodule(self, other: Repository, path: str) -> str:
        git(self.folder, "submodule", "--quiet", "add", str(other.folder), path)
        return self.commit(f"add {path}")


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "upstream")
    repository.commit("first", file="one\n")
    git(repository.folder, "tag", "v1.0.0")
    return repository


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "build"


def checkout(url: object, folder: Path, head: str, *more: str) -> int:
    quick = ("--retry-delay", "0.01", "--retries", "1")
    return main(["checkout", "--url", str(url), "--directory", str(folder), "--head", head, *quick, *more])


def head_of(repository: Repository) -> str:
    return git(repository.folder, "rev-parse", "HEAD")


def test_a_fresh_folder_gets_the_pinned_commit_and_says_so(
    upstream: Repository, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pinned = upstream.commit("second", file="two\n")
    upstream.commit("third", file="three\n")
    assert checkout(upstream.folder, folder, pinned) == 0
    assert (folder / "file").read_text(encoding="utf-8") == "two\n"
    said = capfd.readouterr().out.splitlines()
    assert f"commit {pinned}" in said
    assert f"tree {git(upstream.folder, 'rev-parse', pinned + '^{tree}')}" in said
    assert f"describe v1.0.0-1-g{pinned[:7]}" in said


def test_a_repository_without_tags_is_no_error(tmp_path: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    repository = Repository(tmp_path / "bare")
    assert checkout(repository.folder, folder, repository.commit(file="x")) == 0
    assert "describe (no tag)" in capfd.readouterr().out


def test_an_empty_folder_that_exists_is_used(upstream: Repository, folder: Path) -> None:
    folder.mkdir()
    assert checkout(upstream.folder, folder, head_of(upstream)) == 0


def test_what_an_earlier_build_left_is_cleaned(upstream: Repository, folder: Path) -> None:
    assert checkout(upstream.folder, folder, head_of(upstream)) == 0
    (folder / "file").write_text("changed", encoding="utf-8")
    (folder / "dist").mkdir()
    (folder / "dist" / "old.whl").touch()
    Repository(folder / "nested").commit(file="a repository of its own")
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "exclude").write_text("dist\n", encoding="utf-8")
    hook = folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch hooked\n", encoding="utf-8")
    hook.chmod(0o755)
    git(folder, "config", "core.hooksPath", str(hook.parent))
    assert checkout(upstream.folder, folder, head_of(upstream)) == 0
    assert sorted(entry.name for entry in folder.iterdir()) == [".git", "file"]
    assert (folder / "file").read_text(encoding="utf-8") == "one\n"


def test_a_second_checkout_is_quick_and_fetches_nothing_again(upstream: Repository, folder: Path) -> None:
    head = head_of(upstream)
    assert checkout(upstream.folder, folder, head) == 0
    started = time.monotonic()
    assert checkout(upstream.folder, folder, head) == 0
    assert time.monotonic() - started < 2.0
    assert git(folder, "for-each-ref", "--format=%(refname)", "refs/mlc-ci/pinned") == f"refs/mlc-ci/pinned/{head}"


def test_a_tag_that_moved_and_one_that_vanished_are_seen_as_the_server_has_them(
    upstream: Repository, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    git(upstream.folder, "tag", "v9.9.9")
    assert checkout(upstream.folder, folder, head_of(upstream)) == 0
    git(upstream.folder, "tag", "--delete", "v9.9.9")
    moved = upstream.commit("second", file="two\n")
    git(upstream.folder, "tag", "--force", "v1.0.0")
    capfd.readouterr()
    assert checkout(upstream.folder, folder, moved) == 0
    assert "describe v1.0.0\n" in capfd.readouterr().out
    assert git(folder, "tag") == "v1.0.0"


def test_an_annotated_tags_own_name_checks_out_its_commit(upstream: Repository, folder: Path) -> None:
    git(upstream.folder, "tag", "--annotate", "--message", "two", "v2.0.0")
    tag = git(upstream.folder, "rev-parse", "v2.0.0")
    assert tag != head_of(upstream)
    assert checkout(upstream.folder, folder, tag, "--ref", "refs/tags/v2.0.0") == 0
    assert git(folder, "rev-parse", "HEAD") == head_of(upstream)


# Pull requests


def pull_request(upstream: Repository, **files: str) -> str:
    """A commit that only ``refs/pull/7/head`` holds."""
    main_head = head_of(upstream)
    head = upstream.commit("of the pull request", **files)
    git(upstream.folder, "update-ref", "refs/pull/7/head", head)
    git(upstream.folder, "reset", "--hard", "--quiet", main_head)
    return head


def test_a_pull_request_is_merged_into_its_base_alike_everywhere(upstream: Repository, tmp_path: Path) -> None:
    head = pull_request(upstream, other="of the pull request\n")
    base = upstream.commit("meanwhile", file="meanwhile\n")
    merges = set()
    for name in ("a", "b"):
        folder = tmp_path / name
        assert checkout(upstream.folder, folder, head, "--base", base, "--pull-request", "7") == 0
        assert (folder / "file").read_text(encoding="utf-8") == "meanwhile\n"
        assert (folder / "other").exists()
        merges.add(git(folder, "log", "-1", "--format=%H %P %an %ae"))
    (merge,) = merges
    assert merge.split()[1:] == [base, head, "mlc-ci", "mlc-ci@localhost"]


def test_the_merge_heeds_no_configuration_of_the_host(
    upstream: Repository, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = pull_request(upstream, other="x")
    base = upstream.commit("meanwhile", file="meanwhile\n")
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = host\n[commit]\n\tgpgSign = true\n[merge]\n\tff = only\n", encoding="utf-8"
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(upstream.folder / ".git"))
    assert checkout(upstream.folder, folder, head, "--base", base, "--pull-request", "7") == 0


def test_a_conflict_names_the_files_and_is_the_codes_fault(
    upstream: Repository, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = pull_request(upstream, file="theirs\n")
    base = upstream.commit("meanwhile", file="ours\n")
    assert checkout(upstream.folder, folder, head, "--base", base, "--pull-request", "7") == 1
    assert f"error: pull request 7 does not merge into {base[:12]}: conflict in file." in capfd.readouterr().err
    # … and the folder is none the worse for it.
    assert checkout(upstream.folder, folder, base) == 0
    assert (folder / "file").read_text(encoding="utf-8") == "ours\n"


def test_unrelated_histories_are_the_codes_fault(upstream: Repository, folder: Path) -> None:
    git(upstream.folder, "checkout", "--quiet", "--orphan", "other")
    head = upstream.commit("unrelated", unrelated="x")
    git(upstream.folder, "update-ref", "refs/pull/7/head", head)
    git(upstream.folder, "checkout", "--quiet", "--force", "main")
    assert checkout(upstream.folder, folder, head, "--base", head_of(upstream), "--pull-request", "7") == 1


def test_a_head_that_is_in_its_base_already_is_no_error(upstream: Repository, folder: Path) -> None:
    head = head_of(upstream)
    base = upstream.commit("later", file="later\n")
    assert checkout(upstream.folder, folder, head, "--base", base, "--pull-request", "7") == 0
    assert git(folder, "rev-parse", "HEAD") == base


# Submodules


@pytest.fixture
def nested(tmp_path: Path, upstream: Repository) -> dict[str, Repository]:
    """upstream -> middle -> inner."""
    inner, middle = Repository(tmp_path / "inner"), Repository(tmp_path / "middle")
    inner.commit(deep="deep 1\n")
    middle.commit(text="middle\n")
    middle.add_submodule(inner, "3rdparty/inner")
    upstream.add_submodule(middle, "3rdparty/middle")
    return {"upstream": upstream, "middle": middle, "inner": inner}


def test_submodules_are_checked_out_recursively_and_listed(
    nested: dict[str, Repository], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    upstream = nested["upstream"]
    assert checkout(upstream.folder, folder, head_of(upstream), "--submodules") == 0
    assert (folder / "3rdparty/middle/3rdparty/inner/deep").read_text(encoding="utf-8") == "deep 1\n"
    said = capfd.readouterr().out
    assert f"submodule {head_of(nested['middle'])} 3rdparty/middle\n" in said
    assert f"submodule {head_of(nested['inner'])} 3rdparty/middle/3rdparty/inner\n" in said


def test_submodules_follow_the_commit_and_are_cleaned(nested: dict[str, Repository], folder: Path) -> None:
    upstream = nested["upstream"]
    before = head_of(upstream)
    assert checkout(upstream.folder, folder, before, "--submodules") == 0
    work = folder / "3rdparty/middle/3rdparty/inner"
    (work / "deep").write_text("changed", encoding="utf-8")
    (work / "built.o").touch()
    assert checkout(upstream.folder, folder, before, "--submodules") == 0
    assert [entry.name for entry in work.iterdir() if entry.name != ".git"] == ["deep"]
    git(upstream.folder, "rm", "--quiet", "--force", "3rdparty/middle")
    assert checkout(upstream.folder, folder, upstream.commit("without"), "--submodules") == 0
    assert not (folder / "3rdparty").exists()
    assert checkout(upstream.folder, folder, before, "--submodules") == 0
    assert (work / "deep").read_text(encoding="utf-8") == "deep 1\n"


def test_a_submodules_new_address_is_used(nested: dict[str, Repository], folder: Path, tmp_path: Path) -> None:
    upstream, middle, inner = nested["upstream"], nested["middle"], nested["inner"]
    assert checkout(upstream.folder, folder, head_of(upstream), "--submodules") == 0
    moved = tmp_path / "moved"
    inner.folder.rename(moved)
    inner.folder = moved
    newest = inner.commit(deep="deep 2\n")
    git(middle.folder, "config", "--file", ".gitmodules", "submodule.3rdparty/inner.url", str(moved))
    git(middle.folder, "submodule", "--quiet", "sync")
    git(middle.folder / "3rdparty/inner", "fetch", "--quiet")
    git(middle.folder / "3rdparty/inner", "checkout", "--quiet", newest)
    middle.commit("moved")
    git(upstream.folder / "3rdparty/middle", "pull", "--quiet")
    assert checkout(upstream.folder, folder, upstream.commit("newer middle"), "--submodules") == 0
    assert (folder / "3rdparty/middle/3rdparty/inner/deep").read_text(encoding="utf-8") == "deep 2\n"


def test_a_submodules_relative_address_is_relative_to_the_repository(
    nested: dict[str, Repository], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = point_submodule_at(nested["upstream"], f"../{nested['middle'].folder.name}")
    assert checkout(nested["upstream"].folder, folder, head, "--submodules") == 0
    assert f"submodule {head_of(nested['middle'])} 3rdparty/middle\n" in capfd.readouterr().out


def test_submodules_are_left_alone_where_not_asked_for(nested: dict[str, Repository], folder: Path) -> None:
    assert checkout(nested["upstream"].folder, folder, head_of(nested["upstream"])) == 0
    assert list((folder / "3rdparty/middle").iterdir()) == []


def pin(repository: Repository, path: str, sha: str) -> str:
    git(repository.folder, "update-index", "--add", "--cacheinfo", f"160000,{sha},{path}")
    git(repository.folder, "commit", "--quiet", "--message", f"pin {path}")
    return head_of(repository)


def test_a_submodule_pinned_to_a_missing_commit_is_the_codes_fault(
    nested: dict[str, Repository], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = pin(nested["upstream"], "3rdparty/middle", "1" * 40)
    assert checkout(nested["upstream"].folder, folder, head, "--submodules") == 1
    assert "did not contain " + "1" * 40 in capfd.readouterr().err


def test_a_gitlink_without_an_entry_in_gitmodules_is_the_codes_fault(
    upstream: Repository, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = pin(upstream, "broken/link", head_of(upstream))
    assert checkout(upstream.folder, folder, head, "--submodules") == 1
    assert "submodule broken/link is in the tree, but .gitmodules has no entry" in capfd.readouterr().err


def test_a_gitmodules_that_is_no_configuration_is_the_codes_fault(
    nested: dict[str, Repository], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    head = nested["upstream"].commit("broken", **{".gitmodules": "[submodule\n"})
    assert checkout(nested["upstream"].folder, folder, head, "--submodules") == 1
    assert ".gitmodules cannot be read" in capfd.readouterr().err


def point_submodule_at(repository: Repository, url: str) -> str:
    git(repository.folder, "config", "--file", ".gitmodules", "submodule.3rdparty/middle.url", url)
    return repository.commit("another address")


def test_a_submodules_unreachable_host_is_infrastructure(
    nested: dict[str, Repository], folder: Path, closed_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    head = point_submodule_at(nested["upstream"], f"git://127.0.0.1:{closed_port}/middle")
    assert checkout(nested["upstream"].folder, folder, head, "--submodules") == 75
    said = capfd.readouterr()
    assert "attempt 1 of 1 follows" in said.out
    assert "refused" in said.err


def test_a_submodules_repository_that_is_not_there_is_the_codes_fault(
    nested: dict[str, Repository], folder: Path, tmp_path: Path
) -> None:
    head = point_submodule_at(nested["upstream"], str(tmp_path / "nowhere"))
    assert checkout(nested["upstream"].folder, folder, head, "--submodules") == 1


# Where the network or the server fails


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as listener:  # bound and not listening: nobody else gets the port, nobody answers
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["git", "http"])
def test_an_unreachable_repository_is_retried_and_infrastructure(
    scheme: str, folder: Path, closed_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"{scheme}://127.0.0.1:{closed_port}/x.git"
    assert checkout(url, folder, "a" * 40) == 75
    said = capfd.readouterr()
    assert said.out.count("follows in") == 1
    assert f"error: {url} is unreachable" in said.err


def test_a_repository_that_is_not_there_is_infrastructure_and_not_retried(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert checkout(tmp_path / "nowhere", folder, "a" * 40) == 75
    said = capfd.readouterr()
    assert "follows in" not in said.out
    assert "gives no access" in said.err


def test_a_missing_commit_is_the_codes_fault(
    upstream: Repository, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert checkout(upstream.folder, folder, "a" * 40, "--ref", "refs/heads/main") == 1
    assert f"commit {'a' * 40} is not in " in capfd.readouterr().err


@pytest.mark.parametrize("sha", ["", "abc", "HEAD", "A" * 40, "a" * 41, "--upload-pack=x"])
def test_a_head_that_is_no_commit_name_is_a_usage_error(sha: str, upstream: Repository, folder: Path) -> None:
    assert main(["checkout", f"--url={upstream.folder}", f"--directory={folder}", f"--head={sha}"]) == 2


@pytest.mark.parametrize("url", ["https://user:secret@127.0.0.1/x", "https://token@127.0.0.1/x", "ssh://a:b@host/x"])
def test_credentials_in_the_address_are_refused(url: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert checkout(url, folder, "a" * 40) == 2
    assert "secret" not in capfd.readouterr().err


def test_a_server_that_gives_no_commit_by_its_name_is_asked_for_the_ref(upstream: Repository, folder: Path) -> None:
    # Protocol 2 gives every commit; version 0 refuses what no ref points at.
    hidden = upstream.commit("second", file="two\n")
    upstream.commit("newer", file="newer\n")
    git(folder.parent, "init", "--quiet", "--bare", "bare")
    with _daemon(upstream.folder) as url:
        proof = subprocess.run(
            ["git", "-c", "protocol.version=0", "fetch", url, hidden],
            cwd=folder.parent / "bare",
            check=False,
            capture_output=True,
            text=True,
        )
        assert "not our ref" in proof.stderr or "unadvertised object" in proof.stderr
        home = folder.parent / "home"
        home.mkdir()
        (home / ".gitconfig").write_text("[protocol]\n\tversion = 0\n", encoding="utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(home))
            assert checkout(url, folder, hidden, "--ref", "refs/heads/main") == 0
    assert git(folder, "rev-parse", "HEAD") == hidden


class _daemon:
    """``git daemon`` for one repository, on a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (self.folder / ".git" / "git-daemon-export-ok").touch()
        command = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", "--base-path=/"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        return f"git://127.0.0.1:{port}{self.folder}"

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_a_server_that_never_answers_runs_into_the_timeout(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/x"
        assert checkout(url, folder, "a" * 40, "--timeout", "0.5", "--retries", "0") == 75
    assert "timed out after 0.5 seconds" in capfd.readouterr().err


# Folders that something went wrong in


def break_nothing(folder: Path) -> None:
    pass


def leave_locks(folder: Path) -> None:
    for name in ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "refs/heads/x.lock", "shallow.lock"):
        (folder / ".git" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / ".git" / name).touch()
    (folder / ".git/objects/pack/tmp_pack_abc").write_bytes(b"half")


def corrupt_index(folder: Path) -> None:
    (folder / ".git/index").write_bytes(b"garbage")


def lose_head(folder: Path) -> None:
    (folder / ".git/HEAD").unlink()


def empty_config(folder: Path) -> None:
    (folder / ".git/config").write_text("[core", encoding="utf-8")


def lose_objects(folder: Path) -> None:
    shutil.rmtree(folder / ".git/objects")


def truncate_objects(folder: Path) -> None:
    for file in (folder / ".git/objects").rglob("*"):
        if file.is_file():
            file.chmod(0o644)
            file.write_bytes(b"")


def keep_only_the_marker(folder: Path) -> None:
    shutil.rmtree(folder)
    (folder / ".git").mkdir(parents=True)
    (folder / ".git/mlc-ci-checkout").touch()


def stop_in_a_merge(folder: Path) -> None:
    (folder / ".git/MERGE_HEAD").write_text(git(folder, "rev-parse", "HEAD") + "\n", encoding="utf-8")


def put_a_folder_where_a_file_is(folder: Path) -> None:
    (folder / "file").unlink()
    Repository(folder / "file").commit(x="y")


@pytest.mark.parametrize(
    "damage",
    [
        break_nothing,
        leave_locks,
        corrupt_index,
        lose_head,
        empty_config,
        lose_objects,
        truncate_objects,
        keep_only_the_marker,
        stop_in_a_merge,
        put_a_folder_where_a_file_is,
    ],
)
def test_a_damaged_folder_is_mended(damage: object, nested: dict[str, Repository], folder: Path) -> None:
    assert callable(damage)
    upstream = nested["upstream"]
    assert checkout(upstream.folder, folder, head_of(upstream), "--submodules") == 0
    damage(folder)
    newest = upstream.commit("newer", file="newer\n")
    assert checkout(upstream.folder, folder, newest, "--submodules") == 0
    assert git(folder, "rev-parse", "HEAD") == newest
    assert git(folder, "status", "--porcelain") == ""
    assert (folder / "3rdparty/middle/3rdparty/inner/deep").exists()


def test_a_damaged_submodule_is_mended(nested: dict[str, Repository], folder: Path) -> None:
    upstream = nested["upstream"]
    assert checkout(upstream.folder, folder, head_of(upstream), "--submodules") == 0
    (folder / ".git/modules/3rdparty/middle/HEAD").unlink()
    assert checkout(upstream.folder, folder, head_of(upstream), "--submodules") == 0
    assert (folder / "3rdparty/middle/3rdparty/inner/deep").exists()


@pytest.mark.parametrize("after", [0.005, 0.02, 0.05, 0.1, 0.2])
def test_a_checkout_killed_at_any_moment_is_mended(after: float, nested: dict[str, Repository], folder: Path) -> None:
    upstream = nested["upstream"]
    command = [sys.executable, "-m", "workers.cli", "checkout", "--url", str(upstream.folder), "--submodules"]
    command += ["--directory", str(folder), "--head", head_of(upstream)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while not (folder / ".git").exists() and time.monotonic() < until:
        time.sleep(0.001)
    threading.Event().wait(after)  # the moment of the kill is what is tried here
    os.killpg(process.pid, 9)
    process.wait()
    assert checkout(upstream.folder, folder, head_of(upstream), "--submodules") == 0
    assert git(folder, "status", "--porcelain") == ""


def test_a_folder_that_is_not_ours_is_never_touched(
    upstream: Repository, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "documents"
    mine.mkdir()
    (mine / "thesis").touch()
    assert checkout(upstream.folder, mine, head_of(upstream)) == 2
    other = Repository(tmp_path / "other")
    other.commit(work="of a week")
    (other.folder / "untracked").touch()
    assert checkout(upstream.folder, other.folder, head_of(upstream)) == 2
    assert (mine / "thesis").exists()
    assert (other.folder / "untracked").exists()


def test_a_broken_folder_inside_another_repository_leaves_that_alone(upstream: Repository) -> None:
    inner = upstream.folder / "build"
    head = head_of(upstream)
    assert checkout(upstream.folder, inner, head) == 0
    (upstream.folder / "untracked").touch()
    keep_only_the_marker(inner)
    assert checkout(upstream.folder, inner, head) == 0
    assert (upstream.folder / "untracked").exists()


def test_a_full_disk_is_infrastructure(
    upstream: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        head = upstream.commit("big", big=os.urandom(900_000).hex())
        assert checkout(upstream.folder, folder, head) == 75
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_repository_of_another_user_can_be_cloned_by_an_ordinary_one(upstream: Repository, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    work = Path("/tmp") / f"mlc-ci-test-{os.getpid()}"  # noqa: S108 - pytest's own folder is closed to others
    shutil.copytree(upstream.folder, work / "upstream")
    (work / "home").mkdir()
    shutil.chown(work / "home", "nobody")
    package = work / "lib" / "workers"
    shutil.copytree(Path(__file__).parents[2] / "workers", package)
    try:
        command = ["/usr/bin/python3", "-m", "workers.cli", "checkout", "--url", str(work / "upstream")]
        command += ["--head", head_of(upstream), "--directory", str(work / "home" / "build")]
        done = subprocess.run(
            command,
            check=False,
            user="nobody",
            group="nogroup",
            extra_groups=[],
            cwd=work / "home",
            env={"PATH": os.environ["PATH"], "HOME": str(work / "home"), "PYTHONPATH": str(work / "lib")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert (work / "home/build/file").exists()
    finally:
        shutil.rmtree(work)


# The words of git


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("fatal: unable to access 'https://x/': Could not resolve host: x", Kind.NETWORK),
        ("fatal: unable to access 'https://x/': Failed to connect to x port 443: Connection refused", Kind.NETWORK),
        ("error: RPC failed; curl 56 GnuTLS recv error (-54): Error in the pull function.", Kind.NETWORK),
        ("error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502", Kind.NETWORK),
        ("fatal: the remote end hung up unexpectedly", Kind.NETWORK),
        ("fatal: early EOF", Kind.NETWORK),
        ("ssh: connect to host x port 22: Connection timed out", Kind.NETWORK),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 429", Kind.NETWORK),
        ("fatal: write error: No space left on device\nfatal: early EOF", Kind.HOST),
        ("fatal: Unable to create '/x/index.lock': Permission denied", Kind.HOST),
        ("git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.", Kind.ACCESS),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", Kind.ACCESS),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", Kind.ACCESS),
        ("remote: Repository not found.\nfatal: repository 'https://x/y/' not found", Kind.NOT_FOUND),
        ("fatal: '/x' does not appear to be a git repository\nfatal: Could not read from remote", Kind.NOT_FOUND),
        ("fatal: remote error: upload-pack: not our ref 1\nfatal: the remote end hung up", Kind.MISSING),
        ("error: Server does not allow request for unadvertised object 1", Kind.MISSING),
        ("fatal: Fetched in submodule path 'a', but it did not contain 1.", Kind.MISSING),
        ("fatal: No url found for submodule path 'a' in .gitmodules", Kind.CONTENT),
        ("fatal: transport 'file' not allowed", Kind.CONTENT),
        ("fatal: something new", Kind.UNKNOWN),
        ("", Kind.UNKNOWN),
    ],
)
def test_each_failure_of_git_is_of_a_kind(said: str, kind: Kind) -> None:
    assert kind_of(said) is kind


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("/srv/x.git", True),
        ("../x", True),
        ("./a:b", True),
        ("file:///srv/x", True),
        ("FILE:///srv/x", True),
        ("https://x/y", False),
        ("git@host:x/y", False),
        ("host:x", False),
        ("ssh://host/x", False),
    ],
)
def test_only_paths_are_local(url: str, local: bool) -> None:
    assert is_local(url) is local


def test_credentials_that_git_prints_are_hidden() -> None:
    assert redacted("fatal: https://me:word@x/y failed") == "fatal: https://***@x/y failed"
