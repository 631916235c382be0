"""``mlc-ci-worker probe`` on the machine at hand, with a real software Vulkan device; its parts; the worker's file."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.cli import main
from workers.errors import InfrastructureError
from workers.probe import vulkan_abi
from workers.probe.collect import probe
from workers.probe.command import write
from workers.probe.facts import (
    WITHIN,
    Problem,
    few,
    one_line,
)
from workers.probe.host import memory_of_linux

LAVAPIPE = next(iter(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json")), None)
with_lavapipe = pytest.mark.skipif(not LAVAPIPE, reason="no lavapipe (Debian: mesa-vulkan-drivers, libvulkan1)")
ONLY = {"VK_DRIVER_FILES": str(LAVAPIPE), "VK_ICD_FILENAMES": str(LAVAPIPE)}


@with_lavapipe
def test_a_real_device_is_told_as_software(tmp_path: Path) -> None:
    found = probe(tmp_path, environment=ONLY)
    (device,) = [gpu for gpu in found.gpus if gpu.vulkan]
    assert device.vulkan
    assert device.vulkan.kind == "software"
    assert "llvmpipe" in device.name
    assert device.vulkan.api >= "1.1"
    assert "Mesa" in device.vulkan.driver
    assert device.vulkan.heaps[0].size > 1 << 20
    assert [each for each in found.problems if each.part == "vulkan"] == []


@with_lavapipe
def test_a_broken_driver_beside_it_is_a_problem_and_hides_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken_icd.json"
    icd = {"library_path": "/nowhere/libbroken.so", "api_version": "1.3.0"}
    broken.write_text(json.dumps({"file_format_version": "1.0.0", "ICD": icd}), encoding="ascii")
    both = f"{broken}{os.pathsep}{LAVAPIPE}"
    found = probe(tmp_path, environment={"VK_DRIVER_FILES": both, "VK_ICD_FILENAMES": both})
    assert [gpu.vulkan.kind for gpu in found.gpus if gpu.vulkan] == ["software"]
    assert any("/nowhere/libbroken.so" in each.what for each in found.problems if each.part == "vulkan")


@with_lavapipe
def test_the_structures_are_those_of_the_header(tmp_path: Path) -> None:
    header = Path("/usr/include/vulkan/vulkan.h")
    if not header.exists():
        pytest.skip("no header to compare with (Debian: libvulkan-dev)")
    types = [each for each in vars(vulkan_abi).values() if isinstance(each, type) and each.__name__.startswith("Vk")]
    asked = [(each, name) for each in types for name, *_ in each._fields_]
    lines = [f'printf("%zu\\n", sizeof({each.__name__}));' for each in types]
    lines += [f'printf("%zu\\n", offsetof({each.__name__}, {name}));' for each, name in asked]
    text = "#include <stddef.h>\n#include <stdio.h>\n#include <vulkan/vulkan.h>\nint main() {" + "\n".join(lines) + "}"
    (tmp_path / "sizes.c").write_text(text, encoding="ascii")
    subprocess.run(["gcc", "-o", tmp_path / "sizes", tmp_path / "sizes.c"], check=True)
    said = subprocess.run([tmp_path / "sizes"], check=True, capture_output=True, text=True).stdout
    ours = [*map(ctypes.sizeof, types), *(getattr(each, name).offset for each, name in asked)]
    assert len(types) == 11
    assert list(map(int, said.split())) == ours


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="there is an NVIDIA driver here")
def test_without_a_driver_there_is_no_cuda_and_no_problem(tmp_path: Path) -> None:
    found = probe(tmp_path)
    assert [each.why for each in found.absent if each.part == "cuda"] == ["no NVIDIA driver"]
    assert [each for each in found.problems if each.part == "cuda"] == []


def test_the_table_and_the_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert main(["probe"]) == 0
    table = capsys.readouterr().out
    assert said["format"] == 1
    assert f"{said['host']['cores']} cores" in table
    versions = {tool["name"]: tool["version"] for tool in said["tools"]}
    assert f"python    {versions['python']}" in table
    assert all(gpu["id"] in table for gpu in said["gpus"])
    assert all(each["what"] in table for each in said["problems"])


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_limit_that_is_none_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["probe", "--seconds", seconds])
    assert "no number of seconds above zero" in capsys.readouterr().err


def test_only_a_workers_folder_is_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--worker", str(tmp_path)]) == 2
    assert "it has no worker.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_worker_writes_what_its_host_can_do(tmp_path: Path) -> None:
    """A real worker, without a master: the file is there at once and whole, and what an earlier life said is not."""
    (tmp_path / "worker.json").write_text('{"name": "w", "host": "127.0.0.1", "port": 1}', encoding="utf-8")
    (tmp_path / "password").write_text("secret", encoding="utf-8")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "info").mkdir()
    file = tmp_path / "info" / "probe.json"
    file.write_text("of an earlier life", encoding="utf-8")
    command = [sys.executable, "-P", "-m", "workers.cli", "start", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        said: dict[str, object] = {}
        until = time.monotonic() + 60
        while not said and time.monotonic() < until and worker.poll() is None:
            text = file.read_text(encoding="utf-8") if file.exists() else ""
            said = {} if text in ("", "of an earlier life") else json.loads(text)
            time.sleep(0.02)
        assert said["format"] == 1
        assert sorted(path.name for path in (tmp_path / "info").iterdir()) == [
            "admin", "host", "mlc_ci", "probe.json", "python",
        ]  # fmt: skip
        assert list((tmp_path / "tmp").iterdir()) == []
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    assert "the probe of this host" not in (tmp_path / "log").read_text(encoding="utf-8")


def test_what_a_build_put_in_its_place_keeps_no_worker_from_starting(tmp_path: Path) -> None:
    from workers.start import WorkerConfig, write_info

    (tmp_path / "info" / "probe.json" / "deep").mkdir(parents=True)
    write_info(WorkerConfig(directory=tmp_path, name="w", host="127.0.0.1", port=1, password="x"), "1")
    assert not (tmp_path / "info" / "probe.json").exists()
    (tmp_path / "info" / "probe.json" / "deep").mkdir(parents=True)  # and again, while it runs
    with pytest.raises(InfrastructureError, match=r"probe\.json cannot be written"):
        write(tmp_path, probe(tmp_path))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_buildbots_own_reading_of_it_is_what_the_master_reads(tmp_path: Path) -> None:
    """As the worker's file, through the worker's code that answers ``remoteGetWorkerInfo``."""
    from master.probe_facts import ProbeSaid, read
    from workers.attach import AttachedWorker
    from workers.start import WorkerConfig

    config = WorkerConfig(directory=tmp_path, name="w", host="127.0.0.1", port=1, password="x")
    bot = AttachedWorker(config).bot
    assert "probe.json" not in bot.remote_getWorkerInfo()
    write(tmp_path, probe(tmp_path))
    said = read(bot.remote_getWorkerInfo()["probe.json"])
    assert isinstance(said, ProbeSaid)
    assert "python" in {tool.name for tool in said.tools}


def test_memory_that_is_not_told_is_unknown(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 2 kB\nMemFree: 9 kB\nMemAvailable: 1 kB\n", encoding="ascii")
    assert memory_of_linux(file) == (2048, 1024)
    file.write_text("MemTotal: many\n", encoding="ascii")
    assert memory_of_linux(file) == (None, None)
    assert memory_of_linux(tmp_path / "none") == (None, None)


def test_text_is_one_short_line_of_ascii() -> None:
    assert one_line(" a\n\tb\x00\x1b[1m ") == "a b [1m"
    assert one_line("Grafikkarte für") == "Grafikkarte f\\xfcr"
    assert len(one_line("x" * 1000)) == WITHIN.text


def test_problems_are_few() -> None:
    many = [Problem(part="a", what=str(number)) for number in range(WITHIN.problems + 5)]
    assert few(many[: WITHIN.problems]) == tuple(many[: WITHIN.problems])
    assert len(few(many)) == WITHIN.problems
    assert few(many)[-1].what == "6 more problems are not shown"
