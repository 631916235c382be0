"""Real libraries for the wheel corpus, compiled when the tests run: ELF by gcc, PE by mingw-w64.

System libraries are stand-ins with version scripts, so that what is needed does not depend on this machine's glibc.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

TVM_SOURCE = "int TVMFFIFunctionCall(void){return 1;} int _ZN3tvm3ffi4CallEv(void){return 2;}"
USES_TVM = "int TVMFFIFunctionCall(void); int _ZN3tvm3ffi4CallEv(void);"
CALLS_TVM = "int use(void){return TVMFFIFunctionCall() + _ZN3tvm3ffi4CallEv();}"
MINGW = "x86_64-w64-mingw32-gcc"


def tool(name: str) -> str:
    """The program's path, from this environment or the PATH; the test is skipped without it."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed (Debian: gcc, patchelf, gcc-mingw-w64-x86-64-posix)")
    return found


class Natives:
    """Compiles each library once; ``bytes`` are handed out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.elf = cache(self._elf)
        self.pe = cache(self._pe)

    def _run(self, *command: object) -> None:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def _elf(
        self,
        name: str,
        source: str,
        links: tuple[str, ...] = (),
        rpath: str = "",
        version: str = "",
        soname: str = "",
        flags: tuple[str, ...] = (),
    ) -> bytes:
        """``links``: libraries compiled before, by file name. ``version``: all symbols get it."""
        place = self.folder / (soname or name)
        code = self.folder / f"{place.name}.c"
        code.write_text(source)
        script = []
        if version:
            (self.folder / f"{place.name}.map").write_text(f"{version} {{ global: *; }};")
            script = [f"-Wl,--version-script={self.folder / place.name}.map"]
        command = [tool("gcc"), "-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", "-o", place, code]
        command += [f"-Wl,-soname,{soname or name}", *script, *(self.folder / link for link in links), *flags]
        self._run(*command)
        if rpath:
            self._run(tool("patchelf"), "--set-rpath", rpath, place)
        return place.read_bytes()

    def _pe(self, name: str, source: str, links: tuple[str, ...] = ()) -> bytes:
        place = self.folder / name
        code = self.folder / f"{name}.c"
        code.write_text(source)
        self._run(tool(MINGW), "-shared", "-s", "-o", place, code, *(self.folder / link for link in links))
        return place.read_bytes()

    # What the good wheels are made of, and what they are broken with.

    def libc(self, version: str = "GLIBC_2.2.5", name: str = "libc.so.6") -> str:
        """A stand-in for a system library that has ``provided`` in the version given; gives the name to link."""
        self.elf(name, "int provided(void){return 0;}", version=version)
        return name

    def tvm(self) -> bytes:
        return self.elf("libtvm_ffi.so", TVM_SOURCE)

    def core(self) -> bytes:
        self.libc()
        return self.elf("libsample.so", "int provided(void); int core(void){return provided();}", links=("libc.so.6",))

    def module(self) -> bytes:
        self.core(), self.tvm()
        links = ("libsample.so", "libtvm_ffi.so")
        return self.elf(
            "libsample_module.so", USES_TVM + CALLS_TVM, links=links, rpath="$ORIGIN:$ORIGIN/../tvm_ffi/lib"
        )

    def needing(self, version: str, library: str = "libc.so.6") -> bytes:
        """A library that needs ``provided`` in this version of another library."""
        other = Natives(self.folder / f"{library}-{version}")
        other.folder.mkdir(exist_ok=True)
        other.libc(version, library)
        return other.elf("libneedy.so", "int provided(void); int needy(void){return provided();}", links=(library,))

    def linked_to(self, soname: str) -> bytes:
        self.elf(soname, "int other(void){return 0;}")
        return self.elf(f"to-{soname}", "int other(void); int call(void){return other();}", links=(soname,))

    def dll(self) -> bytes:
        return self.pe("sample.dll", "__declspec(dllexport) int core(void){return 1;}")

    def dll_module(self) -> bytes:
        self.dll(), self.pe("tvm_ffi.dll", f"{TVM_SOURCE}")
        source = f"int core(void); {USES_TVM} {CALLS_TVM} int all(void){{return core();}}"
        return self.pe("sample_module.dll", source, links=("sample.dll", "tvm_ffi.dll"))

    def dll_linked_to(self, name: str) -> bytes:
        self.pe(name, "__declspec(dllexport) int other(void){return 0;}")
        return self.pe(f"to-{name}", "int other(void); int call(void){return other();}", links=(name,))
