"""Wait for a commit status that the CI master sets, and end as it ended: all that GitHub Actions does here.

Standard library only: the workflow checks nothing out and installs nothing. `.github/workflows/mirror.yml` holds this
file word for word (`python3 ci/embed_mirror.py` puts it there). What it is told comes in the environment:
MIRROR_CONTEXT, MIRROR_SHA, MIRROR_SINCE (of a push: when it came, in seconds), MIRROR_REOPENED (of a pull request that
was opened again: when, as GitHub writes it), MIRROR_TIMEOUT_MINUTES, GITHUB_TOKEN and what Actions sets itself.

Exit codes: 0 the stage ended well (or was skipped), 1 it did not, 2 there is no verdict: the message says why.
"""

from __future__ import annotations

import calendar
import html
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

ENDED = {"success": 0, "failure": 1, "error": 1}
NO_VERDICT = 2
PAGE = 100
LONGEST_PAUSE = 60.0  # seconds between two looks; the first ones follow each other faster
SURE = 3  # looks that must agree before what may still change is believed
ERROR_STANDS = 2  # so many looks find the same error before it is believed: the master may be about to try again
STALE_STANDS = 10  # and one from before the pull request was reopened: minutes in which the master hears of that


class Later(Exception):
    """GitHub did not answer as it should just now. `seconds` is how long it asked to be left alone."""

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


class Refused(Exception):
    """GitHub will not answer this, however often it is asked."""


class Status(NamedTuple):
    id: int
    context: str
    state: str
    description: str | None
    target_url: str | None
    updated_at: str | None


class Asked(NamedTuple):
    context: str
    sha: str
    repository: str
    since: float  # a status from before is of another event: a tag stands on a commit that was built already
    reopened: float  # an error from before may be the closing's
    minutes: float
    pause: float

    def is_old(self, status: Status) -> bool:
        return bool(self.since and status.updated_at and seconds_of(status.updated_at) < self.since)

    def looks(self, status: Status) -> int:
        """How many must find this status before it is believed."""
        if status.state != "error":
            return 1
        stale = status.updated_at and seconds_of(status.updated_at) < self.reopened
        return STALE_STANDS if stale else ERROR_STANDS


def one_line(text: object) -> str:
    """For the log, in which `::` at a line's start and `##[` anywhere would be commands to the runner."""
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", str(text or "")).replace("##[", "# #[").strip()


def pause_asked_for(headers: Message) -> float | None:
    """Seconds that GitHub asked to be left alone; None when it did not say."""
    wait, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    if wait.isdecimal():
        return float(wait)
    if headers.get("X-RateLimit-Remaining") == "0" and reset.isdecimal():
        return max(1.0, float(reset) - time.time())
    return None


def seconds_of(stamp: str) -> float:
    return float(calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))


class GitHub:
    """GitHub's answers, asked for again only when they have changed: those that have not cost no rate limit."""

    def __init__(self, api: str, token: str) -> None:
        self.api = api.rstrip("/")
        self.token = token
        self.known: dict[str, tuple[str, Any]] = {}

    def statuses(self, repository: str, sha: str) -> dict[str, Status]:
        """The newest status of each context of a commit. Raises `Later`, `Refused`."""
        newest: dict[str, Status] = {}
        for page in range(1, 11):
            answer = self.get(f"/repos/{quote(repository)}/commits/{sha}/status?per_page={PAGE}&page={page}")
            try:
                found = [Status(**{key: each.get(key) for key in Status._fields}) for each in answer["statuses"]]
                for status in found:
                    known = newest.get(status.context)
                    if known is None or status.id > known.id:
                        newest[status.context] = status
            except (KeyError, TypeError, AttributeError):
                raise Later("GitHub answered with something other than statuses") from None
            if len(found) < PAGE:
                break
        return newest

    def get(self, path: str) -> Any:
        headers = {
            "Accept": "application/vnd.github+json",
            "User-Agent": "mlc-ci",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        etag, answer = self.known.get(path, ("", None))
        if etag:
            headers["If-None-Match"] = etag
        request = Request(self.api + path, headers=headers)  # noqa: S310 (Actions says which API)
        if self.token:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            try:
                with urlopen(request, timeout=30) as response:  # noqa: S310
                    answer = json.loads(response.read())
                    self.known[path] = (response.headers.get("ETag", ""), answer)
            except HTTPError as error:
                if error.code != 304:
                    body = error.read(2000).decode(errors="replace")
                    raise self.trouble(error, body) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Later(f"GitHub could not be asked: {one_line(error)}") from None
        return answer

    def trouble(self, error: HTTPError, body: str) -> Exception:
        said = f"GitHub answered {error.code}: {one_line(body)[:200]}"
        pause = pause_asked_for(error.headers)
        limited = error.code == 429 or (error.code == 403 and (pause is not None or "rate limit" in body.lower()))
        if limited:
            return Later(said, LONGEST_PAUSE if pause is None else pause)
        return Later(said, pause or 0.0) if error.code >= 500 or error.code == 408 else Refused(said)


def watch(asked: Asked, github: GitHub) -> tuple[int, str, Status | None]:
    """Look until the context has ended: exit code, what to say, and the status, when there is one."""
    deadline = time.monotonic() + asked.minutes * 60
    pause, agreeing, standing, shown = asked.pause, 0, 0, ""
    status: Status | None = None
    found: dict[str, Status] = {}
    while True:
        wait, trouble, left = pause, "", deadline - time.monotonic()
        try:
            found = github.statuses(asked.repository, asked.sha)
            found = {name: each for name, each in found.items() if not asked.is_old(each)}
            before, status = status, found.get(asked.context)
            standing = standing + 1 if status == before else 1
            if status and status.state in ENDED and (standing >= asked.looks(status) or left <= 0):
                return ENDED[status.state], f"{asked.context}: {status.state}", status
            summary = found.get("mlc-ci/summary")
            agreeing = agreeing + 1 if not status and summary and summary.state in ENDED else 0
            final = (
                f"the master's run is over and has no {asked.context}, only {reported(found)}: take the stage out of "
            )
            final += "this workflow's matrix, or put it in the master's settings"
        except Later as later:
            agreeing, trouble, wait = 0, str(later), max(pause, later.seconds)
        except Refused as refused:
            agreeing, trouble = agreeing + 1, str(refused)
            final = f"{refused}. Is {asked.sha} a commit of {asked.repository}, and may the token read statuses?"
        if agreeing == SURE:
            return NO_VERDICT, final, None
        now = trouble or (f"{status.state}: {one_line(status.description)}" if status else "not reported yet")
        if now != shown:
            shown = now
            print(f"{asked.context} of {asked.sha}: {now}", flush=True)
        if left <= 0 or wait > max(left, pause):  # GitHub wants to be left alone for longer than there is
            return NO_VERDICT, timed_out(asked, trouble, status, found), status
        time.sleep(min(wait, left))
        pause = min(pause * 1.3, max(LONGEST_PAUSE, asked.pause))


def reported(found: dict[str, Status]) -> str:
    return ", ".join(sorted(name for name in found if name.startswith("mlc-ci/")))


def timed_out(asked: Asked, trouble: str, status: Status | None, found: dict[str, Status]) -> str:
    context, minutes = asked.context, f"{asked.minutes:g} minutes"
    again = "When it has: run this job again, or dispatch this workflow with the commit."
    if trouble:
        return f"GitHub gave no answer about {context} by the end of {minutes}: {trouble}"
    if status:
        said = one_line(status.description) or "nothing more"
        return f"{context} has not ended within {minutes}; the master says: {said}. {again}"
    if reported(found):
        return f"the master has not reported {context} in {minutes}, only {reported(found)}. {again}"
    return (
        f"the master has not reported in {minutes}: no mlc-ci status of this event stands on {asked.sha}. Does it run, "
        f"and does GitHub reach its webhook (the webhook's recent deliveries tell)? {again}"
    )


def summary(asked: Asked, message: str, status: Status | None) -> str:
    """HTML without a blank line, in which GitHub reads no Markdown."""
    said, url = (one_line(status.description), str(status.target_url or "")) if status else ("", "")
    rows = [("commit", asked.sha), ("result", message), ("the master says", said)]
    cells = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in rows if text)
    if re.match(r"https?://[^\s/]", url):
        link = html.escape(quote(url, safe=":/?#[]@!$&'()*+,;=%-._~"))
        cells += f'<tr><th>run</th><td><a href="{link}">{link}</a></td></tr>'
    return f"<h3>{html.escape(asked.context)}</h3><table>{cells}</table>\n"


def main(environment: Mapping[str, str]) -> int:
    asked = Asked(
        context=one_line(environment.get("MIRROR_CONTEXT")),
        sha=one_line(environment.get("MIRROR_SHA")).lower()[:80],
        repository=environment.get("GITHUB_REPOSITORY", ""),
        since=float(environment.get("MIRROR_SINCE") or 0),
        reopened=seconds_of(environment.get("MIRROR_REOPENED") or "1970-01-01T00:00:00Z"),
        minutes=float(environment.get("MIRROR_TIMEOUT_MINUTES") or 240),
        pause=float(environment.get("MIRROR_PAUSE_SECONDS") or 10),
    )
    status = None
    if not re.fullmatch(r"[0-9a-f]{40}", asked.sha):
        code, message = NO_VERDICT, f"{asked.sha!r} is no commit: give all 40 digits of its SHA"
    else:
        github = GitHub(
            environment.get("GITHUB_API_URL", "https://api.github.com"), environment.get("GITHUB_TOKEN", "")
        )
        code, message, status = watch(asked, github)
    shown = message
    if status and code != NO_VERDICT:
        shown = f"{message}: {one_line(status.description)} {one_line(status.target_url)}"
    print(f"::error::{shown.replace('%', '%25')}" if code else shown, flush=True)
    if file := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(file).open("a", encoding="utf-8") as page:
            page.write(summary(asked, message, status))
    return code


if __name__ == "__main__":
    sys.exit(main(os.environ))
