"""A stage's secrets reach its commands in trusted runs, and nothing else."""

from __future__ import annotations

import base64

import pytest
from pipelines import commands, pipeline
from rig import MakeRig, Rig

from master.settings import SettingsError

CANARY = "canary-9f81c3d27a"


def everything_said(rig: Rig, build_id: int) -> str:
    query = "select l.id from logs l join steps s on s.id = l.stepid where s.buildid = ? and l.name = 'stdio'"
    with rig.browser(login=False) as client:
        return "".join(client.get(f"api/v2/logs/{row['id']}/raw").text for row in rig.rows(query, build_id))


def test_a_secret_is_seen_by_its_stage_and_by_nobody_else(make_rig: MakeRig) -> None:
    see = 'test "$DEPLOY_KEY" = "$(cat {rig}/expected)"; echo it is "$DEPLOY_KEY" here'
    blind = 'test -z "${DEPLOY_KEY+set}"; ! env | grep -q canary'
    rig = make_rig(
        pipeline(
            stages__deploy=commands("deploy", when=["push"], publishes=True, secrets=["deploy-key"])
            | {"commands": [see]},
            stages__blind=commands("blind") | {"commands": [blind]},
        )
    )
    (rig.folder / "expected").write_text(CANARY)
    secret = rig.site.basedir / "secrets" / "deploy-key"
    secret.touch(mode=0o600)
    secret.write_text(CANARY + "\n")
    rig.start()
    run = rig.ended(rig.push())
    states = rig.states(run["id"])
    assert (states["deploy"], states["blind"]) == ("success", "success"), rig.state()
    assert rig.states(rig.ended(rig.pull_request(3))["id"])["blind"] == "success"
    log = everything_said(rig, rig.attempt(run["id"], "deploy")["build_id"])
    assert "it is <deploy-key> here" in log, log
    rig.stop()
    for file in (rig.site.basedir / "state.sqlite", rig.site.basedir / "twistd.log", *rig.site.folder.glob("logs/*")):
        data = file.read_bytes()
        assert CANARY.encode() not in data, f"the secret is in {file.name}"
        assert base64.b64encode(CANARY.encode()) not in data


def test_a_stage_with_secrets_that_a_pull_request_reaches_is_refused(make_rig: MakeRig) -> None:
    rig = make_rig(pipeline(stages__deploy=commands("deploy", publishes=True, secrets=["deploy-key"])))
    with pytest.raises(SettingsError, match="pull"):
        rig.site.settings  # noqa: B018
