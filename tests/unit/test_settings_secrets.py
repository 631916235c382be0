"""No secret is written in settings or shown in their errors; the secrets folder holds them."""

from __future__ import annotations

from pathlib import Path

import pytest
from settings_sample import problem, read, usable

from master.errors import SecretUnreadable

GITHUB_TOKEN = "gh" + "p_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


@pytest.mark.parametrize(
    ("text", "key", "secret"),
    [
        ("[database]\nurl = 'postgresql://ci:hunter2@db/ci'", "database.url", "hunter2"),
        ("[database]\nurl = 'postgresql://db/ci?user=ci&password=hunter2'", "database.url", "hunter2"),
        (f"[environment]\nTOKEN = '{GITHUB_TOKEN}'", "environment.TOKEN", GITHUB_TOKEN),
        (f"[stages.x]\nuses = 'commands'\ncommands = ['curl -H {GITHUB_TOKEN}']", "stages.x.commands[0]", GITHUB_TOKEN),
        (f"[master]\nweb_port = '{GITHUB_TOKEN}'", "master.web_port", GITHUB_TOKEN),
        (f"[janitor]\nkeep_logs = '{GITHUB_TOKEN}'", "janitor.keep_logs", GITHUB_TOKEN),
    ],
)
def test_secrets_in_settings_are_refused_and_not_repeated(text: str, key: str, secret: str) -> None:
    examined = read(text)
    assert key in {each.key for each in examined.errors}
    assert secret not in "\n".join(map(str, examined.problems))


@pytest.mark.parametrize(
    "text", [f"[environment]\n{GITHUB_TOKEN} = 'x'", f"[master]\n{GITHUB_TOKEN} = 1", f"[master]\nurl = {GITHUB_TOKEN}"]
)
def test_secrets_in_the_wrong_place_are_not_repeated_either(text: str) -> None:
    assert read(text).errors
    assert GITHUB_TOKEN not in "\n".join(map(str, read(text).problems))


def test_the_databases_password_comes_from_the_secrets_folder(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("p@ss/word\n")
    (tmp_path / "db").chmod(0o600)
    inside = usable(read("[database]\nurl = 'postgresql://ci:{secret:db}@host/ci'"))
    assert inside.database_url(tmp_path) == "postgresql+psycopg2://ci:p%40ss%2Fword@host/ci"
    (tmp_path / "db").write_text("postgresql://ci:x@host/ci\n")
    assert (
        usable(read("[database]\nurl = '{secret:db}'")).database_url(tmp_path) == "postgresql+psycopg2://ci:x@host/ci"
    )


def test_a_secret_that_is_missing_open_or_empty_is_refused(tmp_path: Path) -> None:
    wanted = usable(read("[database]\nurl = '{secret:db}'"))
    with pytest.raises(SecretUnreadable, match="No such file"):
        wanted.database_url(tmp_path)
    (tmp_path / "db").write_text("")
    (tmp_path / "db").chmod(0o644)
    with pytest.raises(SecretUnreadable, match="chmod 600"):
        wanted.database_url(tmp_path)
    (tmp_path / "db").chmod(0o600)
    with pytest.raises(SecretUnreadable, match="empty"):
        wanted.database_url(tmp_path)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[database]\nurl = 'postgresql://ci:{secret:no name}@host/ci'", "database.url"),
        ("[environment]\nURL = 'https://ci:{secret:db}@host/x'", "environment"),
        ("[master]\ntitle = '{secret:db}'", "master.title"),
    ],
)
def test_a_placeholder_that_stands_for_nothing_is_an_error(text: str, key: str) -> None:
    assert problem(read(text), key).severity == "error"
