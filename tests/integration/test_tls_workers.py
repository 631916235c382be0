"""A worker on another host: over TLS, with the bundle that the master made, or refused with its reason in both logs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from namespaces import Pair, joined_namespaces
from pipelines import hold, pipeline, workers
from rig import Rig, toml

from master import launch, tls
from master.artifacts import announced
from master.site.processes import Process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tls workers")]
NAME = "afar"
SCRIPT = launch.script("mlc-ci-worker")


#: a worker that breaks off in the middle of attaching
DROPS = """
import sys
from twisted.cred.credentials import UsernamePassword
from twisted.internet import reactor
from twisted.spread import pb

class Bot(pb.Referenceable):
    def remote_print(self, message):
        pass
    def remote_getWorkerInfo(self):
        reactor.callLater(0, lambda: factory._broker.transport.loseConnection())
        reactor.callLater(0.1, reactor.stop)
        return {"version": "4.3.0", "system": "posix", "worker_commands": {}}

factory = pb.PBClientFactory()
reactor.connectTCP("127.0.0.1", int(sys.argv[1]), factory)
factory.login(UsernamePassword(sys.argv[2].encode(), sys.argv[3].encode()), Bot()).addErrback(lambda why: None)
reactor.callLater(20, sys.exit, 1)
reactor.run()
"""


class Remote:
    """A master in one namespace, workers in the other."""

    def __init__(self, rig: Rig, pair: Pair) -> None:
        self.rig, self.pair = rig, pair
        self.settings: dict[str, Any] = {"worker_listen": "0.0.0.0", "worker_tls": True, "worker_host": [pair.address]}  # noqa: S104
        self.count = 0

    def configure(self, **more: Any) -> None:
        self.rig.configure(self.rig.tables)
        tables = {**self.rig.tables, "master": {**self.rig.tables["master"], **self.settings, **more}}
        (self.rig.site.basedir / "settings.toml").write_text(toml(tables).replace("{rig}", str(self.rig.folder)))

    def start_master(self) -> Process:
        site = self.rig.site
        (site.basedir / "ports.json").unlink(missing_ok=True)
        command = self.pair.on_master(launch.command(site.basedir))
        master = Process(
            name="master", command=command, log=site.folder / "logs" / "master.log", environment=site.environment
        )
        site.processes.append(master)
        master.start()
        self.rig.wait((site.basedir / "ports.json").exists, "the master opened its ports")
        return master

    def start_artifacts(self) -> None:
        site = self.rig.site
        command = self.pair.on_master([sys.executable, "-P", "-m", "master.artifacts", str(site.basedir)])
        log = site.folder / "logs" / "artifacts.log"
        process = Process(name="artifacts", command=command, log=log, environment=site.environment)
        site.processes.append(process)
        process.start()
        self.rig.wait(lambda: announced.url(site.basedir), "the artifact process answers")

    def command(self, *arguments: str) -> str:
        folder = str(self.rig.folder / "site")
        command = [launch.script("mlc-ci"), "worker", *arguments, "--folder", folder]
        return subprocess.run(
            self.pair.on_master(command), check=True, capture_output=True, text=True, cwd=self.rig.folder
        ).stdout

    def add(self) -> None:
        """As the administrator does it: while the master runs."""
        said = self.command("add", NAME, "--trust", "trusted", "--provides", "python", "--write")
        assert "kill -HUP" in said
        self.rig.reload()
        self.rig.tables["workers"] = {**self.rig.tables["workers"], NAME: {"trust": "trusted", "provides": ["python"]}}

    def join(self, **changes: Any) -> Path:
        """A folder of the worker's, made from its bundle; ``changes`` are to its ``worker.json``."""
        bundle = self.rig.folder / f"{NAME}.bundle"
        self.count += 1
        folder = self.rig.folder / f"remote{self.count}"
        subprocess.run([SCRIPT, "join", str(bundle), str(folder)], check=True, capture_output=True)
        config = {**json.loads((folder / "worker.json").read_text()), **changes}
        (folder / "worker.json").write_text(json.dumps(config))
        return folder

    @contextmanager
    def worker(self, folder: Path, command: list[str] | None = None) -> Iterator[Path]:
        """Runs a worker on the other host; its log."""
        log = folder.with_suffix(".log")
        process = Process(
            name=folder.name,
            command=self.pair.on_worker(command or [SCRIPT, "start", str(folder)]),
            log=log,
            environment=self.rig.site.environment,
        )
        process.start()
        try:
            yield log
        finally:
            process.stop()

    def both_say(self, folder: Path, worker_says: str, master_says: str, command: list[str] | None = None) -> None:
        """Runs a worker until both logs have a line that matches; it must not have got in."""
        before = len(self.rig.log())
        with self.worker(folder, command) as log:
            self.rig.wait(lambda: _line(worker_says, log.read_text()), f"the worker's log: {worker_says}")
            self.rig.wait(lambda: _line(master_says, self.rig.log()[before:]), f"the master's log: {master_says}")
        print(_line(worker_says, log.read_text()), _line(master_says, self.rig.log()[before:]), sep="\n")
        assert not self.rig.connected(NAME)
        assert "worker is ready" not in log.read_text()


def _line(pattern: str, text: str) -> str:
    found = re.search(f".*{pattern}.*", text)
    return found[0] if found else ""


@pytest.fixture(scope="module")
def remote(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    tables = {**pipeline(scheduling={"worker_timeout": 5}), "workers": workers("stranger")}
    rig = Rig(tmp_path_factory.mktemp("tls") / "rig", template, tables)
    with joined_namespaces() as pair:
        made = Remote(rig, pair)
        made.configure()
        made.start_artifacts()
        made.start_master()
        try:
            made.add()
            yield made
        finally:
            rig.stop()


def test_a_worker_on_another_host_joins_over_tls_and_builds(remote: Remote) -> None:
    folder = remote.join()
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes["password"] == modes["ca.pem"] == 0o600
    assert (remote.rig.folder / f"{NAME}.bundle").stat().st_mode & 0o777 == 0o600
    rig = remote.rig
    with remote.worker(folder) as log:
        rig.wait_for_workers(NAME)
        rig.wait(lambda: "worker is ready" in log.read_text(), "the worker is ready")
        rig.wait(lambda: rig.rows("select 1 from polled_refs where ref = ''"), "the poller's first look")
        run = rig.ended(rig.push())
        attempt = rig.attempt(run["id"], "build-a")
        assert (attempt["state"], attempt["worker"]) == ("success", NAME)
        url = f"http://127.0.0.1:{rig.web_port}/"
        listed = json.loads(remote.command("list", "--master", url, "--json"))
        (found,) = [worker for worker in listed if worker["name"] == NAME]
        assert found["connected"]
        assert re.fullmatch(r"4\.3\.\S+, mlc-ci 0\.1\.\S+", found["version"])
    rig.wait(lambda: not rig.connected(NAME), "the worker left")
    assert f"worker '{NAME}' attaching from IPv4Address(type='TCP', host='{remote.pair.address[:-1]}2'" in rig.log()


def test_a_worker_whose_network_is_gone_is_noticed_and_may_come_back(remote: Remote) -> None:
    rig, pair = remote.rig, remote.pair
    with remote.worker(remote.join()):
        rig.wait_for_workers(NAME)
        run_id = rig.run(rig.push({"ci/test.sh": hold(rig, "go")}))["id"]
        rig.wait_for_state(run_id, "test", "running")
        with pair.cut():
            said = f"the connection of worker '{NAME}' is ended: it has given no sign of life for 5 s (worker_timeout)"
            rig.wait(lambda: said in rig.log(), "the master has noticed")
            rig.wait_for_state(run_id, "test", "queued")
            assert rig.attempt(run_id, "test")["reason"] == "its worker was lost"
        rig.wait(lambda: rig.connected(NAME), "the worker is back", seconds=90)
        rig.flag("go")
        rig.wait_for_state(run_id, "test", "success")
        assert rig.attempt(run_id, "test")["lost_with_worker"] == 1
    rig.wait(lambda: not rig.connected(NAME), "the worker left")


def test_a_stranger_who_plays_the_master_is_refused(remote: Remote, tmp_path: Path) -> None:
    folder = remote.join()
    stranger = tls.own(tmp_path / "tls", [remote.pair.address])
    assert stranger.ca
    shutil.copyfile(stranger.ca, folder / "ca.pem")
    remote.both_say(
        folder,
        "cannot be reached: its certificate is signed by an authority that this worker does not trust",
        "refused a worker's connection from 10.*does not trust this master's certificate authority",
    )


def test_a_master_under_a_name_that_its_certificate_does_not_have_is_refused(remote: Remote) -> None:
    folder = remote.join(host=remote.pair.other_address)
    remote.both_say(
        folder,
        f"cannot be reached: its certificate is not for '{remote.pair.other_address}'",
        "refused a worker's connection from 10.*most likely for its names",
    )


def test_a_wrong_password_is_refused(remote: Remote) -> None:
    folder = remote.join()
    (folder / "password").write_text("guessed\n")
    remote.both_say(folder, "does not know this worker, or not this password", f"invalid login from user '{NAME}'")


def test_plain_text_at_the_tls_port_is_refused(remote: Remote) -> None:
    remote.both_say(
        remote.join(tls=False),
        "closed the connection without a word: does its port want TLS",
        "refused a worker's connection from 10.*said nothing of TLS",
    )


def test_the_plain_port_is_on_the_loopback_interface_only(remote: Remote) -> None:
    ports = remote.rig.site.ports
    said = subprocess.run(remote.pair.on_master(["ss", "-Hltn"]), capture_output=True, text=True, check=True).stdout
    listening = {line.split()[3] for line in said.splitlines()}
    assert f"127.0.0.1:{ports['worker']}" in listening
    encrypted = {f"0.0.0.0:{port}" for port in (remote.rig.worker_port, remote.rig.artifacts_port)}
    assert {address for address in listening if not address.startswith("127.")} == encrypted


def test_a_worker_of_another_version_is_not_used_and_its_page_says_why(remote: Remote) -> None:
    folder = remote.join()
    other = "import sys, workers.cli as c; c.version = lambda: '9.8.7'; sys.exit(c.main(sys.argv[1:]))"
    remote.both_say(
        folder,
        "the master refused this worker: versions do not fit: it has mlc-ci 9.8.7, the master 0.1",
        f"worker '{NAME}' is not used: versions do not fit: it has mlc-ci 9.8.7, the master 0.1",
        [sys.executable, "-c", other, "start", str(folder)],
    )
    (row,) = remote.rig.rows("select info from workers where name = ?", NAME)
    assert "not used: versions do not fit: it has mlc-ci 9.8.7" in json.loads(row["info"])["version"]
    with remote.worker(remote.join()):  # and once it is mended, it gets in
        remote.rig.wait_for_workers(NAME)
    remote.rig.wait(lambda: not remote.rig.connected(NAME), "the worker left")


def test_a_worker_that_is_lost_while_it_attaches_is_not_taken_for_connected(remote: Remote) -> None:
    password = (remote.join() / "password").read_text().strip()
    drops = [sys.executable, "-c", DROPS, str(remote.rig.site.ports["worker"]), NAME, password]
    before = len(remote.rig.log())
    subprocess.run(remote.pair.on_master(drops), check=True, cwd=remote.rig.folder, timeout=30)
    assert f"Got workerinfo from '{NAME}'" in remote.rig.log()[before:]
    remote.rig.wait(lambda: f"Worker.detached({NAME})" in remote.rig.log()[before:], "it is noticed", seconds=10)
    remote.rig.wait(lambda: not remote.rig.connected(NAME), "the worker is gone", seconds=10)


def test_an_expired_certificate_is_refused(remote: Remote, tmp_path: Path) -> None:
    remote.rig.end("master")
    folder = remote.join()
    seconds = 15.0
    given = _short_lived(remote.rig.site.basedir / "tls", tmp_path, seconds)
    made = time.monotonic()
    remote.configure(**given)
    remote.start_master()
    time.sleep(max(0.0, made + seconds + 1 - time.monotonic()))
    remote.both_say(
        folder,
        "cannot be reached: its certificate has expired",
        "refused a worker's connection from 10.*certificate has expired",
    )


def _short_lived(authority: Path, folder: Path, seconds: float) -> Mapping[str, str]:
    """A certificate as the master's own, by its own authority, that is given to it and soon over."""
    old = x509.load_pem_x509_certificate((authority / "server.pem").read_bytes())
    ca = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
    key: Any = serialization.load_pem_private_key((authority / "ca-key.pem").read_bytes(), None)
    builder = (
        x509.CertificateBuilder(issuer_name=ca.subject, subject_name=old.subject, public_key=old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(datetime.now(UTC) + timedelta(seconds=seconds))
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    (folder / "given.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return {
        "worker_certificate": str(folder / "given.pem"),
        "worker_key": str(authority / "server-key.pem"),
        "worker_ca": str(authority / "ca.pem"),
    }
