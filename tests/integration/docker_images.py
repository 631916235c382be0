"""Images for the tests that run workers in containers."""

from __future__ import annotations

from compose_stack import DOCKER, ROOT, build

from master.site.engine import BASE_IMAGE, Engine

WORKER = (
    "test/worker:1"  #: also what the deployment's tests call it: its layers are kept between engines under that name
)


def worker_image(engine: Engine) -> str:
    """The shipped worker image, built from this checkout; its name."""
    build(engine, WORKER, DOCKER / "worker" / "Dockerfile", ROOT, BASE=BASE_IMAGE)
    return WORKER


def derived(engine: Engine, name: str, script: str) -> str:
    """The worker image with another program in the place of ``mlc-ci-worker``: ``script``, for sh."""
    image = f"mlc-ci.local/{name}:latest"
    dockerfile = f"""
FROM {WORKER}
USER 0
COPY <<"EOF" /opt/mlc-ci-worker/bin/mlc-ci-worker.sh
#!/bin/sh
{script}
EOF
RUN cd /opt/mlc-ci-worker/bin && mv mlc-ci-worker real && mv mlc-ci-worker.sh mlc-ci-worker && chmod 755 mlc-ci-worker
USER 10001:10001
"""
    engine.docker("buildx", "build", "--tag", image, "-", input=dockerfile)
    return image
