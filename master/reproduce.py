"""``mlc-ci reproduce RUN STAGE``: a stage's commands once more, on this machine, and whether they fail as they did.

A fresh folder plays the worker's: the checkout in ``build``, caches and temporary files of its own, each step's
output in ``logs``. Commands get the environment that a worker started here would give them: what of the caller's own
is no secret, and the stage's variables.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError
from rich.console import Console

from master.client import Client
from master.errors import UserError
from master.recipe import Recipe
from master.reproduce_steps import TOOL, UNSAFE, Workplace, checks_out, environment, nested, run_steps, secrets_of
from master.versions import mismatch, ours
from steps.classify import FailureClass
from steps.recipe import StepRecipe, filled
from workers.start import fresh_temporary_folder

INSTALL = f"install {TOOL}: pip install 'mlc-ci[worker]', of the master's version"
_SOMEWHERE = re.compile(r"(?<![\w.])/\S*/(?=\S)")  # the folders of an absolute path
_VARYING = re.compile(r"\d+(\.\d+)?(?= ?(s|seconds|MiB|GiB)\b)|(?<=process )\d+")


class CannotReproduce(UserError):
    """This machine, or its user, cannot do what the stage does."""

    exit_code = 7


def read(found: object) -> Recipe:
    """What the master told, as a recipe. Raises :class:`CannotReproduce`."""
    try:
        return Recipe.model_validate(found)
    except ValidationError as error:
        raise CannotReproduce(
            f"the master's recipe cannot be read: {error.errors()[0]['msg']}", "use the master's version of mlc-ci"
        ) from None


def assert_possible(recipe: Recipe, folder: Path | None) -> None:
    """Raises :class:`CannotReproduce` for all that can be told before anything runs."""
    if recipe.os and not sys.platform.startswith({"windows": "win"}.get(recipe.os, recipe.os)):
        raise CannotReproduce(
            f"stage {recipe.stage} runs on {recipe.os}, this machine is {sys.platform}", "use a machine of its kind"
        )
    if sys.platform == "win32":
        raise CannotReproduce("this runs on Linux only", "use a Linux machine, or look at --print for the commands")
    path = environment(recipe, folder or Path.cwd())["PATH"]
    words = dict.fromkeys(str(argv[0]) for step in recipe.steps for argv in nested(step.argv))
    needed = [word for word in words if "/" not in word or word.startswith("/")]
    missing = [word for word in needed if shutil.which(word, path=path) is None]
    if missing:
        hint = INSTALL if TOOL in missing else "install them, or run this on a worker's host"
        raise CannotReproduce(f"not on this machine's PATH: {', '.join(missing)}", hint)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotReproduce(f"{folder} is there already, and is not an empty folder", "name a new one")


def assert_wanted(console: Console, recipe: Recipe, *, yes: bool) -> None:
    """Nobody runs a stranger's code without knowing it. Raises :class:`CannotReproduce`."""
    if recipe.pinned.trusted:
        return
    pinned = recipe.pinned
    whose = f"pull request {pinned.pull_request}" if pinned.pull_request else pinned.ref
    _say(
        console, f"! this runs the code of {whose} at {pinned.head_sha[:12]} on this machine, with your rights", "bold"
    )
    if yes:
        return
    if not sys.stdin.isatty():
        raise CannotReproduce("nobody has agreed to that", "look at the code, and say --yes")
    if input("run it? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CannotReproduce("then nothing runs", "--print shows the commands")


def new_folder(recipe: Recipe, folder: Path | None) -> Path:
    """The folder to work in, by an absolute path. Raises :class:`CannotReproduce`."""
    try:
        if folder is None:
            name = UNSAFE.sub("-", f"mlc-ci-run-{recipe.run}-{recipe.stage}-{recipe.variant}".rstrip("-"))
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        for made in (folder, *(folder / name for name in ("build", "logs", "cache"))):
            made.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        fresh_temporary_folder(folder)
    except OSError as error:
        raise CannotReproduce(f"{folder} cannot be made: {error.strerror}", "name another with --into") from None
    return folder


def _announce(console: Console, recipe: Recipe, folder: Path) -> None:
    """Say what will run, for whom, and what this machine cannot know."""
    pinned = recipe.pinned
    _say(console, f"run {recipe.run}, {recipe.title}: {pinned.ref} at {pinned.head_sha[:12]} of {pinned.repository}")
    if pinned.base_sha:
        _say(console, f"  merged into {pinned.base_sha[:12]}")
    _say(console, f"  in the run: {_then(recipe)}")
    for number, step in enumerate(recipe.steps, 1):
        _say(console, f"  {number:>2} {_line(step, folder)}")
    if differs := mismatch({"mlc_ci": ours().get("mlc_ci")}, {"mlc_ci": recipe.version}):
        _say(console, f"! this machine's software is not the master's: {differs}")
    for change in recipe.changed:
        _say(console, f"! the settings have changed since the run: {change}")
    for variable, secret in secrets_of(recipe).items():
        if variable not in os.environ:
            _say(
                console, f"! the run also had {variable} (secret {secret}), which no master hands out: set it if needed"
            )
    _say(console, f"  in {folder}")


def _line(step: StepRecipe, folder: Path) -> str:
    """A step as one line; one of the shell's lines is its own name."""
    if step.fetches:
        return f"{step.name}: {' '.join(step.fetches.globs)} into {step.fetches.into}"
    if not step.argv:
        return f"{step.name}: only a build can do it, left out"
    words = [filled(word, {"workspace": str(folder), "wheel": "WHEEL"}) for word in step.argv]
    if words[:2] == [TOOL, "limit"]:  # what every command stands below says nothing of this one
        words = words[words.index("--") + 1 :]
    return words[-1] if words[:2] == ["/bin/sh", "-c"] else f"{step.name}: {' '.join(words)}"


def reproduce(console: Console, master: Client, recipe: Recipe, folder: Path, screen: BinaryIO) -> int:
    """Runs the steps until one fails; returns its exit code, or 0."""
    _announce(console, recipe, folder)
    say = partial(_say, console, style="bold")
    failed = run_steps(recipe, Workplace(master=master, folder=folder, screen=screen, say=say))
    _say(console, "")
    if failed is None:
        _say(console, "every command ended well: it did not fail here")
        if recipe.failure:
            _say(console, f"in the run: {_then(recipe)}")
    else:
        verdict = failed.verdict
        _say(console, f"step {failed.number}, {failed.step.name}, failed ({verdict.failure_class}): {verdict.reason}")
        if failed.log:
            _say(console, f"  {failed.log}" + ("" if verdict.line is None else f":{verdict.line + 1}"))
        _say(console, compared(recipe, failed.step.name, verdict.reason))
        if checks_out(failed.step) and verdict.failure_class is FailureClass.INFRASTRUCTURE:
            _say(console, f"  can you clone {recipe.pinned.repository} here? The master's credentials stay with it")
    _say(console, f"everything is in {folder}")
    return failed.exit_code if failed else 0


def _then(recipe: Recipe) -> str:
    """How the stage went in the run."""
    if recipe.failure is None:
        return f"it is {recipe.state}"
    step = f"step {recipe.failure.step} failed" if recipe.failure.step else "it failed"
    return f"{step} ({recipe.failure.failure_class or 'unclassed'}): {recipe.failure.reason or 'no reason is known'}"


def compared(recipe: Recipe, step: str, reason: str) -> str:
    """Whether a failure here is the one of the run."""
    if recipe.failure is None:
        return f"in the run it did not fail: there {_then(recipe)}"
    # Buildbot numbers steps of one name
    if re.fullmatch(re.escape(step) + r"(_\d+)?", recipe.failure.step) and _alike(recipe.failure.reason, reason):
        return f"the same failure as in run {recipe.run}"
    return f"another failure than in run {recipe.run}: {_then(recipe)}"


def _alike(one: str, other: str) -> bool:
    """Whether two reasons tell of the same, wherever and however fast it happened: a step that knows more of its
    command tells more, before what is said here or behind it. A text that was cut may go on."""
    shorter, longer = sorted((_SOMEWHERE.sub("", _VARYING.sub("N", text)) for text in (one, other)), key=len)
    cut = shorter.endswith("…")
    said = re.escape(shorter.removesuffix("…"))
    within = rf"(^|; |first: | \(){said}" + ("" if cut else r"(; | \(|\)|$)")
    return bool(said) and re.search(within, longer.removesuffix("…")) is not None


def _say(console: Console, text: str, style: str = "") -> None:
    """Text that partly comes from elsewhere: whatever would steer the terminal is left out."""
    shown = "".join(character for character in text if character.isprintable())
    console.print(shown, style=style or None, markup=False, soft_wrap=True)
