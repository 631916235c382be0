"""Drivers that behave badly or say what a test wants, compiled: what the probe loads is a real shared library."""

from __future__ import annotations

import subprocess
from pathlib import Path

#: A Vulkan loader whose vkCreateInstance does what the test wants.
VULKAN = """
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int vkEnumerateInstanceVersion(uint32_t *version) { *version = %(version)s; return 0; }
int vkCreateInstance(const void *info, const void *allocator, void **instance) { %(create)s }
int vkEnumeratePhysicalDevices(void *instance, uint32_t *count, void **devices) { %(enumerate)s }
void vkDestroyInstance(void *instance, const void *allocator) {}
void vkGetPhysicalDeviceProperties(void *device, void *properties) {}
void vkGetPhysicalDeviceMemoryProperties(void *device, void *properties) {}
"""
V1_0, V1_3 = str(1 << 22), str(1 << 22 | 3 << 12)


def vulkan(folder: Path, *, create: str = "return 0;", enumerate: str = "*count = 0; return 0;", v: str = V1_3) -> Path:
    """A folder for LD_LIBRARY_PATH."""
    return build(folder, "libvulkan.so.1", VULKAN % {"version": v, "create": create, "enumerate": enumerate})


#: An NVML of one board. Left out: nearly everything, which nvidia-ml-py then calls "Function Not Found".
NVML = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
typedef unsigned int u;
typedef void *H;
int nvmlInitWithFlags(u flags) { %(init)s; return 0; }
int nvmlSystemGetDriverVersion(char *to, u size) { strncpy(to, "999.1", size); return 0; }
int nvmlDeviceGetCount_v2(u *count) { *count = %(count)s; return 0; }
int nvmlDeviceGetHandleByIndex_v2(u index, H *handle) { *handle = (H)(long)(index + 1); return %(handle)s; }
int nvmlDeviceGetUUID(H h, char *to, u size) { snprintf(to, size, "GPU-%(uuid)s%%ld", (long)h - 1); return 0; }
int nvmlDeviceGetName(H h, char *to, u size) { strncpy(to, "Test\n Board", size); return 0; }
%(more)s
"""


def nvml(
    folder: Path, *, init: str = "", count: int = 1, handle: str = "0", uuid: str = "0" * 31, more: str = ""
) -> Path:
    text = NVML % {"init": init, "count": count, "handle": handle, "uuid": uuid, "more": more}
    return build(folder, "libnvidia-ml.so.1", text)


def build(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    source = folder / "driver.c"
    source.write_text(text, encoding="ascii")
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", folder / name, source], check=True)
    return folder


#: For ``more`` of :func:`nvml`: the board 0 tells of its use; ``memory`` is run before it says how much is taken.
USE = r"""
typedef struct { unsigned long long total, free, used; } M;
typedef struct { u gpu, memory; } R;
int nvmlDeviceGetHandleByUUID(const char *uuid, H *handle) {
  *handle = (H)1;
  return strcmp(uuid, "GPU-%(uuid)s") ? 6 : 0;
}
int nvmlDeviceGetMemoryInfo(H h, M *m) {
  static int asked; ++asked; %(memory)s
  m->total = 80ull << 30; m->used = (unsigned long long)(asked < 9 ? asked : 9) << 30; m->free = m->total - m->used;
  return 0;
}
int nvmlDeviceGetUtilizationRates(H h, R *r) { r->gpu = 45; return %(busy)s; }
"""
BOARD = "GPU-" + "0" * 32


def use(*, memory: str = "", busy: str = "0") -> str:
    return USE % {"uuid": BOARD.removeprefix("GPU-"), "memory": memory, "busy": busy}
