"""What a release refuses: wheels and manifests that are not those that the run built, on a real master."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipelines import pipeline
from rig import Rig, Row

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("release")]
WHEEL, MANIFEST = "build_a-1.0-py3-none-any.whl", "build_a-1.0-py3-none-any.manifest.json"
NOTES, TEMPLATE = "own.md.j2", "{{ project }} {{ tag }}: {% for wheel in wheels %}{{ wheel.name }} {% endfor %}"
_WRITE = (
    "import glob,hashlib,json,sys;f=glob.glob('*.whl')[0];d=open(f,'rb').read();"
    "m=dict(file=f,version='1.0',size=len(d),sha256=hashlib.sha256(d).hexdigest(),commit=sys.argv[1]);"
    "json.dump(m,open(f[:-4]+'.manifest.json','w'))"
)
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def rig(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Its builds leave manifests, and then do what the commit says (``ci/after-STAGE.sh``). Only tags have any."""
    tables = pipeline(stages__build_b={"needs": ["test", "build-a"]})
    for name in ("test", "build-a", "build-b"):
        tables["stages"][name]["when"] = ["tag"]
    tables["stages"]["release"]["target"] = {"notes": NOTES}
    for name in ("build-a", "build-b"):
        stage = tables["stages"][name]
        write = f'rm -f *.manifest.json; python3 -S -c "{_WRITE}" $(git rev-parse HEAD)'
        after = f"if [ -f ci/after-{name}.sh ]; then . ci/after-{name}.sh; fi"
        stage |= {"artifacts": ["*.whl", "*.manifest.json"], "commands": [*stage["commands"], write, after]}
    made = Rig(tmp_path_factory.mktemp("release") / "rig", template, tables)
    try:
        (made.site.basedir / NOTES).write_text(TEMPLATE)
        made.start()
        yield made
    finally:
        made.stop()


def released(rig: Rig, **after: str) -> tuple[Row, Row, Path]:
    """A tag whose builds do something more at their end: its run, its release stage, where the release should be."""
    number = next(_NUMBERS)
    scripts = {f"ci/after-build-{letter}.sh": f"{after.get(letter, 'true')}\n" for letter in "ab"}
    rig.push({**scripts, f"changes/{number}": ""})
    tag = f"v1.0.{number}" if after.get("another_version") else f"v1.0{'.0' * number}"
    run = rig.ended(rig.tag(tag))
    return run, rig.attempt(run["id"], "release"), rig.site.basedir / "releases" / tag


def test_a_release_holds_wheels_manifests_and_sums_over_all_of_them(rig: Rig) -> None:
    run, stage, public = released(rig)
    assert (run["result"], stage["state"]) == ("success", "success"), stage["reason"]
    wheels = {f"build_{letter}-1.0-py3-none-any" for letter in "ab"}
    assets = {f"{name}{end}" for name in wheels for end in (".whl", ".manifest.json")}
    assert {path.name for path in public.iterdir()} == assets | {"SHA256SUMS", "RELEASE_NOTES.md", "release.json"}
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], check=False, cwd=public, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split(": ")[0] for line in done.stdout.splitlines()} == assets
    manifest = json.loads((public / MANIFEST).read_text())
    assert manifest["commit"] == run["head"]
    assert manifest["sha256"] == hashlib.sha256((public / WHEEL).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("after", "said"),
    [
        pytest.param(
            {"a": f"mv {MANIFEST} other.manifest.json"},
            f"{WHEEL} has no manifest: stage build-a left no {MANIFEST}",
            id="no manifest",
        ),
        pytest.param(
            {"a": f"printf x >> {WHEEL}"},
            f"{MANIFEST} is not the manifest of this wheel: its size is",
            id="another wheel",
        ),
        pytest.param(
            {"a": f"sed -i s/$(git rev-parse HEAD)/$(git rev-parse HEAD^)/ {MANIFEST}"},
            "; the run's is",
            id="another commit",
        ),
        pytest.param(
            {"a": f"echo nonsense > {MANIFEST}"}, f"{MANIFEST} is no manifest: it cannot be read", id="nonsense"
        ),
        pytest.param({"a": f"echo 1 > {MANIFEST}"}, "it holds no JSON object", id="no object"),
        pytest.param({"another_version": "yes"}, "its version is 1.0; the tag's is 1.0.", id="another version"),
        pytest.param(
            {"b": "for f in {rig}/site/master/artifacts/*/build-a/*/*/*/*.whl; do printf x >> $f; done"},
            f"{WHEEL} is not what was accepted",
            id="changed since",
        ),
    ],
)
def test_what_is_not_what_was_built_is_refused_and_nothing_is_published(
    rig: Rig, after: dict[str, str], said: str
) -> None:
    after = {name: text.replace("{rig}", str(rig.folder)) for name, text in after.items()}
    run, stage, public = released(rig, **after)
    assert (run["result"], stage["state"]) == ("failure", "failure")
    assert said in stage["reason"]
    assert not public.exists()
    assert not list(public.parent.glob(".*")), "a draft is left"


def test_the_notes_are_those_of_the_settings_template(rig: Rig) -> None:
    _, _, public = released(rig)
    wheels = "build_a-1.0-py3-none-any.whl build_b-1.0-py3-none-any.whl "
    assert (public / "RELEASE_NOTES.md").read_text() == f"sample {public.name}: {wheels}"


@pytest.mark.parametrize(
    ("text", "said"),
    [("\n{% for %}", f"{NOTES} cannot be filled: line 2: "), (None, "there is no template for the notes")],
)
def test_a_template_that_cannot_be_filled_publishes_nothing(rig: Rig, text: str | None, said: str) -> None:
    template = rig.site.basedir / NOTES
    template.write_text(text) if text else template.unlink()
    try:
        run, stage, public = released(rig)
    finally:
        template.write_text(TEMPLATE)
    assert (run["result"], stage["state"]) == ("failure", "failure")
    assert said in stage["reason"]
    assert not public.exists()
