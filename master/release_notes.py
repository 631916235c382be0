"""The notes of a release: the document's four sections and how it was built, filled from the wheels' manifests. Pure.

The text is a Jinja2 template, ``release_notes.md.j2`` beside this file unless the settings name another. It gets
``project``, ``tag``, ``commit``, ``wheels`` (each a :class:`BuiltWheel`) and ``missing`` (each a
:class:`MissingPlatform`). The filter ``cell`` makes a text fit a table.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion

from master.wheel_manifests import WheelManifest

_SYSTEMS = {
    "manylinux": "Linux",
    "musllinux": "Linux (musl)",
    "linux": "Linux",
    "win": "Windows",
    "any": "any platform",
}
_APIS = {"VULKAN": "Vulkan", "CUDA": "CUDA", "ROCM": "ROCm", "METAL": "Metal", "OPENCL": "OpenCL"}
_STAGES = {"build-linux": "Linux", "build-windows": "Windows"}


class BadTemplate(Exception):
    """The template cannot be filled; the message says where and why."""


@dataclass(frozen=True, kw_only=True)
class BuiltWheel:
    """A wheel of the release, the stage that built it, and its manifest where it has one."""

    name: str
    stage: str
    variant: str
    manifest: WheelManifest | None

    @property
    def version(self) -> str:
        return str(parse_wheel_filename(self.name)[1])

    @property
    def platforms(self) -> Sequence[str]:
        return sorted({tag.platform for tag in parse_wheel_filename(self.name)[3]})

    @property
    def title(self) -> str:
        """``Linux x86_64``, with the variant where there is one."""
        first = self.platforms[0]
        system = next((name for start, name in _SYSTEMS.items() if first.startswith(start)), first)
        architecture = next((a for a in ("x86_64", "aarch64", "arm64", "amd64") if first.endswith(a)), "")
        architecture = "x86_64" if architecture == "amd64" else architecture
        return " ".join(filter(None, [system, architecture, f"({self.variant})" if self.variant else ""]))

    @property
    def install(self) -> str:
        """The command, with exactly the TVM that the wheel was tried with: pip would take a newer one."""
        python = "python" if self.platforms[0].startswith("win") else "python3"
        pins = [f"{name}=={version}" for name, version in self.pins.items()]
        return shlex.join([python, "-m", "pip", "install", f"./{self.name}", *pins])

    @property
    def pins(self) -> Mapping[str, str]:
        """TVM packages and their versions: those that it was installed with, else, of what it requires, those that its
        symbols were held against."""
        if self.manifest is None:
            return {}
        required = {canonicalize_name(Requirement(text).name) for text in self.tvm_requirements}
        held = dict(filter(None, map(_name_and_version, self.manifest.tvm)))
        return {name: held[name] for name in sorted(required & held.keys())} | dict(self.manifest.installed)

    @property
    def tvm_requirements(self) -> Sequence[str]:
        return [text for text in (self.manifest.requires_dist if self.manifest else ()) if _is_tvm(text)]

    @property
    def tvm_submodules(self) -> Mapping[str, str]:
        found = self.manifest.submodules if self.manifest else {}
        return {path: revision for path, revision in found.items() if "tvm" in path.rpartition("/")[2].lower()}

    @property
    def symbols_held_against(self) -> str:
        """The files whose TVM symbols are, taken together, all that it uses; empty where nobody has looked."""
        return " and ".join(f"`{file}`" for file in (self.manifest.tvm if self.manifest else ()))

    @property
    def names_tvm(self) -> bool:
        manifest = self.manifest
        return bool(manifest and (self.tvm_requirements or manifest.installed or manifest.tvm or self.tvm_submodules))

    @property
    def purpose(self) -> str:
        """What it computes on, by its CMake options; nothing is said that they do not say."""
        options = self.manifest.options if self.manifest else {}
        off = ("OFF", "0", "FALSE", "NO")
        apis = [said for name, said in _APIS.items() if options.get(f"USE_{name}", "OFF").upper() not in off]
        said = f"GPUs through {' and '.join(apis)}" if apis else ""
        if "CUDA" in apis and (architectures := options.get("CMAKE_CUDA_ARCHITECTURES")):
            said += f"; CUDA architectures {architectures.replace(';', ', ')}"
        return said or ("no GPU, by its CMake options" if self.manifest else "as its project says")

    @property
    def python(self) -> str:
        return (self.manifest.requires_python if self.manifest else None) or "any"

    @property
    def system(self) -> str:
        """What it takes of the user's system: glibc, and libraries that drivers and runtimes bring."""
        if self.manifest is None:
            return "–"
        glibc = next((p.split("_")[1:3] for p in self.platforms if p.startswith("manylinux_")), None)
        said = [f"glibc {'.'.join(glibc)}"] if glibc else []
        return ", ".join([*said, *(f"`{library}`" for library in self.manifest.system_libraries)]) or "nothing"


@dataclass(frozen=True, kw_only=True)
class MissingPlatform:
    """A build of the pipeline whose wheel this release does not have, and why."""

    stage: str
    variant: str
    reason: str

    @property
    def title(self) -> str:
        return _STAGES.get(self.stage, self.stage) + (f" ({self.variant})" if self.variant else "")


def shipped_template() -> str:
    return resources.files("master").joinpath("release_notes.md.j2").read_text(encoding="utf-8")


def notes(
    template: str,
    *,
    project: str,
    tag: str,
    commit: str,
    wheels: Sequence[BuiltWheel],
    missing: Sequence[MissingPlatform],
) -> str:
    """Markdown. Raises :class:`BadTemplate`."""
    # Markdown is no HTML: what could be taken for it stands between backticks.
    environment = jinja2.Environment(  # noqa: S701
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = _cell
    try:
        filled = environment.from_string(template)
        return filled.render(project=project, tag=tag, commit=commit, wheels=wheels, missing=missing)
    except jinja2.TemplateSyntaxError as error:
        raise BadTemplate(f"line {error.lineno}: {error.message}") from error
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise BadTemplate(str(error)) from error


def _cell(text: str) -> str:
    """Text from elsewhere as one cell of a table: no line's end, no cell's end, no HTML."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _name_and_version(file: str) -> tuple[str, str] | None:
    try:
        name, version, _, _ = parse_wheel_filename(file)
    except (InvalidWheelFilename, InvalidVersion):  # a library, or a wheel by another name
        return None
    return name, str(version)


def _is_tvm(text: str) -> bool:
    """Whether a requirement of METADATA is one on TVM that holds for everybody."""
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False
    name = canonicalize_name(requirement.name)
    return ("tvm" in name or name.startswith("mlc-ai")) and "extra" not in str(requirement.marker or "")
