"""The corpus' cases of what a wheel holds: files, and the libraries of both systems."""

from __future__ import annotations

from typing import Any

from wheel_corpus import (
    INIT,
    PURE_EXPECTATIONS,
    WINDOWS_EXPECTATIONS,
    Draft,
    case,
    changed,
    linux,
    patched,
    pure,
    windows,
)
from wheel_natives import CALLS_TVM, TVM_SOURCE, USES_TVM, Natives

_ARCHIVE = b"!<arch>\n" + b"libcore.o/      0           0     0     644     4         `\nELF\n"


def adding(base: Any, **members: Any) -> Any:
    """The good wheel of a platform with members put in or replaced; a function is given the compiler."""

    def make(natives: Natives) -> Draft:
        draft: Draft = base(natives)
        for name, data in members.items():
            draft.members[name] = data(natives) if callable(data) else data
        return draft

    return make


def on_linux(check: str, name: str, members: dict[str, Any], **expect: Any) -> None:
    case(check, name, **expect)(adding(linux, **members))


def on_windows(check: str, name: str, members: dict[str, Any], **expect: Any) -> None:
    case(check, f"{name} (Windows)", base=WINDOWS_EXPECTATIONS, **expect)(adding(windows, **members))


# --- files ------------------------------------------------------------------------------------------------------------


@case("empty", base={**PURE_EXPECTATIONS})
def _a_placeholder(_: Natives) -> Draft:
    return changed(pure(), members={})


@case("package", base=PURE_EXPECTATIONS)
def _another_package(_: Natives) -> Draft:
    return changed(pure(), members={"simple/__init__.py": INIT})


on_linux("toplevel", "tests beside the package", {"tests/test_it.py": b"\n"})
on_linux("bytecode", "a cache", {"sample/__pycache__/x.cpython-311.pyc": b"\0"})
on_linux("static-archive", "by content", {"sample/core.bin": _ARCHIVE})
on_linux("static-archive", "by name", {"sample/libcore.a": b"thin"})
on_windows("static-archive", "an import library", {"sample/sample.lib": _ARCHIVE})
on_linux("size", "over the budget", {}, max_size="1K")
on_windows("size", "over the budget", {}, max_size="1K")

# --- libraries of both ------------------------------------------------------------------------------------------------


def moved(natives: Natives) -> Draft:
    draft = linux(natives)
    draft.members["sample/lib/libsample.so"] = draft.members.pop("sample/libsample.so")
    draft.members["sample/libsample_module.so"] = natives.elf(
        "libsample_module.so", "int nothing(void){return 0;}", soname="libsample_module.so.1"
    )
    return draft


case("library-missing", "in a folder below")(moved)
on_linux("library-missing", "never built", {}, libraries=["libother.so"])
on_windows("library-missing", "named as on Linux", {}, libraries=["libsample.so"])
on_linux("library-format", "a linker script", {"sample/libextra.so": b"INPUT(libsample.so)\n"})
on_linux("library-format", "an empty file", {"sample/libextra.so.1": b""})
on_windows("library-format", "a Git LFS pointer", {"sample/extra.dll": b"version https://git-lfs.github.com/spec/v1\n"})
on_linux("library-duplicate", "the same content", {"sample/libcopy.so": lambda natives: natives.core()})
on_linux(
    "library-duplicate",
    "the same soname",
    {
        "sample/old/libold.so": lambda n: n.elf(
            "libold.so", "int old(void){return 0;}", flags=("-Wl,-soname,libsample.so",)
        )
    },
)
on_windows("library-duplicate", "the same content", {"sample/copy.dll": lambda natives: natives.dll()})
on_linux("library-forbidden", "the monolithic TVM", {"sample/libold.so": lambda n: n.linked_to("libtvm.so")})
on_windows("library-forbidden", "the monolithic TVM", {"sample/old.dll": lambda n: n.dll_linked_to("tvm.dll")})
on_linux(
    "grafted-library", "TVM, by auditwheel", {"sample.libs/libtvm_ffi-0123abcd.so": lambda n: n.tvm()}
)  # fmt: skip
on_linux(
    "grafted-library",
    "Vulkan's loader",
    {"sample.libs/libvulkan-89abcdef.so.1.3.239": lambda n: n.elf("libvulkan.so.1", "int vk(void){return 0;}")},
)
on_linux(
    "grafted-library",
    "the driver's CUDA, excluded by nobody",
    {"sample.libs/libcuda-89abcdef.so.1": lambda n: n.elf("libcuda.so.1", "int cu(void){return 0;}")},
    exclude=["libtvm_ffi.so"],
)
on_linux("grafted-library", "under its own name", {"sample/lib/libtvm_ffi.so": lambda n: n.tvm()})
on_windows(
    "grafted-library",
    "TVM, by delvewheel",
    {
        "sample.libs/tvm_ffi-0123456789abcdef0123456789abcdef.dll": lambda n: (
            n.dll_module(),
            n.pe("tvm_ffi.dll", TVM_SOURCE),
        )[1]
    },
)
on_linux("native-foreign", "a DLL", {"sample/sample.dll": lambda natives: natives.dll()})
on_windows("native-foreign", "an ELF library", {"sample/libsample.so": lambda natives: natives.core()})


def _newer(natives: Natives) -> bytes:
    more = "int TVMFFINewerCall(void);"
    folder = Natives(natives.folder / "newer")
    folder.folder.mkdir(exist_ok=True)
    folder.elf("libtvm_ffi.so", TVM_SOURCE + "int TVMFFINewerCall(void){return 3;}")
    return folder.elf(
        "libnewer.so",
        more + USES_TVM + CALLS_TVM + "int newer(void){return TVMFFINewerCall();}",
        links=("libtvm_ffi.so",),
    )


def _newer_dll(natives: Natives) -> bytes:
    folder = Natives(natives.folder / "newer")
    folder.folder.mkdir(exist_ok=True)
    folder.pe("tvm_ffi.dll", TVM_SOURCE + "int TVMFFINewerCall(void){return 3;}")
    return folder.pe(
        "newer.dll", "int TVMFFINewerCall(void); int newer(void){return TVMFFINewerCall();}", links=("tvm_ffi.dll",)
    )


on_linux("tvm-symbol", "of a newer TVM", {"sample/libnewer.so": _newer}, tvm=["libtvm_ffi.so"])
on_windows("tvm-symbol", "of a newer TVM", {"sample/newer.dll": _newer_dll}, tvm=["tvm_ffi.dll"])

# --- ELF --------------------------------------------------------------------------------------------------------------

ELF_FLAWS: dict[str, Any] = {
    "its end is cut off": lambda elf: elf[: len(elf) // 2],
    "only its first bytes": lambda elf: elf[:20],
    "only its header": lambda elf: elf[:64],
    "of no class": lambda elf: patched(elf, 4, "<B", 9),
    "its program headers are elsewhere": lambda elf: patched(elf, 32, "<Q", 1 << 40),
    "65535 program headers": lambda elf: patched(elf, 56, "<H", 0xFFFF),
    "its section headers are elsewhere": lambda elf: patched(elf, 40, "<Q", 1 << 40),
}
for _name, _flaw in ELF_FLAWS.items():
    on_linux("elf-broken", _name, {"sample/libextra.so": lambda natives, flaw=_flaw: flaw(natives.core())})

on_linux(
    "elf-machine",
    "AArch64",
    {"sample/libextra.so": lambda n: patched(n.elf("libarm.so", "int a(void){return 0;}"), 18, "<H", 183)},
)
on_linux("elf-needed", "a library of the build machine", {"sample/libextra.so": lambda n: n.linked_to("libstray.so.3")})
for _rpath, _name in {
    "/build/tree/lib": "the build tree",
    "$ORIGIN:/usr/local/cuda/lib64": "one of two",
    "$ORIGIN/../../../build": "out of site-packages",
    "lib": "relative to the current folder",
    "$ORIGIN:": "an empty entry",
}.items():
    on_linux(
        "rpath",
        _name,
        {"sample/libextra.so": lambda n, rpath=_rpath: n.elf("libextra.so", "int extra(void){return 0;}", rpath=rpath)},
    )


def _needs(check: str, name: str, version: str, library: str = "libc.so.6", **expect: Any) -> None:
    on_linux(check, name, {"sample/libneedy.so": lambda n: n.needing(version, library)}, **expect)


_needs("elf-glibc", "newer than the tag", "GLIBC_2.18")
_needs("elf-glibc", "newer than asked for", "GLIBC_2.15", glibc="2.12")
_needs("elf-glibc", "private", "GLIBC_PRIVATE")
_needs("elf-glibc", "relative relocations", "GLIBC_ABI_DT_RELR")
_needs("elf-glibcxx", "newer than the tag", "GLIBCXX_3.4.20", "libstdc++.so.6")
_needs("elf-glibcxx", "newer than asked for", "GLIBCXX_3.4.19", "libstdc++.so.6", glibcxx="3.4.18")
_needs("elf-cxxabi", "newer than the tag", "CXXABI_1.3.8", "libstdc++.so.6")
_needs("elf-cxxabi", "newer than asked for", "CXXABI_1.3.7", "libstdc++.so.6", cxxabi="1.3.6")


@case("elf-glibc", "glibc in a wheel for musl")
def _musl(natives: Natives) -> Draft:
    draft = changed(linux(natives), tag="py3-none-musllinux_1_2_x86_64")
    nothing = "int core(void){return 0;}"
    draft.members["sample/libsample.so"] = natives.elf("libmusl.so", nothing, flags=("-Wl,-soname,libsample.so",))
    natives.libc(name="libc.musl-x86_64.so.1")
    draft.members["sample/libneedy.so"] = natives.elf(
        "libneedy.so", "int provided(void); int needy(void){return provided();}", links=("libc.musl-x86_64.so.1",)
    )
    return draft


# --- PE ---------------------------------------------------------------------------------------------------------------


def _at(dll: bytes, offset: int, shape: str, *values: int) -> bytes:
    """Patched at an offset from the PE header."""
    return patched(dll, int.from_bytes(dll[60:64], "little") + offset, shape, *values)


PE_FLAWS: dict[str, Any] = {
    "its end is cut off": lambda dll: dll[: len(dll) // 2],
    "only its first bytes": lambda dll: dll[:50],
    "its header is elsewhere": lambda dll: patched(dll, 60, "<L", 0x7FFFFFFF),
    "65535 sections": lambda dll: _at(dll, 6, "<H", 0xFFFF),
    "imports from nowhere": lambda dll: _at(dll, 24 + 112 + 8, "<L", 0x7FFFFFF0),
}
for _name, _flaw in PE_FLAWS.items():
    on_windows("pe-broken", _name, {"sample/extra.dll": lambda natives, flaw=_flaw: flaw(natives.dll())})
on_windows("pe-machine", "ARM64", {"sample/extra.dll": lambda n: _at(n.dll(), 4, "<H", 0xAA64)})
on_windows("pe-import", "a DLL of the build machine", {"sample/extra.dll": lambda n: n.dll_linked_to("stray.dll")})
on_windows("pe-import", "mingw's own runtime", {"sample/extra.dll": lambda n: n.dll_linked_to("libwinpthread-1.dll")})
