"""``mlc-ci-worker image ACTION``: the steps of a stage that makes an image.

Each runs in the checkout. What they leave for each other is in ``../image``, and in docker's engine under a name made
of the checkout's folder; ``clean`` removes both, and each build begins with it.
"""

from __future__ import annotations

import argparse
import os
import shutil

from workers.errors import InfrastructureError, UsageError
from workers.image import build, client, lint, publish, scan, smoke
from workers.image.findings import SEVERITIES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("clean", help="remove what earlier builds of this checkout have left")
    linting = actions.add_parser("lint", help="hadolint over a Dockerfile")
    linting.add_argument("dockerfile")
    accessing = actions.add_parser("access", help="ask the registry whether it lets us in")
    _tags(accessing)
    building = actions.add_parser("build", help="build the targets into docker's engine")
    build.add_arguments(building)
    _login(building)
    trying = actions.add_parser("smoke", help="try the targets locked down")
    trying.add_argument("--target", action="append", default=[])
    trying.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="left out: its HEALTHCHECK")
    scanning = actions.add_parser("scan", help="run a scanner over each target: it is told IMAGE and REPORT")
    scanning.add_argument("--target", action="append", default=[])
    scanning.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    judging = actions.add_parser("findings", help="hold the scanner's reports against a limit")
    judging.add_argument("--target", action="append", default=[])
    judging.add_argument("--fail-on", default="high", choices=SEVERITIES)
    publishing = actions.add_parser("publish", help="push what was tried, and move its tags")
    build.add_arguments(publishing)
    _tags(publishing)
    publishing.add_argument("--newer", action="append", default=[], metavar="SHA", help="tags that lead there stay")
    publishing.add_argument("--sbom", default="", metavar="IMAGE", help="BuildKit's generator; left out: none")
    publishing.add_argument("--write-cache", action="store_true")


def _login(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registry", default="", metavar="HOST[:PORT]")
    parser.add_argument("--user", default="")
    parser.add_argument(
        "--password-variable", default="", metavar="NAME", help="of the environment; left out: no login"
    )


def _tags(parser: argparse.ArgumentParser) -> None:
    _login(parser)
    parser.add_argument("--repository", required=True, help="registry and name, without a tag")
    parser.add_argument("--revision", required=True, metavar="SHA")
    parser.add_argument("--fixed", action="append", required=True, metavar="TAG", help="the first is the commit's")
    parser.add_argument("--moving", action="append", default=[], metavar="TAG")
    parser.add_argument("--suffix", action="append", default=[], metavar="TARGET=SUFFIX", help="left out: one image")


def login(options: argparse.Namespace) -> client.Login | None:
    variable = options.password_variable
    if not variable:
        return None
    password = os.environ.get(variable, "")
    if not password:
        raise InfrastructureError(f"unauthorized: there is no password for {options.registry} in {variable}")
    return client.Login(registry=options.registry, user=options.user, password=password)


def tags(options: argparse.Namespace) -> publish.Tags:
    suffixes = dict(pair.partition("=")[::2] for pair in options.suffix) or {"": ""}
    return publish.Tags(repository=options.repository, fixed=options.fixed, moving=options.moving, suffixes=suffixes)


def main(options: argparse.Namespace) -> int:
    match options.action:
        case "lint":
            lint.lint(options.dockerfile)
        case "findings":
            scan.judge(options.target or [""], options.fail_on)
        case "clean":
            shutil.rmtree(client.STATE, ignore_errors=True)
            with client.client() as docker:
                client.clean(docker)
        case _:
            with client.client(login(options) if "password_variable" in options else None) as docker:
                _with_docker(options, docker)
    return 0


def _with_docker(options: argparse.Namespace, docker: client.Docker) -> None:
    argv = getattr(options, "argv", None) or []
    argv = argv[1:] if argv[:1] == ["--"] else argv
    match options.action:
        case "access":
            publish.access(docker, tags(options), options.revision)
        case "build":
            build.load(docker, build.Build.of(options), options.target or [""])
        case "smoke":
            for target in options.target or [""]:
                smoke.smoke(docker, target, argv)
        case "scan" if argv:
            for target in options.target or [""]:
                scan.scan(docker, target, argv)
        case "publish":
            publish.publish(
                docker,
                build.Build.of(options),
                tags(options),
                revision=options.revision,
                newer=options.newer,
                sbom=options.sbom,
                write_cache=options.write_cache,
            )
        case _:
            raise UsageError("no scanner was given: … image scan -- COMMAND")
