"""What the master makes of a build's cache report: properties, the step's line, warnings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from buildbot.process.results import FAILURE, SUCCESS, WARNINGS
from buildbot.test.steps import ExpectGlob
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from test_steps_command import FRAME, StepCase

from master.settings_wheel import CacheSettings, WheelSettings
from steps.build_linux import CachedWheelCommand
from steps.caches import REPORT, CacheReport, Use, with_caches
from workers.caches import REPORT as WORKERS_REPORT

WHEEL = "x-1.0-py3-none-manylinux_2_28_x86_64.whl"
LINE = REPORT + json.dumps(
    {
        "seconds": 7.25,
        "ccache": {"hits": 22, "misses": 1, "version": "4.7.5"},
        "sccache": {"hits": 3, "misses": 0},
        "warnings": [],
    }
)


def test_master_and_worker_speak_of_the_same_line() -> None:
    assert REPORT == WORKERS_REPORT


def test_a_report_is_read() -> None:
    found = CacheReport.read(LINE)
    assert found
    assert dict(found.properties()) == {
        "wheel_seconds": 7.25,
        "ccache_hits": 22,
        "ccache_misses": 1,
        "ccache_hit_rate": 95.6,
        "sccache_hits": 3,
        "sccache_misses": 0,
        "sccache_hit_rate": 100,
    }
    assert found.summary() == ["ccache 22/23 (95.6 %)", "sccache 3/3 (100 %)"]
    assert list(found.unused()) == []


def test_a_rate_is_never_rounded_up_to_all() -> None:
    assert Use(hits=99999, misses=1).rate == 99.9
    assert Use(hits=0, misses=0).rate is None


GARBAGE = [
    "ninja: build stopped",
    REPORT,
    REPORT + "{",
    REPORT + "[]",
    REPORT + "{}",
    REPORT + '{"seconds": 1, "warnings": 3}',
    REPORT + '{"seconds": "1", "warnings": []}',
    REPORT + '{"seconds": NaN, "warnings": []}',
    REPORT + '{"seconds": Infinity, "warnings": []}',
    REPORT + '{"seconds": -1, "warnings": []}',
    REPORT + '{"seconds": 1, "warnings": [], "ccache": 1}',
    REPORT + '{"seconds": 1, "warnings": [], "ccache": {"hits": "1", "misses": 1}}',
    REPORT + '{"seconds": 1, "warnings": [], "ccache": {"hits": true, "misses": 1}}',
    REPORT + '{"seconds": 1, "warnings": [], "ccache": {"hits": -1, "misses": 1}}',
    REPORT + '{"seconds": 1, "warnings": [], "ccache": {"hits": 1e400, "misses": 1}}',
    REPORT + '{"seconds": 1, "warnings": [], "ccache": {"hits": 1' + "0" * 5000 + ', "misses": 1}}',
    REPORT + "[" * 100_000,
]


@pytest.mark.parametrize("line", GARBAGE)
def test_garbage_is_no_report(line: str) -> None:
    assert CacheReport.read(line) is None


@given(st.text())
def test_any_line_can_be_read(text: str) -> None:
    assert CacheReport.read(text) is None
    CacheReport.read(REPORT + text)


def test_warnings_are_kept_within_bounds() -> None:
    found = CacheReport.read(REPORT + json.dumps({"seconds": 1, "warnings": ["a\nb" + "x" * 1000] * 100}))
    assert found
    assert (len(found.warnings), len(found.warnings[0]), found.warnings[0][:3]) == (5, 300, "a b")


def test_the_settings_say_which_caches_and_how_large() -> None:
    build = ["pip", "wheel", "."]
    start = ["mlc-ci-worker", "caches"]
    assert with_caches(WheelSettings(package="x").caches, build) == [
        *start,
        "--ccache=5G",
        "--sccache=5G",
        "--",
        *build,
    ]
    assert with_caches(CacheSettings(ccache="off", sccache="500M"), build) == [*start, "--sccache=500M", "--", *build]
    assert with_caches(CacheSettings(ccache="off", sccache="off"), build) == build


@pytest.mark.parametrize("size", ["", "0", "0G", "5", "5 GB", "-1G", "5K", "1.5G", 5, True, "OFF", "5G\n", "٥G"])
def test_a_size_that_a_tool_reads_otherwise_is_refused(size: Any) -> None:
    with pytest.raises(ValidationError, match="is no size of a cache"):
        CacheSettings(ccache=size)


class TestCachedWheelCommand(StepCase):
    def expect(self, *lines: str, exit_code: int = 0) -> None:
        step = CachedWheelCommand(name="wheel", command=["pip", "wheel"], folder="dist", **FRAME.limits())
        self.with_step(step)
        commands = [self.shell(["pip", "wheel"]).stdout("".join(f"{line}\n" for line in lines)).exit(exit_code)]
        if exit_code == 0:
            commands.append(
                ExpectGlob(path="wkdir/dist/*.whl", log_environ=False).files([f"wkdir/dist/{WHEEL}"]).exit(0)
            )
        self.expect_commands(*commands)

    def test_what_the_caches_did_is_on_the_page(self) -> Any:
        forged = REPORT + json.dumps({"seconds": 1, "ccache": {"hits": 1, "misses": 0}, "warnings": []})
        self.expect(forged, "Successfully built", LINE)
        self.expect_outcome(SUCCESS, f"{WHEEL}; ccache 22/23 (95.6 %); sccache 3/3 (100 %)")
        for name, value in (("ccache_hits", 22), ("ccache_hit_rate", 95.6), ("sccache_misses", 0), ("wheel", WHEEL)):
            self.expect_property(name, value)
        self.expect_no_property("cache_warnings")
        return self.run_step()

    def test_a_worker_without_caches_warns(self) -> Any:
        warning = "ccache is not on this worker: apt-get install ccache"
        self.expect(REPORT + json.dumps({"seconds": 1, "sccache": {"hits": 0, "misses": 3}, "warnings": [warning]}))
        self.expect_outcome(WARNINGS, f"{WHEEL}; sccache 0/3 (0 %); {warning} (warnings)")
        self.expect_property("cache_warnings", [warning])
        self.expect_no_property("ccache_hits")
        return self.run_step()

    def test_a_cache_that_nobody_asked_warns(self) -> Any:
        self.expect(REPORT + json.dumps({"seconds": 1, "ccache": {"hits": 0, "misses": 0}, "warnings": []}))
        warning = "ccache was asked for nothing: does the project set CMAKE_<LANG>_COMPILER_LAUNCHER itself?"
        self.expect_outcome(WARNINGS, f"{WHEEL}; ccache no compilation; {warning} (warnings)")
        self.expect_property("ccache_hit_rate", None)
        return self.run_step()

    def test_a_build_that_failed_tells_its_numbers_too(self) -> Any:
        self.expect("a.cc:1:1: error: no", LINE, exit_code=1)
        self.expect_outcome(FAILURE, "wheel failed (code): a.cc:1:1: error: no")
        self.expect_property("ccache_misses", 1)
        return self.run_step()

    def test_without_a_report_nothing_is_claimed(self) -> Any:
        self.expect("Successfully built")
        self.expect_outcome(SUCCESS, WHEEL)
        self.expect_no_property("ccache_hits")
        return self.run_step()
