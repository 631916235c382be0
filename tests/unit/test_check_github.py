"""What ``mlc-ci check`` says of ``[github]``."""

from __future__ import annotations

import pytest
from githubkit_schemas.latest.models import AppPermissions
from settings_sample import problem, read

from master.settings_tokens import PERMISSIONS

GITHUB = "[github]\nrepository = 'acme/sample'\n"
STAGE = "[stages.image]\nuses = 'commands'\ncommands = ['x']\nwhen = ['push']\n"


def test_settings_that_fit_have_no_problem() -> None:
    for access in ("access = 'token'", "access = 'app'\napp_id = 7"):
        text = GITHUB + access + "\n" + STAGE + "permissions = { packages = 'write' }"
        assert read(text).problems == []


def test_permissions_are_githubs_own() -> None:
    of_organisations = ("organization_", "enterprise_", "custom_properties_for_", "members")
    personal = {"email_addresses", "followers", "git_ssh_keys", "gpg_keys", "interaction_limits", "profile", "starring"}
    theirs = {name for name in AppPermissions.model_fields if not name.startswith(of_organisations)} - personal
    assert theirs == PERMISSIONS
    wrong = problem(read(STAGE + "permissions = { pull-request = 'write' }"), "stages.image.permissions.pull-request")
    assert wrong.severity == "error"
    assert 'did you mean "pull_requests"' in wrong.message
    assert problem(read(STAGE + "permissions = { workflows = 'read' }"), "stages.image.permissions.workflows")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GITHUB + "statuses = true", "github.statuses"),
        (GITHUB + "comment = true", "github.comment"),
        (GITHUB + STAGE + "permissions = { packages = 'write' }", "stages.image.permissions"),
        (GITHUB + "access = 'token'\napp_id = 7", "github.app_id"),
        (GITHUB + "app_id = 7", "github.app_id"),
        (GITHUB + "access = 'app'\napp_id = 7\nwebhook = false", "github.webhook"),
        (GITHUB + "access = 'token'\nwebhook = false", "github.webhook"),
        (GITHUB + "webhook = false\n[project]\npoll_interval = 0", "github.webhook"),
        (GITHUB + "vouched = ['MEMBER', 'NONE']", "github.vouched"),
        (GITHUB + "access = 'token'\ncomment = true\n[project]\npull_requests = false", "github.comment"),
    ],
)
def test_what_nobody_means_is_a_warning(text: str, key: str) -> None:
    project, _, github = text.partition("[project]") if "[project]" in text else ("", "", "")
    examined = read(project or text, environ=_project(github))
    assert problem(examined, key).severity == "warning"
    assert examined.errors == []


def test_a_number_of_an_app_is_named_where_there_is_none() -> None:
    found = problem(read(GITHUB + "access = 'token'\ninstallation_id = 9"), "github.installation_id")
    assert (found.found, "App's" in found.message) == ("9", True)
    assert read(GITHUB + "access = 'token'\ninstallation_id = 9").problems == [found]


def _project(lines: str) -> dict[str, str]:
    """Keys of ``[project]``, which the sample has already, as variables."""
    pairs = (line.split(" = ") for line in lines.splitlines() if line)
    return {f"MLC_CI_PROJECT__{name.upper()}": value for name, value in pairs}
