"""What pytest reports of a test stage reaches Buildbot's test results and the run's page."""

from __future__ import annotations

import pytest
from pipelines import pipeline
from rig import MakeRig

SUITE = """
import pytest

def test_good(): pass

def test_bad(): assert 1 == 2, "one is not two"

@pytest.mark.skip(reason="needs a model")
def test_skipped(): pass
"""


@pytest.mark.slow
def test_counts_and_failed_tests_are_kept(make_rig: MakeRig) -> None:
    rig = make_rig(
        pipeline(
            stages__test={
                "uses": "test",
                "pytest": {"paths": ["suite"], "minimum_passed": 1},
                "requires": {"os": "linux"},
            }
        )
    )
    del rig.tables["stages"]["test"]["commands"]
    rig.configure(rig.tables)
    rig.start()
    run = rig.ended(rig.push(files={"suite/test_suite.py": SUITE}), seconds=120)
    attempt = rig.attempt(run["id"], "test")
    assert attempt["state"] == "warnings", rig.log()
    assert attempt["reason"].startswith("1 failed, 1 passed, 1 skipped")
    results = rig.rows("select n.name, r.value from test_results r join test_names n on n.id = r.test_nameid")
    assert {row["name"].rpartition(".")[2]: row["value"] for row in results} == {"test_good": "1", "test_bad": "0"}
    with rig.browser(login=False) as client:
        page = client.get(f"plugins/mlc_ci/api/runs/{run['id']}").json()
    (stage,) = [stage for stage in page["stages"] if stage["name"] == "test"]
    tests = stage["history"][0]["tests"]
    assert tests["counts"] == {"passed": 1, "failed": 1, "error": 0, "skipped": 1}
    assert [(case["name"].rpartition(".")[2], "one is not two" in case["message"]) for case in tests["failed"]] == [
        ("test_bad", True)
    ]
