"""What only a bucket brings: workers that send past the process, stores that lie, and stores that go away."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from artifact_process import ArtifactProcess, content, ended, wait
from s3_server import S3Server

from master.artifacts.bucket import BucketStore
from master.artifacts.upkeep import Upkeep
from master.database.tables import runs, stage_attempts
from master.settings_artifacts import ACCESS_KEY, SECRET_KEY

pytestmark = pytest.mark.slow

GOOD, EVIL = content(300_000), content(300_000, seed=1)
PLACE = "1/build/default/1/7/a.whl"
Make = Callable[..., ArtifactProcess]


@pytest.fixture
def make(tmp_path: Path, s3: S3Server) -> Iterator[Make]:
    made: list[ArtifactProcess] = []

    def start(server: S3Server = s3, **settings: Any) -> ArtifactProcess:
        process = ArtifactProcess(tmp_path / f"master{len(made)}", s3=server, **settings)
        made.append(process)
        process.start()
        process.begin(7)
        return process

    yield start
    for process in made:
        process.end()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[S3Server]:
    """One that may be stopped."""
    server = S3Server(tmp_path / "s3")
    server.start()
    yield server
    server.stop()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def order(content: bytes, *, claimed: bytes | None = None) -> dict[str, Any]:
    """For a place in the store; ``claimed`` is what its SHA-256 pretends."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {"size": len(content), "sha256": sha256(content if claimed is None else claimed), "md5": md5}


def send(there: dict[str, Any], content: bytes) -> int:
    return httpx.put(there["url"], content=content, headers=there["headers"], trust_env=False).status_code


def committed(client: httpx.Client, content: bytes) -> int:
    wanted = {"size": len(content), "sha256": sha256(content)}
    return client.post("/builds/7/a.whl/commit", json=wanted).status_code


# -- what a sender may try


@pytest.mark.parametrize("trusting", [False, True])
def test_a_checksum_that_is_a_lie_is_caught_by_reading_back(make: Make, trusting: bool) -> None:
    process = make(bucket={"checksums": trusting})
    with process.client(process.token(7)) as client:
        there = client.post("/builds/7/a.whl/direct", json=order(EVIL, claimed=GOOD)).json()
        assert send(there, EVIL) == 200  # this store keeps what it is told
        if trusting:  # the control: where nothing is read back, the lie is what everybody would be told
            assert committed(client, GOOD) == 200
            assert (process.root / PLACE).read_bytes() == EVIL
            return
        assert committed(client, GOOD) == 422
        assert (process.uploaded(), process.unfinished()) == ({}, {})
        assert not (process.root / PLACE).exists()


def test_an_address_is_good_for_one_file_of_one_size_and_hash(make: Make) -> None:
    process = make()
    with process.client(process.token(7)) as client:
        there = client.post("/builds/7/a.whl/direct", json=order(GOOD)).json()
    for url in (
        there["url"].replace("a.whl", "b.whl"),
        there["url"].replace("/7/", "/8/"),
        there["url"].replace(".partial/7", PLACE.rpartition("/")[0]),
        there["url"][:-1] + ("0" if there["url"][-1] != "0" else "1"),
    ):
        assert send({**there, "url": url}, GOOD) == 403
    assert send({**there, "headers": {**there["headers"], "x-amz-checksum-sha256": "x"}}, GOOD) == 403
    assert send(there, GOOD[:-1]) == 403
    assert send(there, EVIL) == 400  # by its MD5
    assert process.unfinished() == {}
    assert send(there, GOOD) == 200
    assert process.unfinished() == {"7/a.whl": len(GOOD)}


def test_an_address_that_is_used_after_the_commit_changes_nothing(make: Make) -> None:
    process = make()
    with process.client(process.token(7)) as client:
        evil = client.post("/builds/7/a.whl/direct", json=order(EVIL)).json()
        assert send(client.post("/builds/7/a.whl/direct", json=order(GOOD)).json(), GOOD) == 200
        assert committed(client, GOOD) == 200
        assert send(evil, EVIL) == 200
        assert committed(client, EVIL) == 409
        assert client.post("/builds/7/a.whl/direct", json=order(EVIL)).status_code == 409
    assert process.uploaded() == {"a.whl": sha256(GOOD)}


def test_what_is_not_there_is_not_committed(make: Make) -> None:
    process = make()
    with process.client(process.token(7)) as client:
        for wanted in (GOOD, b""):
            assert committed(client, wanted) == 409
        assert client.put("/builds/7/a.whl", content=GOOD).status_code == 409  # not through us
    assert process.uploaded() == {}


def test_what_is_left_of_another_file_is_not_taken_for_this_one(make: Make, tmp_path: Path) -> None:
    """Longer, shorter, and of the same length."""
    process = make()
    file = tmp_path / "a.whl"
    for build, left in enumerate((EVIL + EVIL, EVIL[:-1], EVIL), 7):
        if build > 7:
            process.begin(build, run_id=build)
        file.write_bytes(GOOD)
        token = process.token(build, run_id=build if build > 7 else 1)
        with process.client(token) as client:
            assert send(client.post(f"/builds/{build}/a.whl/direct", json=order(left)).json(), left) == 200
        code, said = process.upload(build, file, token=token)
        assert (code, process.uploaded(build)) == (0, {"a.whl": sha256(GOOD)}), said


def test_a_byte_that_changes_on_the_way_is_sent_again(make: Make, tmp_path: Path) -> None:
    process = make()
    file = tmp_path / "a.whl"
    file.write_bytes(content(8_000_000))
    with process.way(flips=1) as (_, url):
        code, said = process.upload(7, file, url=url)
    assert (code, process.uploaded()) == (0, {"a.whl": sha256(file.read_bytes())}), said
    assert "(HTTP 400)" in said


# -- the store itself


class _Broken(http.server.BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = do_DELETE = _answer

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def broken() -> Iterator[int]:
    """The port of a server that answers everything with 500."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("how", ["away", "answers 500"])
def test_while_the_store_is_away_the_worker_is_patient(
    make: Make, own_server: S3Server, broken: int, tmp_path: Path, how: str
) -> None:
    process = make(own_server)
    assert process.wire
    file = tmp_path / "a.whl"
    file.write_bytes(GOOD)
    own_server.stop()
    if how == "answers 500":
        process.wire.target = broken
    with process.client(process.token(7)) as client:
        answer = client.post("/builds/7", json={"files": {"a.whl": 5}})
        assert (answer.status_code, answer.json()) == (503, {"error": "the artifact store does not answer just now"})
        assert client.get("/health").status_code == 503
    tool = process.uploader(7, file, patience=60)
    assert tool.stdout
    assert "the artifact store does not answer just now" in tool.stdout.readline()
    own_server.start()
    process.wire.target = own_server.port
    code, said = ended(tool)
    assert (code, process.uploaded()) == (0, {"a.whl": sha256(GOOD)}), said


@pytest.mark.parametrize(
    ("secret", "text", "said"),
    [
        (SECRET_KEY, "another", "the artifact store cannot be used: bucket 'bucket-0' says no: The request signature"),
        (ACCESS_KEY, "nobody", "the artifact store cannot be used: bucket 'bucket-0' says no: The Access Key Id"),
        (ACCESS_KEY, "", "secret 's3-access-key' in "),
    ],
)
def test_wrong_keys_are_told_at_the_start(
    tmp_path: Path, own_server: S3Server, secret: str, text: str, said: str
) -> None:
    process = ArtifactProcess(tmp_path / "master", s3=own_server)
    (process.folder / "secrets" / secret).write_text(text)
    with pytest.raises(AssertionError) as refused:
        process.start()
    process.end()
    assert str(refused.value).startswith(said)
    assert "Traceback" not in str(refused.value)


def test_a_bucket_that_is_not_there_and_a_server_that_is_not_are_told(tmp_path: Path, own_server: S3Server) -> None:
    process = ArtifactProcess(tmp_path / "master", s3=own_server)
    own_server.client().delete_bucket(Bucket=process.root.name)
    with pytest.raises(AssertionError, match=r"says no: The specified bucket does not exist"):
        process.start()
    own_server.stop()
    with pytest.raises(AssertionError, match=r"bucket 'bucket-0' cannot be reached: "):
        process.start()
    process.end()


# -- keeping house


def store_of(process: ArtifactProcess) -> BucketStore:
    store = Upkeep.of(process.folder).store
    assert isinstance(store, BucketStore)
    return store


@pytest.mark.parametrize("prefix", ["", "ci/"])
def test_what_expired_is_removed_and_what_is_not_ours_stays(
    make: Make, s3: S3Server, tmp_path: Path, prefix: str
) -> None:
    process = make(bucket={"prefix": prefix} if prefix else {})
    (tmp_path / "a.whl").write_bytes(GOOD)
    assert process.upload(7, tmp_path / "a.whl")[0] == 0
    process.accept(7)
    process.finish(7)
    process.begin(9, run_id=3)
    process.finish(9)
    for key in ("somebody/else's", f"{prefix}1/other", f"{prefix}9/x/default/1/9/b.whl"):
        s3.client().put_object(Bucket=process.root.name, Key=key, Body=b"x")
    now = time.time()
    with process.engine.begin() as connection:
        connection.execute(stage_attempts.update().values(ended_at=now, state="success"))
        connection.execute(runs.update().values(ended_at=now))
    upkeep, store = Upkeep.of(process.folder), store_of(process)
    assert upkeep.rehearse(now) == []
    later = now + 31 * 86_400
    gone = {f"{prefix}{file.path}": file.why for file in upkeep.sweep(later)}
    assert gone == {f"{prefix}{PLACE}": "expired", f"{prefix}9/x/default/1/9/b.whl": "in no list"}
    assert list(store.stored()) == []
    left = {entry["Key"] for entry in s3.client().list_objects_v2(Bucket=process.root.name)["Contents"]}
    assert left == {"somebody/else's", f"{prefix}1/other"}
    upkeep.database.engine.dispose()


def test_unfinished_uploads_of_ended_builds_are_swept(make: Make) -> None:
    process = make()
    process.begin(8, run_id=2)
    for build in (7, 8):
        with process.client(process.token(build, build - 6)) as client:
            assert send(client.post(f"/builds/{build}/a.whl/direct", json=order(GOOD)).json(), GOOD) == 200
    process.finish(7)
    process.kill()
    process.start()  # it sweeps at once
    wait(lambda: list(process.unfinished()) == ["8/a.whl"])


def test_the_quota_counts_what_was_begun(make: Make) -> None:
    process = make(quota="1M")
    process.begin(8, run_id=2)
    with process.client(process.token(7)) as one, process.client(process.token(8, 2)) as other:
        assert one.post("/builds/7", json={"files": {"a.whl": 700_000}}).status_code == 200
        refused = other.post("/builds/8", json={"files": {"a.whl": 700_000}})
        assert (refused.status_code, "the artifact store is full" in refused.json()["error"]) == (507, True)
        assert other.post("/builds/8", json={"files": {"a.whl": 300_000}}).status_code == 200


def test_a_file_that_no_store_of_this_kind_takes_is_refused_before_it_is_sent(make: Make) -> None:
    process = make()
    with process.client(process.token(7)) as client:
        assert client.post("/builds/7", json={"files": {"a.whl": 5 << 30}}).status_code == 200
        refused = client.post("/builds/7", json={"files": {"a.whl": (5 << 30) + 1}})
        assert (refused.status_code, "files of up to 5 GiB" in refused.json()["error"]) == (413, True)


def test_a_little_of_a_file_is_read_without_the_rest(make: Make, tmp_path: Path) -> None:
    process = make()
    (tmp_path / "a.whl").write_bytes(content(4_000_000))
    assert process.upload(7, tmp_path / "a.whl")[0] == 0
    store = store_of(process)
    asked: list[int] = []
    store.client.meta.events.register("before-call.s3.GetObject", lambda params, **_: asked.append(1))
    with store.reader(PLACE) as file:
        file.seek(-1000, 2)
        assert file.read() == content(4_000_000)[-1000:]
        file.seek(5)
        assert file.read(10) == content(4_000_000)[5:15]
    assert len(asked) == 2
    with store.local(PLACE) as path:
        assert path.read_bytes() == content(4_000_000)
    assert not path.exists()
    with pytest.raises(FileNotFoundError), store.reader(PLACE + "x"):
        pass
