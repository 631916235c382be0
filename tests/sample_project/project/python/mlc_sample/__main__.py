"""`python -m mlc_sample`: what is installed, which devices there are, and whether they compute correctly."""

import sys
import zlib

import tvm_ffi

import mlc_sample


def main():
    """Prints the facts; exit status 1 when something is wrong. No device is not wrong."""
    print(f"mlc-sample {mlc_sample.__version__}, library {mlc_sample.library_version()}, tvm-ffi {tvm_ffi.__version__}")
    if mlc_sample.__version__ != mlc_sample.library_version():
        print("error: the package and its library have different versions")
        return 1
    text = "the model is compiled to tokens, naïvely"
    ids = mlc_sample.encode(text)
    if mlc_sample.decode(ids) != text or mlc_sample.checksum(text.encode()) != zlib.crc32(text.encode()):
        print("error: the tokenizer or the checksum is wrong")
        return 1
    crc = mlc_sample.checksum(text.encode())
    print(f"tokenizer: {len(text.encode())} bytes, {len(ids)} tokens; checksum {crc:08x}")
    try:
        for device in mlc_sample.vulkan_devices():
            mlc_sample.vulkan_self_test(device=device.index)
            kind = f"{device.kind}, Vulkan {device.api_version}"
            print(f"vulkan {device.index}: {device.name} ({kind}): self test passed")
        if not mlc_sample.vulkan_devices():
            print("vulkan: no device")
    except mlc_sample.VulkanUnavailable as reason:
        print(f"vulkan: {reason}")
    try:
        for device in mlc_sample.cuda_devices():
            mlc_sample.cuda_self_test(device=device.index)
            print(f"cuda {device.index}: {device.name} ({device.uuid}, compute {device.compute}): self test passed")
    except mlc_sample.CudaUnavailable as reason:
        print(f"cuda: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
