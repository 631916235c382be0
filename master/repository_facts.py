"""What a git repository says about how it wants to be tested and built, for ``mlc-ci init``.

Nothing of the repository is run: its refs are listed, a shallow clone is read and thrown away.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from master.errors import InitialiseFailed
from master.settings_secrets import secret_kind

LIST_TIMEOUT = 60.0  #: seconds
CLONE_TIMEOUT = 600.0  #: seconds; a shallow clone of a large repository over a slow line
_REDIRECTIONS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
_REASONS = (
    (r"could not resolve host|name or service not known", "check the host's name, and this machine's network"),
    (
        r"authentication failed|could not read (username|password)|permission denied|terminal prompts disabled",
        "give git access first (an ssh key, or a credential helper), until `git ls-remote` works without asking",
    ),
    (
        r"not appear to be a git repository|not a git repository",
        "name the repository itself: its URL, or its top folder",
    ),
    (r"repository .*not found|does not exist", "check the address; a private repository is hidden without credentials"),
    (r"dubious ownership", "it belongs to another user: run this as its owner, or add it to git's safe.directory"),
)


@dataclass(frozen=True, kw_only=True)
class RepositoryFacts:
    """What the settings are written from. Empty means: not there."""

    repository: str
    default_branch: str
    tags: tuple[str, ...] = ()
    submodules: bool = False
    distribution: str = ""
    package: str = ""
    version_script: str = ""
    tests: str = ""
    marker: str = ""
    test_requirements: tuple[str, ...] = ()
    config_cmake: bool = False
    vulkan: bool = False
    tools: frozenset[str] = frozenset()
    dockerfile: str = ""
    windows_script: str = ""


def inspect(repository: str) -> RepositoryFacts:
    """Look at a repository by URL or path. Raises :class:`InitialiseFailed` when it cannot be used."""
    if kind := secret_kind(repository):
        hint = "leave it out of the address: settings hold no secrets; use an ssh key or a git credential helper"
        raise InitialiseFailed(f"the repository's address holds {kind}", hint)
    if not repository or repository.startswith("-"):
        raise InitialiseFailed(f"{repository!r} is no repository", "give its URL or its folder")
    local = Path(repository).expanduser()
    if local.exists():
        repository = str(local.resolve())
    elif "://" not in repository and not re.match(r"[\w.-]+(@[\w.-]+)?:", repository):
        raise InitialiseFailed(f"there is no folder {repository}", "give the repository's URL, or the folder it is in")
    branch, tags = _refs(repository)
    with tempfile.TemporaryDirectory(prefix="mlc-ci-init-") as folder:
        clone = Path(folder) / "clone"
        options = ["--depth=1", "--no-tags", "--single-branch", f"--branch={branch}", "--quiet"]
        _git("clone", *options, "--", repository, str(clone), repository=repository, timeout=CLONE_TIMEOUT)
        return facts(clone, repository=repository, default_branch=branch, tags=tags)


def facts(tree: Path, *, repository: str, default_branch: str, tags: tuple[str, ...] = ()) -> RepositoryFacts:
    """What a checkout says. What cannot be read is taken as not there."""
    pyproject = _toml(tree / "pyproject.toml")
    project = _table(pyproject, "project")
    distribution = project.get("name", "") if isinstance(project.get("name", ""), str) else ""
    cmake = _text(tree / "CMakeLists.txt")
    tests = next((name for name in ("tests/python", "tests", "test") if _python_tests(tree / name)), "")
    vulkan = bool(re.search(r"\bUSE_VULKAN\b", cmake))
    tools = {"python"} if pyproject else set()
    if cmake:
        tools |= {"compiler", "cmake"}
    if (tree / "Cargo.toml").exists() or any(tree.glob("*/Cargo.toml")) or "cargo" in cmake.lower():
        tools |= {"cargo"}
    if vulkan or re.search(r"find_package\s*\(\s*Vulkan", cmake):
        tools |= {"vulkan-sdk"}
    return RepositoryFacts(
        repository=repository,
        default_branch=default_branch,
        tags=tags,
        submodules=(tree / ".gitmodules").exists(),
        distribution=distribution,
        package=_package(tree, pyproject, distribution),
        version_script="version.py" if (tree / "version.py").exists() else "",
        tests=tests,
        marker="unittest" if tests and _uses_marker(tree / tests) else "",
        test_requirements=_test_requirements(project) if tests else (),
        config_cmake="config.cmake" in cmake,
        vulkan=vulkan,
        tools=frozenset(tools),
        dockerfile=_first_file(tree, "Dockerfile", "docker/Dockerfile"),
        windows_script=_first_file(tree, "ci/task/build_win.bat"),
    )


def _refs(repository: str) -> tuple[str, tuple[str, ...]]:
    """The default branch and the tags."""
    answer = _git("ls-remote", "--symref", "--", repository, repository=repository, timeout=LIST_TIMEOUT)
    head = re.search(r"^ref: refs/heads/(\S+)\tHEAD$", answer, re.MULTILINE)
    branches = re.findall(r"^[0-9a-f]+\trefs/heads/(\S+)$", answer, re.MULTILINE)
    tags = re.findall(r"^[0-9a-f]+\trefs/tags/([^\s^]+)$", answer, re.MULTILINE)
    if not branches:
        raise InitialiseFailed(f"{repository} is empty: it has no branch", "push a first commit to it")
    preferred = [head[1]] if head else []
    branch = next((name for name in (*preferred, "main", "master") if name in branches), branches[0])
    return branch, tuple(tags)


def _git(*arguments: str, repository: str, timeout: float) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in _REDIRECTIONS}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=15")
    try:
        done = subprocess.run(
            ["git", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise InitialiseFailed("git is not installed", "Debian: apt-get install git") from None
    except subprocess.TimeoutExpired:
        hint = "check this machine's network, or try again later"
        raise InitialiseFailed(f"{repository} did not answer within {timeout:g} s", hint) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        hint = next((hint for pattern, hint in _REASONS if re.search(pattern, said, re.IGNORECASE)), "")
        last = said.splitlines()
        line = next((line for line in last if line.startswith(("fatal:", "error:", "ssh:"))), last[-1] if last else "")
        raise InitialiseFailed(f"{repository} cannot be read: {line or f'git exited {done.returncode}'}", hint)
    return done.stdout.decode(errors="replace")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(file))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _table(data: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    for key in keys:
        below = data.get(key)
        data = below if isinstance(below, dict) else {}
    return data


def _package(tree: Path, pyproject: Mapping[str, Any], distribution: str) -> str:
    """The import package: where scikit-build installs, or a folder of the distribution's name."""
    candidates = [_table(pyproject, "tool", "scikit-build", "wheel").get("install-dir"), distribution.replace("-", "_")]
    names = [str(name) for name in candidates if name and re.fullmatch(r"[A-Za-z_]\w*", str(name), re.ASCII)]
    places = (tree, tree / "src", tree / "python")
    found = next((name for name in names if any((place / name).is_dir() for place in places)), "")
    return found or (names[0] if names else "")


def _python_tests(folder: Path) -> bool:
    return folder.is_dir() and any(folder.rglob("test_*.py"))


def _uses_marker(folder: Path) -> bool:
    return any("mark.unittest" in _text(file) for file in folder.rglob("*.py"))


def _test_requirements(project: Mapping[str, Any]) -> tuple[str, ...]:
    """What the project says its tests need; ``pytest`` always."""
    extras = _table(project, "optional-dependencies")
    said = next((extras[name] for name in ("test", "tests", "testing", "dev") if name in extras), None)
    declared = said if said is not None else project.get("dependencies", [])
    names = [name for name in declared if isinstance(name, str) and name] if isinstance(declared, list) else []
    return (*names, *(() if any(re.match(r"pytest\b(?!-)", name) for name in names) else ("pytest",)))


def _first_file(tree: Path, *names: str) -> str:
    return next((name for name in names if (tree / name).is_file()), "")
