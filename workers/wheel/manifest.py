"""``mlc-ci-worker wheel-manifest``: the JSON that travels with a wheel and answers what users and release notes ask.

Which TVM exactly, which commit, which compiler, which symbols: what is asked in every issue about a wheel that does
not load. ``format`` counts the JSON's shape.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workers.errors import CodeError, InfrastructureError, UsageError, of_os_error
from workers.wheel.beside import manifest_name

FORMAT = 1
_LARGEST_CONFIG = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Manifest:
    format: int
    file: str
    name: str
    version: str
    tags: list[str]
    size: int
    sha256: str
    requires_dist: list[str]
    requires_python: str | None
    commit: str
    submodules: dict[str, str]
    modified: list[str]
    config_cmake: str | None
    environment: dict[str, str | None]  #: versions of the packages that decide whether it loads; null: not installed
    tvm: dict[str, str]  #: file that its TVM symbols were held against -> SHA-256
    tools: dict[str, str | None]
    host: str
    libraries: dict[str, list[str]]  #: member -> what it needs (ELF) or imports (PE)
    highest: dict[str, str]  #: GLIBC, GLIBCXX, CXXABI over all libraries; empty: none needed
    auditwheel: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wheel", type=Path, required=True, metavar="FILE")
    parser.add_argument("--source", type=Path, required=True, metavar="DIR", help="the checkout it was built from")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the config.cmake it was built with")
    parser.add_argument("--python", metavar="PYTHON", help="the environment in which it was imported")
    parser.add_argument(
        "--tvm",
        type=Path,
        action="append",
        default=[],
        metavar="X",
        help="a wheel or library of TVM, or a folder of them: what the gate is given",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: beside the wheel, .manifest.json; -: print"
    )


def manifest_of(
    wheel: Path, source: Path, config: Path | None, python: str | None, tvm: Sequence[Path] = ()
) -> Manifest:
    """Raises :class:`ToolError` for a wheel, checkout or environment that cannot be read."""
    from workers.wheel import linux, provenance, subject, symbols, verify  # noqa: PLC0415 - need what [worker] installs
    from workers.wheel.bounds import Bounds  # noqa: PLC0415
    from workers.wheel.expectations import Expectations  # noqa: PLC0415

    verdict = verify.verify(wheel, Expectations(), Bounds())
    identity, contents, metadata = verdict.identity, verdict.contents, verdict.metadata
    if identity is None or contents is None or metadata is None:
        reasons = "; ".join(f"{finding.check}: {finding.reason}" for finding in verdict.findings)
        raise CodeError(f"{wheel.name} cannot be described: {reasons or 'it has no METADATA'}")
    origin = provenance.read_source(source)
    known = subject.Subject(identity=identity, contents=contents)
    needs = {name: list(elf.needed) for name, elf in contents.elves.items()}
    return Manifest(
        format=FORMAT,
        file=wheel.name,
        name=metadata.name,
        version=str(identity.version),
        tags=sorted(map(str, identity.tags)),
        size=contents.size,
        sha256=contents.sha256,
        requires_dist=[str(requirement) for requirement in metadata.requires_dist or []],
        requires_python=str(metadata.requires_python) if metadata.requires_python else None,
        commit=origin.commit,
        submodules=origin.submodules,
        modified=origin.modified,
        config_cmake=_config(config) if config else None,
        environment=provenance.installed_versions(python) if python else {},
        tvm={path.name: _sha256(path) for path in symbols.tvm_files(tvm)},
        tools=provenance.tool_versions(),
        host=platform.platform(),
        libraries=needs | {name: sorted(pe.imports) for name, pe in contents.pes.items()},
        highest=linux.highest(list(contents.elves.values()), linux.provided(known)),
        auditwheel=provenance.auditwheel_result(wheel)
        if contents.elves
        else {"result": None, "reason": "it has no ELF"},
    )


def _config(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise UsageError(f"--config {path} is no config.cmake: it has {path.stat().st_size} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--config {path} cannot be read: {error}") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"--tvm {path} cannot be read: {error}") from error


def main(options: argparse.Namespace) -> int:
    try:
        manifest = manifest_of(options.wheel, options.source, options.config, options.python, options.tvm)
    except ImportError as error:
        raise InfrastructureError(f"{error}: pip install 'mlc-ci[worker]'") from error
    text = json.dumps(asdict(manifest), indent=2, sort_keys=False) + "\n"
    output = options.output or options.wheel.with_name(manifest_name(options.wheel.name))
    if str(output) == "-":
        print(text, end="")
        return 0
    draft = output.with_name(f"{output.name}.part")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(output)
    except OSError as error:
        raise of_os_error(error) from error
    print(f"{output}: {manifest.name} {manifest.version}, sha256 {manifest.sha256}")
    there = [f"{name} {version}" for name, version in manifest.environment.items() if version]
    print(f"in its environment: {', '.join(there) or 'nothing of TVM'}")
    return 0
