"""Runs and plans as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from master.plan import LiveWorker, Plan, waiting
from master.routing import listed
from workers.gpu.usage import told

_COLOURS = {
    "success": "green",
    "run": "green",
    "warnings": "yellow",
    "held": "yellow",
    "running": "cyan",
    "queued": "cyan",
    "failure": "red",
    "infrastructure": "red",
    "fail": "red",
    "blocked": "magenta",
    "skipped": "bright_black",
    "skip": "bright_black",
    "cancelled": "bright_black",
}


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, style=_COLOURS.get(name, ""))


def plan(console: Console, planned: Plan, fleet: Mapping[str, LiveWorker] | None) -> None:
    """What would run. ``fleet`` are the live workers, ``None`` when no master was asked."""
    if planned.ignored or planned.event is None:
        console.print(f"nothing would run: {planned.ignored}", markup=False)
        return
    trust = "trusted" if planned.trusted else "untrusted"
    publishes = "publishes" if planned.publish else "publishes nothing"
    console.print(f"{planned.event.kind} {planned.event.ref}: a run on {trust} workers; it {publishes}")
    if planned.held:
        console.print(f"it {planned.held}; once approved:", style="yellow", markup=False)
    table = Table("stage", "", "needs", "where, or why not", "publishes and leaves", box=None, pad_edge=False)
    for stage in planned.stages:
        name = f"{stage.stage} ({stage.variant})" if stage.variant else stage.stage
        where = stage.reason
        if stage.what == "run":
            where = waiting(stage, fleet) if fleet is not None else ", ".join(stage.workers) or "in the master"
        needs = ", ".join(listed(stage.requires))
        table.add_row(name, state(stage.what), needs, where, ", ".join(stage.artifacts))
    console.print(table)
    for stage in planned.stages:
        if stage.secrets or stage.permissions:
            granted = ", ".join(f"{scope}:{level}" for scope, level in stage.permissions.items())
            console.print(
                f"{stage.stage} sees secrets {', '.join(stage.secrets) or 'none'}; may {granted or 'nothing'}"
            )


def shortened(text: str, longest: int = 70) -> str:
    """A reason that may be a whole error message, cut to fit a list."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def waits_for_approval(run: Mapping[str, Any]) -> bool:
    """Whether nothing of a run, as the API tells it, starts before a maintainer has approved it."""
    return bool(run["live"] and run["held"] and not run["cancelled"])


def runs(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """A list of runs, as the API tells them."""
    if not found:
        console.print("no run yet: push a commit, or start one with mlc-ci run --ref main")
        return
    table = Table("run", "event", "ref", "commit", "state", "why", "commit message", box=None, pad_edge=False)
    for item in found:
        table.add_row(
            str(item["id"]),
            item["event"],
            item["ref"].removeprefix("refs/heads/").removeprefix("refs/tags/"),
            item["head"][:12],
            state(item["result"] or ("held" if waits_for_approval(item) else "running")),
            shortened(item["result_reason"] or item["cancelled"] or item["held"]),
            item.get("title", ""),
        )
    console.print(table)


def commit(console: Console, item: Mapping[str, Any]) -> None:
    """Whose commit a run is for, and which."""
    pull = f"pull request {item['pull_request']}" if item["pull_request"] else item["ref"]
    for line in (
        f"run {item['id']}: {pull} by {item['author'] or 'somebody'}",
        f"commit {item['head']}: {item['title'] or '(no message)'}",
        *([item["held"]] if waits_for_approval(item) else []),
    ):
        # a stranger's words must not write over what is asked about
        console.print("".join(c if c.isprintable() else " " for c in line), markup=False)


def run(console: Console, item: Mapping[str, Any]) -> None:
    """One run with its stages, their files and its journal."""
    runs(console, [item])
    console.print()
    console.print(stages(item["stages"]))
    for stage in item["stages"]:
        for file in files(stage):
            console.print(f"  {named(stage)}: {file['name']}  {file['size']} bytes  sha256 {file['sha256']}")
        for use in used(stage):
            console.print(f"  {named(stage)}: {told(use['gpu'], use)}", markup=False)
        for image in published(stage):
            console.print(f"  {named(stage)}: {image['repository']}@{image['digest']}  {', '.join(image['tags'])}")
            if image["kept"]:
                console.print(f"  {named(stage)}: {', '.join(image['kept'])} stayed with a newer commit")
    for note in item["journal"]:
        console.print(f"  note: {note['text']}")


def stages(found: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    """The stages of one run: state, reason, duration, artifacts."""
    table = Table("stage", "state", "seconds", "worker", "artifacts", "reason", box=None, pad_edge=False, title=title)
    table.title_justify = "left"
    for stage in found:
        took = duration(stage)
        seconds = "" if took is None else f"{took:.1f}"
        names = ", ".join(file["name"] for file in files(stage))
        table.add_row(named(stage), state(stage["state"]), seconds, stage["worker"], names, stage["reason"])
    return table


def named(stage: Mapping[str, Any]) -> str:
    """A stage with its variant, if it has one."""
    return f"{stage['name']} ({stage['variant']})" if stage["variant"] else str(stage["name"])


def duration(stage: Mapping[str, Any]) -> float | None:
    """Seconds that the newest attempt of a stage ran; ``None`` when it never did, or still does."""
    if stage["started_at"] is None or stage["ended_at"] is None:
        return None
    return float(stage["ended_at"]) - float(stage["started_at"])


def published(stage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The images of the newest attempt of a stage that published any."""
    return next((attempt["images"] for attempt in stage.get("history", ()) if attempt.get("images")), [])


def files(stage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The artifacts of the newest attempt of a stage that left any."""
    return next((attempt["artifacts"] for attempt in stage.get("history", ()) if attempt["artifacts"]), [])


def used(stage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the newest attempt of a stage used of each GPU that it was lent."""
    history = stage.get("history", ())
    return history[0].get("used", []) if history else []
