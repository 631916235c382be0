"""What a rig is made of: a free port, a template to copy, settings as TOML, and the command that every stage runs."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from master.site.owners import Owners
from master.site.processes import Site

HERE = Path(__file__).resolve().parent
_PORTS = itertools.count()


def load_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


repository = load_module(HERE.parent / "sample_project" / "repository.py")


def free_port() -> int:
    """A port that nobody listens on, outside of what the kernel gives out, so that it stays free over a restart."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0) % 4
    lowest = 20000 + 3000 * worker
    start = random.Random(os.getpid() * 1000 + next(_PORTS)).randrange(3000)  # noqa: S311 - no secret
    for offset in range(3000):
        port = lowest + (start + offset) % 3000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def make_template(folder: Path, tables: Mapping[str, Any]) -> None:
    """What every rig is a copy of: the sample's repositories, and a prepared site without settings of its own."""
    repository.create(folder / "repositories")
    settings = folder / "settings.toml"
    settings.write_text(toml({"project": {"name": "sample", "repository": "/nowhere"}, **tables}))
    (folder / "site").mkdir()
    Site(folder / "site", settings, owners=Owners()).prepare()


def toml(tables: Mapping[str, Any]) -> str:
    """Tables as TOML; JSON's scalars and lists are TOML's, and tables within lists stand in a line."""
    lines: list[str] = []

    def inline(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + "}"
        return f"[{', '.join(map(inline, value))}]" if isinstance(value, list) else json.dumps(value)

    def write(path: str, table: Mapping[str, Any]) -> None:
        lines.append(f"[{path}]" if path else "")
        lines.extend(f"{key} = {inline(value)}" for key, value in table.items() if not isinstance(value, Mapping))
        for key, value in table.items():
            if isinstance(value, Mapping):
                write(f"{path}.{key}" if path else key, value)

    write("", tables)
    return "\n".join(lines) + "\n"


def git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


#: Run by every stage: leaves a line, does what the commit under test wants of it (``ci/STAGE.sh``), leaves a line.
EFFECT_SCRIPT = """\
stage="$1"
say() {{ echo "$1 $stage ${{TEST_BUILD:--}} $(git rev-parse HEAD) $(basename "$MLC_CI_WORKER_DIR")" >> {effects}; }}
say begin
[ -f "ci/$stage.sh" ] && . "ci/$stage.sh"
say end
"""
