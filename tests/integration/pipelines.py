"""Settings that the tests run: the document's shape in quick commands, and small changes to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Tables = dict[str, Any]

WHEEL = "import sys,zipfile;n,h=sys.argv[1:];z=zipfile.ZipFile(f'{n}-1.0-py3-none-any.whl','w');" + (
    "z.writestr(f'{n}.py',f'commit={h!r}');"
    "z.writestr(f'{n}-1.0.dist-info/METADATA',f'Metadata-Version: 2.1\\nName: {n}\\nVersion: 1.0\\n');z.close()"
)

#: What each stage of :func:`pipeline` ends as when all goes well, by what the run acts as.
WELL: Mapping[str, Mapping[str, str]] = {
    "push": {"test": "success", "build-a": "success", "build-b": "success", "release": "skipped", "summary": "success"},
    "pull_request": {
        "test": "success",
        "build-a": "success",
        "build-b": "success",
        "release": "skipped",
        "summary": "success",
    },
    "tag": {"test": "success", "build-a": "success", "build-b": "success", "release": "success", "summary": "success"},
}
TRUST = {  #: the workers and their trust; a pipeline has the first two unless it asks for more
    "reliable": "trusted",
    "stranger": "untrusted",
    "reliable-2": "trusted",
    "stranger-2": "untrusted",
}


def effect(stage: str) -> list[str]:
    return ["sh", "{rig}/effect.sh", stage]


def commands(stage: str, **more: Any) -> Tables:
    """A stage that leaves a line and does what the commit says."""
    return {"uses": "commands", "requires": {"os": "linux"}, "commands": [effect(stage)], **more}


def build(stage: str, **more: Any) -> Tables:
    """A stage that leaves a small wheel."""
    name = stage.replace("-", "_")
    wheel = f'rm -f *.whl; python3 -S -c "{WHEEL}" {name} $(git rev-parse HEAD)'
    return commands(stage, needs=["test"], artifacts=["*.whl"], **more) | {"commands": [effect(stage), wheel]}


def workers(*names: str) -> Tables:
    return {n: {"trust": TRUST[n], "provides": ["python"], "local": True, "max_builds": 2} for n in names}


def pipeline(**changes: Mapping[str, Any]) -> Tables:
    """test -> two builds -> release -> summary; ``changes`` are merged in, by dotted table with ``__`` for the dot."""
    tables: Tables = {
        "scheduling": {"no_worker": "skip"},
        "workers": workers("reliable", "stranger"),
        "stages": {
            "test": commands("test", continue_on_error=True),
            "build-a": build("build-a"),
            "build-b": build("build-b"),
            "release": {"needs": ["build-a", "build-b"], "target": {"manifests": False}},
            "summary": {"needs": ["test", "build-a", "build-b", "release"]},
        },
    }
    tables = copy.deepcopy(tables)
    for path, values in changes.items():
        table = tables
        for key in path.split("__"):
            table = table.setdefault(key.replace("_", "-") if key.startswith("build_") else key, {})
        table.update(values)
    return tables


def hold(rig: Any, flag: str) -> str:
    """Shell: wait until the test raises the flag; not for ever, so that a broken test leaves nothing behind."""
    return f"i=0; while [ ! -e {rig.flags}/{flag} ] && [ $i -lt 1200 ]; do i=$((i+1)); sleep 0.05; done\n"
