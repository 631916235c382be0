"""``workers/linux/install.sh``: from a bare Debian to a worker that attaches, and back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import MakeRig, free_port, toml

from master import bundle
from master.site.processes import Process

LINUX = Path(__file__).parents[2] / "workers" / "linux"
NAME = "Fresh-1"
USER = "mlcci-fresh-1"
SENT = {"mlc_ci_worker": 1, "name": NAME, "host": "127.0.0.1", "port": 9, "tls": False, "ca": "", "password": "x"}


def installer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINUX / "install.sh", *arguments], capture_output=True, text=True, check=False)


def sent(folder: Path, **changes: object) -> Path:
    path = folder / "sent.bundle"
    path.write_text(json.dumps({**SENT, **changes}, indent=2) + "\n")
    return path


def test_a_dry_run_says_everything_and_needs_no_root(tmp_path: Path) -> None:
    said = installer("--bundle", sent(tmp_path), "--dry-run")
    assert said.returncode == 0, said.stderr
    assert f"would make the user {USER}\n" in said.stdout
    assert f"would write /etc/systemd/system/mlc-ci-worker@{NAME}.service.d/host.conf\n" in said.stdout
    assert not Path("/etc/systemd/system", f"mlc-ci-worker@{NAME}.service.d").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--bundle: nothing cannot be read"),
        (["--bundel", "x"], "unknown option --bundel"),
        (["--bundle"], "--bundle needs a value"),
        (["--bundle", "/dev/null"], "/dev/null names no worker"),
        (["--uninstall", "../etc"], "../etc names no worker"),
        (["--memory", "lots"], "--memory: lots is no limit"),
        (["--tasks", "-1"], "--tasks: -1 is no number"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_done(arguments: list[str], reason: str) -> None:
    said = installer(*arguments, "--dry-run")
    assert said.returncode == 1
    assert f"install.sh: {reason}" in said.stderr
    assert said.stdout == ""


def test_the_longest_name_makes_a_user_name_that_systems_allow(tmp_path: Path) -> None:
    said = installer("--bundle", sent(tmp_path, name="W" * 50), "--dry-run").stdout
    found = re.search(r"would make the user (\S+)", said)
    assert found
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,31}", found[1])


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_the_script_is_clean() -> None:
    subprocess.run(["shellcheck", LINUX / "install.sh"], check=True)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    unit = (LINUX / "mlc-ci-worker@.service").read_text()
    assert "ExecStart=/opt/mlc-ci-worker/bin/mlc-ci-worker start" in unit
    (tmp_path / "mlc-ci-worker@.service").write_text(unit.replace("/opt/mlc-ci-worker/bin/mlc-ci-worker", "/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", tmp_path / "mlc-ci-worker@.service"]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "mlc-ci-worker@.service").write_text(unit.replace("NoNewPrivileges=", "NoNewPrivilege="))
    assert "NoNewPrivilege" in subprocess.run(verify, capture_output=True, text=True, check=False).stderr


class BareSystem:
    """A Debian with nothing in it, in a folder; it shares this machine's network, and not its processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        bootstrap = ["debootstrap", "--variant=minbase", "bookworm", root, "http://deb.debian.org/debian"]
        subprocess.run(bootstrap, check=True, capture_output=True)
        (root / "src").mkdir()
        checkout, ignored = LINUX.parents[1], shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("master", "steps", "workers"):
            shutil.copytree(checkout / name, root / "src" / name, ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(checkout / name, root / "src" / name)
        shutil.copyfile("/etc/resolv.conf", root / "etc" / "resolv.conf")
        self.authorities = root / "root" / "authorities.pem"  # this machine's way out may need its own
        shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", self.authorities)

    def command(self, shell: str) -> list[str]:
        inside = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
        inside += ["PIP_CERT=/root/authorities.pem", "PIP_DEFAULT_TIMEOUT=180"]
        script = f"mount -t proc proc /proc && cd / && {shell}"
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", str(self.root)]
        return [*apart, *inside, "bash", "-c", script]

    def run(self, shell: str) -> str:
        done = subprocess.run(self.command(shell), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, *options: str) -> str:
        return self.run(" ".join(["/src/workers/linux/install.sh", *options]))

    def everything(self) -> dict[str, tuple[int, int, int]]:
        """Every file with its mode, owner and time, but for what apt and the log keep for themselves."""
        found = {}
        for folder in ("etc", "opt", "usr", "var/lib/mlc-ci-worker", "root", "src"):
            for path in (self.root / folder).rglob("*"):
                stat = path.lstat()
                found[str(path)] = (stat.st_mode, stat.st_uid, stat.st_mtime_ns)
        return found


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[BareSystem]:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap")
    system = BareSystem(tmp_path / "bare")
    yield system
    shutil.rmtree(system.root, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_bare_debian_becomes_a_worker_once_and_is_rid_of_it_again(bare: BareSystem, make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.tables["workers"][NAME] = {"trust": "trusted", "provides": ["python"]}
    port = free_port()
    rig.worker_port = port
    rig.configure(rig.tables)
    tls = {"worker_tls": True, "worker_host": ["127.0.0.1"]}
    rig.tables["master"] |= tls
    (rig.site.basedir / "settings.toml").write_text(toml(rig.tables).replace("{rig}", str(rig.folder)))
    bundle.write(bundle.make(rig.site.basedir, NAME), bare.root / "root" / "b.bundle")
    rig.start_master(wait=False)

    first = bare.install("--bundle /root/b.bundle --memory 4G --tasks 500")
    assert f"make the user {USER}" in first
    assert "nothing to change" not in first
    before = bare.everything()
    assert bare.install("--bundle /root/b.bundle --memory 4G --tasks 500").endswith(
        f"worker {NAME}: nothing to change\n"
    )
    assert bare.everything() == before

    limits = (bare.root / f"etc/systemd/system/mlc-ci-worker@{NAME}.service.d/host.conf").read_text()
    assert {f"User={USER}", "MemoryMax=4G", "TasksMax=500"} <= set(limits.splitlines())
    home = bare.root / "var/lib/mlc-ci-worker" / NAME
    uid = home.stat().st_uid
    assert uid != 0
    assert home.stat().st_mode & 0o777 == 0o700
    assert {(p.stat().st_uid, p.stat().st_mode & 0o777) for p in home.iterdir()} == {(uid, 0o600)}
    assert f"{USER}:x:" in (bare.root / "etc/passwd").read_text()
    by_hand = re.search(r"^  (setpriv .*)$", first, re.MULTILINE)
    assert by_hand
    start = by_hand[1]
    bare.run(
        start.replace(
            f" start {start.rpartition(' ')[2]}", " tools cmake ninja c++ cargo ccache glslangValidator spirv-opt git"
        )
    )
    log = rig.folder / "site" / "logs" / "bare.log"
    worker = Process(name=NAME, command=bare.command(f"exec {start}"), log=log, environment=rig.site.environment)
    worker.start()
    try:
        rig.wait_for_workers(NAME)
        assert bare_uids(home) == {uid}
    finally:
        worker.stop()

    assert "write /etc/systemd/system" in bare.install("--bundle /root/b.bundle --memory 8G --tasks 500")
    removed = bare.install(f"--uninstall {NAME}")
    assert f"remove the user {USER}" in removed
    for path in ("opt/mlc-ci-worker", "var/lib/mlc-ci-worker", "etc/mlc-ci-worker"):
        assert not (bare.root / path).exists()
    assert not list((bare.root / "etc/systemd/system").glob("mlc-ci-worker*"))
    assert USER not in (bare.root / "etc/passwd").read_text()
    assert "nothing to remove" in bare.install(f"--uninstall {NAME}")


def bare_uids(home: Path) -> set[int]:
    """The users of every process that runs for the worker of this folder."""
    wanted = f"mlc-ci-worker start /var/lib/mlc-ci-worker/{home.name}"
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if wanted in command and "/bin/bash" not in command and "python" in command.split(" ")[0]:
            found.add(entry.stat().st_uid)
    return found
