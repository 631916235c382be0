"""Stamps the version that git knows into pyproject.toml; run it before building a wheel.

| HEAD                              | version       |
|-----------------------------------|---------------|
| at the tag v1.2.3                 | 1.2.3         |
| N commits after the tag v1.2.3    | 1.2.4.devN    |
| no tag, no git, any other v* tag  | 0.1.dev0      |

The last row is no error: a source archive has to build as well. Whoever releases must therefore compare the version of
the wheel with the tag.
"""

import argparse
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FALLBACK = "0.1.dev0"
DESCRIPTION = re.compile(r"v(?P<major>\d+)\.(?P<minor>\d+)\.(?P<patch>\d+)(?:-(?P<commits>\d+)-g[0-9a-f]+)?")
# Anchored to the line, so that `target-version = "py39"` of some tool is left alone.
VERSION_LINE = re.compile(r'^(version = ")[^"]+(")$', re.MULTILINE)


def version_of(description):
    """The version for an answer of `git describe`, or None where the tag is not vX.Y.Z."""
    match = DESCRIPTION.fullmatch(description)
    if match is None:
        return None
    major, minor, patch = (int(match[part]) for part in ("major", "minor", "patch"))
    if match["commits"] is None:
        return f"{major}.{minor}.{patch}"
    return f"{major}.{minor}.{patch + 1}.dev{match['commits']}"


def git_version():
    """The version of HEAD; FALLBACK, with the reason on the screen, where git does not know one."""
    command = ["git", "describe", "--tags", "--match", "v*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError as error:
        print(f"version.py: git does not run ({error}): falling back to {FALLBACK}")
        return FALLBACK
    if done.returncode != 0:
        print(f"version.py: {done.stderr.strip()} ({' '.join(command)}): falling back to {FALLBACK}")
        return FALLBACK
    description = done.stdout.strip()
    version = version_of(description)
    if version is None:
        print(f"version.py: {description} is not vX.Y.Z: falling back to {FALLBACK}")
        return FALLBACK
    return version


def stamp(path, version):
    """Writes the version into the one line of the file that holds it."""
    text = path.read_text(encoding="utf-8")
    stamped, count = VERSION_LINE.subn(rf"\g<1>{version}\g<2>", text)
    if count != 1:
        raise SystemExit(f'version.py: {path.name} has {count} lines `version = "..."`, expected one')
    if stamped == text:
        print(f"{path.name}: version is already {version}")
        return
    path.write_text(stamped, encoding="utf-8")
    print(f"{path.name}: version is now {version}")


def main():
    """The command."""
    parser = argparse.ArgumentParser(description="Stamp the version that git knows into pyproject.toml.")
    parser.add_argument("--print-version", action="store_true", help="print the version and change nothing")
    options = parser.parse_args()
    version = git_version()
    if options.print_version:
        print(version)
    else:
        stamp(ROOT / "pyproject.toml", version)


if __name__ == "__main__":
    main()
