"""The docker stage for real: a private engine with BuildKit, a registry behind a password, a master and its workers."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import canary
import pytest
from docker_engine import engine, log_in, registry  # noqa: F401 - fixtures
from pipelines import Tables, commands, workers
from rig import HERE, Pushed, Rig

from master.site.engine import BASE_IMAGE, Engine
from master.site.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docker")]

NAME = "acme/sample"
GENERATOR = r"""
set -e
row='{printf "%s{\"SPDXID\":\"SPDXRef-%s\",\"name\":\"%s\",\"versionInfo\":\"%s\"}", s, p, p, $2; s=","}'
{ printf '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://spdx.dev/Document","predicate":'
  printf '{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","packages":['
  awk "/^Package: /{p=\$2} /^Version: /$row" "$BUILDKIT_SCAN_SOURCE/var/lib/dpkg/status"
  printf ']}}'; } > "$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json"
"""
DOCKERFILE = f"""\
FROM {BASE_IMAGE} AS runtime
RUN useradd --uid 1000 app
COPY greeting /greeting
USER app
HEALTHCHECK CMD ["grep", "-q", "hello", "/greeting"]
CMD ["cat", "/greeting"]
"""
SCAN = """\
printf '{"SchemaVersion": 2, "Results": [{"Target": "base", "Vulnerabilities": [%s]}]}' "$FOUND" > "$REPORT"
test -n "$IMAGE" && docker image inspect "$IMAGE" > /dev/null
"""
HADOLINT = "ignored: [DL3002, DL3006, DL3007]\nfailure-threshold: warning\n"
WELL = {"Dockerfile": DOCKERFILE, "greeting": "hello\n", "scan.sh": SCAN, ".hadolint.yaml": HADOLINT}


def settings(engine: Engine, registry: Registry) -> Tables:  # noqa: F811
    tools = engine.environment
    return {
        "scheduling": {"no_worker": "skip", "infrastructure_retries": 0},
        "environment": {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{tools['PATH']}",
            "DOCKER_HOST": tools["DOCKER_HOST"],
            "DOCKER_CONFIG": tools["DOCKER_CONFIG"],
        },
        "workers": {
            name: {**told, "provides": ["docker"]}
            for name, told in workers("reliable", "reliable-2", "stranger").items()
        },
        "stages": {
            "docker": {
                "secrets": ["registry"],
                "image": {
                    "registry": registry.address,
                    "repository": NAME,
                    "login": {"user": registry.user, "secret": "registry"},
                    "dockerfile": "Dockerfile",
                    "targets": {"runtime": ""},
                    "bare_version": True,
                    "sbom": f"{registry.address}/tools/generator:1",
                    "pull_requests": "validate",
                    "scan": ["sh", "scan.sh"],
                    "fail_on": "high",
                },
            },
            "other": commands("other"),
            "summary": {"needs": ["docker"]},
        },
    }


@pytest.fixture(scope="module")
def generator(engine: Engine, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: F811
    """BuildKit's generator of SBOMs is an image; ours reads dpkg's database."""
    folder = tmp_path_factory.mktemp("generator")
    (folder / "scan").write_text(GENERATOR)
    (folder / "Dockerfile").write_text(f'FROM {BASE_IMAGE}\nCOPY scan /scan\nENTRYPOINT ["/bin/sh", "/scan"]\n')
    log_in(engine, registry)
    try:
        build = ["buildx", "build", "--provenance=false", "--push", f"--tag={registry.address}/tools/generator:1"]
        engine.docker(*build, str(folder))
    finally:
        engine.docker("logout", registry.address)


@pytest.fixture(scope="module")
def site(
    engine: Engine,  # noqa: F811
    registry: Registry,  # noqa: F811
    generator: None,
    template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("docker") / "rig", template, settings(engine, registry))
    password(rig, registry.password)
    try:
        rig.start()
        yield rig
    finally:
        rig.stop()


def ended(rig: Rig, pushed: Pushed) -> Any:
    """Its run. An image takes longer than a few commands."""
    return rig.ended(pushed, seconds=180)


def password(rig: Rig, text: str) -> None:
    file = rig.site.basedir / "secrets" / "registry"
    file.touch(mode=0o600)
    file.write_text(text)


def ask(registry: Registry, path: str) -> Any:  # noqa: F811
    request = urllib.request.Request(f"http://{registry.address}/v2/{path}")
    accepted = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
    request.add_header("Accept", accepted)
    login = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    request.add_header("Authorization", f"Basic {login}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request) as answer:
        return {"digest": answer.headers.get("Docker-Content-Digest"), **json.load(answer)}


def tags_of(registry: Registry) -> dict[str, str]:  # noqa: F811
    """All tags but the cache's, each with its digest."""
    try:
        names = ask(registry, f"{NAME}/tags/list")["tags"] or []
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return {}
    return {n: ask(registry, f"{NAME}/manifests/{n}")["digest"] for n in names if not n.startswith("buildcache")}


def nothing_left(rig: Rig, engine: Engine) -> list[str]:  # noqa: F811
    """What a stage's builds have left behind on their workers and in the engine."""
    found = engine.docker("container", "ls", "--all", "--quiet").split()
    found += engine.docker("image", "ls", "--quiet", "--filter=reference=mlc-ci.local/*:runtime").split()
    found += [str(path) for path in rig.site.folder.glob("workers/*/*/image/*")]
    return found + [line for line in rig.left() if "buildx" in line or "docker " in line]


def images(rig: Rig, run: int) -> Any:
    query = "select p.value from build_properties p join stage_attempts a on a.build_id = p.buildid"
    (row,) = rig.rows(f"{query} where a.run_id = ? and a.stage = 'docker' and p.name = 'images'", run)
    return json.loads(row["value"])


def test_a_push_and_a_tag_are_published_under_their_names_and_run_elsewhere_locked_down(
    site: Rig,
    engine: Engine,  # noqa: F811
    registry: Registry,  # noqa: F811
    tmp_path: Path,
) -> None:
    before = tags_of(registry)
    assert before == {}
    pushed = site.push(WELL)
    run = ended(site, pushed)
    assert site.states(run["id"])["docker"] == "success", site.state()
    tags = tags_of(registry)
    assert set(tags) == {f"sha-{pushed.head[:7]}", "main", "latest"}
    assert len(set(tags.values())) == 1
    digest = tags["main"]
    (told,) = images(site, run["id"])
    assert (told["digest"], told["repository"]) == (digest, f"{registry.address}/{NAME}")

    tagged = ended(site, site.tag("v1.0.0"))
    assert site.states(tagged["id"])["docker"] == "success", site.state()
    tags = tags_of(registry)
    assert set(tags) == {f"sha-{pushed.head[:7]}", "main", "latest", "v1.0.0", "1.0.0"}
    assert tags["v1.0.0"] == tags["1.0.0"]

    with site.browser() as client:
        shown = client.get(f"plugins/mlc_ci/api/runs/{run['id']}").json()
    (attempt,) = [s["history"][0] for s in shown["stages"] if s["name"] == "docker"]
    assert attempt["images"] == [told]
    summary = site.summary(run["id"])
    assert f"{registry.address}/{NAME}@{digest}" in summary, summary

    index = ask(registry, f"{NAME}/manifests/{digest}")
    attested = [m for m in index["manifests"] if m["platform"]["os"] == "unknown"]
    layers = [layer for m in attested for layer in ask(registry, f"{NAME}/manifests/{m['digest']}")["layers"]]
    assert {layer["annotations"]["in-toto.io/predicate-type"] for layer in layers} == {
        "https://spdx.dev/Document",
        "https://slsa.dev/provenance/v0.2",
    }
    with Engine(tmp_path / "fresh") as fresh:
        assert fresh.docker("image", "ls", "--quiet") == ""
        log_in(fresh, registry)
        reference = f"{registry.address}/{NAME}@{digest}"
        fresh.docker("pull", "--quiet", reference)
        locked = ["--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"]
        assert fresh.docker("run", *locked, reference) == "hello\n"
        assert fresh.docker("run", *locked, "--entrypoint=id", reference, "-u") == "1000\n"
    assert nothing_left(site, engine) == []


def finding(severity: str) -> str:
    return f'FOUND=\'{{"VulnerabilityID": "CVE-1", "Severity": "{severity}", "PkgName": "zlib"}}\'\n{SCAN}'


#: Each a stage of its own, all of one commit: what differs in its files, how it ends and why.
BAD: dict[str, tuple[dict[str, str], str, str]] = {
    "lint": ({"Dockerfile": DOCKERFILE + "RUN cd /tmp\n"}, "failure", "hadolint: lint/Dockerfile:7 DL3003"),
    "run": (
        {"Dockerfile": DOCKERFILE.replace("USER app", "RUN echo this is why && false\nUSER app")},
        "failure",
        ":4: RUN echo this is why && false: exit code: 1; its last line: this is why",
    ),
    "root": ({"Dockerfile": DOCKERFILE.replace("USER app\n", "")}, "failure", "runs as root (no USER)"),
    "smoke": ({"greeting": "goodbye\n"}, "failure", "smoke test of image runtime ended with exit code 1"),
    "finding": ({"scan.sh": finding("CRITICAL")}, "failure", "1 findings at or above high: critical: CVE-1 in zlib"),
    "unscanned": ({"scan.sh": "true\n"}, "infrastructure", "the scanner left no report"),
}


def test_what_is_bad_is_not_published(site: Rig, registry: Registry, engine: Engine) -> None:  # noqa: F811
    """In a run where another stage, whose finding is below the limit, publishes: the negative control."""
    before = tags_of(registry)
    tables = site.tables
    good = tables["stages"]["docker"]
    cases = {**{case: files for case, (files, _, _) in BAD.items()}, "well": {"scan.sh": finding("MEDIUM")}}
    files = {f"{case}/{name}": text for case, own in cases.items() for name, text in {**WELL, **own}.items()}

    def stage(case: str) -> Tables:
        own = {"dockerfile": f"{case}/Dockerfile", "context": case, "scan": ["sh", f"{case}/scan.sh"]}
        own["repository"] = f"acme/{case}"
        return {**good, "uses": "docker", "image": {**good["image"], **own}}

    site.configure({**tables, "stages": {**{case: stage(case) for case in cases}, "summary": {"needs": list(cases)}}})
    try:
        site.reload()
        run = ended(site, site.push({**files, ".hadolint.yaml": HADOLINT}))
    finally:
        site.configure(tables)
        site.reload()
    attempts = {case: site.attempt(run["id"], case) for case in cases}
    assert {case: attempt["state"] for case, attempt in attempts.items()} == {
        **{case: state for case, (_, state, _) in BAD.items()},
        "well": "success",
    }, site.state()
    for case, (_, _, reason) in BAD.items():
        assert reason in attempts[case]["reason"], attempts[case]["reason"]
    assert set(ask(registry, "_catalog")["repositories"]) & {f"acme/{case}" for case in cases} == {"acme/well"}
    assert tags_of(registry) == before
    assert nothing_left(site, engine) == []


TARGETS = f"""\
FROM {BASE_IMAGE} AS base
RUN useradd --uid 1000 app && useradd --non-unique --uid 0 also
FROM base AS number
USER 0:1000
FROM base AS name
USER also
FROM base AS untried
USER app
FROM base AS tried
USER app
HEALTHCHECK CMD ["true"]
"""


def test_root_by_another_name_and_an_image_that_nothing_tries_are_refused(
    engine: Engine,  # noqa: F811
    tmp_path: Path,
) -> None:
    """By the stage's own tool; ``tried`` is the negative control."""
    checkout = tmp_path / "build"
    checkout.mkdir()
    (checkout / "Dockerfile").write_text(TARGETS)

    def tool(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-P", "-m", "workers.cli", "image", *words]
        environment = {**engine.environment, "PYTHONPATH": str(HERE.parent.parent)}
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    targets = [f"--target={target}" for target in ("number", "name", "untried", "tried")]
    assert tool("build", "--dockerfile=Dockerfile", *targets)[0] == 0
    try:
        for target, said in {
            "number": "runs as root (USER 0:1000)",
            "name": "runs as root (USER also)",
            "untried": "nothing says how image untried is tried",
        }.items():
            code, told = tool("smoke", "--target=tried", f"--target={target}")
            assert (code, said in told) == (1, True), told
        assert tool("smoke", "--target=tried") == (0, "image tried as app: ['true']\n")
        scan = ["scan", "--target=tried", "--", "sh", "-c", 'echo "all is well" > "$REPORT"']
        code, told = tool(*scan)
        assert (code, "it is no JSON" in told) == (75, True), told
    finally:
        tool("clean")


def test_a_wrong_password_is_named_before_anything_is_built(site: Rig, registry: Registry) -> None:  # noqa: F811
    before = tags_of(registry)
    password(site, "wrong-0123456789")
    try:
        run = ended(site, site.push({**WELL, "greeting": "hello with a wrong password\n"}))
    finally:
        password(site, registry.password)
    attempt = site.attempt(run["id"], "docker")
    assert attempt["state"] == "infrastructure"
    assert "unauthorized" in attempt["reason"], attempt["reason"]
    assert registry.address in attempt["reason"]
    assert "wrong-0123456789" not in attempt["reason"]
    steps = site.rows("select name from steps where buildid = ? and results != 3", attempt["build_id"])
    assert [step["name"] for step in steps][-2:] == ["registry", "clean up"]
    assert tags_of(registry) == before


def test_a_registry_that_is_down_is_infrastructure_and_the_image_is_tried_again(
    site: Rig,
    registry: Registry,  # noqa: F811
) -> None:
    """It goes down after the scan, and is there again for the second attempt, which publishes."""
    before = tags_of(registry)
    tables = site.tables
    site.configure({**tables, "scheduling": {**tables["scheduling"], "infrastructure_retries": 3}})
    waiting = site.folder / "down"
    waiting.mkdir()
    held = f"touch {waiting}/here; until [ -e {waiting}/go ]; do sleep 0.1; done\n"
    try:
        site.reload()
        pushed = site.push({**WELL, "scan.sh": held + SCAN, "greeting": "hello again\n"})
        site.wait((waiting / "here").exists, "the scan")
        registry.__exit__(None, None, None)
        try:
            (waiting / "go").touch()
            run = site.run(pushed)
            site.wait(lambda: site.attempts(run["id"], "docker")[0]["state"] == "infrastructure", "the first attempt")
        finally:
            registry.__enter__()
        ended(site, pushed)
    finally:
        site.configure(tables)
        site.reload()
    first, *_, last = site.attempts(run["id"], "docker")
    assert "connection refused" in first["reason"], first["reason"]
    assert last["state"] == "success", site.state()
    tags = tags_of(registry)
    assert tags[f"sha-{pushed.head[:7]}"] == tags["main"] != before.get("main")


def test_a_pull_request_is_tried_and_leaves_the_registry_alone(site: Rig, registry: Registry) -> None:  # noqa: F811
    before = ask(registry, f"{NAME}/tags/list")["tags"], tags_of(registry)
    run = ended(site, site.pull_request(7, {**WELL, "greeting": "hello, stranger\n"}))
    attempt = site.attempt(run["id"], "docker")
    assert (attempt["state"], attempt["worker"]) == ("success", "stranger"), site.state()
    assert (ask(registry, f"{NAME}/tags/list")["tags"], tags_of(registry)) == before
    bad = ended(site, site.pull_request(8, {**WELL, "greeting": "goodbye\n"}))
    assert "smoke test" in site.attempt(bad["id"], "docker")["reason"]


def test_a_branch_never_goes_back_to_an_older_commit(site: Rig, registry: Registry) -> None:  # noqa: F811
    """The older run is held up in its build until the newer one is published."""
    waiting = site.folder / "older"
    waiting.mkdir()
    held = f"touch {waiting}/here; until [ -e {waiting}/go ]; do sleep 0.1; done\n"
    older = site.push({**WELL, "scan.sh": held + SCAN, "greeting": "hello, older\n"})
    site.wait((waiting / "here").exists, "the older run's scan")
    newer = ended(site, site.push({**WELL, "greeting": "hello, newer\n"}))
    assert site.states(newer["id"])["docker"] == "success", site.state()
    after = tags_of(registry)
    (waiting / "go").touch()
    run = ended(site, older)
    assert site.states(run["id"])["docker"] == "success", site.state()
    tags = tags_of(registry)
    (told,) = images(site, run["id"])
    assert told["kept"] == ["main", "latest"]
    assert tags == {**after, f"sha-{older.head[:7]}": told["digest"]}
    assert told["digest"] != tags["main"]


def test_a_build_that_is_cancelled_leaves_nothing(site: Rig, registry: Registry, engine: Engine) -> None:  # noqa: F811
    sleeping = "613"
    pushed = site.push({**WELL, "Dockerfile": DOCKERFILE.replace("USER app", f"RUN sleep {sleeping}\nUSER app")})
    before = tags_of(registry)
    site.wait(lambda: asleep(sleeping), "the build sleeps")
    assert site.order(f"runs/{site.run(pushed)['id']}/cancel").status_code == 200
    run = ended(site, pushed)
    assert site.states(run["id"])["docker"] == "cancelled", site.state()
    site.wait(lambda: not asleep(sleeping), "BuildKit has ended what it ran")
    site.wait(lambda: nothing_left(site, engine) == [], "nothing is left")
    assert tags_of(registry) == before


def test_a_killed_worker_leaves_nothing_and_its_build_is_done_again(
    site: Rig,
    registry: Registry,  # noqa: F811
    engine: Engine,  # noqa: F811
) -> None:
    sleeping = "614"
    tables = site.tables  # nothing after this test needs a master that gives up at once
    site.configure({**tables, "scheduling": {**tables["scheduling"], "infrastructure_retries": 1}})
    site.reload()
    pushed = site.push({**WELL, "Dockerfile": DOCKERFILE.replace("USER app", f"RUN sleep {sleeping}\nUSER app")})
    site.wait(lambda: asleep(sleeping), "the build sleeps")
    worker = site.attempt(site.run(pushed)["id"], "docker")["worker"]
    site.kill(worker)
    site.wait(lambda: not asleep(sleeping), "BuildKit has ended what it ran")
    site.wait(lambda: [line for line in site.left() if "buildx" in line] == [], "no buildx is left")
    secret = registry.password.encode()
    for where, data in canary.of_folder(site.site.folder / "workers" / worker):
        assert secret not in data, where
    site.site.start_worker(worker)
    site.wait_for_workers(worker)
    site.wait(lambda: asleep(sleeping), "it is done again")
    assert site.order(f"runs/{site.run(pushed)['id']}/cancel").status_code == 200
    ended(site, pushed)
    # the folder of the killed client, without a secret, is there until that worker's next build of the stage
    elsewhere = f"/workers/{worker}/"
    site.wait(lambda: [left for left in nothing_left(site, engine) if elsewhere not in left] == [], "nothing is left")


def asleep(seconds: str) -> bool:
    """Whether somebody on this machine sleeps for so long."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                    return True
            except OSError:
                continue
    return False


def test_no_secret_is_shown_or_kept(site: Rig, registry: Registry) -> None:  # noqa: F811
    """After all of the above. The negative control: the search finds the name of the image in the same places."""
    secrets = {"registry": registry.password, "control": NAME}
    found: dict[tuple[str, str], set[str]] = {}
    for run in site.rows("select id from runs"):
        found |= canary.shown(secrets, canary.of_run(site, run["id"]))
    found |= canary.shown(secrets, canary.of_site(site))
    found |= canary.shown(secrets, canary.of_folder(site.site.folder / "workers"))
    assert any(name == "control" for name, _ in found)
    assert {key: forms for key, forms in found.items() if key[0] == "registry"} == {}
