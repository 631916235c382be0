"""Where this machine has its packages from: of all mirrors, those are known to be reached from here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_USUAL = {
    "debian": (
        "deb http://deb.debian.org/debian {name} main",
        "deb http://deb.debian.org/debian {name}-updates main",
        "deb http://security.debian.org/debian-security {name}-security main",
    ),
    "ubuntu": tuple(
        f"deb http://archive.ubuntu.com/ubuntu {{name}}{part} main universe" for part in ("", "-updates", "-security")
    ),
}
_FIELDS = "$(ORIGIN)\t$(RELEASE)\t$(REPO_URI)\t$(COMPONENT)"
_KEYS = Path("/usr/share/keyrings")


def release(place: Path = Path("/etc/os-release")) -> tuple[str, str]:
    """The distribution and the name of its release: ``debian``, ``bookworm``."""
    lines = place.read_text(encoding="utf-8").splitlines()
    values = {name: value.strip("\"'") for name, _, value in (line.partition("=") for line in lines)}
    return values.get("ID", ""), values.get("VERSION_CODENAME", "")


def usual_sources() -> str:
    """The ``sources.list`` with which everybody has this distribution's packages; empty for one that is not known."""
    distribution, name = release()
    return "".join(f"{line.format(name=name)}\n" for line in _USUAL.get(distribution, ()))


def own_sources() -> str:
    """A ``sources.list`` of the mirrors that this machine has its distribution's packages from.

    Only what the distribution itself has signed, and only of this release. Empty where apt does not know: no list of
    packages has been fetched yet, or there is no apt.
    """
    distribution, name = release()
    ask = ["apt-get", "indextargets", "--format", _FIELDS, "Created-By: Packages"]
    try:
        said = subprocess.run(
            ask, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False
        ).stdout
    except FileNotFoundError:
        return ""
    keys = _KEYS / f"{distribution}-archive-keyring.gpg"
    signed = f"[signed-by={keys}] " if keys.exists() else ""
    found: dict[str, None] = {}  # in their order, each once: a machine may have several architectures
    for fields in (line.split("\t") for line in said.splitlines()):
        if len(fields) == 4 and fields[0].lower() == distribution and f"{fields[1]}-".startswith(f"{name}-"):
            found[f"deb {signed}{fields[2]} {fields[1]} {fields[3]}\n"] = None
    return "".join(found)
