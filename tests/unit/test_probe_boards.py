"""One record for each board, and how it is shown."""

from __future__ import annotations

from dataclasses import replace

from workers.probe.boards import joined
from workers.probe.facts import CudaDevice, Gpu, Heap, Host, Probe, Process, VulkanDevice
from workers.probe.table import lines


def vulkan(uuid: str | None, index: int = 0) -> Gpu:
    device = VulkanDevice(index=index, kind="discrete", api="1.3.0", driver="d", vendor_id=1, device_id=1, uuid=uuid)
    return Gpu(id=f"VK-{uuid or index}", name="v", vendor="nvidia", vulkan=device)


def cuda(uuid: str) -> Gpu:
    return Gpu(id=f"GPU-{uuid}", name="c", vendor="nvidia", cuda=CudaDevice(index=0, pci=""))


BOARD, OTHER = "6f5807f4-7436-b82c-2cd6-a79121ed7e18", "00000000-0000-0000-0000-000000000001"


def test_one_board_is_one_record() -> None:
    """The uuid of a board that was seen by both, beside one that CUDA alone and two that Vulkan alone sees."""
    alone = [vulkan("ab" * 16, 2), vulkan(None, 3)]
    found = joined([cuda(BOARD), cuda(OTHER)], [vulkan(BOARD.replace("-", "")), *alone])
    assert [gpu.id for gpu in found] == [f"GPU-{BOARD}", f"GPU-{OTHER}", "VK-" + "ab" * 16, "VK-3"]
    assert [(bool(gpu.cuda), bool(gpu.vulkan)) for gpu in found] == [
        (True, True), (True, False), (False, True), (False, True),
    ]  # fmt: skip


def test_a_board_that_two_drivers_list_is_one() -> None:
    found = joined([], [vulkan("ab" * 16, 0), vulkan("ab" * 16, 1), vulkan(None, 2), vulkan(None, 3)])
    assert [gpu.vulkan.index for gpu in found if gpu.vulkan] == [0, 2, 3]


def test_a_board_is_told_with_both_its_apis() -> None:
    """The facts are a real board's, an H100's, as its probe found them beside a process of 20 GiB."""
    board = CudaDevice(
        index=0, pci="00000000:00:06.0", memory_total=85520809984, memory_free=62984814592, compute="9.0",
        driver="580.159.04", cuda="13.0", mig=False, ecc_uncorrected=0, remapped_rows=0, remap_pending=False,
        remap_failed=False, recovery="none", processes=(Process(pid=562, memory=22018000896),),
    )  # fmt: skip
    heap = Heap(size=85520809984, device_local=True, budget=84999667712)
    device = VulkanDevice(
        index=0, kind="discrete", api="1.4.312", driver="NVIDIA 580.159.04", vendor_id=0x10DE, device_id=0x2330,
        uuid=BOARD.replace("-", ""), heaps=(heap,),
    )  # fmt: skip
    gpu = Gpu(id=f"GPU-{BOARD}", name="NVIDIA H100 80GB HBM3", vendor="nvidia", cuda=board, vulkan=device)
    assert said_of(gpu) == [
        f"GPU-{BOARD}  NVIDIA H100 80GB HBM3 (nvidia)",
        "    cuda 13.0, compute 9.0, driver 580.159.04, index 0, bus 00000000:00:06.0",
        "    memory 58.66 GiB of 79.65 GiB free",
        "    health: 0 uncorrected ECC errors, 0 remapped rows, nothing to be done",
        "    process 562: 20.51 GiB",
        "    vulkan 1.4.312, discrete, driver NVIDIA 580.159.04, index 0",
        "    heap of 79.65 GiB on the device, 79.16 GiB usable now",
    ]
    ill = replace(board, mig=True, mig_slices=2, remap_failed=True, remap_pending=True, recovery="reset", processes=())
    said = said_of(replace(gpu, cuda=ill, vulkan=None))
    assert said[3:] == [
        "    MIG is on: 2 slices, which are not scheduled",
        "    health: 0 uncorrected ECC errors, 0 remapped rows, rows wait to be remapped, rows could not be remapped, "
        "to be done: reset",
    ]
    silent = said_of(replace(gpu, cuda=CudaDevice(index=0, pci="1"), vulkan=None))
    assert silent[1:] == ["    cuda, index 0, bus 1", "    memory unknown", "    health: not told"]


def said_of(gpu: Gpu) -> list[str]:
    host = Host(system="linux", release="r", kernel="k", machine="m", cores=1)
    table = list(lines(Probe(at=0, took=0, host=host, gpus=(gpu,))))
    return [line[10:] for line in table[table.index("tools     –") + 1 : table.index("absent    –")]]
