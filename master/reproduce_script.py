"""``mlc-ci reproduce … --print``: the same commands as a POSIX shell script, for another machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from master.recipe import Recipe
from master.reproduce import INSTALL
from master.reproduce_steps import TOOL, secrets_of
from steps.recipe import StepRecipe, Text

_HEAD = """\
workspace=${{1:-$(mktemp -d "${{TMPDIR:-/tmp}}/{name}-XXXXXX")}}
mkdir -p "$workspace/build" "$workspace/cache" "$workspace/tmp"
workspace=$(cd "$workspace" && pwd)
export MLC_CI_WORKER_DIR="$workspace" TMPDIR="$workspace/tmp" CARGO_HOME="$workspace/cache/cargo"
export CCACHE_DIR="$workspace/cache/ccache" SCCACHE_DIR="$workspace/cache/sccache" PIP_CACHE_DIR="$workspace/cache/pip"

failed() {{
    echo "step $1 failed with exit code $2; everything is in $workspace" >&2
    exit "$2"
}}

command -v {tool} >/dev/null || {{ echo {install} >&2; exit 127; }}
"""


def script(recipe: Recipe) -> str:
    """The script; its one argument is the folder to work in."""
    return "\n".join([*_told(recipe), _head(recipe), *_steps(recipe)]) + "\n"


def _told(recipe: Recipe) -> Iterator[str]:
    pinned = recipe.pinned
    yield "#!/bin/sh"
    yield _comment(f"mlc-ci: run {recipe.run}, {recipe.title}, as the settings are now. Argument: a new folder.")
    yield _comment(f"{pinned.ref} at {pinned.head_sha} of {pinned.repository}")
    if not pinned.trusted:
        yield _comment("This runs the code of somebody whom nobody vouches for, with your rights and your environment.")
    for variable, name in secrets_of(recipe).items():
        yield _comment(f"The run also had {variable} (secret {name}): set it, if this needs it.")
    for change in recipe.changed:
        yield _comment(f"The settings have changed since the run: {change}")
    yield "# For shellcheck: commands stand here literally, and a wheel's name is not always asked for again."
    yield "# shellcheck disable=SC2016,SC2034"
    yield "set -eu\n"


def _head(recipe: Recipe) -> str:
    name = shlex.quote(f"mlc-ci-run-{recipe.run}")
    return _HEAD.format(name=name, tool=TOOL, install=shlex.quote(INSTALL))


def _steps(recipe: Recipe) -> Iterator[str]:
    for number, step in enumerate(recipe.steps, 1):
        said = f"== {number}/{len(recipe.steps)} {step.name}"
        if step.fetches:
            wants = step.fetches
            what = f"{said}: get {' '.join(wants.globs)} of stage {wants.stage} from the run's page"
            yield f"echo {shlex.quote(f'{what}, into {step.folder}/{wants.into}')}"
            continue
        if not step.argv:
            yield f"echo {shlex.quote(said + ': left out')}"
            continue
        yield f"echo {shlex.quote(said)}"
        yield _command(number, step)
        if step.wheel:
            yield _wheel(number, step.wheel.folder)
        if step.tests:
            yield f"echo {shlex.quote(f'(the stage also wants at least {step.tests.minimum} tests passed)')}"


def _command(number: int, step: StepRecipe) -> str:
    variables = [f"{name}={_word(text)}" for name, text in step.environment.items()]
    words = " ".join(["env", *variables, *map(_word, step.argv)])
    given = f"printf %s {shlex.quote(step.stdin)} | " if step.stdin else ""
    nothing = "" if step.stdin else " </dev/null"
    folder = shlex.quote(f"/{step.folder}")
    return f'(cd "$workspace"{folder} && {given}{words}){nothing} || failed {number} $?'


def _wheel(number: int, folder: str) -> str:
    return (
        f'set -- "$workspace"/build/{shlex.quote(folder)}/*.whl\n'
        f'if [ $# -ne 1 ] || [ ! -f "$1" ]; then failed {number} 1; fi\n'
        'wheel=$(basename -- "$1")'
    )


def _word(text: Text) -> str:
    if isinstance(text, str):
        return shlex.quote(text)
    return "".join(shlex.quote(part) if isinstance(part, str) else f'"${{{part.value}}}"' for part in text)


def _comment(text: str) -> str:
    return "# " + "".join(character if character.isprintable() else " " for character in text)
