"""The one comment on a pull request: the newest run's summary, as GitHub's Markdown. Pure.

Text of strangers stands in spans and blocks of code only: there it mentions nobody, links nowhere and ends no table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from master import summary
from master.database.records import RunRow
from master.github.wording import code, one_line, shortened
from master.pipeline import State
from master.summary import StageLine

MARKER = "<!-- mlc-ci summary -->"  #: how the comment is known again
# together below the 65536 characters that GitHub takes
_ROWS = 60  #: stages
_FENCED = 40  #: lines of each block
_WIDEST = 300  #: characters of each line of a block
_RESULT = {
    State.SUCCESS: "✅ success",
    State.WARNINGS: "⚠️ warnings",
    State.FAILURE: "❌ failure",
    State.INFRASTRUCTURE: "❌ infrastructure",
    State.SKIPPED: "➖ skipped",
    State.BLOCKED: "➖ blocked",
    State.CANCELLED: "➖ cancelled",
}


def body(run: RunRow, lines: Sequence[StageLine], own_stage: str, tolerated: Collection[str], page: str) -> str:
    """The comment on a run that has ended, that is held, or that was until somebody approved it.

    Args:
        own_stage: the summary's own stage, which it does not tell of.
        tolerated: stages whose failure is only a warning.
        page: the address of the master's page, with its slash.
    """
    where = f"[run {run.id}]({page}#/pipelines/{run.id}) of `{run.head[:12]}`"
    if run.ended_at is None:
        return _held(run, where) if run.held else _approved(run, where)
    said = f"cancelled: {run.cancelled}" if run.cancelled else summary.verdict(lines, own_stage, tolerated)
    rows = [MARKER, f"**mlc-ci** · {where}: {code(said)}", "", "| stage | result | time | |", "|---|---|---:|---|"]
    told = [line for line in lines if line.stage != own_stage]
    rows += [_row(line) for line in told[:_ROWS]]
    if len(told) > _ROWS:
        rows += ["", f"and {len(told) - _ROWS} more on the run's page"]
    if files := [f"{file.name}  {file.size} bytes  sha256 {file.sha256}" for line in told for file in line.artifacts]:
        rows += _folded(f"{len(files)} artifacts", files)
    if compared := list(summary.comparison(lines)):
        rows += _folded("Prebuilt against built", compared)
    if steps := summary.next_steps(run, lines, own_stage, page):
        rows += _folded("Next", [line for step in steps for line in f"- {step}".splitlines()], shown=True)
    return "\n".join(rows) + "\n"


def _row(line: StageLine) -> str:
    took = f"{line.duration:.0f} s" if line.duration is not None else ""
    tries = f", attempt {line.attempts}" if line.attempts > 1 else ""
    result = _RESULT.get(line.state, str(line.state)) + tries
    return f"| {code(line.name)} | {result} | {took} | {code(line.reason)} |"


def _held(run: RunRow, where: str) -> str:
    return "\n".join(
        [
            MARKER,
            f"**mlc-ci** · {where} {code(run.held)}",
            "",
            f"A maintainer starts it by the comment `/ci ok {run.head[:12]}`, or on the run's page. Only this commit is"
            " approved by that: a new push is held again.",
            "",
        ]
    )


def _approved(run: RunRow, where: str) -> str:
    by = code(f"approved by {run.approved}")
    return f"{MARKER}\n**mlc-ci** · {where}: {by}. It runs now, and this comment will say how it ends.\n"


def _folded(title: str, lines: Sequence[str], *, shown: bool = False) -> list[str]:
    """Lines as a block of code, open or to be opened."""
    told = [_verbatim(line) for line in lines[:_FENCED]]
    if len(lines) > _FENCED:
        told.append(f"and {len(lines) - _FENCED} more on the run's page")
    return ["", f"<details{' open' * shown}><summary>{title}</summary>", "", "```text", *told, "```", "</details>"]


def _verbatim(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + shortened(one_line(line).replace("`", "'"), _WIDEST)
