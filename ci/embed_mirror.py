"""Put ci/mirror.py, word for word, into .github/workflows/mirror.yml, which checks nothing out.

python3 ci/embed_mirror.py          after each change of ci/mirror.py; a test says when it was forgotten
"""

from __future__ import annotations

import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "ci" / "mirror.py"
WORKFLOW = ROOT / ".github" / "workflows" / "mirror.yml"
RUN = "        run: |\n"  #: what follows it is the script, to the end of the file


def embedded(workflow: str, script: str) -> str:
    """The workflow with this script as its last step's.

    Raises:
        ValueError: the script holds what Actions would put a value in place of.
    """
    if "${{" in script:
        raise ValueError("the script may not hold ${{: Actions would read it as an expression")
    head, found, _ = workflow.partition(RUN)
    if not found:
        raise ValueError(f"the workflow has no line {RUN.strip()!r}")
    return head + RUN + textwrap.indent(script, " " * 10)


if __name__ == "__main__":
    WORKFLOW.write_text(
        embedded(WORKFLOW.read_text(encoding="utf-8"), SCRIPT.read_text(encoding="utf-8")), encoding="utf-8"
    )
