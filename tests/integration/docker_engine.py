"""A private Docker engine and registry for the tests of a module: ``from docker_engine import engine, registry``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.site import registry as registries
from master.site.engine import Engine, base_image, why_not
from master.site.registry import Registry

#: For what builds whole images: more minutes than CI has (ci/test says how they are run).
on_demand = pytest.mark.skipif(
    not os.environ.get("MLC_CI_TEST_IMAGES"), reason="builds whole images, for minutes: MLC_CI_TEST_IMAGES=1 has it run"
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A running engine that has the base image ``master.site.engine.BASE_IMAGE``."""
    if reason := why_not():
        pytest.skip(reason)
    with Engine(tmp_path_factory.mktemp("engine")) as running:
        base_image(running)
        yield running


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A running registry that only its user may read and write."""
    if reason := registries.why_not():
        pytest.skip(reason)
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def log_in(engine: Engine, registry: Registry, password: str = "") -> None:
    """Raises NoEngine where the registry refuses."""
    engine.docker(
        "login", "-u", registry.user, "--password-stdin", registry.address, input=password or registry.password
    )


def folder_of(engine: Engine) -> Path:
    """Where its sockets are."""
    return Path(engine.host.removeprefix("unix://")).parent
