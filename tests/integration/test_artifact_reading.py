"""Who reads what of the artifact process, how `mlc-ci-worker download` does, and what attackers may try."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from artifact_process import ArtifactProcess, content, proxy, wait
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from master.artifacts.tokens import KEY, PASSWORD, sign_link

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("artifact reading")]

CONTENT = content(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtifactProcess]:
    """Build 7 of run 1 has been accepted; build 8 of run 2 and build 9 of run 1 are under way."""
    folder = tmp_path_factory.mktemp("reading")
    made = ArtifactProcess(folder / "master")
    try:
        made.start()
        _fill(made, folder)
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtifactProcess]:
    folder = tmp_path_factory.mktemp("private")
    made = ArtifactProcess(folder / "master", public=False)
    try:
        made.start()
        _fill(made, folder)
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module", params=["folder", "bucket"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArtifactProcess]:
    """The first of them again, and one whose files are in a bucket, from where they are read past it."""
    if request.param == "folder":
        yield request.getfixturevalue("process")
        return
    folder = tmp_path_factory.mktemp("bucket")
    made = ArtifactProcess(folder / "master", s3=request.getfixturevalue("s3"))
    try:
        made.start()
        _fill(made, folder)
        yield made
    finally:
        made.end()


def _fill(made: ArtifactProcess, folder: Path) -> None:
    made.begin(7)
    (folder / "a.whl").write_bytes(CONTENT)
    (folder / "ü.txt").write_text("note")
    assert made.upload(7, folder / "a.whl", folder / "*.txt")[0] == 0
    made.accept(7)
    made.finish(7)
    made.begin(8, run_id=2)
    (folder / "unaccepted.whl").write_bytes(b"not yet")
    assert made.upload(8, folder / "unaccepted.whl")[0] == 0
    made.begin(9, stage="check")


def listed(client: httpx.Client, run: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/runs/{run}/artifacts").raise_for_status().json()["artifacts"]
    return found


def address(client: httpx.Client, name: str = "a.whl") -> str:
    (one,) = (one for one in listed(client) if one["name"] == name)
    return f"/artifacts/{one['id']}/{quote(name)}"


# -- reading


def test_what_was_accepted_is_listed_with_size_and_hash(served: ArtifactProcess) -> None:
    with served.client() as client:
        first, second = listed(client)
        assert first | {"id": 0} == {
            **{"id": 0, "stage": "build", "variant": "", "name": "a.whl", "size": len(CONTENT), "sha256": SHA256},
            **{"removed": False, "accepted_at": None},
        }
        assert second["name"] == "ü.txt"
        assert client.get(address(client)).content == CONTENT
        assert client.get(address(client, "ü.txt")).text == "note"


def test_what_was_not_accepted_is_nowhere(served: ArtifactProcess) -> None:
    assert list(served.uploaded(8)) == ["unaccepted.whl"]  # it is there indeed
    with served.client() as client:
        assert listed(client, 2) == []
        answers = {client.get(f"/artifacts/{n}/unaccepted.whl").status_code for n in range(20)}
        assert answers == {404}
    with served.client(served.token(8, run_id=2)) as client:  # not even to its own build
        assert listed(client, 2) == []


def test_a_browser_is_given_nothing_that_it_would_run(served: ArtifactProcess) -> None:
    with served.client() as client:
        where = address(client, "ü.txt")
        head, headers = client.head(where).headers, client.get(where).headers
    assert (head["content-length"], head["accept-ranges"]) == ("4", "bytes")
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment; filename*=utf-8''%C3%BC.txt"
    headers = head if served.wire else headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [("bytes=0-9", CONTENT[:10]), ("bytes=2999990-", CONTENT[-10:]), ("bytes=-5", CONTENT[-5:])],
)
def test_ranges(served: ArtifactProcess, wanted: str, part: bytes) -> None:
    with served.client() as client:
        where = address(client)
        answer = client.get(where, headers={"Range": wanted})
        of_a_part = 200 if served.wire else 206  # what this S3 server says of a part
        assert (answer.status_code, answer.content) == (of_a_part, part)
        assert answer.headers["content-range"].endswith(f"/{len(CONTENT)}")
        if served.wire:
            return  # its ETag is the store's own
        same = client.get(where, headers={"Range": wanted, "If-Range": f'"{SHA256}"'})
        other = client.get(where, headers={"Range": wanted, "If-Range": '"another"'})
        assert (same.status_code, other.status_code, len(other.content)) == (206, 200, len(CONTENT))


def test_ranges_that_make_no_sense(process: ArtifactProcess) -> None:
    with process.client() as client:
        where = address(client)
        assert client.get(where, headers={"Range": "bytes=3000000-"}).status_code == 416
        for odd in ("lines=1-2", "bytes=x", "bytes=0-1,30-40", "bytes=", "bytes=-"):
            answer = client.get(where, headers={"Range": odd})
            assert (answer.status_code, answer.content) == (200, CONTENT), odd
        answer = client.head(where, headers={"Range": "bytes=0-1"})
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(CONTENT)))


def test_a_number_that_no_row_has_is_nothing(process: ArtifactProcess) -> None:
    with process.client() as client:
        for path in (f"/artifacts/{'9' * 23}/x", f"/runs/{2**31}/artifacts", "/artifacts/0/x"):
            assert client.get(path).status_code == 404
        answer = client.delete("/health")
        assert (answer.status_code, "GET" in answer.headers["allow"]) == (405, True)


def test_connections_that_ask_for_nothing_crowd_nobody_out(process: ArtifactProcess) -> None:
    idle = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(520)]
    try:
        for each in idle:
            each.settimeout(30)
        assert idle[0].recv(1) == b"", "it is closed"
        with process.client() as client:
            wait(lambda: client.get("/health").status_code == 200)
    finally:
        for each in idle:
            each.close()


def test_conditional_requests(served: ArtifactProcess) -> None:
    with served.client() as client:
        where = address(client)
        assert client.head(where).headers["etag"] == f'"{SHA256}"'
        for known in (f'"{SHA256}"', f'W/"{SHA256}"', f'"other", "{SHA256}"', "*"):
            answer = client.get(where, headers={"If-None-Match": known})
            assert (answer.status_code, answer.content) == (304, b"")
        assert client.get(where, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_name_that_is_not_the_artifacts_own(process: ArtifactProcess) -> None:
    with process.client() as client:
        number = address(client).split("/")[2]
        assert client.get(f"/artifacts/{number}/b.whl").json() == {"error": "there is no such artifact"}
        assert client.get("/nowhere").json() == {"error": "Not Found"}


def test_a_builds_token_reads_its_own_run_only(process: ArtifactProcess, private: ArtifactProcess) -> None:
    for one in (process, private):
        with one.client(one.token(9)) as client:
            assert client.get(address(client)).content == CONTENT
            where = address(client)
        with one.client(one.token(8, run_id=2)) as client:
            refused = client.get(where)
            assert (refused.status_code, listed(client, 2)) == (403, [])
            assert refused.json() == {"error": "this token reads artifacts of run 2, not of run 1"}
        with one.client(one.token(7)) as client:
            # its build is over; for a second the process may believe that it runs
            wait(lambda client=client, where=where: client.get(where).status_code == 403, 5)


def test_private_artifacts_need_a_token(private: ArtifactProcess) -> None:
    with private.client(private.token(9)) as client:
        where = address(client)
    with private.client() as client:
        for path in (where, "/runs/1/artifacts"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")
        assert client.get("/health").json()["ok"] is True


def test_private_artifacts_are_read_with_a_password_or_by_a_link(private: ArtifactProcess) -> None:
    with private.client(private.token(9)) as client:
        where = address(client)
    password = (private.folder / "secrets" / PASSWORD).read_text().strip()
    key = (private.folder / "secrets" / KEY).read_text().strip()
    artifact_id = int(where.split("/")[2])
    with private.client() as client:
        for user in ("", "anybody"):
            assert client.get(where, auth=(user, password)).content == CONTENT
        for wrong in ("", "x", f"{password} "):
            assert client.get(where, auth=("anybody", wrong)).status_code == 401
        assert client.get(where, headers={"Authorization": "Basic ?"}).status_code == 401
        link = sign_link(key, artifact_id, until=time.time() + 60)
        assert client.get(where, params={"link": link}).content == CONTENT
        for text, why in (
            (sign_link(key, artifact_id, until=time.time() - 1), "expired"),
            (sign_link(key, artifact_id + 1, until=time.time() + 60), "another artifact"),
            (sign_link("x" * 40, artifact_id, until=time.time() + 60), "no link of this master"),
            (private.token(9), "no link of this master"),
        ):
            answer = client.get(where, params={"link": text})
            assert (answer.status_code, why in answer.json()["error"]) == (403, True), answer.text
    with private.client(link) as client:
        assert client.get(where).status_code == 401, "a link is no token"


# -- the worker's tool


def download(process: ArtifactProcess, into: Path, *globs: str, url: str = "", **options: Any) -> tuple[int, str]:
    command = [sys.executable, "-P", "-m", "workers.cli", "download", f"--url={url or process.url}", f"--into={into}"]
    command += [f"--run={options.get('run', 1)}", f"--stage={options.get('stage', 'build')}", "--patience=5"]
    command += [f"--glob={pattern}" for pattern in globs]
    token = options.get("token") or process.token(9)
    done = subprocess.run(command, input=token + "\n", capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_what_a_stage_left_is_fetched(served: ArtifactProcess, tmp_path: Path) -> None:
    code, said = download(served, tmp_path / "new", "*.whl", "*")
    assert code == 0, said
    assert {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()} == {
        **{"a.whl": CONTENT, "ü.txt": b"note"}
    }


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"stage": "test"}, 1, "no artifact of test fits *.whl; there are: none"),
        ({"run": 2}, 75, "this token reads artifacts of run 1, not of run 2 (HTTP 403)"),
        ({"token": "nonsense"}, 75, "no token of this master"),
    ],
)
def test_what_is_not_there_or_not_ours(
    process: ArtifactProcess, tmp_path: Path, options: dict[str, Any], code: int, words: str
) -> None:
    found, said = download(process, tmp_path, "*.whl", **options)
    assert (found, words in said) == (code, True), said
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_changed_in_the_store_never_arrives(tmp_path: Path) -> None:
    made = ArtifactProcess(tmp_path / "master")
    try:
        made.start()
        _fill(made, tmp_path)
        (stored,) = made.root.rglob("a.whl")
        stored.write_bytes(CONTENT[:-1] + b"!")
        code, said = download(made, tmp_path / "into", "*.whl")
    finally:
        made.end()
    assert (code, list((tmp_path / "into").iterdir())) == (75, [])
    assert "a.whl arrived differently 3 times" in said


def test_a_store_that_is_away(process: ArtifactProcess, tmp_path: Path) -> None:
    with proxy(1) as nobody_there:
        code, said = download(process, tmp_path, "*.whl", url=nobody_there.url)
    assert code == 75
    assert "no progress for 5 s" in said


# -- attacks

#: A token, a file that exists, and a length: what a builds' own requests are made of.
HOSTILE = ["../8/unaccepted.whl", "..", "%2e%2e", "..%2f..%2fx", "..%5cx", "%2fetc%2fpasswd", "C:%5cx", "a%00b", "."]
HOSTILE += ["%ef%bc%8e%ef%bc%8e", "nul", "a.", "%c0%ae", "a%0d%0aSet-Cookie:x", "%e2%80%aegnp", "a" * 300]


def raw(
    process: ArtifactProcess, method: str, target: str, body: bytes = b"evil", token: str = "", said: int | None = None
) -> int:
    """A request with exactly this target, whatever a client would make of it; ``said`` is its Content-Length."""
    length = len(body) if said is None else said
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {token or process.token(9)}\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", process.port), timeout=30) as connection:
        connection.sendall(head.encode("latin-1") + body)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return int(answer.split(b" ", 2)[1])


def tree(process: ArtifactProcess) -> set[str]:
    """Every path of the master's folder and around it, but for what build 9 has not finished."""
    above = process.folder.parent
    found = {path.relative_to(above).as_posix() for path in above.rglob("*")}
    return {path for path in found if "/.partial/9" not in path and "state.sqlite-" not in path}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_path_leads_out_of_the_builds_folder(process: ArtifactProcess, name: str) -> None:
    before = tree(process)
    commit = json.dumps({"size": 4, "sha256": hashlib.sha256(b"evil").hexdigest()}).encode()
    assert raw(process, "PUT", f"/builds/9/{name}") >= 400
    assert raw(process, "POST", f"/builds/9/{name}/commit", commit) >= 400
    assert raw(process, "GET", f"/artifacts/1/{name}", b"") >= 400
    assert tree(process) == before


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=40))
@example("../../x")
@example("good.whl")
def test_whatever_the_name_only_one_file_of_ones_own_is_written(process: ArtifactProcess, name: str) -> None:
    before = tree(process)
    status = raw(process, "PUT", f"/builds/9/{quote(name.encode('utf-8', 'surrogatepass'), safe='')}")
    assert status in (200, 400, 404, 405), status
    assert tree(process) == before
    unfinished = {path.partition("/")[2] for path in process.unfinished()}
    assert (name in unfinished) == (status == 200)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), min_size=1))
def test_no_made_up_token_is_let_in(process: ArtifactProcess, token: str) -> None:
    assert raw(process, "PUT", "/builds/9/x.whl", token=token) in (400, 401)


def test_no_build_reaches_into_another(process: ArtifactProcess) -> None:
    assert raw(process, "PUT", "/builds/8/x.whl") == 403
    assert raw(process, "PUT", "/builds/8/x.whl", token=process.token(8, run_id=2)) == 200  # it was not the request
    assert raw(process, "POST", "/builds/8", b'{"files": {"x": 1}}') == 403
    assert raw(process, "PUT", "/builds/9999999999999999999999/x.whl") in (400, 403, 404)


def test_orders_that_make_no_sense_are_refused_in_order(process: ArtifactProcess) -> None:
    for body in (b"", b"[]", b"{", b"[" * 100_000, b'{"files": []}', b'{"files": {"a": -1}}', b'{"files": {"a": "1"}}'):
        assert raw(process, "POST", "/builds/9", body) == 400, body
    assert raw(process, "POST", "/builds/9", b"", said=2 << 20) == 413
    many = json.dumps({"files": {f"{n}.txt": 1 for n in range(1001)}}).encode()
    assert raw(process, "POST", "/builds/9", many) == 413
    with process.client(process.token(9)) as client:
        for said in ("bytes 5-1/10", "bytes 0-3/3", "bytes 0-9/10", "0-3/4", "bytes 7-10/11"):
            answer = client.put("/builds/9/r.whl", content=b"evil", headers={"Content-Range": said})
            assert answer.status_code in (400, 409), said
        chunked = client.put("/builds/9/r.whl", content=iter([b"evil"]))
        assert (chunked.status_code, chunked.json()) == (411, {"error": "Content-Length is needed"})
        assert client.put("/builds/9/r.whl", content=b"evil", headers={"Content-Range": "bytes 0-3/4"}).json() == {
            **{"name": "r.whl", "size": 4, "offset": 4}
        }
