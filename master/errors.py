"""Every way to fail that is the user's to mend: a message, what to do next, and an exit code of its own.

The command line prints these without a traceback; anything else that escapes is a defect of ours.
"""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. ``hint`` says how."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class SecretUnreadable(UserError):
    """A secret that the settings name is missing, unreadable or readable by others."""

    exit_code = 4


class InitialiseFailed(UserError):
    """``mlc-ci init`` could not write settings."""

    exit_code = 5
