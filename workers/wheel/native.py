"""What reading an ELF and a PE file have in common."""

from __future__ import annotations

import mmap
import re

Image = mmap.mmap  #: a library, mapped: sliced by offset, never copied as a whole

#: C functions of TVM, and C++ names in its namespaces (``3tvm`` in Itanium's mangling, ``@tvm@@`` in MSVC's).
_TVM = re.compile(rb"TVM[A-Z]\w|_Z\w*3tvm|\?.*@tvm@@")
_LONGEST_NAME = 1 << 16
_MOST_NAMES = 128 << 20  # bytes, together


class Broken(Exception):
    """The file is not what its first bytes say, or ends too early."""


class TvmNames:
    """Collects the names of TVM's symbols, within bounds."""

    def __init__(self) -> None:
        self._bytes = 0

    def take(self, image: Image, start: int) -> str | None:
        """The zero-ended name at an offset, if it is one of TVM's."""
        end = image.find(b"\0", start, start + _LONGEST_NAME)
        if end < 0:
            raise Broken("a symbol's name does not end")
        if not _TVM.match(image, start, end):
            return None
        self._bytes += end - start
        if self._bytes > _MOST_NAMES:
            raise Broken(f"the names of its symbols take more than {_MOST_NAMES} bytes")
        return image[start:end].decode("ascii", "backslashreplace")


def text_at(image: Image, start: int, longest: int = 4096) -> str:
    """The zero-ended text at an offset."""
    end = image.find(b"\0", start, start + longest) if 0 <= start < len(image) else -1
    if end < 0:
        raise Broken(f"the text at {start:#x} does not end")
    return image[start:end].decode("utf-8", "backslashreplace")
