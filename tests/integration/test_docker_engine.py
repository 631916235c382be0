"""The private Docker engine and registry of ``ci/up --with-docker`` and of these tests: real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from docker_engine import engine, folder_of, log_in, registry

from master.site.engine import BASE_IMAGE, Engine, NoEngine, why_not
from master.site.registry import Registry

__all__ = ["engine", "registry"]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docker")]


def has_bridge(folder: Path) -> bool:
    """Whether the bridge of the engine in this folder is there."""
    name = json.loads((folder / "daemon.json").read_text())["bridge"]
    return Path("/sys/class/net", name).exists()


def comes_true(condition: Callable[[], bool], patience: float = 60.0) -> bool:
    until = time.monotonic() + patience
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    return condition()


def test_a_container_runs_from_the_base_and_its_failure_is_told(engine: Engine) -> None:
    said = engine.docker("run", "--rm", "--network", "none", BASE_IMAGE, "sh", "-c", ". /etc/os-release; echo $ID")
    assert said.strip() in {"debian", "ubuntu"}
    with pytest.raises(NoEngine, match="no-such-program"):
        engine.docker("run", "--rm", BASE_IMAGE, "no-such-program")


def test_buildkit_builds_from_the_base_without_a_pull(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        f"FROM {BASE_IMAGE}\nRUN --mount=type=cache,target=/c --network=none touch /built\n"
    )
    engine.docker("buildx", "build", "--tag", "test/built", str(tmp_path))
    assert engine.docker("run", "--rm", "--network", "none", "test/built", "ls", "/built").strip() == "/built"


def test_containers_of_one_network_find_each_other_by_name(engine: Engine) -> None:
    engine.docker("network", "create", "together")
    engine.docker("run", "--detach", "--rm", "--network", "together", "--name", "one", BASE_IMAGE, "sleep", "60")
    try:
        found = engine.docker("run", "--rm", "--network", "together", BASE_IMAGE, "getent", "hosts", "one")
        assert found.split()[1] == "one"
    finally:
        engine.docker("rm", "--force", "one")
        engine.docker("network", "rm", "together")


def test_the_registry_gives_back_what_was_pushed_and_refuses_everybody_else(engine: Engine, registry: Registry) -> None:
    name = f"{registry.address}/test/base:1"
    engine.docker("tag", BASE_IMAGE, name)
    with pytest.raises(NoEngine, match="no basic auth credentials"):
        engine.docker("push", name)
    with pytest.raises(NoEngine, match="401 Unauthorized"):
        log_in(engine, registry, "wrong")
    log_in(engine, registry)
    engine.docker("push", name)
    engine.docker("rmi", name)
    engine.docker("pull", name)
    engine.docker("logout", registry.address)
    engine.docker("rmi", name)
    with pytest.raises(NoEngine, match="no basic auth credentials"):
        engine.docker("pull", name)
    assert registry.password not in (registry.folder / "htpasswd").read_text()


def test_two_engines_at_once_know_nothing_of_each_other(engine: Engine, tmp_path: Path) -> None:
    with Engine(tmp_path) as other:
        assert has_bridge(tmp_path)
        other.docker("network", "create", "same-name")
        engine.docker("network", "create", "same-name")
        engine.docker("network", "rm", "same-name")
        assert "same-name" in other.docker("network", "ls")
        assert BASE_IMAGE not in other.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
        running = engine.docker("run", "--detach", "--rm", "--network", "none", BASE_IMAGE, "sleep", "60").strip()
        place = folder_of(other)
    assert not has_bridge(tmp_path)
    assert not place.exists()
    assert has_bridge(engine.folder)
    assert running.startswith(engine.docker("ps", "--quiet").strip())  # ending one ended nothing of the other
    engine.docker("rm", "--force", running)


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    with Engine(tmp_path / "engine") as first:
        first.docker("buildx", "build", "--tag", "kept", str(tmp_path))
    with Engine(tmp_path / "engine") as second:
        assert second.docker("image", "ls", "--quiet", "kept").strip()


STARTER = """\
import sys, time
from pathlib import Path
from master.site.engine import BASE_IMAGE, Engine, base_image
with Engine(Path(sys.argv[1])) as engine:
    base_image(engine)
    network = engine.docker("network", "create", "own").strip()
    engine.docker("run", "--detach", "--network", "own", "--stop-signal", "KILL", BASE_IMAGE, "sleep", "12345")
    print(engine.pid, engine.host, f"br-{network[:12]}", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_nothing_is_left_of_an_engine_whose_starter_was_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tmp_path / "engine")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert starter.stdout
    pid, host, network = starter.stdout.readline().split()
    place = Path(host.removeprefix("unix://")).parent
    assert has_bridge(tmp_path / "engine")  # so that there is something to leave behind
    assert Path("/sys/class/net", network).exists()
    assert str(place) in Path("/proc/self/mountinfo").read_text()
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    assert comes_true(lambda: not Path("/proc", pid).exists())
    assert not has_bridge(tmp_path / "engine")
    assert not Path("/sys/class/net", network).exists()
    assert not place.exists()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not [pid for pid in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x0012345" in _words(pid)]


def _words(cmdline: Path) -> bytes:
    try:
        return cmdline.read_bytes()
    except OSError:
        return b""


def test_without_root_the_reason_is_told(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    ask = "import os\nfrom master.site.engine import why_not\nos.setuid(65534)\nprint(why_not())"
    asked = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert asked.stdout.strip() == "a private Docker engine needs root"


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("without root, that is the reason")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "dockerd" in why_not(tmp_path)
    with pytest.raises(NoEngine, match="needs dockerd"), Engine(tmp_path / "engine", tmp_path):
        pass
    assert not (tmp_path / "engine").exists()
