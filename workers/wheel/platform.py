"""What a platform tag promises: the system, the processor, and for manylinux the newest symbols that may be used.

PEP 600 defines GLIBC's ceiling as the tag's own version. Those of libstdc++, and the libraries that every such system
has, are auditwheel's policies (https://github.com/pypa/auditwheel, ``policy/manylinux-policy.json``); a unit test
compares the table with the auditwheel that is installed. It is repeated so that any host gives the same verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Numbers = tuple[int, ...]

#: glibc 2.X -> (GLIBC, GLIBCXX, CXXABI), for the X that auditwheel has a policy for; between them, the lower one holds.
POLICIES: Mapping[int, tuple[Numbers, Numbers, Numbers]] = {
    5: ((2, 5), (3, 4, 8), (1, 3, 1)),
    12: ((2, 12), (3, 4, 13), (1, 3, 3)),
    17: ((2, 17), (3, 4, 19), (1, 3, 7)),
    24: ((2, 24), (3, 4, 22), (1, 3, 10)),
    26: ((2, 26), (3, 4, 22), (1, 3, 10)),
    27: ((2, 27), (3, 4, 24), (1, 3, 11)),
    28: ((2, 28), (3, 4, 24), (1, 3, 11)),
    31: ((2, 31), (3, 4, 28), (1, 3, 12)),
    34: ((2, 34), (3, 4, 29), (1, 3, 13)),
    35: ((2, 35), (3, 4, 30), (1, 3, 13)),
    39: ((2, 39), (3, 4, 33), (1, 3, 15)),
}
#: Where AArch64 began with newer ones.
AARCH64: Mapping[int, tuple[Numbers, Numbers, Numbers]] = {
    17: ((2, 18), (3, 4, 19), (1, 3, 7)),
    26: ((2, 26), (3, 4, 24), (1, 3, 11)),
}
#: Libraries of every manylinux system (PEP 600, "the following libraries"), and the loader itself.
MANYLINUX_LIBRARIES = tuple(
    "libgcc_s.so.1 libstdc++.so.6 libm.so.6 libmvec.so.1 libanl.so.1 libdl.so.2 librt.so.1 libc.so.6 libnsl.so.1"  # noqa: SIM905
    " libutil.so.1 libpthread.so.0 libX11.so.6 libXext.so.6 libXrender.so.1 libICE.so.6 libSM.so.6 libGL.so.1"
    " libgobject-2.0.so.0 libgthread-2.0.so.0 libglib-2.0.so.0 libresolv.so.2 libexpat.so.1 libz.so.1"
    " libatomic.so.1 ld-linux*.so.* ld64.so.*".split()
)
MUSLLINUX_LIBRARIES = ("libc.so", "libc.musl-*.so.1", "ld-musl-*.so.1", "libz.so.1")
#: DLLs of every Windows that runs CPython 3.9+, and of CPython itself. The C++ runtime (msvcp140) is neither.
WINDOWS_LIBRARIES = tuple(
    "kernel32 ntdll user32 gdi32 advapi32 shell32 shlwapi ole32 oleaut32 ws2_32 wsock32 mswsock iphlpapi bcrypt"  # noqa: SIM905
    " bcryptprimitives crypt32 secur32 ncrypt psapi dbghelp version winmm setupapi cfgmgr32 userenv rpcrt4 comdlg32"
    " comctl32 msvcrt ucrtbase vcruntime140 vcruntime140_1 python3 python3?? imm32 powrprof pdh netapi32 wintrust"
    " dxgi d3d11 d3d12 opengl32 synchronization api-ms-win-* ext-ms-win-*".split()
)

_LINUX = re.compile(
    r"(?P<kind>manylinux|musllinux|linux)(?P<old>1|2010|2014)?(_(?P<major>\d+)_(?P<minor>\d+))?_(?P<arch>.+)"
)
_OLD = {"1": 5, "2010": 12, "2014": 17}
_ELF = {
    "x86_64": "EM_X86_64",
    "aarch64": "EM_AARCH64",
    "i686": "EM_386",
    "armv7l": "EM_ARM",
    "ppc64le": "EM_PPC64",
    "s390x": "EM_S390",
    "riscv64": "EM_RISCV",
}
_PE = {"win_amd64": 0x8664, "win32": 0x14C, "win_arm64": 0xAA64}


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What all platform tags of a wheel promise together."""

    platforms: frozenset[str] = frozenset()  #: as linux_x86_64, win_amd64, any
    bare: bool = False  #: a tag says only "Linux"
    musl: bool = False
    elf_machine: str = ""
    pe_machine: int = 0
    glibc: Numbers = ()  #: ceilings; empty: none promised
    glibcxx: Numbers = ()
    cxxabi: Numbers = ()

    @property
    def linux(self) -> bool:
        return any(platform.startswith("linux_") for platform in self.platforms)

    @property
    def windows(self) -> bool:
        return any(platform.startswith("win") for platform in self.platforms)


def numbers(text: str) -> Numbers:
    return tuple(int(part) for part in text.split("."))


def promise(tags: Iterable[str]) -> Promise:
    """Several tags, as in ``manylinux_2_17_x86_64.manylinux2014_x86_64``: the strictest of them binds."""
    platforms: set[str] = set()
    minors: list[int] = []
    arches: set[str] = set()
    bare = musl = False
    for tag in tags:
        match = _LINUX.fullmatch(tag)
        if not match:
            platforms.add(tag)
            continue
        platforms.add(f"linux_{match['arch']}")
        arches.add(match["arch"])
        bare |= match["kind"] == "linux"
        musl |= match["kind"] == "musllinux"
        if match["kind"] == "manylinux" and (match["old"] or match["minor"]):
            minors.append(_OLD[match["old"]] if match["old"] else int(match["minor"]))
    glibc, glibcxx, cxxabi = ceilings(min(minors), arches) if minors else ((), (), ())
    return Promise(
        platforms=frozenset(platforms),
        bare=bare,
        musl=musl,
        elf_machine=_ELF.get(next(iter(arches), ""), "") if len(arches) == 1 else "",
        pe_machine=next((_PE[platform] for platform in sorted(platforms) if platform in _PE), 0),
        glibc=glibc,
        glibcxx=glibcxx,
        cxxabi=cxxabi,
    )


def ceilings(minor: int, arches: set[str]) -> tuple[Numbers, Numbers, Numbers]:
    """GLIBC, GLIBCXX and CXXABI for ``manylinux_2_MINOR``."""
    known = max((each for each in POLICIES if each <= minor), default=min(POLICIES))
    glibc, glibcxx, cxxabi = AARCH64.get(known, POLICIES[known]) if arches == {"aarch64"} else POLICIES[known]
    return max(glibc, (2, minor)), glibcxx, cxxabi
