"""Cold against cached: one image built with nothing at hand, and again after a full prune, from the registry's cache.

The engine and the registry are private ones of this machine. Both builds are the docker stage's own, by the same tool:
what is measured is the stage's build step. The image has a slow part (a loop of the shell) and a large
one, so that the ratio says what reading layers back costs against making them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from master.errors import UserError
from master.site import registry as registries
from master.site.engine import BASE_IMAGE, Engine, base_image, why_not
from master.site.registry import Registry

_DOCKERFILE = f"""\
FROM {BASE_IMAGE} AS build
RUN i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done; echo $i > /number
RUN head -c 50000000 /dev/urandom > /large
FROM {BASE_IMAGE} AS runtime
COPY --from=build /number /large /
USER 1000
"""


class NotMeasured(UserError):
    """No engine, or a build failed."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One cold build and one from the cache, in seconds."""

    cold: float
    cached: float

    @property
    def ratio(self) -> float:
        return self.cold / self.cached


def ratio(rounds: Sequence[Round]) -> float:
    return statistics.median(one.ratio for one in rounds)


def as_json(rounds: Sequence[Round], machine: dict[str, Any]) -> dict[str, Any]:
    told = [{"cold_s": one.cold, "cached_s": one.cached, "ratio": one.ratio} for one in rounds]
    return {"machine": machine, "rounds": told, "ratio": ratio(rounds)}


def measure(rounds: int, said: Callable[[str], None]) -> list[Round]:
    """Raises :class:`UserError` where no engine can be had, or a build fails."""
    if reason := why_not() or registries.why_not():
        raise NotMeasured(f"nothing can be measured here: {reason}")
    with tempfile.TemporaryDirectory(prefix="mlc-ci-bench-") as name, _engine(Path(name)) as (engine, registry):
        checkout = Path(name) / "checkout"
        checkout.mkdir()
        (checkout / "Dockerfile").write_text(_DOCKERFILE)
        found = []
        for number in range(1, rounds + 1):
            cache = f"{registry.address}/bench/image-{number}"  # of each round its own: cold is cold
            cold = _build(engine, registry, checkout, cache, write=True)
            cached = _build(engine, registry, checkout, cache, write=False)
            found.append(Round(cold=cold, cached=cached))
            said(f"round {number}: cold {cold:.1f} s, from the registry {cached:.1f} s")
        return found


@contextmanager
def _engine(folder: Path) -> Iterator[tuple[Engine, Registry]]:
    with Engine(folder / "engine") as engine, Registry(folder / "registry") as registry:
        base_image(engine)
        yield engine, registry


def _build(engine: Engine, registry: Registry, checkout: Path, name: str, *, write: bool) -> float:
    """How long ``mlc-ci-worker image build`` takes after a prune; ``write``: then publish it with its cache."""
    engine.docker("buildx", "prune", "--all", "--force")
    login = [f"--registry={registry.address}", f"--user={registry.user}", "--password-variable=PASSWORD"]
    build = ["--dockerfile=Dockerfile", f"--cache={name}:buildcache", "--target=runtime"]
    before = time.monotonic()
    _tool(engine, registry, checkout, ["build", *build, *login])
    took = time.monotonic() - before
    if write:
        tags = [f"--repository={name}", "--revision=bench", "--fixed=bench", "--suffix=runtime="]
        _tool(engine, registry, checkout, ["publish", *build, *login, *tags, "--write-cache"])
    _tool(engine, registry, checkout, ["clean"])
    return took


def _tool(engine: Engine, registry: Registry, checkout: Path, words: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "workers.cli", "image", *words]
    told = {**engine.environment, "PASSWORD": registry.password}
    done = subprocess.run(command, cwd=checkout, env=told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasured(f"image {words[0]} failed", "\n".join((done.stdout + done.stderr).splitlines()[-5:]))
