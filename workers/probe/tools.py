"""Which tools are here, in which version. Each is asked in a process of its own, within a time limit."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from workers.probe.asking import NoAnswer, ask, how_it_ended
from workers.probe.facts import Problem, Tool, one_line

_SECONDS = 20.0
_AT_ONCE = 4
_VERSION = re.compile(r"(?<![\w.])[vV]?(\d+(?:\.\d+)+)")
_EXECUTABLE = "python" if sys.platform == "win32" else "python3"


@dataclass(frozen=True, kw_only=True)
class Question:
    """How a tool is asked.

    ``program`` is what is looked for on the PATH (``elsewhere``: folders to look in after it); ``after`` the words that
    stand before the version where another number comes first.
    """

    program: str
    arguments: tuple[str, ...] = ("--version",)
    after: str = ""
    elsewhere: tuple[str, ...] = ()


QUESTIONS: Mapping[str, Question] = {
    "git": Question(program="git"),
    "cmake": Question(program="cmake"),
    "ninja": Question(program="ninja"),
    "gcc": Question(program="gcc", arguments=("-dumpfullversion",)),
    "clang": Question(program="clang"),
    "cargo": Question(program="cargo"),
    "rustc": Question(program="rustc"),
    "conda": Question(program="conda"),
    # the server's version: a client alone builds nothing
    "docker": Question(program="docker", arguments=("version", "--format", "{{.Server.Version}}")),
    "buildx": Question(program="docker", arguments=("buildx", "version")),
    "ccache": Question(program="ccache"),
    "sccache": Question(program="sccache"),
    "nvcc": Question(program="nvcc", after=", V", elsewhere=("CUDA_HOME", "CUDA_PATH", "/usr/local/cuda")),
    "python": Question(program=_EXECUTABLE),
}
KNOWN = frozenset({*QUESTIONS, "msvc"})  #: every name that a probe can have
_PLUGIN_MISSING = re.compile(r"unknown command: docker|is not a docker command")
_VSWHERE = ("Microsoft Visual Studio", "Installer", "vswhere.exe")
_COMPONENT = "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"
_TOOLSET = ("VC", "Auxiliary", "Build", "Microsoft.VCToolsVersion.default.txt")


def look(
    questions: Mapping[str, Question] = QUESTIONS, seconds: float = _SECONDS
) -> tuple[tuple[Tool, ...], tuple[Problem, ...]]:
    """The tools that are here and say their version, and those that are here and do not."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = [pool.submit(_look_for, name, question, seconds) for name, question in questions.items()]
        found = [each.result() for each in asked]
    found.append(visual_studio(os.environ, seconds))
    tools = tuple(each for each in found if isinstance(each, Tool))
    return tools, tuple(each for each in found if isinstance(each, Problem))


def _look_for(name: str, question: Question, seconds: float) -> Tool | Problem | None:
    path = shutil.which(question.program) or shutil.which(question.program, path=_folders(question.elsewhere))
    if not path:
        return None
    try:
        said = _said([path, *question.arguments], seconds)
    except NoAnswer as why:
        return None if _PLUGIN_MISSING.search(why.said) else _of(name, path, str(why))
    found = _VERSION.search(said, max(0, said.find(question.after)))
    if not found:
        return _of(name, path, f"says no version, but {said.strip() or 'nothing'}")
    return Tool(name=name, version=found[1], path=one_line(path))


def _of(name: str, path: str, what: str) -> Problem:
    return Problem(part=name, what=one_line(f"{path}: {what}"))


def _folders(elsewhere: Sequence[str]) -> str:
    """Variables that name an installation, or its folder."""
    named = (each if each.startswith("/") else os.environ.get(each, "") for each in elsewhere)
    return os.pathsep.join(str(Path(each) / "bin") for each in named if each)


def _said(command: Sequence[str], seconds: float) -> str:
    """Raises :class:`NoAnswer`."""
    answer = ask(command, seconds)
    if answer.code:
        raise NoAnswer(how_it_ended(answer), answer.err)
    return answer.out or answer.err


def visual_studio(environment: Mapping[str, str], seconds: float = _SECONDS) -> Tool | Problem | None:
    """MSVC as the tool ``msvc``: the version is its toolset's (``14.38.33130``), the path Visual Studio's."""
    programs = environment.get("ProgramFiles(x86)")
    vswhere = Path(programs, *_VSWHERE) if programs else None
    if not vswhere or not vswhere.is_file():
        return None
    wanted = ["-latest", "-products", "*", "-requires", _COMPONENT, "-format", "json", "-utf8"]
    try:
        installed = json.loads(_said([str(vswhere), *wanted], seconds) or "[]")
        if not installed:
            return None
        folder = str(installed[0]["installationPath"])
        version = Path(folder, *_TOOLSET).read_text(encoding="ascii").strip()
    except NoAnswer as why:
        return _of("msvc", str(vswhere), str(why))
    except (ValueError, KeyError, TypeError, OSError) as error:
        return _of("msvc", str(vswhere), f"names no Visual Studio whose toolset can be read: {error}")
    if not _VERSION.fullmatch(version):
        return _of("msvc", folder, f"its toolset says no version, but {version}")
    return Tool(name="msvc", version=version, path=one_line(folder))
