"""A repository elsewhere without ``[github]``: its pull requests are held, and page and terminal approve them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipelines import pipeline
from rig import MakeRig, Rig
from sites import free_port
from typer.testing import CliRunner

from master.cli import app

pytestmark = pytest.mark.slow


@pytest.fixture
def elsewhere(make_rig: MakeRig) -> Iterator[Rig]:
    """A site whose repository is served over git's own protocol."""
    tables = pipeline()
    rig: Rig = make_rig(tables)
    port = free_port()
    serve = ["git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"]
    serve += [f"--base-path={rig.repositories}", str(rig.repositories)]
    daemon = subprocess.Popen(serve, start_new_session=True)
    try:
        rig.configure(tables | {"project": {"repository": f"git://127.0.0.1:{port}/sample.git"}})
        rig.start()
        yield rig
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)  # git, and the daemon below it
        daemon.wait(10)


def test_they_wait_and_are_approved_on_the_page_or_at_a_terminal(elsewhere: Rig, tmp_path: Path) -> None:
    rig = elsewhere
    runs = [rig.run(rig.pull_request(number)) for number in (1, 2)]
    waiting = "select count(distinct run_id) n from stage_attempts where reason like 'waits for a maintainer%'"
    rig.wait(lambda: rig.rows(waiting)[0]["n"] == 2, "both are held")
    assert not [line for line in rig.effects() if line[3] in {run["head"] for run in runs}]

    with rig.browser(login=False) as page:
        refused = page.post(f"plugins/mlc_ci/api/runs/{runs[0]['id']}/approve", json={"head": runs[0]["head"]})
        assert refused.status_code == 403
    assert rig.order(f"runs/{runs[0]['id']}/approve", head=runs[0]["head"]).status_code == 200
    order = ["approve", str(runs[1]["id"]), "--folder", str(rig.site.folder)]
    done = CliRunner().invoke(app, order, input="y\n")
    assert done.exit_code == 0, done.output
    assert [rig.run_ended(run["id"])["result"] for run in runs] == ["success", "success"]


def test_what_is_pushed_to_its_default_branch_runs_at_once(elsewhere: Rig) -> None:
    assert elsewhere.ended(elsewhere.push())["result"] == "success"
