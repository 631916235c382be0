"""A stranger's pull request: what it waits for, what it can reach once approved, and all that it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from canary import of_folder, of_json, of_run, of_site, secrets_of, shown
from deliver import Sender, give_secret
from github_double import GitHubDouble
from pipelines import commands, effect, pipeline
from rig import Pushed, Rig, git, repository

pytestmark = pytest.mark.slow

KEY, TOKEN = "canary-deploy-9f81c3d27a", "github_pat_canary_41b9e07c55d2"
CALLERS = "canary-caller-60d2b7e914"  #: in the environment of whoever starts the site
MAIN = "refs/heads/main"

#: What a build can look for, left in a file and said in ways that hide it from whoever strikes secrets out of logs.
HUNT = """\
{ env; set; cat /proc/self/environ /proc/$PPID/environ; git config --list; ls -laR .. ; } > found.txt 2>&1
for p in /proc/[0-9]*; do  # every worker: master and site are in reach of it only where all have one user
    if tr '\\0' ' ' < $p/cmdline | grep -q 'mlc-ci-worker start'; then cat $p/environ; fi
done >> found.txt 2>&1
env | base64 -w0; echo
env | fold -w1
"""


class Stranger:
    """A site that GitHub tells of what strangers propose."""

    def __init__(self, rig: Rig, github: GitHubDouble) -> None:
        self.rig = rig
        self.github = github
        self.sender = Sender(rig)

    def push(self, files: Mapping[str, str]) -> Pushed:
        done = repository.push(self.rig.repositories, files=files)
        self.sender.send("push", done["payload"])
        return Pushed(kind="push", ref=MAIN, head=done["after"])

    def proposes(self, number: int, files: Mapping[str, str], *, again: bool = False, **told: str) -> dict[str, Any]:
        """A pull request, once it has its run; ``told``: what the stranger calls title, branch and self."""
        done = repository.pull_request(
            self.rig.repositories, number, files=files, synchronize=again, association="NONE"
        )
        self.github.pull(number, done["head"], association="NONE", files=sorted(files))
        pull = done["payload"]["pull_request"]
        pull["title"] = told.get("title", pull["title"])
        pull["user"]["login"] = told.get("login", pull["user"]["login"])
        pull["head"]["ref"] = told.get("branch", pull["head"]["ref"])
        pull["head"]["label"] = f"{pull['user']['login']}:{pull['head']['ref']}"
        self.sender.send("pull_request", done["payload"])
        return self.rig.run(Pushed(kind="pull_request", ref=done["ref"], head=done["head"]))

    def comments(self, number: int, text: str, by: str) -> str:
        """What became of a comment's delivery."""
        when = datetime.fromtimestamp(time.time() + 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        comment = {"id": 1, "body": text, "user": {"login": by, "id": 5}, "created_at": when, "updated_at": when}
        issue = {"number": number, "state": "open", "pull_request": {"url": f"{self.github.url}/pulls/{number}"}}
        payload = {"action": "created", "issue": issue, "comment": comment, "sender": {"login": by, "id": 5}}
        payload["repository"] = {"full_name": "sample/sample", "id": 1, "default_branch": "main"}
        delivery = self.sender.send("issue_comment", payload)
        query = "select outcome from deliveries where delivery = ? and state != 'new'"
        self.rig.wait(lambda: self.rig.rows(query, delivery), f"{text!r} was acted upon")
        return str(self.rig.rows(query, delivery)[0]["outcome"])

    def approves(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """The run, once it was approved and has ended."""
        assert self.rig.order(f"runs/{run['id']}/approve", head=run["head"]).status_code == 200
        return self.rig.run_ended(run["id"])

    def waits(self, run: Mapping[str, Any]) -> dict[str, str]:
        """The states of a held run, once all of it waits."""
        query = "select 1 from stage_attempts where run_id = ? and reason like 'waits for a maintainer%'"
        self.rig.wait(lambda: len(self.rig.rows(query, run["id"])) == 3, f"run {run['id']} is held")
        return self.rig.states(run["id"])

    def builders_of(self, run: Mapping[str, Any]) -> set[str]:
        """The workers that had any build of it; none for what the master itself does."""
        query = (
            "select distinct w.name from builds b join workers w on w.id = b.workerid join stage_attempts a"
            " on a.request_id = b.buildrequestid where a.run_id = ? and a.stage != 'summary'"
        )
        return {row["name"] for row in self.rig.rows(query, run["id"])}

    def steps_of(self, run: Mapping[str, Any]) -> list[tuple[str, str]]:
        query = (
            "select a.stage, s.name from steps s join stage_attempts a on a.build_id = s.buildid"
            " where a.run_id = ? order by a.stage, s.number"
        )
        return [(row["stage"], row["name"]) for row in self.rig.rows(query, run["id"])]


@pytest.fixture(scope="module")
def stranger(
    template: Path, tmp_path_factory: pytest.TempPathFactory, github_process: GitHubDouble
) -> Iterator[Stranger]:
    github_process.forget("sample/sample")
    github_process.personal_token(TOKEN, {"contents": "read", "statuses": "write", "pull_requests": "write"})
    github_process.person("boss", "maintain")
    github_process.person("passer-by", "read")
    own = {"repository": "sample/sample", "access": "token", "api": github_process.url}
    tables = pipeline(
        project={"poll_interval": 3600},
        stages__test={"commands": [effect("test"), "touch found.txt"], "artifacts": ["found.txt"]},
        stages__deploy=commands(
            "deploy", when=["push"], publishes=True, secrets=["deploy-key"], artifacts=["found.txt"]
        ),
    )
    for name in ("build-b", "release"):
        del tables["stages"][name]
    tables["stages"]["summary"] = {"needs": ["test", "build-a", "deploy"]}
    with pytest.MonkeyPatch.context() as caller:
        caller.setenv("CANARY_TOKEN", CALLERS)
        rig = Rig(tmp_path_factory.mktemp("strangers") / "rig", template, tables | {"github": own})
    assert rig.site.environment["CANARY_TOKEN"] == CALLERS
    for name, secret in (("deploy-key", KEY), ("github-token", TOKEN)):
        file = rig.site.basedir / "secrets" / name
        file.touch(mode=0o600)
        file.write_text(secret + "\n")
    give_secret(rig)
    try:
        rig.start()
        yield Stranger(rig, github_process)
    finally:
        rig.stop()


def test_it_is_held_and_a_push_to_it_is_held_again_also_over_a_kill(stranger: Stranger) -> None:
    rig = stranger.rig
    first = stranger.proposes(1, {"ci/test.sh": "echo one\n"})
    assert first["held"].startswith(
        f"waits for a maintainer to approve it (/ci ok {first['head'][:12]}): contributor is"
    )
    assert set(stranger.waits(first).values()) == {"pending", "skipped"}
    rig.kill("master")
    rig.start_master()
    assert stranger.waits(first)["test"] == "pending"
    second = stranger.proposes(1, {"ci/test.sh": "echo two\n"}, again=True)
    ended = rig.run_ended(first["id"])
    assert (ended["result"], ended["cancelled"]) == ("cancelled", f"superseded by run {second['id']}")
    stranger.waits(second)
    for run in (first, second):
        refused = rig.order(f"runs/{run['id']}/approve", head=first["head"])
        assert refused.status_code == 409, refused.text
    assert rig.order(f"runs/{first['id']}/repeat", stage="").status_code == 409
    assert stranger.builders_of(first) == stranger.builders_of(second) == set()
    assert not [line for line in rig.effects() if line[3] in (first["head"], second["head"])]
    assert stranger.approves(second)["result"] == "success"
    assert stranger.builders_of(second) == {"stranger"}
    assert f"approved by admin: commit {second['head']}" in rig.journal(second["id"])


def test_a_maintainers_comment_approves_the_commit_and_nobody_elses_does(stranger: Stranger) -> None:
    run = stranger.proposes(2, {"ci/test.sh": "echo two\n"})
    stranger.waits(run)
    assert "passer-by may not give orders here" in stranger.comments(2, f"/ci ok {run['head'][:12]}", "passer-by")
    assert "not understood" in stranger.comments(2, "/ci okay", "boss")
    assert "/ci ok by passer-by refused" in stranger.rig.journal(run["id"])[0]
    assert stranger.rig.rows("select held from runs where id = ?", run["id"])[0]["held"]
    assert "is approved by boss" in stranger.comments(2, f"/ci ok {run['head'][:12]}", "boss")
    assert stranger.rig.run_ended(run["id"])["result"] == "success"
    assert stranger.builders_of(run) == {"stranger"}


def test_no_secret_is_anywhere_in_reach_of_it_held_or_approved(stranger: Stranger) -> None:
    rig = stranger.rig
    run = stranger.proposes(3, {"ci/test.sh": HUNT, "ci/deploy.sh": HUNT})
    stranger.waits(run)
    secrets = secrets_of(rig, but={"worker-stranger"})
    assert {KEY, TOKEN} < set(secrets.values())
    secrets["the caller's"] = CALLERS
    assert shown(secrets, [*of_site(rig), *of_run(rig, run["id"])]) == {}
    assert stranger.approves(run)["result"] == "success"
    assert rig.attempt(run["id"], "deploy")["reason"] == "runs for push, and this is a pull request"
    told = [of_json("statuses", stranger.github.statuses(run["head"])), of_json("c", stranger.github.comments(3))]
    own = rig.site.folder / "workers" / "stranger"
    places = [*of_site(rig), *of_run(rig, run["id"]), *of_folder(own), *told]
    assert shown(secrets, places) == {}
    named = dict(places)
    [left] = [data for place, data in named.items() if place.startswith("artifact ") and place.endswith("found.txt")]
    assert b"NUM_THREADS=" in left, "it has looked around"
    assert b"MLC_CI_WORKER_SHED=" in left, "in its own worker, too"
    assert shown({"it": "NUM_THREADS="}, of_run(rig, run["id"])), "and has said so in what hides it"

    trusted = rig.ended(stranger.push({"ci/test.sh": HUNT, "ci/deploy.sh": HUNT}))
    assert trusted["result"] == "success"
    found = shown({"key": KEY}, of_run(rig, trusted["id"]))
    assert any(place.startswith("artifact ") for _, place in found), "a trusted build of that stage has it: it is found"
    assert {form.partition(" ")[0].strip(",") for forms in found.values() for form in forms} == {"plain", "base64"}
    assert not any("plain, split" in forms for forms in found.values()), "also one character a line, it is struck out"


def test_it_decides_nothing_of_what_the_master_runs(stranger: Stranger) -> None:
    """Stages, their commands and what they may are the settings' alone; its own files are what they are run on."""
    rig = stranger.rig
    plain = stranger.approves(stranger.proposes(4, {"changes/x.md": "x\n"}))
    touch = f"touch {rig.folder}/ran\n"
    workflow = f"on: pull_request_target\njobs: {{x: {{runs-on: self-hosted, steps: [{{run: '{touch.strip()}'}}]}}}}\n"
    settings = f'[stages.test]\nuses = "commands"\ncommands = ["{touch.strip()}"]\nsecrets = ["deploy-key"]\n'
    rewritten = stranger.approves(
        stranger.proposes(
            5,
            {
                **{f"ci/task/{name}": touch for name in ("build_lib.sh", "build_win.bat", "test_unittest.sh")},
                **{f".github/workflows/{name}.yml": workflow for name in ("ci", "mirror")},
                **dict.fromkeys(("mlc-ci.toml", "settings.toml", "ci/mlc-llm.toml"), settings),
                "master.cfg": f"import os; os.system({touch!r})\n",
                "sitecustomize.py": f"import os; os.system({touch!r})\n",
            },
        )
    )
    assert rewritten["result"] == "success"
    assert stranger.steps_of(rewritten) == stranger.steps_of(plain)
    assert rig.attempt(rewritten["id"], "deploy")["state"] == "skipped"
    assert not (rig.folder / "ran").exists()
    own = stranger.approves(stranger.proposes(6, {"ci/test.sh": touch}))
    assert own["result"] == "success"
    assert (rig.folder / "ran").exists(), "what the settings do run of it, runs"


HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "x; touch pwned; #",
    "x\n touch pwned\n",
    "x' ; touch pwned ; '",
    'x" & touch pwned & "',
    "| touch pwned",
    "%PATH% && touch pwned",
    "--upload-pack=touch pwned",
    "%(prop:trusted)s ${IFS} {workspace}",
)


def test_what_it_calls_itself_changes_nothing(stranger: Stranger) -> None:
    rig = stranger.rig
    names = {
        "title": "".join(HOSTILE),
        "login": "$(touch${IFS}pwned)",
        "branch": "$(touch${IFS}pwned);touch${IFS}pwned;%PATH%`touch${IFS}pwned`\nx",
    }
    files = {f"changes/{name.replace('/', '_')}": "x\n" for name in HOSTILE}
    run = stranger.approves(stranger.proposes(7, files, **names))
    assert run["result"] == "success"
    assert run["message"].startswith(HOSTILE[0])
    assert run["author"] == names["login"]
    assert not pwned(rig)


def test_a_branch_that_is_called_so_changes_nothing_either(stranger: Stranger) -> None:
    rig = stranger.rig
    names = ("$(touch${IFS}pwned)", "x;touch${IFS}pwned;", "`touch${IFS}pwned`", "%PATH%&touch${IFS}pwned", "a'b\"c")
    for name in names:
        git("update-ref", f"refs/heads/{name}", MAIN, cwd=rig.repositories / "sample.git")
        answer = rig.force(ref=f"refs/heads/{name}", stages=["test"], threads=0, publish=False, reason=HOSTILE[0])
        assert answer.status_code == 200, answer.text
    for name in names:
        [run] = rig.rows("select * from runs where ref = ?", f"refs/heads/{name}")
        assert rig.run_ended(run["id"])["result"] == "success"
        assert stranger.builders_of(run) == {"stranger"}
    assert not pwned(rig)
    (rig.site.folder / "workers" / "stranger" / "pwned").touch()
    assert pwned(rig), "it would have been seen"


def pwned(rig: Rig) -> list[Path]:
    """Files that a command which it was not to give has made."""
    return [path for path in (*rig.folder.rglob("*"), Path("pwned")) if path.name == "pwned" and path.exists()]
