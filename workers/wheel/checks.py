"""Every check of the wheel gate, as data: its id (stable, for scripts), what it means, what to do when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST = 160  # characters of a name or value from the wheel that a reason repeats


@dataclass(frozen=True, kw_only=True)
class Check:
    meaning: str
    hint: str
    unreadable: bool = False  #: failing it means that the other checks could not be made: exit code 2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong: which check says so, in which member (empty: the wheel itself), and what was found."""

    check: str
    file: str
    reason: str

    @property
    def hint(self) -> str:
        return CHECKS[self.check].hint


def shown(text: object) -> str:
    """A name or value from a stranger's file, fit for a terminal and a log: one line, no control characters, short."""
    one_line = str(text).encode("unicode_escape", "backslashreplace").decode("ascii")
    return one_line if len(one_line) <= _LONGEST else f"{one_line[:_LONGEST]}…"


def _check(meaning: str, hint: str, *, unreadable: bool = False) -> Check:
    return Check(meaning=meaning, hint=hint, unreadable=unreadable)


CHECKS: Mapping[str, Check] = {
    # the file itself
    "zip-broken": _check(
        "it is a whole zip file", "build it again; a cut-off upload or a full disk leaves this", unreadable=True
    ),
    "bounds": _check(
        "it stays within the reader's bounds",
        "if the wheel is meant to be so, raise the bound: --bound NAME=VALUE",
        unreadable=True,
    ),
    "zip-ambiguous": _check("every reader sees the same members", "write the zip anew with a common wheel builder"),
    "zip-overlap": _check(
        "no two members share bytes", "this is how zip bombs are made; do not trust where it is from"
    ),
    "path-unsafe": _check("names stay inside the folder they are unpacked to", "do not unpack it; find who made it"),
    "member-symlink": _check("members are files and folders", "installers do not unpack links: copy the file instead"),
    "member-encrypted": _check("nothing is encrypted", "no installer can read it: write the wheel without a password"),
    "member-method": _check("members are stored or deflated", "other methods are not read by all installers"),
    "member-duplicate": _check("each name occurs once", "installers differ in which one they take: remove the others"),
    "member-case": _check(
        "names differ in more than case", "they overwrite each other on Windows and macOS: rename one"
    ),
    # name, tags, metadata
    "filename": _check(
        "the file name is a wheel's", "NAME-VERSION(-BUILD)-PYTHON-ABI-PLATFORM.whl; do not rename wheels"
    ),
    "dist-info": _check("one .dist-info folder, of this name and version", "empty the build folder and build again"),
    "wheel-file": _check("WHEEL can be read", "let the build backend write it; it must say Wheel-Version 1.x"),
    "tag-mismatch": _check("file name and WHEEL say the same tags", "rename with `wheel tags`, never by hand"),
    "tag-bare-linux": _check("the platform tag says which Linux", "the repair did not happen: run auditwheel repair"),
    "tag-pure": _check("a wheel for any platform holds no libraries", "Root-Is-Purelib: false, and a platform tag"),
    "tag-platform": _check(
        "it is for the platform asked for", "the wrong wheel was handed over, or the wrong tag written"
    ),
    "metadata": _check("METADATA is valid", "correct the field in pyproject.toml; PyPI would refuse the upload"),
    "metadata-mismatch": _check("METADATA and file name agree", "empty the build folder and build again"),
    "description": _check("the description can be shown", "correct the README's markup; PyPI would refuse the upload"),
    "version": _check(
        "the version is the one asked for", "run the version script before the build, with all tags fetched"
    ),
    "placeholder-version": _check(
        "the version is no stand-in", "the version script found no tag: fetch tags and history before the build"
    ),
    "requires-dist": _check("it requires what it must", "correct project.dependencies: users get what METADATA says"),
    # RECORD
    "record": _check("RECORD can be read", "let the build backend write it; after changes, `wheel pack`"),
    "record-hash": _check(
        "members are what RECORD says", "something changed the wheel after the build: `wheel pack` it"
    ),
    "record-weak": _check("RECORD has a SHA-2 hash for each file", "MD5, SHA-1 and no hash at all are not allowed"),
    "record-unlisted": _check("every member is in RECORD", "something was added after the build: `wheel pack` it"),
    "record-absent": _check("everything in RECORD is there", "something was removed after the build: `wheel pack` it"),
    # what is in it
    "empty": _check("there is something in it", "an empty placeholder, or a package the backend did not find"),
    "package": _check("it holds the package", "name the package in the build backend's settings (wheel.packages)"),
    "toplevel": _check(
        "nothing else lands in site-packages", "tests, docs and scripts belong in the package or nowhere"
    ),
    "bytecode": _check("no compiled Python", "exclude __pycache__: it is for one Python version only"),
    "static-archive": _check("no static libraries", "install only the shared libraries: they double the wheel's size"),
    "size": _check("it is within the size budget", "strip debug symbols, fewer GPU architectures, no second copies"),
    "manifest": _check(
        "the manifest beside it is its own", "write it anew, after the last change: mlc-ci-worker wheel-manifest"
    ),
    "install": _check("it installs into a clean environment", "read pip's words; entry_points.txt is a frequent cause"),
    # libraries
    "library-missing": _check(
        "required libraries lie at the package's root", "look at install(TARGETS …) and install-dir"
    ),
    "library-format": _check(
        "what is named as a library is one", "a linker script, a Git LFS pointer or an empty file?"
    ),
    "library-duplicate": _check("no library is there twice", "which of them loads depends on luck: install only one"),
    "library-forbidden": _check(
        "nothing needs a forbidden library", "link against the split runtime libraries instead"
    ),
    "grafted-library": _check(
        "no excluded library was copied in", "auditwheel --exclude takes whole sonames, each one"
    ),
    "native-foreign": _check(
        "no binaries of another system", "empty the build folder: they are left from another build"
    ),
    "tvm-symbol": _check("the TVM named exports what is used", "build against the very TVM that users will have"),
    "elf-broken": _check("ELF files are whole", "build it again; strip or patchelf may have damaged it"),
    "elf-machine": _check("ELF files are for the tag's processor", "a cross build took a library of the build machine"),
    "elf-needed": _check(
        "needed libraries are on users' systems", "graft it (auditwheel), or exclude it if it comes along"
    ),
    "rpath": _check("RPATH stays inside site-packages", "set CMAKE_INSTALL_RPATH to $ORIGIN; no build folder in it"),
    "elf-glibc": _check(
        "GLIBC symbols are within the tag", "build on the older system that the tag names, or raise the tag"
    ),
    "elf-glibcxx": _check(
        "GLIBCXX symbols are within the tag", "build with the toolset of the manylinux image, or raise the tag"
    ),
    "elf-cxxabi": _check(
        "CXXABI symbols are within the tag", "build with the toolset of the manylinux image, or raise the tag"
    ),
    "pe-broken": _check("PE files are whole", "build it again; a cut-off copy leaves this"),
    "pe-machine": _check("PE files are for the tag's processor", "a build environment of the other bitness was active"),
    "pe-import": _check(
        "imported DLLs are on users' systems", "graft it (delvewheel), or exclude it if it comes along"
    ),
    # several wheels
    "wheel-duplicate": _check("one wheel for each platform", "empty the output folder before the build"),
    "wheel-versions": _check(
        "all wheels have one version", "wheels of different builds lie together: empty the folder"
    ),
    "platform-missing": _check(
        "there is a wheel for each platform", "a build is missing: look at that platform's stage"
    ),
}
