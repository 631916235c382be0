"""Whether the App is there, its key is its own, it is installed, and it may what the settings need."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from master.errors import SecretUnreadable
from master.github.access import Access, GitHubError
from master.github.needs import suffices
from master.github.trial_notes import DISPATCHES, Notes
from master.settings import read_secret
from master.settings_github import APP_KEY


def try_app(notes: Notes, access: Access) -> None:
    if not _key(notes):
        return

    def about() -> Any:
        with access.app_client() as client:
            return client.rest.apps.get_authenticated().json()

    wrong = f"{APP_KEY} is no key of App {notes.github.app_id} (app_id), or this machine's clock is wrong"
    app = notes.ask("App", about, {401: wrong, 404: wrong})
    if app is None:
        return
    notes.say("App", True, f"{app['name']} ({app['id']}): its key is good")
    installation = _installation(notes, access, str(app["slug"]))
    if installation is not None and _permissions(notes, app, installation):
        _minted(notes, access)
    if notes.github.webhook and notes.settings.master.url:
        _app_hook(notes, access, app)


def _key(notes: Notes) -> bool:
    hint = "the .pem file that GitHub made under Private keys on the App's page, whole and unchanged"
    try:
        key = load_pem_private_key(read_secret(notes.secrets, APP_KEY).encode(), None)
    except SecretUnreadable as error:
        notes.say("App key", False, error.message, f"{error.hint}  ({hint})")
    except (ValueError, TypeError):
        notes.say("App key", False, f"secrets/{APP_KEY} is no private key without a passphrase", hint)
    else:
        if isinstance(key, RSAPrivateKey):
            notes.say("App key", True, f"secrets/{APP_KEY} is an RSA key of {key.key_size} bits")
            return True
        notes.say("App key", False, f"secrets/{APP_KEY} is no RSA key", hint)
    return False


def _installation(notes: Notes, access: Access, slug: str) -> Any:
    place = f"{notes.github.web.rstrip('/')}/apps/{slug}/installations/new"

    def about() -> Any:
        with access.app_client() as client:
            return client.rest.apps.get_repo_installation(access.owner, access.repository).json()

    found = notes.ask("installation", about, {404: f"install it on {notes.github.repository}: {place}"})
    if found is None:
        return None
    told = notes.github.installation_id
    if told and told != found["id"]:
        hint = f"installation_id = {found['id']}, or leave it out: it is asked for"
        notes.say("installation", False, f"on this repository it is {found['id']}, in the settings {told}", hint)
        return None
    if found.get("suspended_at"):
        notes.say("installation", False, "it is suspended", f"unsuspend it: {found['html_url']}")
        return None
    notes.say("installation", True, f"{found['id']}, on {notes.github.repository}")
    return found


def _permissions(notes: Notes, app: Any, installation: Any) -> bool:
    granted, own = installation.get("permissions", {}), app.get("permissions", {})
    missing = False
    for name, (level, purpose) in notes.needed.items():
        if suffices(granted.get(name), level):
            continue
        missing = True
        if suffices(own.get(name), level):
            hint = f"the App asks for it already: accept its new permissions at {installation['html_url']}"
        else:
            hint = (
                f"App's settings, Permissions & events: {name}: {level}; then accept it at {installation['html_url']}"
            )
        has = granted.get(name, "none")
        notes.say("permission", False, f"{name}: {level} is needed ({purpose}), and it has {has}", hint)
    if not missing:
        shown = ", ".join(f"{name}: {level}" for name, (level, _) in sorted(notes.needed.items()))
        notes.say("permissions", True, f"all that these settings need: {shown}")
    spare = [f"{name}: {level}" for name, level in sorted(granted.items()) if not _is_needed(notes, name, level)]
    if spare:
        hint = "taking it away does no harm here: a token of the master is minted for what it is used for alone"
        notes.say("permissions", None, f"the installation may more than is needed: {', '.join(spare)}", hint)
    return not missing


def _minted(notes: Notes, access: Access) -> None:
    wanted = {name: level for name, (level, _) in notes.needed.items()}
    if notes.ask("token", lambda: access.token(wanted), {}) is not None:
        notes.say("token", True, "GitHub mints one for exactly these permissions and this repository")
        notes.repository(access)


def _app_hook(notes: Notes, access: Access, app: Any) -> None:
    def about() -> Any:
        with access.app_client() as client:
            return client.rest.apps.get_webhook_config_for_app().json()

    try:
        config = about()
    except GitHubError:
        config = {}
    if not config.get("url"):
        hint = f"fine if the repository has one of its own, for {notes.hook}: Settings, Webhooks, Recent deliveries"
        notes.say("webhook", None, "the App has none", hint)
    elif notes.hook_is_right(config, "the App's"):
        events = set(app.get("events", ()))
        notes.events(events, "the App's")
        if DISPATCHES not in events:
            hint = "tick it in its form, if manual runs are to be asked for through GitHub's API"
            notes.say("webhook", None, f"the App's does not deliver {DISPATCHES}", hint)


def _is_needed(notes: Notes, name: str, level: str) -> bool:
    return name in notes.needed and suffices(notes.needed[name][0], level)
