"""Whether the master's ports make sense, and whether what workers send is encrypted wherever others could read it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from itertools import combinations

from master.settings_artifacts import ArtifactSettings
from master.settings_models import MasterSettings
from master.settings_problems import Problem, listed

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*", re.ASCII)


def wire_problems(master: MasterSettings) -> Iterator[Problem]:
    yield from _tls(master) if master.worker_tls else _plain(master)
    for one, other in combinations(_ports(master), 2):
        if getattr(master, one) == getattr(master, other) != 0:
            message = f"cannot share a port with {one}"
            yield Problem(
                key=f"master.{other}", message=message, found=str(getattr(master, other)), allowed="another port, or 0"
            )


def artifact_problems(artifacts: ArtifactSettings, master: MasterSettings) -> Iterator[Problem]:
    """The same of the artifact process, which has the certificates of the workers' port."""
    if artifacts.listen not in LOOPBACK and not artifacts.tls:
        message = "artifacts, and the tokens that builds upload with, would cross the network unencrypted"
        allowed = f"tls = true, or {listed(LOOPBACK)}"
        yield Problem(key="artifacts.listen", message=message, found=artifacts.listen, allowed=allowed)
    if artifacts.tls and not master.worker_tls:
        message, allowed = "shows the certificates of the workers' port", "master.worker_tls = true, or no tls here"
        yield Problem(key="artifacts.tls", message=message, found="true, without master.worker_tls", allowed=allowed)
    if artifacts.s3 and not artifacts.url and master.url and artifacts.listen in LOOPBACK:
        message = "is needed with a bucket: the master's page leads its readers to the artifact process"
        yield Problem(key="artifacts.url", message=message, found="nothing", allowed="an address that browsers reach")
    for key in _ports(master):
        if artifacts.port == getattr(master, key) != 0:
            message, allowed = f"cannot share a port with master.{key}", "another port, or 0"
            yield Problem(key="artifacts.port", message=message, found=str(artifacts.port), allowed=allowed)


def _ports(master: MasterSettings) -> list[str]:
    return ["web_port", "worker_port"] + (["worker_local_port"] if master.worker_tls else [])


def _plain(master: MasterSettings) -> Iterator[Problem]:
    if master.worker_listen not in LOOPBACK:
        message = "logs and artifacts of workers would cross the network unencrypted"
        allowed = f"worker_tls = true, or {listed(LOOPBACK)}"
        yield Problem(key="master.worker_listen", message=message, found=master.worker_listen, allowed=allowed)
    for key in ("worker_host", "worker_certificate", "worker_key", "worker_ca", "worker_local_port"):
        if value := getattr(master, key):
            found = listed(value) if isinstance(value, tuple) else str(value)
            message, allowed = "means nothing without worker_tls = true", "worker_tls = true, or leave it out"
            yield Problem(key=f"master.{key}", message=message, found=found, allowed=allowed, severity="warning")


def _tls(master: MasterSettings) -> Iterator[Problem]:
    if master.worker_port == 0:
        message, allowed = "workers on other hosts must know the port", "a number, as 9989"
        yield Problem(key="master.worker_port", message=message, found="0", allowed=allowed)
    if not master.worker_host:
        message = "with worker_tls, the certificate must say whose it is"
        allowed = "names and addresses of this master as its workers use them"
        yield Problem(key="master.worker_host", message=message, found="nothing", allowed=allowed)
    for host in master.worker_host:
        if not _is_host(host):
            message, allowed = "is no host", "a host name or an IP address, without a port"
            yield Problem(key="master.worker_host", message=message, found=host, allowed=allowed)
    if bool(master.worker_certificate) != bool(master.worker_key):
        lacking = "worker_key" if master.worker_certificate else "worker_certificate"
        message, allowed = "a certificate is used with its key", "both, or neither for certificates of our own"
        yield Problem(key=f"master.{lacking}", message=message, found="nothing", allowed=allowed)
    if master.worker_ca and not master.worker_certificate:
        message, allowed = "our own certificates have their own authority", "with worker_certificate and worker_key"
        yield Problem(key="master.worker_ca", message=message, found=master.worker_ca, allowed=allowed)


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_DNS_NAME.fullmatch(text)) and len(text) < 254 and not text.rpartition(".")[2].isdigit()
    return True
