"""What ``ci/up --with-docker`` tells master and workers, and why it cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from master.settings import Settings, load
from master.site import host, with_docker
from master.site.beside import Beside

QUICKSTART = Path(__file__).resolve().parents[2] / "ci" / "quickstart.toml"


def changed(**overrides: str) -> Settings:
    return load(QUICKSTART, {f"MLC_CI_{name}": value for name, value in overrides.items()})


def test_only_the_named_worker_can_do_more_and_the_master_is_told_where_images_go() -> None:
    beside = Beside(
        overrides={"MLC_CI_STAGES__DOCKER__IMAGE__REGISTRY": "127.0.0.1:4711"},
        provides={"local-trusted": frozenset({"docker"})},
    )
    fitted = host.overrides(QUICKSTART, None, any_port=True, beside=beside)
    settings = load(QUICKSTART, fitted)
    assert "docker" in settings.workers["local-trusted"].provides
    assert "docker" not in settings.workers["local-untrusted"].provides
    image = settings.stages["docker"].image
    assert image
    assert image.registry == "127.0.0.1:4711"
    assert image.arguments == {"PACKAGE": "mlc_sample"}


def test_without_it_nobody_provides_docker() -> None:
    settings = load(QUICKSTART, host.overrides(QUICKSTART, None, any_port=True))
    assert not [name for name, worker in settings.workers.items() if "docker" in worker.provides]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            {
                "STAGES__DOCKER__IMAGE__LOGIN": "token",
                "STAGES__DOCKER__IMAGE__REGISTRY": "ghcr.io",
                "STAGES__DOCKER__PERMISSIONS__PACKAGES": "write",
            },
            "a login of user and secret",
        ),
        ({"WORKERS__LOCAL_TRUSTED__LOCAL": "false"}, "no trusted worker that is started here"),
    ],
)
def test_settings_that_do_not_fit_are_told(overrides: dict[str, str], reason: str) -> None:
    assert reason in with_docker.why_not(changed(**overrides))


def test_without_root_the_caller_needs_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs in the place of docker: none, one whose daemon does not answer, one without buildx, one with all."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("master.site.registry.why_not", lambda: "")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if not Path("/usr/bin/docker").exists() else str(tmp_path))
    settings = changed()
    assert "there is no docker on the PATH" in with_docker.why_not(settings)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho Cannot connect to the Docker daemon >&2; exit 1\n")
    docker.chmod(0o755)
    assert "docker version says: Cannot connect to the Docker daemon" in with_docker.why_not(settings)
    docker.write_text("#!/bin/sh\n[ $1 = version ] || { echo no plugin buildx >&2; exit 1; }\n")
    assert "docker buildx version says: no plugin buildx" in with_docker.why_not(settings)
    docker.write_text("#!/bin/sh\n")
    assert with_docker.why_not(settings) == ""
