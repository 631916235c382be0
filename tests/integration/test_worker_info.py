"""A build that fills its worker's info/ keeps no worker from attaching, nor from being asked what it has."""

from __future__ import annotations

import json

import pytest
from pipelines import commands, pipeline, workers
from rig import MakeRig

pytestmark = pytest.mark.slow

FILLS = """\
cd "$MLC_CI_WORKER_DIR/info"
head -c 900000 /dev/zero | tr '\\\\0' x > large
rm -f admin && mkdir admin
mkfifo pipe
"""


def test_a_worker_attaches_again_after_a_build_has_filled_its_info(make_rig: MakeRig) -> None:
    tables = pipeline(gpus={"probe_interval": "1s"}, workers=workers("reliable"))
    tables["stages"] = {"fill": commands("fill", requires={"os": "linux"}), "summary": {"needs": ["fill"]}}
    rig = make_rig(tables)
    rig.start()
    run_id = rig.run(rig.push({"ci/fill.sh": FILLS}))["id"]
    rig.wait_for_state(run_id, "fill", "success")
    info = rig.site.folder / "workers" / "reliable" / "info"
    rig.wait(lambda: not (info / "large").exists(), "the master has asked again")
    rig.wait_for_workers("reliable")
    rig.kill("reliable")
    for name in ("large", "admin"):
        (info / name).unlink(missing_ok=True)
    (info / "large").write_bytes(b"x" * 900_000)
    (info / "admin").mkdir()
    rig.site.start_worker("reliable")
    rig.wait_for_workers("reliable")
    (told,) = rig.rows("select info from workers where name = 'reliable'")
    assert "@" in json.loads(told["info"])["admin"]
    assert "large" not in json.loads(told["info"])
    again = rig.run(rig.push({"ci/fill.sh": "true\n"}))["id"]
    rig.wait_for_state(again, "fill", "success")
