"""``[artifacts]``: where the artifact process listens, and what of its disk stays free; and what a stage fetches."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from master.settings_limits import Size
from master.settings_types import Port, PositiveDuration, Switch, Table, Text, Texts, refused, web_url

DAY = 86_400.0  # seconds
ACCESS_KEY, SECRET_KEY = "s3-access-key", "s3-secret-key"  #: the secrets that open a bucket
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)


def _bucket(value: object) -> object:
    if isinstance(value, str) and not _BUCKET.fullmatch(value):
        raise refused("is no name of a bucket", "letters, digits, ., - and _, without the host and the keys' prefix")
    return value


def _prefix(value: object) -> object:
    if isinstance(value, str) and value and not re.fullmatch(r"([\w.-]+/)+", value, re.ASCII):
        raise refused(
            "is no prefix of keys", '"ci/" or "ci/artifacts/": letters, digits, _, - and ., each part ending in /'
        )
    return value


def _inside(value: object) -> object:
    if isinstance(value, str):
        parts = re.split(r"[/\\]", value)
        if not value or ".." in parts or parts[0] == "" or ":" in value:
            raise refused("leads out of the checkout", "a folder below the checkout, as dist")
    return value


class BucketSettings(Table):
    """A bucket of any S3-compatible store. Its keys are secrets: ``s3-access-key`` and ``s3-secret-key``."""

    bucket: Annotated[str, BeforeValidator(_bucket)]
    prefix: Annotated[str, BeforeValidator(_prefix)] = ""  #: of the keys of all artifacts, as ``ci/``
    endpoint: Annotated[str, BeforeValidator(web_url)] = ""  #: left out: Amazon's
    region: Text = "us-east-1"
    path_style: Switch = True  #: HOST/BUCKET/KEY; false: BUCKET.HOST/KEY
    checksums: Switch = False  #: the store verifies x-amz-checksum-sha256, so that nothing is read back


class ArtifactSettings(Table):
    listen: Text = "127.0.0.1"  #: beyond the loopback interface only with ``tls``
    port: Port = 8020  #: 0: any free one
    tls: Switch = False  #: with the certificates of the workers' port (``master.worker_host``)
    url: Annotated[str, BeforeValidator(web_url)] = ""  #: what workers and browsers use; left out: derived
    reserve: Size = 2 << 30  #: bytes of the disk that no upload may take
    public: Switch = True  #: whether everybody may read what was accepted
    keep: PositiveDuration = 30 * DAY  #: from the end of the attempt that left them; releases are kept for good
    quota: Size | None = None  #: bytes of all artifacts together
    s3: BucketSettings | None = None  #: instead of a folder of the master


class DownloadSettings(Table):
    """What an earlier stage of the run has left, fetched into the checkout before the commands."""

    stage: Text  #: one that this stage needs
    globs: Annotated[Texts, Field(min_length=1)]
    into: Annotated[str, BeforeValidator(_inside)] = "."  #: a folder of the checkout
