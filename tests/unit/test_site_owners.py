"""The users of a site: whom a folder is closed to, before anything is started in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from master.site.owners import NoWay, Owner, Owners

SOMEBODY = Owner(name="somebody", uid=54321, gid=54321)
OURSELVES = Owner(name="ourselves", uid=os.getuid(), gid=os.getgid())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder below one that is open to everybody."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            if folder.stat().st_uid != os.getuid() or folder.parent == folder:
                pytest.skip(f"{folder} is closed here")
            folder.chmod(0o711)
    place = tmp_path / "outer" / "site"
    place.mkdir(parents=True)
    place.chmod(0o711)
    place.parent.chmod(0o711)
    return place


def test_an_open_way_lets_every_user_through(place: Path) -> None:
    Owners(master=SOMEBODY, trusted=OURSELVES).let_through(place)


def test_a_closed_folder_on_the_way_is_named_with_the_command_that_opens_it(place: Path) -> None:
    place.parent.chmod(0o700)
    with pytest.raises(NoWay) as refused:
        Owners(untrusted=SOMEBODY).let_through(place)
    assert f"{place.parent} is closed to the user somebody" in str(refused.value)
    assert f"chmod o+x {place.parent}" in str(refused.value)


def test_a_folder_that_is_open_to_its_owner_and_group_alone(place: Path) -> None:
    place.chmod(0o710)
    Owners(trusted=OURSELVES).let_through(place)
    Owners(trusted=Owner(name="colleague", uid=54321, gid=os.getgid())).let_through(place)
    with pytest.raises(NoWay):
        Owners(trusted=SOMEBODY).let_through(place)


def test_without_users_of_its_own_a_site_asks_nothing(place: Path) -> None:
    place.chmod(0o700)
    Owners().let_through(place)
