"""``ci/bench``: what its figures come to, and what it prints."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from master.bench import __main__ as command
from master.bench import artifacts, caches, leases, throughput
from master.bench.figures import Measured, Round, as_json, ratio
from master.bench.stock import BARE, FILE, IDLE, MULTIPLE, OURS, READ
from master.bench.throughput import Memory, Moved, Throughput


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


def moved(ours: float, bare: float, file: float, multiple: float) -> dict[str, Moved]:
    seconds = {OURS: ours, BARE: bare, FILE: file, MULTIPLE: multiple, IDLE: 3, READ: ours}
    memory = {"master": Memory(before=130 << 20, peak=131 << 20), "artifacts": Memory(before=90 << 20, peak=95 << 20)}
    answers = {IDLE: [0.002] * 18 + [0.004] * 2, READ: [0.003] * 18 + [0.012] * 2}
    return {
        what: Moved(seconds=value, cpu=value / 2, lag=value / 100, answers=answers.get(what, ()), memory=memory)
        for what, value in seconds.items()
    }


THROUGHPUT = Throughput(
    size=500_000_000,
    rounds=[moved(1, 0.8, 6, 14), moved(2, 1, 10, 30), moved(4, 4, 4, 4)],
    hash_rate=1.8e9,
    hash_name="hashlib, OpenSSL",
)


def test_each_ratio_is_the_median_of_rounds_against_their_own() -> None:
    assert [THROUGHPUT.ratio(other) for other in (BARE, FILE, MULTIPLE)] == [0.8, 5, 14]
    assert THROUGHPUT.rate(OURS) == 250
    assert THROUGHPUT.lag(MULTIPLE) == 300
    assert THROUGHPUT.cpu(OURS) == 1


def test_the_page_is_compared_to_itself_on_an_idle_master() -> None:
    assert [THROUGHPUT.page(IDLE, share) for share in throughput.SHARES] == [2, 4]
    assert [THROUGHPUT.page(READ, share) for share in throughput.SHARES] == [3, 12]
    assert math.isnan(THROUGHPUT.page(OURS, 0.5))  # nobody read it then


def test_memory_is_that_of_the_round_that_took_most() -> None:
    grown = moved(1, 1, 1, 1)
    grown[OURS] = replace(grown[OURS], memory={"artifacts": Memory(before=95 << 20, peak=195 << 20)})
    found = replace(THROUGHPUT, rounds=[moved(1, 1, 1, 1), grown, moved(1, 1, 1, 1)])
    assert found.memory("artifacts").peak == 195 << 20


def test_the_artifacts_document_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(artifacts, "measure", lambda rounds, size, said: THROUGHPUT)
    assert command.main(["artifacts", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["times_as_fast_as"] == {FILE: 5.0, MULTIPLE: 14.0, BARE: 0.8}
    assert found["goals"] == dict(throughput.GOALS)
    assert found["memory"]["artifacts"] == {"before": 90 << 20, "peak": 95 << 20}
    assert found["answers_of_the_page_ms"] == {IDLE: {"p50": 2.0, "p95": 4.0}, READ: {"p50": 3.0, "p95": 12.0}}
    assert found["machine"]["cpu"]


def test_the_artifacts_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(artifacts, "measure", lambda rounds, size, said: THROUGHPUT)
    assert command.main(["artifacts"]) == 0
    said = capsys.readouterr().out
    assert "14.00 times" in " ".join(said.split())
    assert "memory of the artifact process in our uploads: 90 MiB, at most 95 MiB" in said
    assert "memory of the master in our uploads: 130 MiB, at most 131 MiB" in said
    (times,) = [line.split("│") for line in said.splitlines() if "times idle's" in line]
    assert [cell.strip() for cell in times[-3:-1]] == ["1.50", "3.00"]


@pytest.mark.slow
def test_a_small_file_is_moved_in_all_four_ways() -> None:
    found = artifacts.measure(1, 2_000_000, lambda _: None)
    assert set(found.rounds[0]) == {OURS, BARE, FILE, MULTIPLE, IDLE, READ}
    for what, one in found.rounds[0].items():
        assert one.seconds > 0
        assert bool(one.answers) == (what in (IDLE, READ))
    assert found.memory("master").before > 10 << 20
    assert found.memory("artifacts").before > 10 << 20
    assert found.cpu(FILE) > 0


def test_what_was_not_moved_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(artifacts, "NAME", "a worker that the master does not know")
    monkeypatch.setattr(artifacts, "_PATIENCE_S", 3)
    assert command.main(["artifacts", "--megabytes", "1"]) != 0
    assert "gave up waiting for the file to be moved" in capsys.readouterr().err


# -- leases


def test_a_large_fleet_is_compared_with_a_small_one(capsys: pytest.CaptureFixture[str]) -> None:
    found = leases.measure(2, lambda _: None, small=2, large=4)
    assert found.workers == 2
    assert all(len(fleet.builds) == leases.BUILDS * fleet.workers for fleet in (*found.small, *found.large))
    command.print_leases(found, {"cpus": 2}, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["benchmark"], told["workers_ratio"], len(told["rounds"])) == ("leases", 2.0, 2)
    assert told["decision_ratio"] == round(found.decision, 2) > 0
    assert set(told["rounds"][0]["large"]["wait_over_build"]) == {"tag", "push", "pull_request"}
    command.print_leases(found, {}, as_json=False)
    assert "2 times the workers: a decision takes" in capsys.readouterr().out


def test_builds_that_are_overtaken_are_counted() -> None:
    first = leases.Simulation(2, 1, builds=1).run().builds[0]
    later = replace(first, came=first.came + 1)
    assert (leases.overtaken([first, later]), leases.overtaken([later, first])) == (0, 1)
    assert leases.overtaken([later, replace(first, builder="another")]) == 0
