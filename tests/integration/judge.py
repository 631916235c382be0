"""Judges a finished site from outside: was every event run, each stage once, and is what it left right?

Reads the database's rows (ours and Buildbot's own), the artifact and release folders, git, and the lines that
commands left. Nothing is asked of the master, and nothing is taken from its word alone: an attempt that says
"success" must have a finished build, a line and files that say the same.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from buildbot.process.results import CANCELLED, EXCEPTION, FAILURE, RETRY, SUCCESS, WARNINGS
from pipelines import TRUST, WELL
from rig import Pushed, Rig, Row, StillWaiting, git

_STATES = {SUCCESS: "success", WARNINGS: "warnings", FAILURE: "failure", CANCELLED: "cancelled", EXCEPTION: "infra"}
_FINISHED = ("success", "warnings", "failure")
ARTIFACTS = {"build-a": "build_a-1.0-py3-none-any.whl", "build-b": "build_b-1.0-py3-none-any.whl"}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What must have become of one event. ``states`` are those of its stages that differ from all going well."""

    pushed: Pushed
    result: str = "success"
    or_cancelled: bool = False  #: a newer push may or may not have come in time to make it unwanted
    optional: bool = False  #: the poller may have seen only a newer push to the same ref
    states: Mapping[str, str] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)  #: of stages that were repeated on purpose
    acts_as: str = ""

    @property
    def all_states(self) -> dict[str, str]:
        return {**WELL[self.acts_as or self.pushed.kind], **self.states}


def superseded(pushed: Pushed, **states: str) -> Expected:
    """A pull request's run that a newer push made unwanted: only ``states`` are demanded of it."""
    return Expected(pushed=pushed, result="cancelled", states={name.replace("_", "-"): s for name, s in states.items()})


def settled(rig: Rig, expected: Sequence[Expected], *, seconds: float = 45.0) -> None:
    """Wait until all is quiet: each event has its run, each run has ended, no request is open. Judging comes after,
    so that running out of time is a finding like any other."""

    def quiet() -> bool:
        runs = rig.runs()
        known = {(run["kind"], run["ref"], run["head"]) for run in runs}
        wanted = {(e.pushed.kind, e.pushed.ref, e.pushed.head) for e in expected if not e.optional}
        ended = all(run["ended_at"] is not None for run in runs)
        return wanted <= known and ended and not rig.rows("select 1 from buildrequests where complete = 0")

    try:
        rig.wait(quiet, "all runs ended and no request is open", seconds=seconds)
    except StillWaiting:
        return


def judge(rig: Rig, expected: Sequence[Expected], *, others: bool = False) -> list[str]:
    """Everything that is wrong, in words; with ``others``, runs of further events are judged but not refused."""
    return list(_Judge(rig, expected, others=others).problems())


def assert_right(rig: Rig, expected: Sequence[Expected], note: str = "") -> None:
    """Raises ``AssertionError`` with all that the judge has found, and with the tables to see why."""
    if problems := judge(rig, expected):
        raise AssertionError("\n".join([note, *problems, "", rig.state()]))


class _Judge:
    def __init__(self, rig: Rig, expected: Sequence[Expected], *, others: bool) -> None:
        self.rig = rig
        self.expected = expected
        self.others = others
        self.runs = rig.runs()
        self.attempts = rig.rows("select * from stage_attempts order by id")
        self.by_external: dict[str, list[Row]] = {}
        query = (
            "select r.id, r.complete, s.external_idstring external, s.rebuilt_buildid rebuilt, n.name builder"
            " from buildrequests r join buildsets s on s.id = r.buildsetid join builders n on n.id = r.builderid"
        )
        self.requests = rig.rows(query)
        for request in self.requests:
            if request["rebuilt"] is None:
                self.by_external.setdefault(request["external"], []).append(request)
        self.effects = rig.effects()

    def problems(self) -> Iterator[str]:
        yield from self.events()
        for attempt in self.attempts:
            name = _external(attempt)
            yield from (f"{name}: {problem}" for problem in self.attempt(attempt, name))
        yield from self.foreign()
        yield from self.lines()
        yield from self.listed()
        yield from self.releases()

    # -- events and runs

    def events(self) -> Iterator[str]:
        found = Counter((run["kind"], run["ref"], run["head"]) for run in self.runs)
        wanted = {(e.pushed.kind, e.pushed.ref, e.pushed.head): e for e in self.expected}
        for key, times in found.items():
            if key not in wanted and not self.others:
                yield f"a run for {key}, which was no event"
            elif times > 1:
                yield f"{times} runs for {key}"
        for key, event in wanted.items():
            if key not in found and not event.optional:
                yield f"no run for {key}"
            for run in self.runs:
                if (run["kind"], run["ref"], run["head"]) == key:
                    yield from (f"run {run['id']} ({run['ref']}): {problem}" for problem in self.run(run, event))

    def run(self, run: Row, event: Expected) -> Iterator[str]:
        if run["ended_at"] is None:
            yield "has not ended"
        elif run["result"] != event.result and not (event.or_cancelled and run["result"] == "cancelled"):
            yield f"ended as {run['result']} ({run['result_reason']}), not as {event.result}"
        attempts = [a for a in self.attempts if a["run_id"] == run["id"]]
        numbers: dict[str, list[int]] = {}
        newest: dict[str, str] = {}
        for attempt in attempts:
            numbers.setdefault(attempt["stage"], []).append(attempt["number"])
            newest[attempt["stage"]] = attempt["state"]
        if run["cancelled"]:
            for stage, state in event.states.items():
                if newest.get(stage) != state:
                    yield f"stage {stage} ended as {newest.get(stage)}, not as {state}"
        elif newest != event.all_states:
            yield f"stages ended as {newest}, not as {event.all_states}"
        for stage, found in numbers.items():
            allowed = event.attempts.get(stage, 1)
            if found != list(range(1, allowed + 1)):
                yield f"stage {stage} has the attempts {found}, not {allowed}"

    # -- one attempt against Buildbot's rows

    def attempt(self, attempt: Row, name: str) -> Iterator[str]:
        requests = self.by_external.get(name, [])
        if len(requests) > 1:
            yield f"was handed to Buildbot {len(requests)} times"
        if [r["id"] for r in requests] != [attempt["request_id"]] and (requests or attempt["request_id"]):
            yield f"knows request {attempt['request_id']}, and Buildbot has {[r['id'] for r in requests]}"
        builds = [build for request in requests for build in self.rig.builds(request["id"])]
        finished = [b for b in builds if b["results"] not in (None, RETRY)]
        if unfinished := [b["id"] for b in builds if b["results"] is None]:
            yield f"builds {unfinished} have not ended"
        if attempt["state"] in _FINISHED:
            yield from self.accepted(attempt, builds, finished)
        elif attempt["state"] in ("pending", "queued", "running"):
            yield f"is still {attempt['state']}"
        elif any(b["results"] == SUCCESS for b in builds):
            yield f"is {attempt['state']}, and a build of it succeeded"
        for request in requests:
            if not request["complete"]:
                yield f"request {request['id']} is not complete"

    def accepted(self, attempt: Row, builds: Sequence[Row], finished: Sequence[Row]) -> Iterator[str]:
        if len(finished) != 1:
            yield f"has {len(finished)} finished builds"
        for build in finished:
            if builds[-1]["id"] != build["id"]:
                yield f"was run again after build {build['id']} had finished"
            if attempt["build_id"] != build["id"]:
                yield f"accepted build {attempt['build_id']}, and {build['id']} is the finished one"
            if _STATES.get(build["results"]) != attempt["state"]:
                yield f"is {attempt['state']}, and its build ended as {build['results']}"
        run = next(run for run in self.runs if run["id"] == attempt["run_id"])
        for build in builds:
            trust = TRUST.get(build["worker"])
            if trust and (trust == "trusted") != bool(run["trusted"]):
                yield f"ran on the {trust} worker {build['worker']}"
        if attempt["state"] == "success" and attempt["stage"] in ARTIFACTS:
            listed = self.rig.rows("select name from artifacts where attempt_id = ?", attempt["id"])
            if [row["name"] for row in listed] != [ARTIFACTS[attempt["stage"]]]:
                yield f"lists the artifacts {[row['name'] for row in listed]}"

    def foreign(self) -> Iterator[str]:
        planned = {_external(attempt) for attempt in self.attempts}
        for request in self.requests:
            if request["external"] not in planned and self.rig.builds(request["id"]):
                yield f"request {request['id']} ({request['external']}) was built, and nobody planned it"
            if request["rebuilt"] is not None and self.rig.builds(request["id"]):
                yield f"request {request['id']}, a rebuild of {request['external']}, was built past the graph"
            if not request["complete"] and request["rebuilt"] is not None:
                yield f"request {request['id']}, a rebuild, is not complete"

    # -- what commands left

    def lines(self) -> Iterator[str]:
        """Every success did its work, after every lost try, and nothing was done past an accepted success."""
        ends: dict[str, list[int]] = {}
        last: dict[str, int] = {}
        for what, stage, label, _head, worker in self.effects:
            name, _, build = label.partition(":")
            if what == "end":
                ends.setdefault(name, []).append(int(build))
            if int(build) < last.get(name, 0):
                yield f"{name}: build {build} was still at work while its retry was ({worker}, {stage})"
            last[name] = max(last.get(name, 0), int(build))
        for attempt in self.attempts:
            name = _external(attempt)
            if attempt["state"] not in _FINISHED or attempt["stage"] not in ("test", *ARTIFACTS):
                continue
            done = ends.get(name, [])
            if attempt["state"] == "success" and done.count(attempt["build_id"]) != 1:
                yield f"{name}: build {attempt['build_id']} left {done.count(attempt['build_id'])} lines at its end"
            if last.get(name, attempt["build_id"]) != attempt["build_id"]:
                yield f"{name}: build {last[name]} worked after the accepted build {attempt['build_id']}"
        heads = {str(run["id"]): run["head"] for run in self.runs if run["kind"] != "pull_request"}
        for _what, stage, label, head, _worker in self.effects:
            run_id = label.partition("/")[0]
            if heads.get(run_id, head) != head:
                yield f"run {run_id}: {stage} saw commit {head}, not {heads[run_id]}"

    # -- what is listed and published

    def listed(self) -> Iterator[str]:
        query = (
            "select f.*, a.state, a.build_id, a.run_id, a.stage, a.number, a.variant from artifacts f"
            " join stage_attempts a on a.id = f.attempt_id"
        )
        for row in self.rig.rows(query):
            if row["state"] not in ("success", "warnings"):
                yield f"{row['path']} is listed, and its attempt is {row['state']}"
            if f"/{row['build_id']}/" not in row["path"]:
                yield f"{row['path']} is listed for build {row['build_id']}"
            file = self.rig.site.basedir / "artifacts" / row["path"]
            if not file.is_file():
                yield f"{row['path']} is listed and not there"
            elif _sha256(file) != row["sha256"] or file.stat().st_size != row["size"]:
                yield f"{row['path']} is not what was accepted"

    def releases(self) -> Iterator[str]:
        folder = self.rig.site.basedir / "releases"
        found = {path.name for path in folder.iterdir()} if folder.exists() else set()
        wanted = {
            run["tag"]: run
            for run in self.runs
            if any(
                a["stage"] == "release" and a["state"] == "success" for a in self.attempts if a["run_id"] == run["id"]
            )
        }
        if found != set(wanted):
            yield f"the releases are {sorted(found)}, and runs say {sorted(wanted)}"
        for tag in found & set(wanted):
            yield from (f"release {tag}: {problem}" for problem in self.release(folder / tag, wanted[tag]))

    def release(self, public: Any, run: Row) -> Iterator[str]:
        query = (
            "select f.name, f.sha256 from artifacts f join stage_attempts a on a.id = f.attempt_id"
            " where a.run_id = ? and f.name like '%.whl'"
        )
        accepted = {row["name"]: row["sha256"] for row in self.rig.rows(query, run["id"])}
        sums = dict(reversed(line.split("  ")) for line in (public / "SHA256SUMS").read_text().splitlines())
        there = {path.name: _sha256(path) for path in public.glob("*.whl")}
        if not there == sums == accepted or set(there) != set(ARTIFACTS.values()):
            yield f"holds {there}, its sums say {sums}, and accepted was {accepted}"
        commit = git("rev-parse", f"refs/tags/{run['tag']}^{{commit}}", cwd=self.rig.repositories / "sample.git")
        if json.loads((public / "release.json").read_text())["commit"] != commit:
            yield "is not of its tag's commit"
        if not (public / "RELEASE_NOTES.md").is_file():
            yield "has no notes"


def release_identity(rig: Rig) -> dict[str, tuple[int, int]]:
    """What changes when a release is published again, by tag."""
    folder = rig.site.basedir / "releases"
    public = [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.exists() else []
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in public}


def all_well(pushed: Iterable[Pushed]) -> list[Expected]:
    return [Expected(pushed=each) for each in pushed]


def _external(attempt: Row) -> str:
    return f"{attempt['run_id']}/{attempt['stage']}/{attempt['variant'] or 'default'}/{attempt['number']}"


def _sha256(file: Any) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
