"""A CUDA driver without a GPU, compiled: what the check loads is a real shared library, and it computes."""

from __future__ import annotations

from pathlib import Path

import fake_drivers

#: Two boards, whose uuids end in 0 and 1 as those of ``fake_drivers.nvml`` do; CUDA_VISIBLE_DEVICES names one, or none.
CUDA = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int first, count;
static uint32_t constant = %(constant)s;
int cuInit(unsigned flags) {
  const char *seen = getenv("CUDA_VISIBLE_DEVICES");
  first = seen ? seen[strlen(seen) - 1] - '0' : 0;
  count = !seen ? 2 : !strncmp(seen, "GPU-", 4);
  return count ? 0 : 100;
}
int cuGetErrorName(int code, const char **name) {
  *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : code == 218 ? "CUDA_ERROR_INVALID_PTX" : 0;
  return *name ? 0 : 1;
}
int cuDeviceGetCount(int *to) { *to = count; return 0; }
int cuDeviceGet(int *device, int index) { *device = first + index; return 0; }
int cuDeviceGetUuid_v2(unsigned char *to, int device) { memset(to, 0, 16); to[15] = device; return 0; }
int cuDeviceGetName(char *to, int size, int device) { snprintf(to, size, "Test Board %%d", device); return 0; }
int cuDevicePrimaryCtxRetain(void **to, int device) { return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuModuleLoadDataEx(void **to, const char *text, unsigned n, int *options, void **values) {
  if (strstr(text, "mul.lo.u32 %%h, %%h, 0x9E3779B1;") && options[0] == 5 && options[1] == 6) return 0;
  snprintf(values[0], (size_t)values[1], "ptxas application ptx input, line 7;\n  fatal : huh");
  return 218;
}
int cuModuleGetFunction(void **to, void *module, const char *name) { return strcmp(name, "check") ? 500 : 0; }
int cuMemAlloc_v2(uint64_t *to, size_t size) { *to = (uint64_t)malloc(size); return 0; }
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { memcpy((void *)to, from, size); return 0; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { memcpy(to, (void *)from, size); return 0; }
int cuLaunchKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **arguments, void **extra) {
  uint32_t *values = *(uint32_t **)arguments[0], n = *(uint32_t *)arguments[1];
  for (uint32_t i = 0; i < x * bx && i < n; ++i) {
    uint32_t h = values[i];
    for (int round = 0; round < 4; ++round) { h = (h ^ i) * constant; h ^= h >> 15; }
    values[i] = h ^ (uint32_t)((float)(h & 2047) * (float)(i & 2047) + 1.0f);
  }
  return 0;
}
int cuCtxSynchronize(void) { %(synchronize)s }
"""


def cuda(folder: Path, *, constant: str = "0x9E3779B1u", synchronize: str = "return 0;", boards: int = 2) -> Path:
    """A folder for LD_LIBRARY_PATH, with an NVML that has the same boards."""
    fake_drivers.nvml(folder, count=boards)
    return fake_drivers.build(folder, "libcuda.so.1", CUDA % {"constant": constant, "synchronize": synchronize})
