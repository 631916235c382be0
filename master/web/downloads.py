"""An accepted artifact as a download: streamed, by ranges if asked, and never rendered by a browser.

Artifacts of pull requests come from strangers: shown as a page, one would act with the rights of whoever
looks at it. So each is an attachment of no type, sandboxed in case somebody opens it after all.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from twisted.web.server import Request
from twisted.web.static import File

from master.database.records import Artifact


def located(root: Path, artifact: Artifact) -> Path | None:
    """The artifact's file; ``None`` when it is gone or, by a link or a row gone wrong, not below ``root``."""
    path = (root / artifact.path).resolve()
    return path if path.is_relative_to(root.resolve()) and path.is_file() else None


def download(request: Request, path: Path, artifact: Artifact) -> File:
    """The resource that streams the file; headers are set on ``request``."""
    file = File(str(path))
    file.type, file.encoding = "application/octet-stream", None
    name = artifact.name.rpartition("/")[2]
    request.setHeader(b"content-disposition", f"attachment; filename*=UTF-8''{quote(name, safe='')}".encode())
    request.setHeader(b"x-content-type-options", b"nosniff")
    request.setHeader(b"content-security-policy", b"sandbox; default-src 'none'")
    request.setHeader(b"cache-control", b"private, no-cache")
    request.setHeader(b"etag", f'"{artifact.sha256}"'.encode())
    return file
