"""The store that the settings name: a folder of the master, or a bucket."""

from __future__ import annotations

from pathlib import Path

from master.artifacts.folder import FolderStore
from master.artifacts.retention import Policy
from master.artifacts.store import Store
from master.places import SECRETS, Places
from master.settings import Settings, read_secret
from master.settings_artifacts import ACCESS_KEY, SECRET_KEY


def store_of(settings: Settings, basedir: Path) -> Store:
    """The artifact store of the master in this folder.

    Raises:
        SecretUnreadable: a bucket whose keys are not there.
        OSError: a folder that cannot be made.
    """
    own = settings.artifacts
    if own.s3 is None:
        return FolderStore(Places(basedir=basedir, url="").artifacts, reserve=own.reserve)
    from master.artifacts.bucket import Bucket, BucketStore  # noqa: PLC0415 (half a second, for those who have one)

    bucket = Bucket(
        name=own.s3.bucket,
        prefix=own.s3.prefix,
        endpoint=own.s3.endpoint,
        region=own.s3.region,
        path_style=own.s3.path_style,
        checksums=own.s3.checksums,
    )
    access, secret = (read_secret(basedir / SECRETS, name) for name in (ACCESS_KEY, SECRET_KEY))
    return BucketStore(bucket, access_key=access, secret_key=secret)


def policy_of(settings: Settings) -> Policy:
    """How long the settings keep artifacts."""
    own = {name: stage.keep_artifacts for name, stage in settings.stages.items()}
    return Policy(keep=settings.artifacts.keep, keep_of={name: keep for name, keep in own.items() if keep is not None})
