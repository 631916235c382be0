"""docker/compose.yaml: what it says is valid, and what it starts is a whole CI that keeps its promises."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compose_stack import DOCKER, HOST, SERVICES, Stack, build_all, wait
from docker_engine import engine, on_demand  # noqa: F401 (a fixture)

from master.settings import examine
from master.site.engine import Engine, tools_path

pytestmark = [pytest.mark.xdist_group("docker"), pytest.mark.timeout(1800)]  # the first of them builds the images

HOLD = "i=0; while [ ! -e {flag} ] && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done\n"
TABLES: dict[str, Any] = {
    "project": {"name": "sample", "repository": "/repositories/sample.git", "poll_interval": 0.5, "submodules": False},
    "master": {
        "url": "https://ci.example.org",
        "web_listen": "0.0.0.0",  # noqa: S104 - as docker/settings.toml
        "worker_listen": "0.0.0.0",  # noqa: S104
        "worker_tls": True,
        "worker_host": ["ci.example.org", "master"],
    },
    "artifacts": {"reserve": "1M"},
    "database": {"url": "postgresql://ci:{secret:database}@database/ci"},
    "workers": {name: {"trust": name, "provides": ["python"]} for name in ("trusted", "untrusted")},
    "stages": {
        "test": {
            "uses": "commands",
            "requires": {"os": "linux", "tools": ["python"]},
            "commands": ["[ ! -f ci/test.sh ] || . ci/test.sh", "git rev-parse HEAD > made.txt"],
            "artifacts": ["made.txt"],
        },
        "summary": {"needs": ["test"]},
    },
}


def test_the_shipped_settings_pass_the_check_without_a_warning() -> None:
    examined = examine(DOCKER / "settings.toml", {})
    assert (examined.problems, examined.settings is not None) == ([], True)


def test_compose_takes_the_shipped_file_with_the_shipped_names() -> None:
    said = compose_config(DOCKER / ".env.example")
    assert said.returncode == 0, said.stderr
    services = json.loads(said.stdout)["services"]
    assert set(services) == set(SERVICES)
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["user"].partition(":")[0]) > 0, name
        assert service["mem_limit"], name
    assert {name for name in services if "database" in services[name]["networks"]} == {
        "master",
        "artifacts",
        "database",
    }
    open_to_all = {name for name in services for port in services[name].get("ports", []) if "host_ip" not in port}
    assert open_to_all == {"proxy"}


def test_without_names_compose_says_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    said = compose_config(tmp_path / "empty")
    assert said.returncode != 0
    assert "see .env.example" in said.stderr


def compose_config(names: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker-compose", path=tools_path())
    if not program:
        pytest.skip("docker's compose plugin is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLC_CI_", "COMPOSE_"))}
    return subprocess.run(
        [program, "--file", DOCKER / "compose.yaml", "--env-file", names, "config", "--format=json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:  # noqa: F811
    """The whole stack, up and healthy."""
    build_all(engine)
    made = Stack(engine, tmp_path_factory.mktemp("stack"))
    made.write(TABLES)
    try:
        made.prepare()
        made.up()
        yield made
    finally:
        made.down(volumes=True)


@pytest.mark.slow
@on_demand
def test_nothing_in_it_has_rights(stack: Stack) -> None:
    for service in SERVICES:
        assert rights(stack.inspect(service)) == [], service


@pytest.mark.slow
@on_demand
def test_that_look_at_rights_sees_them(stack: Stack) -> None:
    number = stack.engine.docker("run", "--detach", "stand-in/caddy:1", "sleep", "60").strip()
    try:
        found = rights(json.loads(stack.engine.docker("inspect", number))[0])
    finally:
        stack.engine.docker("rm", "--force", number)
    assert found == ["may write to its root", "has capabilities", "may gain privileges", "is root"]


def rights(container: dict[str, Any]) -> list[str]:
    """What its processes may, by what the kernel says of the first one."""
    status = Path(f"/proc/{container['State']['Pid']}/status").read_text()
    found = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.MULTILINE))
    root = next(
        line.split()[5]
        for line in Path(f"/proc/{container['State']['Pid']}/mountinfo").read_text().splitlines()
        if line.split()[4] == "/"
    )
    wrong = {
        "may write to its root": "ro" not in root.split(","),
        "has capabilities": any(int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")),
        "may gain privileges": found["NoNewPrivs"] != "1",
        "is root": found["Uid"] == "0" or found["Gid"] == "0",
    }
    return [what for what, so in wrong.items() if so]


@pytest.mark.slow
@on_demand
def test_no_secret_shows_in_what_docker_tells_of_it(stack: Stack) -> None:
    secrets = [file.read_text().strip() for file in (stack.site / "secrets").iterdir()]
    secrets += [json.loads(file.read_text())["password"] for file in (stack.site / "bundles").iterdir()]
    names = stack.execute("master", "ls", "/var/lib/mlc-ci/master/secrets").decode().split()
    secrets += [
        stack.execute("master", "cat", f"/var/lib/mlc-ci/master/secrets/{name}").decode().strip() for name in names
    ]
    assert len(set(secrets)) >= 6
    told = "".join(json.dumps(stack.inspect(service)) for service in SERVICES)
    told += "".join(stack.compose("logs", service).decode() for service in SERVICES)
    assert HOST in told
    assert [secret for secret in secrets if secret in told] == []


@pytest.mark.slow
@on_demand
def test_the_database_answers_the_master_and_nobody_else(stack: Stack) -> None:
    address = stack.inspect("database")["NetworkSettings"]["Networks"]
    place = next(iter(address.values()))["IPAddress"]
    knock = ["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{place}/5432"]
    reach = {service: stack.succeeds(service, *knock) for service in SERVICES if service != "database"}
    assert reach == {
        "master": True,
        "artifacts": True,
        "proxy": False,
        "worker-trusted": False,
        "worker-untrusted": False,
    }


@pytest.mark.slow
@on_demand
def test_the_proxy_leads_to_the_page_and_to_what_was_built_and_limits_what_comes_in(stack: Stack) -> None:
    head = stack.push({"note.txt": "through the proxy"})
    run = stack.ended(head)
    assert run["result"] == "success", run
    with stack.browser() as browser:
        page = browser.get("/")
        assert (page.status_code, "buildbot" in page.text.lower()) == (200, True)
        assert page.headers["strict-transport-security"]
        listed = browser.get(f"/runs/{run['id']}/artifacts").json()["artifacts"]
        assert [file["name"] for file in listed] == ["made.txt"]
        made = browser.get(f"/artifacts/{listed[0]['id']}/made.txt").content
        assert (made.decode().strip(), hashlib.sha256(made).hexdigest()) == (head, listed[0]["sha256"])
        assert browser.post(f"/builds/{run['id']}").status_code == 404, "nobody uploads through the page's door"
        assert browser.post("/change_hook/github", content=b"x" * (26 << 20)).status_code == 413
        assert browser.post("/change_hook/github", content=b"x" * (2 << 20)).status_code != 413
        assert browser.post("/plugins/mlc_ci/api/runs/1/cancel", content=b"x" * (2 << 20)).status_code == 413
        trust = browser._transport._pool._ssl_context  # type: ignore[attr-defined]
    assert upgraded(stack, trust) == "101"
    with socket.create_connection(("127.0.0.1", stack.http_port), timeout=20) as plain:
        plain.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        assert b" 308 " in plain.recv(200)


def upgraded(stack: Stack, trust: ssl.SSLContext) -> str:
    """The status of the answer to a websocket's handshake."""
    host = f"{HOST}:{stack.https_port}"
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: {host}",
        f"Origin: https://{host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
    ]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
    with (
        socket.create_connection(("127.0.0.1", stack.https_port), timeout=20) as raw,
        trust.wrap_socket(raw, server_hostname=HOST) as secured,
    ):
        secured.sendall("\r\n".join(lines).encode())
        return secured.recv(200).split()[1].decode()


@pytest.mark.slow
@on_demand
def test_a_master_that_is_killed_is_started_again_and_its_run_ends_well(stack: Stack) -> None:
    flag = "/tmp/go"  # noqa: S108 - in the worker's container
    head = stack.push({"ci/test.sh": HOLD.format(flag=flag)})
    wait(lambda: rows(stack, head, "state") == ["running"], "the build runs")
    before = stack.inspect("master")
    os.kill(first_child(before["State"]["Pid"]), signal.SIGKILL)
    wait(lambda: stack.inspect("master")["RestartCount"] > before["RestartCount"], "the master is started again")
    stack.execute("worker-trusted", "touch", flag)
    run = stack.ended(head)
    assert run["result"] == "success"
    assert rows(stack, head, "lost_with_master") == ["1"]
    stack.execute("worker-trusted", "rm", flag)


def rows(stack: Stack, head: str, column: str) -> list[str]:
    """Of the stage ``test`` in the run of a commit."""
    query = (
        f"select {column} from stage_attempts a join runs r on r.id = a.run_id"  # noqa: S608 - our own names
        f" where r.head = '{head}' and a.stage = 'test' order by a.id"
    )
    return (
        stack.execute("database", "psql", "--username=ci", "--no-align", "--tuples-only", "-c", query).decode().split()
    )


def first_child(pid: int) -> int:
    """Of the container's init."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.slow
@on_demand
def test_a_stack_whose_volumes_are_lost_goes_on_from_its_backup(stack: Stack, tmp_path: Path) -> None:
    head = stack.push({"ci/test.sh": "true\n"})
    before = stack.ended(head)
    backup = tmp_path / "backup.tar"
    with backup.open("wb") as file:
        stack.compose("exec", "-T", "master", "mlc-ci", "backup", "-", stdout=file)
    stack.compose("stop", "master")
    assert stack.inspect("master")["State"]["ExitCode"] == 0, "told to stop, it stopped in order"
    stack.down(volumes=True)
    shutil.rmtree(stack.site / "bundles")  # made again, with the passwords of before
    stack.compose("up", "--detach", "--wait", "--no-build", "database")
    with backup.open("rb") as file:
        stack.compose("run", "--rm", "-T", "--no-deps", "master", "restore", "-", stdin=file)
    stack.prepare()
    stack.up()
    assert stack.ended(head) == before
    listed = stack.get(f"/runs/{before['id']}/artifacts")["artifacts"]
    with stack.browser() as browser:
        made = browser.get(f"/artifacts/{listed[0]['id']}/made.txt").content
    assert hashlib.sha256(made).hexdigest() == listed[0]["sha256"]
    after = stack.ended(stack.push({"note.txt": "after the restore"}))
    assert (after["result"], after["id"] > before["id"]) == ("success", True)
