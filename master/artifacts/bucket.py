"""Artifacts in an S3-compatible bucket: workers send straight to it, by a signed address that is good for one file.

An upload goes below ``.partial/BUILD/``. It is copied to its place, inside the store, and the copy is read back and
hashed before a row names it: no signed address leads there, and stores exist that keep whatever checksum a sender
claims (rclone 1.75 is one).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from master.artifacts.folder import PARTIAL
from master.artifacts.names import build_of
from master.artifacts.store import Partial, SendTo, StoreBroken, Stored

_BLOCK = 1 << 20
_SEND_FOR_S = 3600  #: so long an address may be sent to; a build that needs longer asks for another
_READ_FOR_S = 300
_GONE = ("404", "NoSuchKey", "NotFound")
_ENDLESS = 1 << 62
_BUFFER = 1 << 16  #: a reader of a little asks for so many bytes at once


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Which one, and how it is reached. ``prefix`` is empty or ends with a slash."""

    name: str
    prefix: str = ""
    endpoint: str = ""  #: empty: Amazon's
    region: str = "us-east-1"
    path_style: bool = True  #: ``https://host/bucket/key``, which every store but the newest of Amazon's takes
    checksums: bool = False  #: the store verifies ``x-amz-checksum-sha256`` itself: nothing is read back


class BucketStore:
    """See :class:`master.artifacts.store.Store`."""

    direct = True
    largest = 5 << 30  # what one PUT brings, and one copy takes, at Amazon's

    def __init__(self, bucket: Bucket, *, access_key: str, secret_key: str) -> None:
        self.bucket = bucket
        style = "path" if bucket.path_style else "virtual"
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            retries={"mode": "standard", "max_attempts": 3},
            max_pool_connections=40,  # as many as there are threads that ask
            connect_timeout=5,
            read_timeout=120,  # a copy of gigabytes takes its time
            # else newer versions of the library send trailing checksums, which few stores but Amazon's understand
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=bucket.endpoint or None,
            region_name=bucket.region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=config,
        )

    def check(self) -> None:
        self._do("list_objects_v2", MaxKeys=1)

    # -- uploads under way

    def begun(self, build_id: int) -> dict[str, int]:
        prefix = self._partial(build_id)
        return {key.removeprefix(prefix): size for key, size, _ in self._list(prefix)}

    def open(self, build_id: int, name: str, offset: int) -> Partial:
        raise NotImplementedError("a bucket is sent to directly")

    def send_to(self, build_id: int, name: str, *, size: int, sha256: str, md5: str) -> SendTo:
        headers = {"Content-MD5": _base64(md5), "x-amz-checksum-sha256": _base64(sha256)}
        parameters = {
            "Bucket": self.bucket.name,
            "Key": self._partial(build_id, name),
            "ContentLength": size,
            "ContentMD5": headers["Content-MD5"],
            "ChecksumSHA256": headers["x-amz-checksum-sha256"],
        }
        url = self.client.generate_presigned_url("put_object", Params=parameters, ExpiresIn=_SEND_FOR_S)
        return SendTo(url=url, headers=headers)

    def digest(self, build_id: int, name: str, size: int, path: str) -> str:
        key = self.bucket.prefix + path
        source = {"Bucket": self.bucket.name, "Key": self._partial(build_id, name)}
        self._do("copy_object", Key=key, CopySource=source)
        if self.bucket.checksums:
            head = self._do("head_object", Key=key, ChecksumMode="ENABLED")
            if head["ContentLength"] != size:
                return ""
            if verified := head.get("ChecksumSHA256"):
                return base64.b64decode(verified).hex()
        digest, read = hashlib.sha256(), 0
        for block in self._read(key):
            digest.update(block)
            read += len(block)
        return digest.hexdigest() if read == size else ""

    def settle(self, build_id: int, name: str, path: str) -> None:
        """Nothing is left to do: ``digest`` has copied it to its place."""

    def publish(self, build_id: int, name: str, path: str) -> None:
        """Nothing is left to do, either: it is where the row will say."""

    def drop(self, build_id: int, name: str, path: str = "") -> None:
        if path:
            self.remove(path)
        self._do("delete_object", Key=self._partial(build_id, name))

    def sweep(self, build_ids: Iterable[int]) -> None:
        for build_id in build_ids:
            for name in self.begun(build_id):
                self.drop(build_id, name)

    def builds(self) -> set[int]:
        prefix = f"{self.bucket.prefix}{PARTIAL}/"
        keys = (key.removeprefix(prefix).partition("/")[0] for key, _, _ in self._list(prefix))
        return {int(build) for build in keys if build.isdecimal()}

    # -- published files

    def stored(self) -> Iterator[Stored]:
        prefix = self.bucket.prefix
        for key, size, changed_at in self._list(prefix):
            path = key.removeprefix(prefix)
            if build_of(path) is not None:
                yield Stored(path=path, size=size, changed_at=changed_at)

    def remove(self, path: str) -> None:
        self._do("delete_object", Key=self.bucket.prefix + path)

    def room(self) -> int:
        return _ENDLESS

    def file(self, path: str) -> Path | None:
        return None

    def link(self, path: str, name: str) -> str | None:
        quoted = quote(name)
        said = f'filename="{name}"' if quoted == name else f"filename*=utf-8''{quoted}"
        parameters = {
            "Bucket": self.bucket.name,
            "Key": self.bucket.prefix + path,
            "ResponseContentType": "application/octet-stream",
            "ResponseContentDisposition": f"attachment; {said}",
        }
        url: str = self.client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=_READ_FOR_S)
        return url

    @contextlib.contextmanager
    def reader(self, path: str) -> Iterator[BinaryIO]:
        key = self.bucket.prefix + path
        size = int(self._do("head_object", Key=key)["ContentLength"])
        yield io.BufferedReader(_Ranges(lambda first, last: self._part(key, first, last), size), _BUFFER)

    @contextlib.contextmanager
    def local(self, path: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="mlc-ci-artifact-") as folder:
            file = Path(folder) / path.rpartition("/")[2]
            with file.open("wb") as copy:
                for block in self._read(self.bucket.prefix + path):
                    copy.write(block)
            yield file

    # -- the client

    def _partial(self, build_id: int, name: str = "") -> str:
        return f"{self.bucket.prefix}{PARTIAL}/{build_id}/{name}"

    def _read(self, key: str) -> Iterator[bytes]:
        body = self._do("get_object", Key=key)["Body"]
        try:
            yield from body.iter_chunks(_BLOCK)
        except BotoCoreError as error:
            raise self._away(error) from None

    def _part(self, key: str, first: int, last: int) -> bytes:
        try:
            part: bytes = self._do("get_object", Key=key, Range=f"bytes={first}-{last}")["Body"].read()
        except BotoCoreError as error:
            raise self._away(error) from None
        return part

    def _away(self, error: BotoCoreError) -> StoreBroken:
        return StoreBroken(f"bucket {self.bucket.name!r} cannot be reached: {error}")

    def _do(self, operation: str, **parameters: Any) -> Any:
        """Ask the store. Raises :class:`StoreBroken`, and :class:`FileNotFoundError` for a key that is not there."""
        try:
            return getattr(self.client, operation)(Bucket=self.bucket.name, **parameters)
        except ClientError as error:
            told = error.response["Error"]
            if told.get("Code") in _GONE and "Key" in parameters:
                raise FileNotFoundError(parameters["Key"]) from None
            said = told.get("Message") or "no reason given"
            raise StoreBroken(f"bucket {self.bucket.name!r} says no: {said} ({told.get('Code')})") from None
        except BotoCoreError as error:
            raise self._away(error) from None

    def _list(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """Key, size and time of everything below a prefix."""
        token: dict[str, str] = {}
        while True:
            page = self._do("list_objects_v2", Prefix=prefix, **token)
            for entry in page.get("Contents", ()):
                yield entry["Key"], entry["Size"], entry["LastModified"].timestamp()
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}


def _base64(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


class _Ranges(io.RawIOBase):
    """A file of which only what is read is fetched."""

    def __init__(self, part: Callable[[int, int], bytes], size: int) -> None:
        self.part = part
        self.size = size
        self.at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        if self.at < 0:
            raise OSError("before the file's beginning")
        return self.at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self.size - self.at)
        if wanted <= 0:
            return 0
        part = self.part(self.at, self.at + wanted - 1)[:wanted]
        buffer[: len(part)] = part
        self.at += len(part)
        return len(part)
