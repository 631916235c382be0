"""From a master's folder to Buildbot's configuration."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from settings_sample import MINIMAL

from master.configure import configure
from master.errors import SecretUnreadable, UserError
from master.launch import prepare
from master.places import ADMIN_PASSWORD, SECRETS, SETTINGS, password_name
from master.secret_files import ensure
from master.settings_github import OAUTH_SECRET, WEBHOOK_SECRET


@pytest.fixture
def basedir(tmp_path: Path) -> Path:
    (tmp_path / SETTINGS).write_text(MINIMAL)
    ensure(tmp_path / SECRETS, ADMIN_PASSWORD)
    return tmp_path


def test_a_worker_that_was_added_while_the_master_ran_gets_its_password(basedir: Path) -> None:
    configure(basedir)
    (basedir / SETTINGS).write_text(MINIMAL + '[workers.third]\ntrust = "trusted"\nprovides = ["python"]\n')
    configured = configure(basedir)
    file = basedir / SECRETS / password_name("third")
    assert file.stat().st_mode & 0o777 == 0o600
    [worker] = [worker for worker in configured["workers"] if worker.name == "third"]
    assert worker.password == file.read_text().strip()


def test_passwords_stay_as_they_are(basedir: Path) -> None:
    configure(basedir)
    before = {file.name: file.read_text() for file in (basedir / SECRETS).iterdir()}
    configure(basedir)
    assert {file.name: file.read_text() for file in (basedir / SECRETS).iterdir()} == before
    assert len(set(before.values())) == len(before)


def test_settings_that_are_wrong_are_refused(basedir: Path) -> None:
    (basedir / SETTINGS).write_text(MINIMAL + "[stages.lint]\n")
    with pytest.raises(UserError):
        configure(basedir)


@pytest.mark.parametrize(
    ("listen", "url", "port"),
    [
        ("127.0.0.1", "http://127.0.0.1:8011/", "tcp:8011:interface=127.0.0.1"),
        ("::1", "http://[::1]:8011/", r"tcp:8011:interface=\:\:1"),
        ("fe80::2", "http://[fe80::2]:8011/", r"tcp:8011:interface=fe80\:\:2"),
    ],
)
def test_an_address_of_either_family_can_be_listened_on(basedir: Path, listen: str, url: str, port: str) -> None:
    (basedir / SETTINGS).write_text(MINIMAL + f'[master]\nweb_listen = "{listen}"\nweb_port = 8011\n')
    configured = configure(basedir)
    assert (configured["buildbotURL"], configured["www"]["port"]) == (url, port)


def test_a_secret_that_is_made_by_many_at_once_is_one_and_whole(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: ensure(tmp_path / "secrets", "one"), range(200)))
    assert len((tmp_path / "secrets" / "one").read_text()) > 30
    assert [file.name for file in (tmp_path / "secrets").iterdir()] == ["one"]


def test_without_settings_of_github_there_is_no_webhook(basedir: Path) -> None:
    assert "change_hook_dialects" not in configure(basedir)["www"]


CONFIGURE = "import sys, pathlib, master.configure as m; m.configure(pathlib.Path(sys.argv[1])); print(*sys.modules)"


def imported(basedir: Path) -> set[str]:
    done = subprocess.run([sys.executable, "-c", CONFIGURE, basedir], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_a_master_without_github_imports_nothing_for_it(basedir: Path) -> None:
    """Of 40 MB that a master without it would never use."""
    ours = {f"master.github.{name}" for name in ("hook", "deliveries", "poster", "questions")}
    heavy = {"requests", "githubkit", "httpx", "buildbot.www.oauth2", "buildbot.www.hooks.github"}
    assert not imported(basedir) & (ours | heavy | {"master.web.github_login"})
    login = '[github.login]\nclient_id = "x"\nadmins = ["ann"]\n'
    (basedir / SETTINGS).write_text(MINIMAL + '[github]\nrepository = "o/r"\naccess = "token"\n' + login)
    for name in (WEBHOOK_SECRET, OAUTH_SECRET):
        ensure(basedir / SECRETS, name)
    assert imported(basedir) >= ours | {"requests", "master.web.github_login"} - {"githubkit"}


def test_all_who_ask_github_share_its_tokens(basedir: Path) -> None:
    """Else each release stage has a token of its own made, at every reconfiguration."""
    stage = '[stages.out]\nuses = "release"\nneeds = ["lint"]\nwhen = ["tag"]\ntarget = { kind = "github" }\n'
    (basedir / SETTINGS).write_text(MINIMAL + '[github]\nrepository = "o/r"\naccess = "token"\n' + stage)
    ensure(basedir / SECRETS, WEBHOOK_SECRET)
    configured = configure(basedir)
    [release] = [builder for builder in configured["builders"] if builder.name == "out"]
    asks = {release.factory.steps[0].kwargs["target"]._access, configured["secretsProviders"][0]._config_args[1]}
    assert len(asks) == 1


def test_a_webhook_wants_its_secret(basedir: Path) -> None:
    (basedir / SETTINGS).write_text(MINIMAL + '[github]\nrepository = "o/r"\n')
    with pytest.raises(SecretUnreadable, match=WEBHOOK_SECRET):
        configure(basedir)
    file = basedir / SECRETS / WEBHOOK_SECRET
    file.touch(mode=0o600)
    with pytest.raises(SecretUnreadable, match="is empty"):
        configure(basedir)
    file.write_text("shared\n")
    assert set(configure(basedir)["www"]["change_hook_dialects"]) == {"github"}


def test_a_webhook_that_is_switched_off_wants_none(basedir: Path) -> None:
    (basedir / SETTINGS).write_text(MINIMAL + '[github]\nrepository = "o/r"\nwebhook = false\n')
    assert "change_hook_dialects" not in configure(basedir)["www"]


def test_preparing_makes_up_the_webhooks_secret_once(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text(MINIMAL + '[github]\nrepository = "o/r"\n')
    prepare(tmp_path)
    file = tmp_path / SECRETS / WEBHOOK_SECRET
    assert file.stat().st_mode & 0o777 == 0o600
    made = file.read_text()
    assert len(made.strip()) >= 32
    prepare(tmp_path)
    assert file.read_text() == made
