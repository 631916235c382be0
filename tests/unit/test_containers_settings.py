"""``[workers.X.container]``: what it may say, and what ``mlc-ci check`` says of the rest of the settings beside it."""

from __future__ import annotations

import pytest
from settings_sample import problem, read, usable

from master.settings import Examined

TLS = '[master]\nworker_tls = true\nworker_listen = "0.0.0.0"\nworker_host = ["ci.example.org"]\n'
KEY = "workers.box.container"


def box(container: str = "", worker: str = "", *more: str, repository: str = "") -> Examined:
    """A trusted worker ``box`` in an engine on this machine, whose containers share the machine's network."""
    table = (
        f'[workers.box]\ntrust = "trusted"\nprovides = ["python"]\n{worker}\n[workers.box.container]\nimage = "w:1"\n'
    )
    own = container if "network" in container or more else f'network = "host"\n{container}'
    seen = repository or 'mounts = { "/srv/sample.git" = "/srv/sample.git" }'
    return read(f"{table}{own}\n{seen}", *more, environ={"MLC_CI_PROJECT__REPOSITORY": "/srv/sample.git"})


def keys(examined: Examined) -> list[str]:
    return [each.key for each in examined.problems]


def test_a_container_has_limits_without_being_told() -> None:
    examined = box()
    assert keys(examined) == []
    container = usable(examined).workers["box"].container
    assert container is not None
    assert (container.memory, container.processes, container.user) == (8 << 30, 4096, "10001:10001")
    assert container.gpus is container.caches is False


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ('user = "0:0"', "user"),
        ('user = "root"', "user"),
        ('user = "10001"', "user"),
        ('docker_host = "ssh://host"', "docker_host"),
        ('network = "none"', "network"),
        ('network = "container:other"', "network"),
        ("processes = 4", "processes"),
        ('memory = "8"', "memory"),
        ("cpus = 0", "cpus"),
        ('mounts = { "relative" = "/x" }', "mounts"),
        ('mounts = { "/var/lib/mlc-ci-worker/x" = "/x" }', "mounts"),
        ('mounts = { "/docker" = "/var/run/docker.sock" }', "mounts"),
        ("privileged = true", "privileged"),
    ],
)
def test_what_would_open_a_container_is_refused(said: str, key: str) -> None:
    seen = " " if said.startswith("mounts") else ""
    assert f"{KEY}.{key}" in keys(box(said, repository=seen))


@pytest.mark.parametrize(
    ("worker", "key"), [("local = true", "local"), ('os = "windows"', "os"), ("max_builds = 2", "max_builds")]
)
def test_what_contradicts_a_container_is_an_error(worker: str, key: str) -> None:
    found = problem(box(worker=worker), f"workers.box.{key}")
    assert found.severity == "error"


def test_an_engine_elsewhere_is_reached_with_certificates_only() -> None:
    assert f"{KEY}.docker_host" in keys(box('network = "x"\ndocker_host = "tcp://10.0.0.9:2376"', "", TLS))
    with_them = box('network = "x"\ndocker_host = "tcp://10.0.0.9:2376"\ndocker_tls = "/etc/docker-ci"', "", TLS)
    assert keys(with_them) == []


def test_a_network_of_its_own_needs_a_master_that_listens_there() -> None:
    assert "worker_tls" in problem(box('network = "bridge"'), f"{KEY}.network").allowed
    assert keys(box('network = "bridge"', "", TLS)) == []
    beside = problem(box('network = "bridge"', "", TLS, '[artifacts]\nlisten = "127.0.0.1"'), "artifacts.listen")
    assert "could not reach it to upload" in beside.message
    assert f"{KEY}.master" in keys(box('network = "bridge"\nmaster = "other.example.org"', "", TLS))


def test_the_repository_of_this_machine_has_to_be_seen_inside() -> None:
    assert problem(box(repository=" "), f"{KEY}.mounts").found == "/srv/sample.git"


def test_strangers_on_the_hosts_network_are_warned_of() -> None:
    stranger = '[workers.odd]\ntrust = "untrusted"\nprovides = ["python"]\n[workers.odd.container]\nimage = "w"\n'
    more = 'network = "host"\nmounts = { "/srv" = "/srv" }'
    found = problem(
        read(stranger + more, environ={"MLC_CI_PROJECT__REPOSITORY": "/srv/sample.git"}),
        "workers.odd.container.network",
    )
    assert found.severity == "warning"
