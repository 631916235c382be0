"""A trusted run's stage with permissions gets a token for exactly these, and nobody else gets to see it."""

from __future__ import annotations

import base64
import re

import pytest
from github_double import GitHubDouble
from pipelines import commands, pipeline
from rig import MakeRig, Rig
from test_stage_secrets import everything_said

#: Leaves the token and all command lines where the test finds them, and says the token in the log.
SEE = (
    'umask 077; printf %s "$GITHUB_TOKEN" > {rig}/token; cat /proc/[0-9]*/cmdline > {rig}/commands 2>/dev/null;'
    ' echo it is "$GITHUB_TOKEN" here'
)
BLIND = 'test -z "${GITHUB_TOKEN+set}${GIT_CONFIG_COUNT+set}"'


def secret(rig: Rig, name: str, text: str) -> None:
    file = rig.site.basedir / "secrets" / name
    file.touch(mode=0o600)
    file.write_text(text)


@pytest.mark.slow
def test_a_token_reaches_its_stage_in_trusted_runs_and_nothing_else(make_rig: MakeRig, github: GitHubDouble) -> None:
    fails = 'echo "error: push with $GITHUB_TOKEN was rejected"; exit 1'
    trusted = {"when": ["push"], "publishes": True, "permissions": {"packages": "write"}}
    rig = make_rig(
        pipeline(
            stages__image=commands("image", **trusted) | {"commands": [SEE]},
            stages__fails=commands("fails", continue_on_error=True, **trusted) | {"commands": [fails]},
            stages__reads=commands("reads", when=["pull_request"], permissions={"contents": "read"})
            | {"commands": [BLIND]},
            stages__blind=commands("blind") | {"commands": [BLIND]},
        )
        | {
            "github": {
                "repository": "acme/sample",
                "access": "app",
                "app_id": github.app_id,
                "api": github.url,
                "webhook": False,
            }
        }
    )
    secret(rig, "github-app-key", github.app_key)
    rig.start()
    run = rig.ended(rig.push())
    states = rig.states(run["id"])
    assert (states["image"], states["blind"], states["fails"]) == ("success", "success", "warnings"), rig.state()
    token = (rig.folder / "token").read_text()
    assert github.state()["tokens"][token]["permissions"] == {
        "contents": "read",
        "metadata": "read",
        "packages": "write",
    }
    log = everything_said(rig, rig.attempt(run["id"], "image")["build_id"])
    assert "it is <GITHUB_TOKEN contents:read packages:write> here" in log, log
    assert "GITHUB_TOKEN contents:read" in rig.attempt(run["id"], "fails")["reason"]
    assert re.search(rb"mlc-ci-worker\0limit", (rig.folder / "commands").read_bytes()), "no command line was looked at"

    pushed = rig.pull_request(3)
    held = rig.run(pushed)
    github.pull(3, pushed.head)  # from here on, so that the run's base is what the repository says
    assert rig.order(f"runs/{held['id']}/approve", head=pushed.head).status_code == 200
    pull = rig.ended(pushed)
    states = rig.states(pull["id"])
    assert (states["reads"], states["blind"]) == ("success", "success"), rig.state()
    rig.wait(lambda: not rig.rows("select 1 from outbox where version > sent"), "everything told to GitHub")
    rig.stop()
    told = [repr(each["body"]) for each in github.requests()]
    files = [rig.site.basedir / "state.sqlite", rig.site.basedir / "twistd.log", rig.folder / "commands"]
    for name, data in [*((file.name, file.read_bytes()) for file in files), ("GitHub", "".join(told).encode())]:
        for kind in (token.encode(), base64.b64encode(f"x-access-token:{token}".encode())):
            assert kind not in data, f"the token is in {name}"
    for file in rig.site.folder.glob("logs/*"):
        assert token.encode() not in file.read_bytes(), f"the token is in {file.name}"


@pytest.mark.slow
def test_a_stage_whose_token_github_does_not_give_says_so(make_rig: MakeRig, github: GitHubDouble) -> None:
    github.forget(granted={"metadata": "read", "contents": "read", "statuses": "write", "pull_requests": "write"})
    stage = commands("image", when=["push"], publishes=True, permissions={"packages": "write"})
    settings = {"repository": "acme/sample", "access": "app", "app_id": github.app_id, "api": github.url}
    once = {"scheduling": {"no_worker": "skip", "infrastructure_retries": 0}}
    rig = make_rig(pipeline(stages__image=stage) | once | {"github": {**settings, "webhook": False}})
    secret(rig, "github-app-key", github.app_key)
    rig.start()
    run = rig.ended(rig.push())
    attempt = rig.attempt(run["id"], "image")
    assert attempt["state"] == "infrastructure"
    assert "packages: write" in attempt["reason"], attempt["reason"]
