"""What a container that does not start is told of, and what reaches it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from rich.console import Console
from settings_sample import read, usable

from master.containers import ContainerFailed, archive, worker_files
from master.latent_workers import CannotStart, _Asked, _Password
from master.leases import Ledger
from master.plan import live_workers
from master.probe_facts import Unreadable
from master.routing import Hosts, Known
from master.show_fleet import fleet
from master.web.fleet_page import workers_page
from workers.start import read_config


def test_a_reason_ends_with_what_the_container_said_last_without_its_clock() -> None:
    said = [
        "2026-11-24 15:57:28+0000 [-] Starting Worker -- version: 4.3.0",
        "2026-11-24 15:57:28+0000 [-] Starting factory <workers.attach._OnlyConnection object at 0x7f5373a705d0>",
        "2026-11-24 15:57:29+0000 [-] the master at 127.0.0.1:9 cannot be reached: Connection was refused.",
        "\\x1b[31mbye",
    ]
    failed = ContainerFailed("its container ended (exit code 2) before it connected", said)
    assert failed.reason == (
        "its container ended (exit code 2) before it connected; it said: Starting Worker -- version: 4.3.0; "
        "the master at 127.0.0.1:9 cannot be reached: Connection was refused.; \\x1b[31mbye"
    )
    assert all(line in str(failed) for line in said), "the log has all of it"
    assert CannotStart(failed).reason == failed.reason


def test_a_reason_is_one_line_however_much_was_said() -> None:
    failed = ContainerFailed("its image cannot be probed", ["x" * 1000, "a\nb"])
    assert len(failed.reason) <= 400
    assert "\n" not in failed.reason


def test_a_password_is_for_one_connection() -> None:
    password = _Password()
    held = _Asked(password).getRenderingFor(None)
    first = password.renewed()
    assert held.getRenderingFor(None) == first
    password.renewed()
    assert held.getRenderingFor(None) != first


def test_what_a_container_is_given_is_what_its_worker_reads(tmp_path: Path) -> None:
    for name, text in worker_files("box", "secret", host="10.0.0.1", port=9989, tls=False, ca=None).items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    config = read_config(tmp_path)
    assert (config.name, config.host, config.port, config.password, config.once) == (
        "box",
        "10.0.0.1",
        9989,
        "secret",
        True,
    )


def test_the_workers_files_belong_to_its_user_alone() -> None:
    files = worker_files("box", "secret", host="10.0.0.1", port=9989, tls=True, ca=None)
    assert json.loads(files["worker.json"]) == {
        "name": "box",
        "host": "10.0.0.1",
        "port": 9989,
        "tls": True,
        "once": True,
    }
    with tarfile.open(fileobj=io.BytesIO(archive(files, "7:8"))) as tar:
        entries = {each.name: (each.uid, each.gid, each.mode, each.isdir()) for each in tar.getmembers()}
    assert entries == {
        ".": (7, 8, 0o700, True),
        "cache": (7, 8, 0o700, True),
        "worker.json": (7, 8, 0o600, False),
        "password": (7, 8, 0o600, False),
    }


def test_the_fleet_says_that_a_container_comes_on_demand_and_why_it_would_not() -> None:
    box = '[workers.box]\ntrust = "trusted"\nprovides = ["python"]\n[workers.box.container]\nimage = "w:1"\n'
    more = 'network = "host"\nmounts = { "/srv" = "/srv" }'
    settings = usable(read(box + more, environ={"MLC_CI_PROJECT__REPOSITORY": "/srv/sample.git"}))
    hosts = Hosts(lambda: 100.0)
    hosts.configure({name: (each.os, each.provides) for name, each in settings.workers.items()}, 1e9)
    hosts.note("box", Known(said=Unreadable(reason="cannot be started: no image"), read_at=90.0))
    told = workers_page(settings.workers, [], hosts, {}, Ledger(), {}, 100.0, {"box": "no image"})["workers"]
    listed = [
        {
            "name": each["name"],
            "connected": False,
            "trust": "trusted",
            "version": "–",
            "running": [],
            "note": "",
            "probe": each,
        }
        for each in told
    ]
    console = Console(file=io.StringIO(), width=160)
    fleet(console, listed, [], 100.0)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert next(line.split()[1] for line in said.splitlines() if line.startswith("here ")) == "no"
    assert "box     on demand  trusted" in said
    assert "box, probed 10s ago: cannot be started: no image" in said
    assert "image    w:1, a container for each build" in said
    assert "not used no image" in said
    live = live_workers(told)
    assert (live["box"].connected, live["here"].connected) == (True, False)
