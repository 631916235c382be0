"""Loads the libraries.

The order matters: `import tvm_ffi` loads libtvm_ffi, which libmlc_sample needs and cannot find by itself, and
libmlc_sample_module needs libmlc_sample. The last one registers the functions.
"""

import ctypes
import importlib.metadata
import os
import sys
from pathlib import Path

import tvm_ffi

SKIP_LOADING = os.environ.get("SKIP_LOADING_MLC_SAMPLE_SO", "0") == "1"

try:
    __version__ = importlib.metadata.version("mlc-sample")
except importlib.metadata.PackageNotFoundError:
    __version__ = "0.1.dev0"


def library_path(name):
    """Where the library of that name is in this package."""
    if sys.platform == "win32":
        file_name = f"{name}.dll"
    elif sys.platform == "darwin":
        file_name = f"lib{name}.dylib"
    else:
        file_name = f"lib{name}.so"
    return Path(__file__).resolve().parent / file_name


def _load(name):
    path = library_path(name)
    if not path.is_file():
        raise ImportError(
            f"mlc_sample was not built: {path.name} is not in {path.parent}. Install the wheel, or set "
            "SKIP_LOADING_MLC_SAMPLE_SO=1 to use the Python code without the libraries."
        )
    try:
        return ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    except OSError as error:
        hint = ""
        if "vulkan" in str(error):
            hint = " This build needs the Vulkan loader (Debian: libvulkan1)."
        raise ImportError(f"{path.name} does not load: {error}.{hint}") from error


if SKIP_LOADING:
    LIBRARIES = ()
else:
    if sys.platform == "win32":
        os.add_dll_directory(str(Path(__file__).resolve().parent))
    LIBRARIES = (_load("mlc_sample"), _load("mlc_sample_module"))


def function(name):
    """The registered function `mlc_sample.<name>`."""
    if not LIBRARIES:
        raise RuntimeError(f"mlc_sample.{name} is in the compiled library, which SKIP_LOADING_MLC_SAMPLE_SO=1 left out")
    return tvm_ffi.get_global_func(f"mlc_sample.{name}")


def library_version():
    """The version the loaded library was built as; differs from `__version__` only in a broken installation."""
    return str(function("library_version")())
