"""The developer of the sample project (tests/sample_project/repository.py), with real git and no builds."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "sample_project" / "repository.py"


def load():
    spec = importlib.util.spec_from_file_location("sample_repository", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sample = load()


def git(*arguments, cwd):
    """git as a CI would call it: not through the module under test, and without the user's configuration."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="session")
def created_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("created")
    sample.create(folder)
    return folder


@pytest.fixture
def folder(created_once, tmp_path):
    return Path(shutil.copytree(created_once, tmp_path / "sample"))


@pytest.fixture
def bare(folder):
    return folder / "sample.git"


def test_a_recursive_clone_has_the_submodule_beside_it(folder, bare, tmp_path):
    git("clone", "--quiet", "--recursive", str(bare), str(tmp_path / "clone"), cwd=tmp_path)
    assert (tmp_path / "clone/3rdparty/kernels/CMakeLists.txt").is_file()
    assert (tmp_path / "clone/pyproject.toml").is_file()
    assert git("status", "--porcelain", cwd=tmp_path / "clone") == ""


def test_main_has_two_commits_and_the_first_is_tagged(bare):
    assert git("rev-list", "--count", "main", cwd=bare) == "2"
    assert git("describe", "--tags", "main~1", cwd=bare) == "v0.1.0"
    assert git("symbolic-ref", "HEAD", cwd=bare) == "refs/heads/main"


def test_the_same_calls_give_the_same_commits(folder, tmp_path):
    def play(where):
        created = sample.create(where)
        return (
            created["main"],
            sample.push(where)["after"],
            sample.pull_request(where, 1)["head"],
            sample.tag(where, "v9.9.9")["object"],
        )

    assert play(tmp_path / "one") == play(tmp_path / "two")


def test_the_users_configuration_is_neither_read_nor_written(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".config/git").mkdir(parents=True)
    broken = "[user]\n\tname = Somebody\n[commit]\n\tgpgSign = true\n[core]\n\thooksPath = /nowhere\n"
    (home / ".gitconfig").write_text(broken)
    (home / ".config/git/ignore").write_text("*\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    created = sample.create(tmp_path / "sample")
    monkeypatch.undo()
    assert created == {**sample.create(tmp_path / "sample", if_missing=True), "created": True}
    assert git("log", "-1", "--format=%an", cwd=created["repository"]) == "Sample Developer"
    assert "pyproject.toml" in git("ls-tree", "--name-only", "main", cwd=created["repository"])
    assert (home / ".gitconfig").read_text() == broken


def test_repositories_that_exist_are_kept(folder, bare):
    pushed = sample.push(folder)["after"]
    with pytest.raises(sample.SampleError, match="exists already"):
        sample.create(folder)
    kept = sample.create(folder, if_missing=True)
    assert (kept["main"], kept["created"]) == (pushed, False)


def test_what_a_killed_creation_left_is_replaced(folder, bare):
    bare.rename(folder / "gone")
    assert sample.create(folder)["created"]
    assert sorted(path.name for path in folder.iterdir()) == ["gone", "kernels.git", "sample.git"]


def test_a_push_moves_main_by_one_commit(folder, bare):
    pushed = sample.push(folder, files={"cpp/new.cc": "int x;\n"}, message="Add x")
    assert git("rev-parse", "main", "main~1", cwd=bare).split() == [pushed["after"], pushed["before"]]
    assert git("show", "main:cpp/new.cc", cwd=bare) == "int x;"
    payload = pushed["payload"]
    assert (payload["ref"], payload["after"]) == ("refs/heads/main", pushed["after"])
    assert [(c["id"], c["message"], c["added"]) for c in payload["commits"]] == [
        (pushed["after"], "Add x", ["cpp/new.cc"])
    ]


def test_pushing_again_and_again_is_always_a_change(folder, bare):
    assert len({sample.push(folder)["after"] for _ in range(3)}) == 3


def test_a_push_that_changes_nothing_is_refused(folder):
    sample.push(folder, files={"a.txt": "a"})
    with pytest.raises(sample.SampleError, match="nothing would change"):
        sample.push(folder, files={"a.txt": "a"})


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "a/../../outside", ".git/config", "."])
def test_a_path_outside_the_repository_is_refused(folder, path):
    with pytest.raises(sample.SampleError, match="not a path inside"):
        sample.push(folder, files={path: "x"})


def test_a_pull_request_is_a_ref_off_main_that_main_does_not_have(folder, bare):
    opened = sample.pull_request(folder, 7)
    assert git("rev-parse", "refs/pull/7/head", "refs/pull/7/head~1", cwd=bare).split() == [
        opened["head"],
        opened["base"],
    ]
    assert git("rev-parse", "main", cwd=bare) == opened["base"]


def test_the_event_of_a_pull_request_has_githubs_shape(folder, bare):
    opened = sample.pull_request(folder, 7, message="Propose")
    payload = opened["payload"]
    proposal = payload["pull_request"]
    assert (payload["action"], payload["number"], proposal["number"]) == ("opened", 7, 7)
    assert "before" not in payload
    assert (proposal["head"]["sha"], proposal["base"]["sha"]) == (opened["head"], opened["base"])
    assert (proposal["base"]["ref"], payload["repository"]["full_name"]) == ("main", "sample/sample")
    assert (proposal["title"], proposal["commits"], proposal["changed_files"]) == ("Propose", 1, 1)
    assert proposal["author_association"] == "CONTRIBUTOR"
    assert git("ls-remote", payload["repository"]["clone_url"], "refs/pull/7/head", cwd=bare).startswith(opened["head"])


@pytest.mark.parametrize(
    ("association", "head_repository", "fork"),
    [("MEMBER", "sample/sample", False), ("FIRST_TIME_CONTRIBUTOR", "contributor/sample", True)],
)
def test_who_is_not_trusted_proposes_from_a_fork(folder, association, head_repository, fork):
    proposal = sample.pull_request(folder, 1, association=association)["payload"]["pull_request"]
    assert (proposal["head"]["repo"]["full_name"], proposal["head"]["repo"]["fork"]) == (head_repository, fork)
    assert proposal["user"] == proposal["head"]["user"]


def test_synchronize_adds_to_the_pull_request_while_main_moves_on(folder):
    opened = sample.pull_request(folder, 7, message="First")
    moved = sample.push(folder)
    again = sample.pull_request(folder, 7, message="Second", synchronize=True)
    payload = again["payload"]
    assert (payload["action"], payload["before"], payload["after"]) == ("synchronize", opened["head"], again["head"])
    assert again["base"] == moved["after"]
    assert (payload["pull_request"]["commits"], payload["pull_request"]["title"]) == (2, "First")


def test_a_pull_request_is_opened_once_and_before_it_is_added_to(folder):
    with pytest.raises(sample.SampleError, match="open it first"):
        sample.pull_request(folder, 7, synchronize=True)
    sample.pull_request(folder, 7)
    with pytest.raises(sample.SampleError, match="exists already"):
        sample.pull_request(folder, 7)
    with pytest.raises(sample.SampleError, match="begin at 1"):
        sample.pull_request(folder, 0)


def test_a_commit_can_be_fetched_by_its_id(folder, bare, tmp_path):
    head = sample.pull_request(folder, 7)["head"]
    git("init", "--quiet", "work", cwd=tmp_path)
    git("fetch", "--quiet", "--depth=1", str(bare), head, cwd=tmp_path / "work")
    assert git("rev-parse", "FETCH_HEAD", cwd=tmp_path / "work") == head


def test_a_tag_is_annotated_and_its_event_names_the_tag_object(folder, bare):
    first = git("rev-parse", "main~1", cwd=bare)
    tagged = sample.tag(folder, "v1.2.3", revision="main~1")
    assert tagged["commit"] == first
    assert git("cat-file", "-t", tagged["object"], cwd=bare) == "tag"
    payload = tagged["payload"]
    assert (payload["ref"], payload["created"], payload["commits"]) == ("refs/tags/v1.2.3", True, [])
    assert (payload["after"], payload["head_commit"]["id"]) == (tagged["object"], first)


@pytest.mark.parametrize(("name", "reason"), [("latest", "no release tag"), ("v0.1.0", "exists already")])
def test_a_tag_that_cannot_be_is_refused(folder, name, reason):
    with pytest.raises(sample.SampleError, match=reason):
        sample.tag(folder, name)


def test_a_tag_on_nothing_is_refused(folder):
    with pytest.raises(sample.SampleError, match="names no commit"):
        sample.tag(folder, "v1.0.0", revision="no-such-branch")


@pytest.mark.parametrize("kind", sorted(sample.BREAKAGES))
def test_fix_takes_back_what_break_did(folder, bare, kind):
    before = git("rev-parse", "main^{tree}", cwd=bare)
    broken = sample.break_main(folder, kind)
    assert git("rev-parse", "main^{tree}", cwd=bare) != before
    assert broken["after"] == git("rev-parse", "main", cwd=bare)
    sample.push(folder, files={"kept.txt": "kept"})
    assert sample.fix_main(folder)["kinds"] == [kind]
    assert git("diff", "--name-only", before, "main", cwd=bare) == "kept.txt"
    with pytest.raises(sample.SampleError, match="not broken"):
        sample.fix_main(folder)


def test_the_missing_submodule_fails_the_clone(folder, bare, tmp_path):
    sample.break_main(folder, "missing-submodule")
    with pytest.raises(subprocess.CalledProcessError) as failure:
        git("clone", "--quiet", "--recursive", str(bare), str(tmp_path / "clone"), cwd=tmp_path)
    assert "deadbeef" in failure.value.stderr


def test_version_py_reads_the_tags(folder, bare, tmp_path):
    def version_at(revision, *, tags=True):
        work = tmp_path / "work"
        git("clone", "--quiet", *([] if tags else ["--no-tags"]), str(bare), str(work), cwd=tmp_path)
        git("checkout", "--quiet", revision, cwd=work)
        subprocess.run([sys.executable, "version.py"], cwd=work, check=True, capture_output=True)
        lines = (work / "pyproject.toml").read_text().splitlines()
        work.rename(tmp_path / f"work-{revision}-{tags}")
        return next(line for line in lines if line.startswith("version = "))

    sample.tag(folder, "v1.2.3-rc1", revision="main")
    assert version_at("v0.1.0") == 'version = "0.1.0"'
    assert version_at("v1.2.3-rc1") == 'version = "0.1.dev0"'
    sample.tag(folder, "v1.3.0", revision=sample.push(folder)["after"])
    sample.push(folder)
    sample.push(folder)
    assert version_at("main") == 'version = "1.3.1.dev2"'
    assert version_at("main", tags=False) == 'version = "0.1.dev0"'


def command(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_the_command_prints_json(tmp_path):
    assert json.loads(command("create", tmp_path).stdout)["tag"] == "v0.1.0"
    assert json.loads(command("push", tmp_path, "--file", "a", "--content", "b").stdout)["ref"] == "refs/heads/main"
    assert json.loads(command("pull-request", tmp_path, "3").stdout)["payload"]["action"] == "opened"
    assert json.loads(command("tag", tmp_path, "v1.0.0").stdout)["tag"] == "v1.0.0"
    assert json.loads(command("break", tmp_path, "failing-test").stdout)["kind"] == "failing-test"
    assert json.loads(command("fix", tmp_path).stdout)["kinds"] == ["failing-test"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("push", "{}"), "does not exist: make it with"),
        (("push", "{}", "--file", "a"), "belong together"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(tmp_path, arguments, reason):
    done = command(*(argument.format(tmp_path) for argument in arguments))
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1
