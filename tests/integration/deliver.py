"""GitHub's part of a webhook: deliveries to a rig's master, signed as GitHub signs them, or as an attacker might."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from typing import Any

import httpx
from rig import Rig

SECRET = "what GitHub and the master share"


def give_secret(rig: Rig, secret: str = SECRET) -> None:
    """Put the webhook's secret where the master reads it."""
    file = rig.site.basedir / "secrets" / "github-webhook-secret"
    file.touch(mode=0o600)
    file.write_text(secret + "\n")


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def signed_by_sha1_alone(body: bytes) -> dict[str, str]:
    return {"X-Hub-Signature": "sha1=" + hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()}


class Sender:
    """Sends deliveries to one master over one connection."""

    def __init__(self, rig: Rig) -> None:
        self.client = httpx.Client(base_url=rig.site.url, timeout=60, trust_env=False)

    def post(
        self, name: str, body: bytes, headers: Mapping[str, str], *, delivery: str = "", kind: str = "application/json"
    ) -> httpx.Response:
        about = {"X-GitHub-Event": name, "X-GitHub-Delivery": delivery or str(uuid.uuid4()), "Content-Type": kind}
        return self.client.post("change_hook/github", content=body, headers={**about, **headers})

    def send(self, name: str, payload: Any, *, delivery: str = "") -> str:
        """Deliver, rightly signed; the delivery's number."""
        number, body = delivery or str(uuid.uuid4()), json.dumps(payload).encode()
        answer = self.post(name, body, signed(body), delivery=number)
        assert answer.is_success, answer.text
        return number
