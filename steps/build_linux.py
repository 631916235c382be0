"""The build-linux stage: from a clean checkout to one wheel that says what it is, repaired, and imported once.

Each step exists because a wheel was once published without it: tools missing half an hour into the build, a version
fallback nobody noticed, a stale ``config.cmake`` (MLC-LLM's scripts append to it), an unrepaired wheel left by a failed
repair, a wheel that installs and does not import.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import Any

from buildbot.process.properties import Interpolate
from buildbot.process.results import SUCCESS, WARNINGS
from buildbot.steps.worker import CompositeStepMixin
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from twisted.internet import defer

from master.pipeline import Stage
from master.settings import Settings
from master.settings_wheel import ExpectSettings, WheelSettings
from steps.caches import CacheReport, with_caches
from steps.classify import FailureClass
from steps.command import Command, Frame
from steps.source import checkout
from steps.upload import UnsafeName, file_name, upload_artifacts

BUILT, REPAIRED = "dist", "wheelhouse"  #: folders in the checkout
ENVIRONMENT = "../wheel-environment"  #: where the wheel is imported, beside the checkout
PYTHON = f"{ENVIRONMENT}/bin/python"
TVM = "../wheel-tvm"  #: wheels of the TVM that its symbols are held against
TOOLS = ("git", "cmake", "ninja", "cargo", "c++/g++/clang++")  #: a/b: one of them is enough
REPAIR_TOOLS = ("auditwheel", "patchelf")
#: What ``mlc-ci-worker wheel-manifest`` says of the environment that the wheel was installed into.
_IN_ENVIRONMENT = re.compile(r"in its environment: (\S+ \S+(?:, \S+ \S+)*)")


def build_steps(stage: Stage, variant: str, settings: Settings) -> list[Any]:
    wheel = settings.stages[stage.name].wheel
    if wheel is None:
        raise ValueError(f"stage {stage.name} builds a wheel and has no [stages.{stage.name}.wheel]")
    frame = Frame.of(stage, settings)
    limits = frame.limits()
    local = wheel.variant(variant).local_version
    config = f"{wheel.directory}/config.cmake"
    tools = [*TOOLS, *(REPAIR_TOOLS if wheel.repair else ())]
    folder = REPAIRED if wheel.repair else BUILT
    steps: list[Any] = [
        checkout(frame, submodules=settings.project.submodules),
        Command(name="tools", command=["mlc-ci-worker", "tools", *tools], **limits),
        Command(name="clean", command=["rm", "-rf", "--", BUILT, REPAIRED, TVM, config], **limits),
        Command(name="version", command=stamp_command(wheel, local), **limits),
        Command(
            name="config.cmake", command=["tee", config], initialStdin=config_cmake(wheel.config_for(variant)), **limits
        ),
        CachedWheelCommand(
            name="wheel", command=with_caches(wheel.caches, wheel_command(wheel)), folder=BUILT, local=local, **limits
        ),
    ]
    if wheel.repair:
        steps.append(
            WheelCommand(
                name="repair", command=repair_command(wheel), folder=REPAIRED, repaired=True, local=local, **limits
            )
        )
    path = Interpolate(f"{folder}/%(prop:wheel)s")
    # Without imports to try, its dependencies (for MLC-LLM some gigabytes) prove nothing.
    install = [PYTHON, "-m", "pip", "install", *([] if wheel.imports else ["--no-deps"]), path, *wheel.import_needs]
    steps += [
        Command(name="environment", command=["python3", "-m", "venv", "--clear", ENVIRONMENT], **limits),
        Command(name="install", command=install, **limits),
    ]
    if wanted := wheel.expect.tvm_requirements():
        fetch = [PYTHON, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", TVM, *wanted]
        steps.append(Command(name="TVM", command=fetch, **limits))
    steps += [
        ManifestCommand(name="manifest", command=manifest_command(wheel, path, config), **limits),
        Command(
            name="verify", command=verify_command(wheel, folder, local), descriptionDone=waived(wheel.expect), **limits
        ),
        Command(name="imports", command=imports_command(wheel), **limits),
        upload_artifacts(frame, [f"{folder}/*.whl", f"{folder}/*.manifest.json"]),
    ]
    return steps


def stamp_command(wheel: WheelSettings, local: str = "") -> list[Any]:
    more = ["--script", wheel.version_script] if wheel.version_script else []
    more += ["--local", local] if local else []
    return ["mlc-ci-worker", "stamp", "--directory", wheel.directory, *more, Interpolate("--tag=%(prop:tag)s")]


def wheel_command(wheel: WheelSettings) -> list[str]:
    where = wheel.directory if wheel.directory.startswith((".", "/")) else f"./{wheel.directory}"
    return ["python3", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", BUILT, where, "-v"]


def repair_command(wheel: WheelSettings) -> list[Any]:
    excluded = [word for name in wheel.exclude for word in ("--exclude", name)]
    return ["auditwheel", "repair", "--wheel-dir", REPAIRED, *excluded, Interpolate(f"{BUILT}/%(prop:wheel)s")]


def tvm_options(expect: ExpectSettings) -> list[str]:
    """Which TVM, for the gate and for the manifest."""
    places = [*expect.tvm_files(), *([TVM] if expect.tvm_requirements() else [])]
    return [word for place in places for word in ("--tvm", place)]


def manifest_command(wheel: WheelSettings, path: Interpolate, config: str) -> list[Any]:
    command = ["mlc-ci-worker", "wheel-manifest", "--wheel", path, "--source", ".", "--config", config]
    return [*command, "--python", PYTHON, *tvm_options(wheel.expect)]


def verify_command(wheel: WheelSettings, folder: str, local: str = "") -> list[Any]:
    """The wheel gate over the folder, so that it also sees a second wheel for the same platform."""
    expect = wheel.expect
    allowed = [f"{waiver.check}={waiver.files}" for waiver in expect.allow]
    if not wheel.repair:
        allowed.append("tag-bare-linux=*")
    lists = {
        "--library": wheel.libraries,
        "--exclude": wheel.exclude,
        "--allow": allowed,
        "--platform": [expect.platform],
        "--requires": expect.requires,
        "--allow-needed": expect.needed,
        "--forbid": expect.forbidden,
        "--never-graft": expect.never_grafted,
        "--placeholder": expect.placeholders,
        "--glibc": [expect.glibc] if expect.glibc else [],
        "--glibcxx": [expect.glibcxx] if expect.glibcxx else [],
        "--cxxabi": [expect.cxxabi] if expect.cxxabi else [],
        "--max-size": [str(expect.max_size)] if expect.max_size else [],
        "--bound": [f"{name}={value}" for name, value in expect.bounds.items()],
    }
    command: list[Any] = ["mlc-ci-worker", "verify-wheel", "--manifest", "--package", wheel.package]
    command += [word for option, values in lists.items() for value in values for word in (option, value)]
    tag = Interpolate("--tag=%(prop:tag)s" + (f"%(prop:tag:#?|+{local}|)s" if local else ""))
    return [*command, *tvm_options(expect), tag, folder]


def waived(expect: ExpectSettings) -> list[str] | None:
    """What the gate's step says of checks that the settings waive; None: nothing to say."""
    said = [f"{waiver.check} waived for {waiver.files}: {waiver.reason}" for waiver in expect.allow]
    return [f"verify: {'; '.join(said)}"] if said else None


def imports_command(wheel: WheelSettings) -> list[str]:
    command = ["mlc-ci-worker", "imports", "--python", PYTHON]
    for library in wheel.libraries:
        command += ["--file", f"{wheel.package}/{library}"]
    for module in wheel.imports:
        command += ["--import", module]
    return command


def config_cmake(options: Mapping[str, str]) -> str:
    """The text of ``config.cmake``. ``$`` stays as it is, so that a value may name another variable."""
    return "".join(f"set({name} {_cmake_argument(value)})\n" for name, value in options.items())


def _cmake_argument(value: str) -> str:
    if value and all(character.isalnum() or character in "_./:+-" for character in value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def wheel_problem(names: list[str], folder: str, tag: str, *, repaired: bool) -> str:
    """What is wrong with the wheels that a command left in a folder, by their names alone; empty: nothing."""
    if len(names) != 1:
        found = ", ".join(sorted(names)) or "none"
        return f"{folder} must hold exactly one wheel after this; found: {found}"
    try:
        name, version, _, tags = parse_wheel_filename(names[0])
    except (InvalidWheelFilename, InvalidVersion) as error:
        return str(error)
    platforms = {tag.platform for tag in tags}
    if repaired and (bare := sorted(platform for platform in platforms if platform.startswith("linux_"))):
        return f"{names[0]} still says {bare[0]}: the repair did not happen"
    if tag:
        try:
            wanted = Version(tag)
        except InvalidVersion:
            return f"tag {tag} is no version (PEP 440): it cannot be released"
        if version != wanted:
            return f"tag {tag} was built as {name} {version}, not {wanted}"
    return ""


class WheelCommand(CompositeStepMixin, Command):
    """A command that has to leave exactly one wheel in ``folder``; the build property ``wheel`` gets its name."""

    def __init__(self, *, folder: str, repaired: bool = False, local: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder
        self.local = local
        self.repaired = repaired

    def wanted_tag(self, properties: Any) -> str:
        """Whose version the wheel must have; empty: any."""
        tag = str(properties.getProperty("tag") or "")
        return f"{tag}+{self.local}" if tag and self.local else tag

    @defer.inlineCallbacks
    def accept(self) -> Generator[Any, Any, int]:
        paths = yield self.runGlob(self.build.path_module.join(str(self.workdir), self.folder, "*.whl"))
        try:
            names = [file_name(path) for path in paths]
        except UnsafeName as error:
            return self.blame(FailureClass.CODE, str(error))
        if problem := wheel_problem(names, self.folder, self.wanted_tag(self), repaired=self.repaired):
            return self.blame(FailureClass.CODE, problem)
        self.setProperty("wheel", names[0], "step")
        self.descriptionDone = [names[0]]
        result: int = SUCCESS
        return result


class ManifestCommand(Command):
    """Writes the manifest. The build property ``built`` gets the wheel's name, version and installed TVM."""

    found: tuple[str, ...] = ()

    def line_received(self, line: str) -> None:
        if told := _IN_ENVIRONMENT.fullmatch(line):
            self.found = tuple(told[1].split(", "))

    def accept(self) -> int:
        name, version, _, _ = parse_wheel_filename(str(self.getProperty("wheel")))
        tvm = dict(word.split(" ", 1) for word in self.found)
        self.setProperty("built", {"name": name, "version": str(version), "tvm": tvm}, "step")
        result: int = SUCCESS
        return result


class CachedWheelCommand(WheelCommand):
    """The same through compiler caches: what they did becomes build properties (:mod:`steps.caches`) and part of the
    step's line. A cache that was not used makes the build end with warnings."""

    caches = CacheReport()

    def line_received(self, line: str) -> None:
        self.caches = CacheReport.read(line) or self.caches  # the last one is the tool's own

    @defer.inlineCallbacks
    def run(self) -> Generator[Any, Any, int]:
        result: int = yield super().run()
        for name, value in self.caches.properties():
            self.setProperty(name, value, "step")
        warnings = [*self.caches.warnings, *(self.caches.unused() if result == SUCCESS else ())]
        if warnings:
            self.setProperty("cache_warnings", warnings, "step")
        if result == SUCCESS:
            told = "; ".join([str(self.getProperty("wheel")), *self.caches.summary(), *warnings])
            self.descriptionDone = [told]
            result = WARNINGS if warnings else SUCCESS
        return result
