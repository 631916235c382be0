"""``ci/bench``: what its figures come to, and what it prints."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from master.bench import __main__ as command
from master.bench import caches
from master.bench.figures import Measured, Round, as_json, ratio


def properties(seconds: float, hits: int) -> dict[str, Any]:
    counts = {"ccache_hits": hits, "ccache_misses": 10 - hits, "sccache_hits": 3, "sccache_misses": 0}
    return {"wheel_seconds": seconds, **counts, "wheel": "x.whl"}


def one(cold: float, warm: float) -> Round:
    return Round(cold=Measured.of(properties(cold, 0)), warm=Measured.of(properties(warm, 10)))


ROUNDS = [one(20, 10), one(30, 10), one(90, 10)]


def test_the_ratio_is_the_median_of_neighbours() -> None:
    assert ratio(ROUNDS) == 3
    assert ratio(ROUNDS[:1]) == 2


def test_a_figure_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="sccache_misses"):
        Measured.of({name: value for name, value in properties(1, 1).items() if name != "sccache_misses"})


def test_the_document_for_programs() -> None:
    found = json.loads(json.dumps(as_json(ROUNDS, {"cpus": 2})))
    assert (found["benchmark"], found["machine"], found["cold_over_warm"]) == ("compiler-caches", {"cpus": 2}, 3)
    assert found["rounds"][0]["ratio"] == 2
    assert found["rounds"][0]["warm"]["ccache_hits"] == 10


def test_the_table() -> None:
    text = io.StringIO()
    command.print_table(Console(file=text, width=100), ROUNDS, {"cpus": 2, "load": 0.5})
    assert "10 of 10" in text.getvalue()
    assert "cold over warm, median of 3: 3.00" in text.getvalue()


@pytest.mark.parametrize("rounds", ["0", "-1", "x", "101"])
def test_rounds_are_within_reason(rounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(["--rounds", rounds])
    assert end.value.code == 2
    assert "1 … 100" in capsys.readouterr().err


def test_a_build_that_failed_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(*_: object) -> list[Round]:
        raise caches.NotMeasured("a build ended as failure: [no] such")

    monkeypatch.setattr(caches, "measure", measure)
    assert command.main(["--json"]) != 0
    said = capsys.readouterr()
    assert (said.out, "a build ended as failure: [no] such" in said.err) == ("", True)
