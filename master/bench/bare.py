"""The least that moves a file over HTTP: one PUT, written as it comes. Nothing is checked, hashed or authorised.

python -m master.bench.bare serve FOLDER        until it is ended; its port stands in FOLDER/port
python -m master.bench.bare put URL FILE
"""

from __future__ import annotations

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

_BLOCK = 1 << 20


class _Put(BaseHTTPRequestHandler):
    folder: Path

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        with (self.folder / Path(self.path).name).open("wb") as file:
            while left:
                block = self.rfile.read(min(left, _BLOCK))
                file.write(block)
                left -= len(block)
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(folder: Path) -> None:
    _Put.folder = folder
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Put)
    (folder / "port.new").write_text(str(server.server_port))
    (folder / "port.new").replace(folder / "port")
    server.serve_forever()


def put(url: str, file: Path) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, blocksize=_BLOCK)
    with file.open("rb") as body:
        connection.request("PUT", parts.path, body, {"Content-Length": str(file.stat().st_size)})
    return 0 if connection.getresponse().status == 201 else 1


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(Path(sys.argv[2]))
    sys.exit(put(sys.argv[2], Path(sys.argv[3])))
