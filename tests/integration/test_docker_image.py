"""``docker/Dockerfile``: built for real from the sample project, and what its four targets are good for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker_engine import engine, on_demand  # noqa: F401 - a fixture

from master.site.engine import BASE_IMAGE, Engine, NoEngine
from master.site.sample import SampleRepository

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docker"), pytest.mark.timeout(1200)]

DOCKERFILE = Path(__file__).parents[2] / "docker" / "Dockerfile"
TARGETS = ("development", "build", "runtime", "cli")
BUILDERS = ("cc", "g++", "cargo", "rustc", "cmake", "ninja", "make", "ccache", "git", "pip", "pip3", "glslangValidator")
LOCKED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
CANARY = "canary-8f4b2d71"
EPOCH = "1700000000"
CA = os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Images:
    """The four targets, built with secrets; ``exported`` is runtime once more, as an OCI archive."""

    engine: Engine
    checkout: Path
    words: tuple[str, ...]
    exported: Path

    def run(self, target: str, *command: str, options: tuple[str, ...] = (), input: str = "") -> str:
        return self.engine.docker("run", "--rm", *options, f"test/{target}", *command, input=input)

    def inspect(self, target: str) -> Mapping[str, object]:
        (found,) = json.loads(self.engine.docker("image", "inspect", f"test/{target}"))
        config: Mapping[str, object] = found["Config"]
        return config

    @staticmethod
    def archive(file: Path) -> str:
        return f"--output=type=oci,dest={file},rewrite-timestamp=true,compression=uncompressed,force-compression=true"

    def build(self, target: str, *words: str, context: Path | None = None) -> str:
        where = str(context or self.checkout)
        return self.engine.docker("buildx", "build", f"--target={target}", *self.words, *words, where)


def sample_checkout(folder: Path) -> Path:
    repository = SampleRepository(folder / "repositories")
    repository.create()
    checkout = folder / "checkout"
    clone = ["git", "-c", "protocol.file.allow=always", "clone", "--quiet", "--recurse-submodules"]
    subprocess.run([*clone, str(repository.path), str(checkout)], check=True)
    project = checkout / "pyproject.toml"
    project.write_text(
        project.read_text().replace('version = "0.1.dev0"', 'version = "1.2.3"')
    )  # as the stage stamps it
    return checkout


@pytest.fixture(scope="module")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:  # noqa: F811
    folder = tmp_path_factory.mktemp("image")
    pip = folder / "pip.conf"
    machine = Path("/etc/pip.conf")
    pip.write_text(f"# {CANARY}\n{machine.read_text() if machine.exists() else ''}")
    arguments = {"BASE_IMAGE": BASE_IMAGE, "PACKAGE": "mlc_sample", "VERSION": "1.2.3", "REVISION": "a" * 40}
    arguments["SOURCE_DATE_EPOCH"] = EPOCH
    words = [f"--file={DOCKERFILE}", "--network=host", f"--secret=id=ca,src={CA}", f"--secret=id=pip,src={pip}"]
    words += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    built = Images(engine, sample_checkout(folder), tuple(words), folder / "runtime.tar")
    for target in TARGETS:
        # to compress a gigabyte of compilers that goes nowhere takes most of a minute
        built.build(target, f"--output=type=image,name=test/{target},compression=uncompressed", "--provenance=false")
    built.build("runtime", "--provenance=false", built.archive(built.exported))
    yield built


def layers(archive: Path) -> tuple[str, dict[str, bytes]]:
    """The digest of an image's settings, and its layers by their digests."""
    with tarfile.open(archive) as files:

        def blob(digest: str) -> bytes:
            found = files.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert found
            return found.read()

        index = files.extractfile("index.json")
        assert index
        manifest = json.loads(blob(json.load(index)["manifests"][0]["digest"]))
        assert {layer["mediaType"] for layer in manifest["layers"]} == {"application/vnd.oci.image.layer.v1.tar"}
        return manifest["config"]["digest"], {layer["digest"]: blob(layer["digest"]) for layer in manifest["layers"]}


@on_demand
def test_development_is_a_shell_with_everything_that_builds(images: Images) -> None:
    script = "\n".join(
        [f"command -v {program} >/dev/null || echo no {program}" for program in BUILDERS]
        + ["echo 'int main() { return 0; }' >/tmp/a.c && cc /tmp/a.c -o /tmp/a.out && /tmp/a.out && echo compiled"]
        + ["test -e /usr/include/vulkan/vulkan.h && echo headers", "pwd", "id -un"]
    )
    said = images.run("development", options=("--interactive", "--network=none"), input=script)
    assert said.split() == ["compiled", "headers", "/workspace", "mlc"]


@on_demand
def test_build_leaves_one_wheel_of_the_version_in_the_checkout(images: Images) -> None:
    (wheel,) = images.run("build", "ls", "/wheels").split()
    assert re.fullmatch(r"mlc_sample-1\.2\.3-py3-none-linux_x86_64\.whl", wheel)
    assert images.run("build", "sh", "-c", "ls -A /tmp").split() == []


@on_demand
def test_a_checkout_that_does_not_build_makes_no_image(images: Images, tmp_path: Path) -> None:
    broken = tmp_path / "checkout"
    subprocess.run(["cp", "-r", images.checkout, broken], check=True)
    (broken / "3rdparty" / "kernels" / "CMakeLists.txt").unlink()
    with pytest.raises(NoEngine, match="CMake configuration failed"):
        images.build("build", "--tag=test/broken", context=broken)
    assert images.engine.docker("image", "ls", "--quiet", "test/broken") == ""


@on_demand
def test_runtime_works_locked_down_and_cannot_change_itself(images: Images) -> None:
    said = images.run("runtime", options=LOCKED)
    assert said.startswith("mlc-sample 1.2.3, library 1.2.3, tvm-ffi ")
    assert images.run("runtime", "id", "-u", options=LOCKED).strip() == "10001"
    with pytest.raises(NoEngine, match="Read-only file system"):
        images.run("runtime", "touch", "/home/mlc/file", options=LOCKED)
    with pytest.raises(NoEngine, match="Permission denied"):  # not even where the file system is writable
        images.run("runtime", "touch", "/opt/mlc/bin/python3", options=("--network=none",))


@on_demand
@pytest.mark.parametrize(("target", "expected"), [("runtime", set()), ("cli", set()), ("development", set(BUILDERS))])
def test_what_runs_has_nothing_that_builds(images: Images, target: str, expected: set[str]) -> None:
    look = "for name in {}; do command -v $name || true; done".format(" ".join(BUILDERS))
    said = images.run(target, "-c", look, options=("--entrypoint=/bin/sh", "--network=none"))
    assert {Path(line).name for line in said.split()} == expected


@on_demand
def test_what_runs_has_no_cache_and_nothing_left_of_its_making(images: Images) -> None:
    look = (
        "import importlib.util, pathlib\n"
        "print(importlib.util.find_spec('pip'))\n"
        "places = '/wheels /scripts /context /workspace /root/.cache /home/mlc/.cache /run/secrets /tmp /var/log'\n"
        "print([str(p) for place in places.split() for p in pathlib.Path(place).rglob('*') if p.is_file()])\n"
    )
    assert images.run("runtime", "python", "-c", look, options=("--user=0", "--network=none")).split() == ["None", "[]"]
    control = images.run("build", "python3", "-c", look, options=("--user=0", "--network=none"))
    assert "ModuleSpec" in control
    assert "/wheels/mlc_sample" in control


@on_demand
@pytest.mark.parametrize("target", TARGETS)
def test_each_has_the_vulkan_loader_a_user_and_a_health_check(images: Images, target: str) -> None:
    load = "from ctypes import *; print(CDLL('libvulkan.so.1').vkEnumerateInstanceVersion(byref(c_uint32())))"
    assert images.run(target, "-c", load, options=("--entrypoint=python3", *LOCKED)).strip() == "0"
    config = images.inspect(target)
    assert config["User"] == "10001:10001"
    assert isinstance(config["Healthcheck"], dict)
    labels = config["Labels"]
    assert isinstance(labels, dict)
    told = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert told.pop("title").startswith("MLC-LLM")
    assert told.pop("description")
    assert told.pop("source") == ""
    assert told == {"version": "1.2.3", "revision": "a" * 40, "licenses": "Apache-2.0"}


@on_demand
def test_cli_is_the_command_with_its_arguments_and_its_exit_code(images: Images) -> None:
    assert images.run("cli", options=LOCKED).startswith("mlc-sample 1.2.3")
    other = ("--env=MLC_PACKAGE=json.tool", "--interactive", *LOCKED)  # a command that takes arguments
    assert images.run("cli", "--compact", "--sort-keys", options=other, input='{"b": 1, "a": 2}') == '{"a":2,"b":1}\n'
    with pytest.raises(NoEngine, match="No such file"):
        images.run("cli", "/nowhere", options=other)


@on_demand
@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ((), "healthy"),
        (("--env=MLC_PACKAGE=no_such_package",), "unhealthy"),
        (("--env=MLC_HEALTH_URL=http://127.0.0.1:9/",), "unhealthy"),
    ],
)
def test_its_health_is_whether_the_package_can_be_used(images: Images, options: tuple[str, ...], verdict: str) -> None:
    # 0s would be the image's own period, in which no failure counts
    impatient = ("--health-interval=1s", "--health-retries=1", "--health-start-period=1s", "--stop-signal=KILL")
    run = ("run", "--detach", *LOCKED, *options, *impatient)
    name = images.engine.docker(*run, "test/runtime", "sleep", "600").strip()
    until = time.monotonic() + 60
    state = "starting"
    while state == "starting" and time.monotonic() < until:
        state = images.engine.docker("inspect", "--format", "{{.State.Health.Status}}", name).strip()
        time.sleep(0.5)
    images.engine.docker("rm", "--force", name)
    assert state == verdict


@on_demand
def test_a_build_secret_is_in_no_layer(images: Images) -> None:
    config, unpacked = layers(images.exported)
    assert config
    assert not [digest for digest, content in unpacked.items() if CANARY.encode() in content]
    assert [digest for digest, content in unpacked.items() if b"mlc_sample/__init__.py" in content]  # it looks inside
    look = "grep -rlF {} /etc /home /opt /root /run /tmp /usr/local /var /wheels || true"
    as_root = ("--user=0", "--network=none")
    assert images.run("build", "sh", "-c", look.format(CANARY), options=as_root) == ""
    assert "build-wheel" in images.run("build", "sh", "-c", look.format("NUM_THREADS"), options=as_root)
    assert CANARY not in images.engine.docker("history", "--no-trunc", "test/build")


@on_demand
def test_what_is_sent_of_a_checkout_leaves_out_its_history_and_its_secrets(images: Images, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    subprocess.run(["cp", "-r", images.checkout, checkout], check=True)
    for name in (".env", "python/server.key", "dist/old.whl", "config.cmake"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text(CANARY)
    beside = tmp_path / "sent"
    beside.mkdir()
    (beside / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text()

    def sent(rules: str) -> set[str]:
        (beside / "Dockerfile.dockerignore").write_text(rules)
        into = tmp_path / f"into{len(rules)}"
        where = f"--output=type=local,dest={into}"
        images.engine.docker("buildx", "build", f"--file={beside / 'Dockerfile'}", where, str(checkout))
        return {str(path.relative_to(into)) for path in into.rglob("*") if path.is_file()}

    some, everything = sent(ignore), sent("")
    assert {"pyproject.toml", "3rdparty/kernels/CMakeLists.txt", "python/mlc_sample/__init__.py"} <= some
    assert {".env", "python/server.key", "dist/old.whl", "config.cmake", ".git/HEAD"} <= everything - some


@on_demand
def test_the_cuda_variant_takes_its_own_base_and_packages(images: Images) -> None:
    words = ("--build-arg=VARIANT=cuda", f"--build-arg=CUDA_IMAGE={BASE_IMAGE}")
    with pytest.raises(NoEngine, match="Unable to locate package cuda-nvrtc-12-8"):
        images.build("runtime", *words)
    with pytest.raises(NoEngine, match="nonsense"):
        images.build("runtime", "--build-arg=VARIANT=nonsense")


def test_the_default_bases_are_pinned() -> None:
    bases = re.findall(r"^ARG (?:BASE|CUDA)_IMAGE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"[a-z/]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", base) for base in bases)


def test_the_linter_finds_nothing(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, DOCKERFILE], check=True)
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && apt-get install gcc\n")
    assert subprocess.run([hadolint, bad], check=False, capture_output=True).returncode == 1
