"""Two hosts on one machine: network namespaces joined by a wire, and masters and workers that run in them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, kw_only=True)
class Pair:
    """``master`` and ``worker`` are namespaces; the others are addresses of the master's."""

    master: str
    worker: str
    address: str
    other_address: str  #: the same host by an address that no certificate names

    def on_master(self, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.master, *command]

    @contextmanager
    def cut(self) -> Iterator[None]:
        """While the wire is cut on the worker's side: no packet gets through, and neither end is told."""
        _ip("-n", self.worker, "link", "set", "wire", "down")
        try:
            yield
        finally:
            _ip("-n", self.worker, "link", "set", "wire", "up")

    def on_worker(self, command: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.worker, *command]


@contextmanager
def joined_namespaces() -> Iterator[Pair]:
    """Makes the pair, and removes it; skips where only root or nobody may."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the command ip")
    mark = f"{os.getpid() % 65536:x}"
    master, worker = f"mlcci-m{mark}", f"mlcci-w{mark}"
    net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
    pair = Pair(master=master, worker=worker, address=f"{net}.1", other_address=f"{net}.3")
    made = []
    try:
        for name in (master, worker):
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
            made.append(name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", master, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", worker)
        for name, address in ((master, pair.address), (master, pair.other_address), (worker, f"{net}.2")):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", "wire")
            _ip("-n", name, "link", "set", "wire", "up")
        yield pair
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=False)  # takes the wire along


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
