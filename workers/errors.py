"""Every way a worker's tool ends, each with its exit code: the master classes a failed step by it.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the code under test is at fault (a missing commit, a merge conflict, a wrong version) |
| 2 | the command was called wrongly, or the worker is set up wrongly |
| 75 | infrastructure (``EX_TEMPFAIL``): an unreachable host, a full disk, a missing tool; worth another attempt |
"""

from __future__ import annotations

import errno

CODE = 1
USAGE = 2
INFRASTRUCTURE = 75

#: Errors of the operating system that say something about the host, not about what is being built.
_HOST_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE}
)


class ToolError(Exception):
    """Ends a tool with one clear line; :attr:`exit_code` says whose fault it is."""

    exit_code = CODE


class CodeError(ToolError):
    """The repository's content is at fault."""


class UsageError(ToolError):
    """The command line or the worker's own files are wrong."""

    exit_code = USAGE


class InfrastructureError(ToolError):
    """The host, the network or another machine is at fault."""

    exit_code = INFRASTRUCTURE


def of_os_error(error: OSError) -> ToolError:
    """A full disk and its kin are infrastructure; anything else the operating system refuses is the content's fault."""
    where = f": {error.filename}" if error.filename else ""
    message = f"{error.strerror or error}{where}"
    return InfrastructureError(message) if error.errno in _HOST_ERRORS else CodeError(message)
