"""A reader of the master's pages: asks for each every 50 ms, and notes when it did and how long the answer took.

python -m master.bench.pages FLAG FILE URL…

Until it is ended, and as long as FLAG is there. FILE gets a line of JSON for each answer.

``at`` is what ``time.monotonic`` says, which is the same for every process of a machine.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

_EVERY_S = 0.05


def read(flag: Path, file: Path, urls: Sequence[str]) -> None:
    parts = [urlsplit(url) for url in urls]
    connection = http.client.HTTPConnection(parts[0].hostname or "", parts[0].port, timeout=60)
    with file.open("a", buffering=1) as noted:
        while True:
            for part in parts:
                if not flag.exists():
                    time.sleep(_EVERY_S / len(parts))
                    continue
                began = time.monotonic()
                try:
                    connection.request("GET", part.path)
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException):  # it was closed: nothing was asked for long
                    connection.close()
                    continue
                took = time.monotonic() - began
                if answer.status == 200:
                    noted.write(json.dumps({"page": part.path, "at": began, "seconds": took}) + "\n")
                time.sleep(max(0.0, _EVERY_S / len(parts) - took))


if __name__ == "__main__":
    read(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
