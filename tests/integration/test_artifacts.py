"""The artifact process and the worker's uploader, both real, and whatever can happen between them."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from artifact_process import ArtifactProcess, content, ended, proxy, wait

from master.database.tables import metadata

pytestmark = pytest.mark.slow

MB = 1_000_000
Make = Callable[..., ArtifactProcess]

#: What is the same whatever keeps the bytes: a folder of the master, or a bucket that workers send to by themselves.
either_store = pytest.mark.parametrize("store", ["folder", "bucket"], indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a process is made with."""
    return {"s3": request.getfixturevalue("s3")} if getattr(request, "param", "folder") == "bucket" else {}


@pytest.fixture
def make(tmp_path: Path, store: dict[str, Any]) -> Iterator[Make]:
    made: list[ArtifactProcess] = []

    def start(folder: Path | None = None, **settings: Any) -> ArtifactProcess:
        process = ArtifactProcess(folder or tmp_path / f"master{len(made)}", **store, **settings)
        made.append(process)
        process.start()
        process.begin(7)
        return process

    yield start
    for process in made:
        process.end()


@pytest.fixture
def process(make: Make) -> ArtifactProcess:
    return make()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "a.whl"
    made.write_bytes(content(8 * MB))
    return made


@pytest.fixture
def large(file: Path) -> Path:
    """More than the sockets between here and there hold."""
    file.write_bytes(content(40 * MB))
    return file


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# -- what should happen


@either_store
def test_files_arrive_whole_and_the_tool_says_which(process: ArtifactProcess, tmp_path: Path) -> None:
    for name in ("b.whl", "a.whl", "empty.txt", "note.txt", "report für März.xml"):
        (tmp_path / name).write_bytes(b"" if name == "empty.txt" else content(300_000, seed=len(name)))
    code, said = process.upload(7, tmp_path / "*.whl", tmp_path / "*.txt", tmp_path / "report*")
    assert code == 0, said
    names = ["a.whl", "b.whl", "empty.txt", "note.txt", "report für März.xml"]
    assert process.uploaded(7) == {name: sha256(tmp_path / name) for name in names}
    assert said.splitlines()[-1].startswith('mlc-ci-worker upload: {"a.whl": ')
    assert process.unfinished() == {}


@either_store
def test_the_same_again_is_content_and_something_else_is_not(process: ArtifactProcess, file: Path) -> None:
    assert process.upload(7, file)[0] == 0
    first = process.uploaded()
    assert process.upload(7, file)[0] == 0
    file.write_bytes(content(8 * MB, seed=1))
    code, said = process.upload(7, file)
    assert code == 1
    assert "a.whl was uploaded before, with another content" in said
    file.write_bytes(b"short")
    code, said = process.upload(7, file)
    assert (code, process.uploaded()) == (1, first)
    assert "a.whl was uploaded with 8000000 bytes, and now it would have 5" in said


@either_store
def test_two_builds_with_the_same_names_at_once(process: ArtifactProcess, tmp_path: Path) -> None:
    process.begin(8, run_id=2)
    for build in (7, 8):
        (tmp_path / str(build)).mkdir()
        for name in ("a.whl", "b.whl"):
            (tmp_path / str(build) / name).write_bytes(content(4 * MB, seed=build))
    tools = [process.uploader(build, tmp_path / str(build) / "*.whl") for build in (7, 8)]
    assert [ended(tool)[0] for tool in tools] == [0, 0]
    for build in (7, 8):
        assert process.uploaded(build) == {name: sha256(tmp_path / str(build) / name) for name in ("a.whl", "b.whl")}


def test_what_the_patterns_must_match(process: ArtifactProcess, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.whl").write_bytes(b"x")
    code, said = process.upload(7, tmp_path / "*.tar")
    assert (code, said) == (1, f"mlc-ci-worker upload: error: no file matches {tmp_path}/*.tar\n")
    code, said = process.upload(7, tmp_path / "**" / "same.whl")
    assert code == 1
    assert f"two files would be same.whl: {tmp_path}/x/same.whl and {tmp_path}/y/same.whl" in said
    assert process.upload(7, tmp_path / "x" / "*", tmp_path / "x" / "same.*")[0] == 0
    assert list(process.uploaded()) == ["same.whl"]


def test_a_name_that_is_none_is_refused_before_anything_is_sent(process: ArtifactProcess, tmp_path: Path) -> None:
    for name in ("good.whl", "con.whl"):
        (tmp_path / name).write_bytes(b"x")
    code, said = process.upload(7, tmp_path / "*.whl")
    assert (code, process.uploaded(), process.unfinished()) == (1, {}, {})
    assert "'con.whl' cannot be the name of an artifact: it is a device on Windows" in said


def test_names_that_some_system_takes_for_one(process: ArtifactProcess, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"x")
    assert process.upload(7, tmp_path / "a.whl")[0] == 0
    (tmp_path / "A.whl").write_bytes(b"y")
    code, said = process.upload(7, tmp_path / "A.whl")
    assert (code, list(process.uploaded())) == (1, ["a.whl"])
    assert "A.whl would be taken for a.whl" in said


# -- what can break


@pytest.mark.parametrize("tenth", range(1, 10))
def test_a_connection_that_is_cut(process: ArtifactProcess, file: Path, tenth: int) -> None:
    size = file.stat().st_size
    with proxy(process.port, cuts=[size * tenth // 10]) as broken:
        code, said = process.upload(7, file, url=broken.url)
    assert (code, broken.cut) == (0, 1), said
    assert process.uploaded() == {"a.whl": sha256(file)}
    assert "a.whl: going on at byte " in said  # else it would have been sent again from its beginning


@either_store
def test_a_connection_that_is_cut_again_and_again(process: ArtifactProcess, file: Path) -> None:
    times = 3 if process.wire else 8  # to a bucket it is sent again as a whole, after ever longer pauses
    with process.way(cuts=[900_000] * times) as (broken, url):
        code, said = process.upload(7, file, url=url)
    assert (code, broken.cut, process.uploaded()) == (0, times, {"a.whl": sha256(file)}), said


def test_a_network_that_stays_away_ends_as_infrastructure(process: ArtifactProcess, file: Path) -> None:
    with process.way(cuts=[0] * 1000) as (_, url):
        code, said = process.upload(7, file, url=url, patience=1)
    assert (code, process.uploaded()) == (75, {})
    assert "mlc-ci-worker upload: error: no progress for 1 s" in said


def test_a_byte_that_changes_on_the_way_is_noticed_and_mended(process: ArtifactProcess, file: Path) -> None:
    with proxy(process.port, flips=1) as broken:
        code, said = process.upload(7, file, url=broken.url)
    assert (code, process.uploaded()) == (0, {"a.whl": sha256(file)})
    assert "did not arrive as its sender has it" in said
    process.begin(8, run_id=2)
    with proxy(process.port, flips=1000) as broken:
        code, said = process.upload(8, file, url=broken.url)
    assert (code, process.uploaded(8), process.unfinished()) == (75, {}, {})
    assert "a.whl arrived differently 3 times" in said


@either_store
def test_sigkill_of_the_uploader(process: ArtifactProcess, large: Path) -> None:
    with process.way(held=5 * MB) as (slow, url):
        tool = process.uploader(7, large, url=url)
        assert slow.waiting.wait(20)
        wait(lambda: sum(process.unfinished().values()) > 3 * MB)
        tool.kill()
        ended(tool)
        slow.held = None
        slow.go.set()
    assert process.uploaded() == {}
    code, said = process.upload(7, large)
    assert (code, process.uploaded()) == (0, {"a.whl": sha256(large)})
    assert ("going on at byte" in said) == (process.wire is None)  # to a bucket a file goes at once


@either_store
def test_sigkill_of_the_artifact_process(process: ArtifactProcess, large: Path) -> None:
    with process.way(held=5 * MB) as (slow, url):
        tool = process.uploader(7, large, url=url)
        assert slow.waiting.wait(20)
        wait(lambda: sum(process.unfinished().values()) > 3 * MB)
        process.kill()
        slow.held = None
        slow.go.set()
        process.start()
        code, said = ended(tool)
    assert (code, process.uploaded()) == (0, {"a.whl": sha256(large)}), said
    assert ("going on at byte" in said) == (process.wire is None)


def test_sigterm_in_the_middle_ends_in_order_and_the_next_life_goes_on(process: ArtifactProcess, large: Path) -> None:
    with process.way(held=5 * MB) as (slow, url):
        tool = process.uploader(7, large, url=url)
        assert slow.waiting.wait(20)
        assert process.stop() == 0
        slow.held = None
        slow.go.set()
        process.start()
        code, said = ended(tool)
    assert (code, process.uploaded()) == (0, {"a.whl": sha256(large)}), said


@either_store
def test_a_second_connection_for_the_same_file_takes_over(process: ArtifactProcess, large: Path) -> None:
    with process.way(held=5 * MB) as (slow, url):
        stuck = process.uploader(7, large, url=url)
        assert slow.waiting.wait(20)
        slow.held = None  # nobody else is held
        code, _ = process.upload(7, large)
        assert (code, process.uploaded()) == (0, {"a.whl": sha256(large)})
        slow.go.set()
        assert ended(stuck)[0] == 0  # it finds its own file there
    assert process.uploaded() == {"a.whl": sha256(large)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_is_told_before_a_byte_is_read(make: Make, small_disk: Path, file: Path) -> None:
    process = make(small_disk / "master")
    code, said = process.upload(7, file)
    assert (code, process.uploaded(), process.unfinished()) == (75, {}, {})
    assert "the artifact store is full: 7.629 MiB are to come" in said
    file.write_bytes(b"small")
    assert process.upload(7, file)[0] == 0


def test_a_disk_that_fills_up_on_the_way_keeps_nothing_of_it(make: Make, small_disk: Path, file: Path) -> None:
    process = make(small_disk / "master")
    file.write_bytes(content(3 * MB))
    with proxy(process.port, held=MB) as slow:
        tool = process.uploader(7, file, url=slow.url)
        assert slow.waiting.wait(20)
        with contextlib.suppress(OSError), (small_disk / "others").open("wb", buffering=0) as others:
            while True:
                others.write(b"x" * 4096)  # somebody else takes what was free
        slow.held = None
        slow.go.set()
        code, said = ended(tool)
    assert (code, process.uploaded(), process.unfinished()) == (75, {}, {}), said
    assert "artifact store is full" in said
    (small_disk / "others").unlink()
    assert process.upload(7, file)[0] == 0
    assert process.uploaded() == {"a.whl": sha256(file)}


def test_the_reserve_stops_uploads_before_the_disk_is_full(make: Make, file: Path) -> None:
    free = shutil.disk_usage(file).free >> 30
    process = make(reserve=f"{free + 10}G")
    code, said = process.upload(7, file)
    assert (code, process.unfinished()) == (75, {})
    assert "0 bytes are free" in said
    with process.client() as client:
        assert client.get("/health").status_code == 507


# -- who may what


@either_store
def test_a_token_dies_with_its_build(process: ArtifactProcess, file: Path) -> None:
    assert process.upload(7, file)[0] == 0
    process.finish(7)
    file.rename(file.with_name("b.whl"))
    wait(lambda: process.upload(7, file.with_name("b.whl"), patience=1)[0] == 75, 5)  # known to run for a second more
    code, said = process.upload(7, file.with_name("b.whl"))
    assert code == 75
    assert "build 7 is over, and its token with it (HTTP 403)" in said


@either_store
def test_a_build_that_ends_while_its_file_is_on_the_way(process: ArtifactProcess, file: Path) -> None:
    with process.way(held=7 * MB) as (slow, url):
        tool = process.uploader(7, file, url=url)
        assert slow.waiting.wait(20)
        process.finish(7)
        slow.held = None
        slow.go.set()  # at once: the process may still believe that the build runs
        code, said = ended(tool)
    assert (code, process.uploaded()) == (75, {})
    assert "build 7 is over" in said


@either_store
def test_no_other_token_opens_a_builds_folder(process: ArtifactProcess, file: Path) -> None:
    process.begin(8, run_id=2)
    for token, said in {
        process.token(8): "this token is for build 8, not for build 7 (HTTP 403)",
        process.token(7, key="a-key-that-somebody-made-up-himself"): "no token of this master",
        "nonsense": "no token of this master",
        process.token(9): "build 9 is over",
    }.items():
        code, output = process.upload(7, file, token=token)
        assert (code, said in output) == (75, True), output
    assert (process.uploaded(), process.unfinished()) == ({}, {})


@either_store
def test_a_budget_is_told_before_a_byte_is_read(process: ArtifactProcess, tmp_path: Path) -> None:
    for name, size in (("a.whl", 2 << 20), ("b.whl", 3 << 20)):
        (tmp_path / name).write_bytes(content(size))
    code, said = process.upload(7, tmp_path / "*.whl", token=process.token(7, budget=4 << 20))
    assert (code, process.uploaded(), process.unfinished()) == (1, {}, {})
    assert "artifact limit: 4 MiB allowed, 5 MiB in 2 files; the biggest: b.whl (3 MiB)" in said
    assert process.upload(7, tmp_path / "a.whl", token=process.token(7, budget=4 << 20))[0] == 0
    code, said = process.upload(7, tmp_path / "b.whl", token=process.token(7, budget=4 << 20))
    assert "artifact limit: 4 MiB allowed, 5 MiB in 2 files" in said  # what was uploaded before counts
    assert process.upload(7, tmp_path / "b.whl", token=process.token(7, budget=5 << 20))[0] == 0


def test_memory_stays_flat_however_large_the_files_are(process: ArtifactProcess, tmp_path: Path) -> None:
    (tmp_path / "small.bin").write_bytes(content(MB))
    assert process.upload(7, tmp_path / "small.bin")[0] == 0
    before = process.peak_memory()
    for name in ("1.bin", "2.bin", "3.bin"):
        (tmp_path / name).write_bytes(content(80 * MB))
    with ThreadPoolExecutor(3) as three:
        done = list(three.map(lambda name: process.upload(7, tmp_path / name)[0], ("1.bin", "2.bin", "3.bin")))
    assert done == [0, 0, 0]
    assert process.peak_memory() - before < 40 * MB


def test_an_answer_comes_before_the_body_to_whoever_waits_for_it(process: ArtifactProcess) -> None:
    head = (
        "PUT /builds/7/a.whl HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        f"Authorization: Bearer {process.token(7, budget=1 << 20)}\r\nContent-Length: {{}}\r\n\r\n"
    )
    for length, answer in ((100 << 20, b"413"), (10, b"100")):
        with socket.create_connection(("127.0.0.1", process.port)) as connection:
            connection.sendall(head.format(length).encode())
            assert connection.recv(100).split()[1] == answer


def test_bytes_come_with_the_head_or_when_they_come(process: ArtifactProcess) -> None:
    """By hand: what the process has read with the head, and what it reads past its event loop, are one file."""
    whole = content(3 * MB)
    head = (
        "PUT /builds/7/a.whl HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        f"Authorization: Bearer {process.token(7)}\r\nContent-Length: {len(whole)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", process.port)) as connection:
        connection.sendall(head.encode() + whole[:10_000])
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for at in range(10_000, len(whole), 290_000):
            connection.sendall(whole[at : at + 290_000])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # to its end: it says so
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer
    assert answer.endswith(b'{"name":"a.whl","size":3000000,"offset":3000000}')
    with process.client(process.token(7)) as client:
        order = {"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
        assert client.post("/builds/7/a.whl/commit", json=order).status_code == 200
    assert process.uploaded() == {"a.whl": hashlib.sha256(whole).hexdigest()}


def test_over_tls_only_who_has_the_authoritys_certificate_sends_anything(
    make: Make, file: Path, tmp_path: Path
) -> None:
    process = make(master={"worker_tls": True, "worker_host": ["localhost"], "worker_port": 9990}, tls=True)
    assert process.url == f"https://localhost:{process.port}"
    worker = tmp_path / "worker"
    worker.mkdir()
    code, said = process.upload(7, file, worker=worker)
    assert (code, process.unfinished()) == (75, {})
    assert "mlc-ci-worker upload: error: the artifact process is not trusted: unable to get local issuer" in said
    code, said = process.upload(7, file, url=process.url.replace("https", "http"), patience=1)
    assert (code, process.unfinished()) == (75, {})  # nothing of it arrives
    (worker / "ca.pem").write_text((process.folder / "tls" / "ca.pem").read_text())
    code, said = process.upload(7, file, worker=worker)
    assert (code, process.uploaded()) == (0, {"a.whl": sha256(file)}), said
    code, said = process.upload(7, file, worker=worker, url=f"https://127.0.0.1:{process.port}")
    assert code == 75
    assert "the artifact process is not trusted: IP address mismatch" in said


def test_what_keeps_the_process_from_starting_is_said(tmp_path: Path) -> None:
    process = ArtifactProcess(tmp_path / "master")
    with socket.create_server(("127.0.0.1", process.port)), pytest.raises(AssertionError) as refused:
        process.start()
    assert f"port {process.port} of 127.0.0.1 cannot be used: Address already in use" in str(refused.value)
    metadata.drop_all(process.engine)
    with pytest.raises(AssertionError, match="the database has no table of uploads"):
        process.start()
    process.end()


def test_any_free_port_is_kept_over_a_restart(make: Make, file: Path) -> None:
    process = make(port=0)
    first = process.url
    process.kill()
    process.start()
    assert process.url == first
    assert process.upload(7, file)[0] == 0
