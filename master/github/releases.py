"""Publishing a release on GitHub: a draft that nobody sees, its files, and one request that makes it public.

What is there already is found by asking GitHub, never by remembering: so a publication that was interrupted
anywhere is completed by publishing again, by this master or by its successor, and nothing is made twice.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from master.github.access import Access
from master.github.failures import GitHubError, GitHubRefused, GitHubUnavailable
from master.github.release_content import File, body_of, files_of, is_prerelease, make_latest
from master.releases import Release, ReleaseRefused, ReleaseStopped, check

PERMISSIONS = {"contents": "write"}
PATIENCE_S = 600.0  #: an outage or a limit of so many seconds is waited out within one try of the stage
_LONGEST_PAUSE_S = 60.0
_UPLOAD_TIMEOUT_S = (20.0, 300.0, 60.0, 20.0)  #: to connect, to hear (GitHub hashes first), to send a block, to begin
_LARGEST = (2 << 30) - 1  #: GitHub takes files below 2 GiB
_BLOCK = 1 << 20
_OURS = (
    "<!-- filled by mlc-ci until it is public; changes are lost -->"  #: how a draft of ours is known: its whole text
)
_LASTS_S = 50 * 60.0  #: so long at least is a token good when a try begins, of the hour that GitHub makes them for
#: What is looked at once more: GitHub answers so when what was seen is gone, when there is already what was not, and
#: when the token has ended on the way.
_LOOK_AGAIN = (401, 404, 422)

Answer = dict[str, Any]


class GitHubTarget:
    """Releases of one repository on GitHub.

    Args:
        access: how GitHub is asked; it needs ``contents: write``.
        patience: seconds that an outage or a limit is waited out.
    """

    def __init__(self, access: Access, *, patience: float = PATIENCE_S) -> None:
        self._access = access
        self._patience = patience
        self._repository = f"/repos/{access.owner}/{access.repository}"

    def publish(self, release: Release, stop: threading.Event) -> str:
        """See :class:`master.releases.ReleaseTarget`. Blocking, for as long as GitHub cannot be reached.

        Raises:
            ReleaseRefused: also when the tag is not there, or is of another commit.
            GitHubUnavailable: GitHub could not be reached for longer than is waited.
            GitHubRefused: GitHub does not allow it; the message says what to grant.
        """
        check(release)
        files = files_of(release)
        if wrong := next((file for file in files if not 0 < file.size <= _LARGEST), None):
            raise ReleaseRefused(f"{wrong.name} has {wrong.size} bytes: GitHub takes files of 1 byte to 2 GiB")
        until, pause, look_again = time.monotonic() + self._patience, 1.0, set(_LOOK_AGAIN)
        revealing = threading.Event()
        while True:
            try:
                return self._once(release, files, stop, revealing)
            except (ReleaseStopped, GitHubError) as error:
                if stop.is_set():
                    return self._stopped(release, files, revealing.is_set())
                if isinstance(error, GitHubUnavailable):
                    left = until - time.monotonic()
                    if left <= 0:
                        raise
                    stop.wait(min(left, pause if error.retry_after is None else error.retry_after))
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
                elif isinstance(error, GitHubRefused) and error.status in look_again:
                    look_again.remove(error.status)  # as when an upload that was given up has arrived after all
                else:
                    raise

    def _once(self, release: Release, files: list[File], stop: threading.Event, revealing: threading.Event) -> str:
        """One try; ``revealing`` is set before the one request that makes the release public."""
        with self._access.client(PERMISSIONS, lasts=_LASTS_S) as github, github.get_sync_client() as client:
            ask = _Asking(github, client, self._repository, stop)
            ask.commit_of(release)
            found = list(ask.every("/releases"))
            drafts, public = ([one for one in found if one["draft"] is draft] for draft in (True, False))
            for other in public:
                if other["tag_name"] == release.tag:
                    return ask.same_or_refuse(other, release, files)
            own = [one for one in drafts if one["tag_name"] == release.tag and (one["body"] or "").strip() == _OURS]
            own.sort(key=lambda one: int(one["id"]))
            draft = own[0] if own else ask.create(release)
            for twice in own[1:]:  # GitHub listed the first one late
                ask.request("DELETE", f"/releases/{twice['id']}")
            ask.fill(draft, files)
            ask.commit_of(release)  # publishing the draft of a tag that is gone would make the tag anew, elsewhere
            _go_on(stop)
            revealing.set()
            shown = ask.reveal(draft, release, make_latest(release.tag, public))
            return f"published {len(files)} assets at {shown}"

    def _stopped(self, release: Release, files: list[File], revealing: bool) -> str:
        """Where a release that was stopped is public all the same: GitHub's answer to making it so may have been lost.

        Raises:
            ReleaseStopped: it is not.
            GitHubUnavailable: GitHub does not tell.
        """
        if not revealing:
            raise ReleaseStopped
        try:
            with self._access.client(PERMISSIONS) as github, github.get_sync_client() as client:
                ask = _Asking(github, client, self._repository, threading.Event())
                for other in ask.every("/releases"):
                    if other["tag_name"] == release.tag and not other["draft"]:
                        return ask.same_or_refuse(other, release, files)
        except GitHubError as error:
            said = f"stopped while {release.tag} was made public, and GitHub does not tell whether it is: {error}"
            raise GitHubUnavailable(said) from None
        raise ReleaseStopped


@dataclass(frozen=True)
class _Asking:
    """The requests that make a release: with githubkit's client, and the client of HTTP below it."""

    github: Any
    client: Any
    repository: str
    stop: threading.Event

    def request(self, method: str, url: str, **more: Any) -> Any:
        """``url``: below the repository's, or a whole one."""
        _go_on(self.stop)
        return self.github.request(method, self.repository + url if url.startswith("/") else url, **more)

    def call(self, method: str, path: str, **more: Any) -> Any:
        return self.request(method, path, **more).json()

    def every(self, path: str) -> Iterator[Answer]:
        """All entries of a list, page by page."""
        page = 1
        while found := self.call("GET", path, params={"per_page": 100, "page": page}):
            yield from found
            if len(found) < 100:
                return
            page += 1

    def commit_of(self, release: Release) -> None:
        """Have the tag there, and of this commit."""
        try:
            found = self.call("GET", f"/git/ref/tags%2F{quote(release.tag, safe='')}")["object"]
            while found["type"] == "tag":
                found = self.call("GET", f"/git/tags/{found['sha']}")["object"]
        except _not_found() as error:
            if error.response.status_code != 404:
                raise
            raise ReleaseRefused(f"GitHub has no tag {release.tag}: push it, then run this stage again") from None
        if found["sha"] != release.commit:
            raise ReleaseRefused(
                f"{release.tag} is {found['type']} {found['sha']} on GitHub; this run built {release.commit}"
            )

    def create(self, release: Release) -> Answer:
        """A draft. Drafts are seen by those who may write to the repository."""
        body = {"tag_name": release.tag, "name": release.tag, "body": _OURS, "draft": True}
        return dict(self.call("POST", "/releases", json=body))

    def fill(self, draft: Answer, files: list[File]) -> None:
        """Have the draft hold these files, all of each and no others.

        What does not come out right is found by the next try.
        """
        for name, state in self.compare(draft, files).items():
            if state == "right":
                continue
            if isinstance(state, int):
                self.request("DELETE", f"/releases/assets/{state}")
            for file in files:
                if file.name == name:
                    self.upload(draft, file)
        if wrong := [name for name, state in self.compare(draft, files).items() if state != "right"]:
            raise GitHubUnavailable(f"GitHub does not hold what was sent: {', '.join(wrong)}")

    def compare(self, release: Answer, files: list[File]) -> Mapping[str, int | str]:
        """By name: ``right``, ``missing``, or the number of an asset that is wrong or does not belong there."""
        states: dict[str, int | str] = {file.name: "missing" for file in files}
        wanted = {file.name: file for file in files}
        for asset in self.every(f"/releases/{release['id']}/assets"):
            file = wanted.get(asset["name"])
            right = file is not None and self.holds(asset, file)
            states[asset["name"]] = "right" if right else int(asset["id"])
        return states

    def holds(self, asset: Answer, file: File) -> bool:
        if asset["state"] != "uploaded" or asset["size"] != file.size:
            return False
        digest = asset.get("digest") or f"sha256:{self.digest(asset)}"
        return bool(digest == f"sha256:{file.sha256}")

    def digest(self, asset: Answer) -> str:
        """Of what GitHub sends: assets of before June 2025 and GitHub Enterprise Server name none."""
        digest = hashlib.sha256()
        headers = {"Accept": "application/octet-stream"}
        answer = self.request("GET", f"/releases/assets/{asset['id']}", headers=headers, stream=True).raw_response
        try:
            for block in answer.iter_bytes(_BLOCK):
                _go_on(self.stop)
                digest.update(block)
        finally:
            answer.close()
        return digest.hexdigest()

    def upload(self, draft: Answer, file: File) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.size)}
        about = {"params": {"name": file.name}, "headers": headers}
        url = draft["upload_url"].split("{")[0]
        usual, self.client.timeout = self.client.timeout, _UPLOAD_TIMEOUT_S
        try:
            if isinstance(file.content, bytes):
                answer = self.request("POST", url, content=file.content, **about).json()
            else:
                with file.content.open("rb") as content:
                    answer = self.request("POST", url, content=_blocks(content, self.stop), **about).json()
        finally:
            self.client.timeout = usual
        if answer["name"] != file.name:
            raise ReleaseRefused(f"GitHub calls {file.name} {answer['name']}: nobody would find it under its own name")

    def reveal(self, draft: Answer, release: Release, latest: str) -> str:
        """Make the draft public; where it is."""
        body = {"tag_name": release.tag, "name": release.tag, "body": body_of(release), "draft": False}
        body |= {"prerelease": is_prerelease(release.tag), "make_latest": latest}
        return str(self.call("PATCH", f"/releases/{draft['id']}", json=body)["html_url"])

    def same_or_refuse(self, public: Answer, release: Release, files: list[File]) -> str:
        states = self.compare(public, files)
        if all(states[file.name] == "right" for file in files):
            return f"{public['html_url']} was published before"
        wrong = [file.name for file in files if states[file.name] != "right"]
        raise ReleaseRefused(
            f"{release.tag} is public already at {public['html_url']}, without these files as this run built them: "
            f"{', '.join(wrong[:5])}; a public release is never changed. Delete it on GitHub, then run this stage again"
        )


def _not_found() -> type[Any]:
    from githubkit.exception import RequestFailed  # noqa: PLC0415 (see master.github.access)

    return RequestFailed


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise ReleaseStopped


def _blocks(content: BinaryIO, stop: threading.Event) -> Iterator[bytes]:
    while block := content.read(_BLOCK):
        _go_on(stop)
        yield block
