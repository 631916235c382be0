"""What the command line asks of a master, here a small one over real HTTP: a login where needed, and whole files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from master import client as client_module
from master.client import Client, MasterSaidNo, NotAllowed

WHEEL = b"wheel" * 100_000
FILE = {"name": "a b.whl", "sha256": hashlib.sha256(WHEEL).hexdigest(), "link": "runs/1/artifacts/2/a%20b.whl"}
GO_ON = Event()
LOGIN = "Basic YWRtaW46cmlnaHQ="  # admin:right


class Hidden(BaseHTTPRequestHandler):
    """A master that shows its runs to its administrator alone."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/auth/login":
            good = self.headers.get("Authorization") == LOGIN
            self.answer(200 if good else 401, b"", **({"Set-Cookie": "who=admin; Path=/"} if good else {}))
        elif self.headers.get("Cookie") != "who=admin":
            self.answer(403, json.dumps({"error": "you need to have role 'admins'"}).encode())
        elif self.path.endswith(FILE["link"]):
            self.answer(200, WHEEL)
        elif "artifacts" in self.path:
            self.answer(404, b"{}")
        else:
            self.answer(200, json.dumps({"path": self.path}).encode())

    def do_POST(self) -> None:
        """It takes every order, and says so to nobody."""
        self.asked.append(self.path)
        if self.path.endswith("/1/cancel"):
            GO_ON.wait(30)
        self.close_connection = True

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Hidden.asked = []
    GO_ON.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hidden)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        GO_ON.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_recipe_is_asked_for_by_stage_and_variant_whatever_their_names(url: str) -> None:
    path = "/plugins/mlc_ci/api/runs/1/stages"
    client = Client(url, "right")
    assert client.recipe(1, "build")["path"] == f"{path}/build/recipe"
    assert client.recipe(1, "a/b ?", "x&y=z")["path"] == f"{path}/a%2Fb%20%3F/recipe?variant=x%26y%3Dz"
    assert client.recipe(1, "build", "")["path"] == f"{path}/build/recipe?variant="


def test_a_master_that_hides_its_runs_is_logged_in_to_once(url: str) -> None:
    client = Client(url, "right")
    client.recipe(1, "build")
    client.recipe(1, "build")
    assert Hidden.asked.count("/auth/login") == 1


def test_who_has_no_password_or_a_wrong_one_is_told(url: str) -> None:
    with pytest.raises(NotAllowed, match="admins") as refused:
        Client(url).recipe(1, "build")
    assert "--password-file" in str(refused.value)
    with pytest.raises(MasterSaidNo, match="does not accept the password"):
        Client(url, "wrong").recipe(1, "build")


def test_a_master_that_is_not_there_is_told() -> None:
    with pytest.raises(MasterSaidNo, match="cannot be reached"):
        Client("http://127.0.0.1:9/").recipe(1, "build")


@pytest.mark.parametrize(("run", "said"), [(1, "timed out"), (2, "without sending a response")])
def test_an_order_that_is_not_answered_may_have_been_taken(
    url: str, run: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_TIMEOUT_S", 1.0)
    with pytest.raises(MasterSaidNo, match=said) as told:
        Client(url, "right").cancel(run)
    assert "it may have" in str(told.value)
    assert "mlc-ci runs" in str(told.value)
    assert Hidden.asked[-1].endswith(f"runs/{run}/cancel")


def test_an_order_that_reached_nobody_is_said_to_have_failed() -> None:
    with pytest.raises(MasterSaidNo, match="cannot be reached") as told:
        Client("http://127.0.0.1:9/", "right").cancel(1)
    assert "it may have" not in str(told.value)


def test_an_artifact_arrives_whole_or_is_refused(url: str, tmp_path: Path) -> None:
    client = Client(url, "right")
    client.recipe(1, "build")
    client.fetch(FILE, tmp_path / "a.whl")
    assert (tmp_path / "a.whl").read_bytes() == WHEEL
    with pytest.raises(MasterSaidNo, match="another hash"):
        client.fetch({**FILE, "sha256": "0" * 64}, tmp_path / "b.whl")
    assert not (tmp_path / "b.whl").exists()
    with pytest.raises(MasterSaidNo, match="status 404"):
        client.fetch({**FILE, "link": "runs/1/artifacts/2/gone"}, tmp_path / "c.whl")
    with pytest.raises(MasterSaidNo, match="was not fetched"):
        client.fetch(FILE, tmp_path / "no" / "such" / "folder")
