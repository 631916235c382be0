"""``mlc-ci init REPO``: look at a repository and write working settings for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from master.errors import InitialiseFailed
from master.initialise_github import GitHubAnswers, github_table, on_github
from master.repository_facts import RepositoryFacts, inspect
from master.settings import parse
from master.settings_types import IDENTIFIER
from master.tried import Tried

OLDEST_GIT = (2, 25)

#: What a worker provides -> any of these programs shows it, the Debian package that brings them.
TOOLS = {
    "python": (("python3",), "python3-venv"),
    "compiler": (("c++", "g++", "clang++"), "build-essential"),
    "cmake": (("cmake",), "cmake"),
    "cargo": (("cargo",), "cargo"),
    "vulkan-sdk": (("glslangValidator", "glslc"), "libvulkan-dev glslang-tools spirv-tools"),
}


@dataclass(frozen=True, kw_only=True)
class InitReport:
    """What was found, and where the settings are now."""

    output: Path
    facts: RepositoryFacts
    checks: tuple[Tried, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok is not False for check in self.checks)

    def __str__(self) -> str:
        return "\n".join(
            [*map(str, self.checks), f"wrote {self.output}; `mlc-ci check {self.output}` looks at it again"]
        )


def initialise(repository: str, output: Path, *, github: GitHubAnswers | None = None) -> InitReport:
    """Write settings for a repository (URL or path) that pass ``mlc-ci check``. For one on GitHub they have a table
    ``[github]``, and what it says is tried where secrets are there already.

    Raises :class:`InitialiseFailed` when the repository cannot be read or ``output`` is there already.
    """
    if output.exists():
        raise InitialiseFailed(f"{output} is there already", "name another file with --output, or move it away")
    if not output.parent.is_dir():
        raise InitialiseFailed(f"there is no folder {output.parent}", f"mkdir -p {output.parent}")
    git = _git_check()
    found = inspect(repository)
    answers = github or GitHubAnswers()
    table = github_table(found.repository, answers)
    text = settings_text(found, table)
    examined = parse(text, file=str(output))
    if examined.settings is None:
        raise InitialiseFailed(
            f"no working settings came of {repository}:\n" + "\n".join(map(str, examined.errors)),
            "that is a defect of mlc-ci: please report it with the above",
        )
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InitialiseFailed(
            f"{output} cannot be written: {error.strerror}", "name another file with --output"
        ) from None
    needed = sorted({tool for worker in examined.settings.workers.values() for tool in worker.provides})
    reached = Tried(
        name="repository",
        ok=True,
        message=f"{found.repository}: default branch {found.default_branch}, {len(found.tags)} tags",
    )
    tools = map(_tool_check, needed)
    githubs = on_github(examined.settings, answers) if table else []
    return InitReport(output=output, facts=found, checks=(git, reached, *tools, *githubs))


def _git_check() -> Tried:
    if shutil.which("git") is None:
        raise InitialiseFailed("git is not installed", "Debian: apt-get install git")
    said = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    version = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
    oldest = ".".join(map(str, OLDEST_GIT))
    return Tried(name="git", ok=version >= OLDEST_GIT, message=said, hint=f"{oldest} or newer is needed")


def _tool_check(tool: str) -> Tried:
    programs, package = TOOLS[tool]
    if place := next(filter(None, map(shutil.which, programs)), None):
        return Tried(name=tool, ok=True, message=place)
    message = f"{' or '.join(programs)} is not on this machine, and the workers in the settings say they provide it"
    hint = f"on the workers, Debian: apt-get install {package}; or take {tool!r} out of their provides"
    return Tried(name=tool, ok=False, message=message, hint=hint)


def settings_text(found: RepositoryFacts, github: str = "") -> str:
    """Commented settings, as TOML."""
    builds = bool(found.package)
    gates = [name for name, there in (("test", found.tests), ("build-linux", builds)) if there] or ["build"]
    parts = [_project(found), *([github] if github else []), _workers(found)]
    parts += [_test(found)] if found.tests else []
    parts += [_wheel(found), _release()] if builds else []
    parts += [] if found.tests or builds else [_commands()]
    needs = [*gates, *(["release"] if builds else [])]
    parts.append(
        f"# What became of it all: always, after failures and skips too.\n\n[stages.summary]\nneeds = {_array(needs)}\n"
    )
    parts += [_further(found)] if found.dockerfile or found.windows_script else []
    return "\n".join(parts)


def _project(found: RepositoryFacts) -> str:
    return f"""\
# Settings of mlc-ci, written by `mlc-ci init`. `mlc-ci check` says what is wrong with them, all at once.
# Durations are seconds or "90s", "15m", "2h", "30d". No secret belongs in here.

[project]
name = {_string(_name(found))}
repository = {_string(found.repository)}
default_branch = {_string(found.default_branch)}
tag_pattern = {_string(_tag_pattern(found.tags))}{" " * 15}  # tags that release
submodules = {_switch(found.submodules)}
poll_interval = "60s"              # how often the repository is asked for news; "0s": webhooks tell

[threads]                          # NUM_THREADS of every stage
pull_request = 2
other = 4
"""


def _workers(found: RepositoryFacts) -> str:
    provides = _array(sorted(found.tools | {"python"}))
    return f"""\
# Trusted workers serve the default branch and tags, untrusted ones pull requests: a stranger's code never meets the
# caches and folders of what is released. A stage gets the workers that provide all that it requires.

[workers.local-trusted]
trust = "trusted"
os = "linux"
local = true    # started by `mlc-ci up`, on the master's machine
provides = {provides}

[workers.local-untrusted]
trust = "untrusted"
os = "linux"
local = true
provides = {provides}
"""


def _test(found: RepositoryFacts) -> str:
    requirements = "".join(f"    {_string(requirement)},\n" for requirement in found.test_requirements)
    return f"""\
# Tests against published packages. A failure here is shown and stops nothing: continue_on_error = false would.

[stages.test]
continue_on_error = true

[stages.test.prebuilt]             # what the tests need
packages = [
{requirements}]

[stages.test.pytest]
paths = {_array([found.tests])}
marker = {_string(found.marker)}
minimum_passed = 1                 # raise it to what passes today: a suite that skips everything is no success
"""


def _wheel(found: RepositoryFacts) -> str:
    needs = _array(["test"] if found.tests else [])
    script = f"version_script = {_string(found.version_script)}      # runs before the build\n"
    compiled = bool(found.tools & {"compiler", "cmake", "cargo"})
    repair = "repair = false        # nothing is compiled: the wheel is for every platform as it is\n"
    vulkan = 'USE_VULKAN = "ON"' if found.vulkan else ""
    config = f"config_cmake = {{ {vulkan} }}\n".replace("{  }", "{}")
    return f"""\
# The wheel, repaired to a manylinux tag and verified.

[stages.build-linux]
needs = {needs}
requires = {{ os = "linux", tools = {_array(sorted(found.tools))} }}

[stages.build-linux.wheel]
package = {_string(found.package)}
{script if found.version_script else ""}{config if found.config_cmake else ""}{"" if compiled else repair}\
# libraries = ["lib{found.package}.so"]     # what must lie at the package's root
# exclude = ["libvulkan.so.1"]      # what auditwheel must not copy into the wheel
# imports = [{_string(found.package)}]           # what must import in a clean environment, beside import_needs
"""


def _release() -> str:
    return """\
# On tags: the wheel goes to a folder of the master.

[stages.release]
needs = ["build-linux"]
when = ["tag"]

[stages.release.target]
kind = "folder"
folder = "releases"
"""


def _commands() -> str:
    return """\
# No pyproject.toml and no Python tests were found: put in what builds and tests the project.

[stages.build]
uses = "commands"
commands = ["git log -1 --oneline"]
# artifacts = ["dist/*"]
"""


def _further(found: RepositoryFacts) -> str:
    needs = _array(["test"] if found.tests else [])
    lines = ["# Found, and left out until a worker can serve it (then add it to the needs of summary):"]
    if found.dockerfile:
        lines += ["", f"# [stages.docker]                 # {found.dockerfile}", f"# needs = {needs}"]
        lines += ['# when = ["push", "tag"]', '# secrets = ["registry"]          # a file in the secrets folder']
        lines += ["# [stages.docker.image]", '# registry = "registry.example.org"']
        lines += [f'# repository = "{_name(found).lower()}"']
        lines += ['# login = { user = "ci", secret = "registry" }', f'# dockerfile = "{found.dockerfile}"']
    if found.windows_script:
        lines += ["", f"# [stages.build-windows]          # {found.windows_script}", f"# needs = {needs}"]
    return "\n".join(lines) + "\n"


def _name(found: RepositoryFacts) -> str:
    last = re.split(r"[/:\\]", found.repository.rstrip("/"))[-1].removesuffix(".git")
    for candidate in (found.distribution, last):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", candidate).strip("-")
        if IDENTIFIER.fullmatch(name):
            return name
    return "project"


def _tag_pattern(tags: Iterable[str]) -> str:
    """``v*``, unless the project's version tags begin with the number."""
    versions = [tag for tag in tags if re.match(r"v?\d", tag)]
    return "[0-9]*" if versions and not any(tag.startswith("v") for tag in versions) else "v*"


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _array(texts: Iterable[str]) -> str:
    return "[" + ", ".join(map(_string, texts)) + "]"


def _switch(value: bool) -> str:
    return "true" if value else "false"
