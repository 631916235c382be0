"""Wheels that are right, and for each check of the gate wheels that are wrong in this one way."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wheel_natives import Natives

LINUX = "py3-none-manylinux_2_17_x86_64"
WINDOWS = "py3-none-win_amd64"
ANY = "py3-none-any"
METADATA = "Metadata-Version: 2.1\nName: sample\nVersion: {version}\nRequires-Dist: apache-tvm-ffi>=0.1.15,<0.2\n"
INIT = b"'''A sample.'''\n"


@dataclass(kw_only=True)
class Draft:
    """A wheel before it is packed; RECORD and the tags in WHEEL follow from the rest unless they are given."""

    members: dict[str, bytes]
    tag: str = LINUX
    version: str = "1.2.3"
    filename: str = ""
    info: str = ""
    texts: dict[str, str | None] = field(default_factory=dict)  # files of .dist-info; None: left out
    record: Callable[[list[str]], list[str]] = list
    pack: Callable[[Sequence[tuple[str, bytes]]], bytes] | None = None
    manifest: Mapping[str, object] | str | None = None  # beside it: changes to what is true of it, or any text

    def all_members(self) -> list[tuple[str, bytes]]:
        info = self.info or f"sample-{self.version}.dist-info"
        texts = {
            "METADATA": METADATA.format(version=self.version),
            "WHEEL": f"Wheel-Version: 1.0\nGenerator: corpus\nRoot-Is-Purelib: false\nTag: {self.tag}\n",
            **self.texts,
        }
        members = list(self.members.items())
        members += [(f"{info}/{name}", text.encode()) for name, text in texts.items() if text is not None]
        if "RECORD" not in self.texts:
            lines = [f"{name},{sha256(data)},{len(data)}" for name, data in members]
            record = "\n".join([*self.record(lines), f"{info}/RECORD,,", ""])
            members.append((f"{info}/RECORD", record.encode()))
        return members

    def write(self, folder: Path) -> Path:
        path = folder / (self.filename or f"sample-{self.version}-{self.tag}.whl")
        data = (self.pack or packed)(self.all_members())
        path.write_bytes(data)
        if self.manifest is not None:
            text = self.manifest
            if not isinstance(text, str):
                digest = hashlib.sha256(data).hexdigest()
                true = {"file": path.name, "version": self.version, "size": len(data), "sha256": digest}
                text = json.dumps({**true, **text})
            (folder / f"{path.stem}.manifest.json").write_text(text)
        return path


def sha256(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def packed(
    members: Sequence[tuple[str, bytes]],
    change: Mapping[str, Callable[[zipfile.ZipInfo], None]] | None = None,
    method: Mapping[str, int] | None = None,
) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice
        for name, data in members:
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.compress_type = (method or {}).get(name, zipfile.ZIP_DEFLATED)
            info.external_attr = 0o100644 << 16
            if change and name in change:
                change[name](info)
            archive.writestr(info, data)
    return stream.getvalue()


def linux(natives: Natives, **more: bytes) -> Draft:
    members = {
        "sample/__init__.py": INIT,
        "sample/libsample.so": natives.core(),
        "sample/libsample_module.so": natives.module(),
    }
    return Draft(members=members | {name.replace("__", "/"): data for name, data in more.items()})


def windows(natives: Natives) -> Draft:
    members = {
        "sample/__init__.py": INIT,
        "sample/sample.dll": natives.dll(),
        "sample/sample_module.dll": natives.dll_module(),
    }
    return Draft(members=members, tag=WINDOWS)


def pure(**texts: str) -> Draft:
    return Draft(members={"sample/__init__.py": INIT}, tag=ANY, texts=dict(texts))


#: What the good wheels are demanded to be; each case adds to it.
LINUX_EXPECTATIONS: dict[str, Any] = {
    "version": "1.2.3",
    "package": "sample",
    "platforms": ["linux_x86_64"],
    "libraries": ["libsample.so", "libsample_module.so"],
    "exclude": ["libtvm_ffi.so", "libvulkan.so.1"],
    "requires_dist": ["apache-tvm-ffi<0.2,>=0.1.15"],
    "max_size": "1M",
}
WINDOWS_EXPECTATIONS: dict[str, Any] = {
    **LINUX_EXPECTATIONS,
    "platforms": ["win_amd64"],
    "libraries": ["sample.dll", "sample_module.dll"],
    "exclude": ["tvm_ffi.dll", "vulkan-1.dll"],
}
PURE_EXPECTATIONS: dict[str, Any] = {"version": "1.2.3", "package": "sample", "platforms": ["any"]}


@dataclass(frozen=True, kw_only=True)
class Case:
    """``make`` gives the draft or drafts; ``expect`` changes the platform's expectations."""

    check: str
    name: str
    make: Callable[[Natives], Draft | list[Draft]]
    base: Mapping[str, Any] = field(default_factory=lambda: LINUX_EXPECTATIONS)
    expect: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.check}: {self.name}"


CASES: list[Case] = []


def case(check: str, name: str = "", base: Mapping[str, Any] = LINUX_EXPECTATIONS, **expect: Any) -> Callable[..., Any]:
    def add(make: Callable[[Natives], Draft | list[Draft]]) -> Callable[[Natives], Draft | list[Draft]]:
        title = name or make.__name__.strip("_").replace("_", " ")
        CASES.append(Case(check=check, name=title, make=make, base=base, expect=expect))
        return make

    return add


def with_members(draft: Draft, **members: bytes) -> Draft:
    draft.members.update({name.replace("__", "/"): data for name, data in members.items()})
    return draft


def changed(draft: Draft, **values: Any) -> Draft:
    for name, value in values.items():
        setattr(draft, name, value)
    return draft


def patched(data: bytes, offset: int, shape: str, *values: int) -> bytes:
    new = struct.pack(shape, *values)
    return data[:offset] + new + data[offset + len(new) :]
