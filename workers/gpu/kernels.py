"""The computation of the check: the same on the CPU and, as PTX and as SPIR-V, on a GPU.

Of each element ``h`` at place ``i``, four times over: ``h = (h ^ i) * 0x9E3779B1``, ``h ^= h >> 15``; then
``h ^ uint(float(h & 2047) * float(i & 2047) + 1)``. Integers and floats are exact on every device, however it rounds or
fuses, so that a single wrong bit is wrong. An element that was never written differs too.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

#: Elements of one run: alone, less than a group, just above many groups, 1 MiB.
SIZES = (1, 63, 65_537, 262_144)
GROUP = 64  #: of the kernels' invocations
BYTES = 4  #: of an element
_ROUNDS, _GOLDEN, _LOW, _ALL = 4, 0x9E3779B1, 0x7FF, 0xFFFFFFFF


def given(size: int) -> array[int]:
    """What the kernel starts from."""
    return array("I", ((i * 0x01000193 + 0x811C9DC5) & _ALL for i in range(size)))


def expected(start: Sequence[int]) -> array[int]:
    """What it makes of that, by the CPU."""
    return array("I", (_mixed(h, i) for i, h in enumerate(start)))


def _mixed(h: int, i: int) -> int:
    for _ in range(_ROUNDS):
        h = (h ^ i) * _GOLDEN & _ALL
        h ^= h >> 15
    return h ^ (h & _LOW) * (i & _LOW) + 1


def difference(found: Sequence[int], wanted: Sequence[int]) -> str:
    """The first element that is wrong, and how many are; empty when none is."""
    if found == wanted:
        return ""
    wrong = [i for i, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other]
    first = wrong[0]
    return (
        f"wrong result at element {first}: {found[first]:#010x}, where the CPU has {wanted[first]:#010x}; "
        f"{len(wrong)} of {len(wanted)} are wrong"
    )


#: For CUDA: text that the driver compiles for whatever board it drives.
PTX = b"""
.version 6.0
.target sm_50
.address_size 64

.visible .entry check(.param .u64 param_values, .param .u32 param_count)
{
    .reg .pred %outside, %more;
    .reg .b32 %i, %h, %round, %low, %count, %group, %size, %lane;
    .reg .f32 %a, %b;
    .reg .b64 %at, %offset;

    ld.param.u64 %at, [param_values];
    ld.param.u32 %count, [param_count];
    mov.u32 %group, %ctaid.x;
    mov.u32 %size, %ntid.x;
    mov.u32 %lane, %tid.x;
    mad.lo.u32 %i, %group, %size, %lane;
    setp.ge.u32 %outside, %i, %count;
    @%outside bra LEAVE;
    cvta.to.global.u64 %at, %at;
    mul.wide.u32 %offset, %i, 4;
    add.u64 %at, %at, %offset;
    ld.global.u32 %h, [%at];
    mov.u32 %round, 0;
AGAIN:
    xor.b32 %h, %h, %i;
    mul.lo.u32 %h, %h, 0x9E3779B1;
    shr.u32 %low, %h, 15;
    xor.b32 %h, %h, %low;
    add.u32 %round, %round, 1;
    setp.lt.u32 %more, %round, 4;
    @%more bra AGAIN;
    and.b32 %low, %h, 2047;
    cvt.rn.f32.u32 %a, %low;
    and.b32 %low, %i, 2047;
    cvt.rn.f32.u32 %b, %low;
    mul.rn.f32 %a, %a, %b;
    add.rn.f32 %a, %a, 0f3F800000;
    cvt.rzi.u32.f32 %low, %a;
    xor.b32 %h, %h, %low;
    st.global.u32 [%at], %h;
LEAVE:
    ret;
}
"""
ENTRY = b"check"  #: of the PTX; SPIR-V's is ``main``

#: For Vulkan: ``check.spvasm``, assembled; the generator's word is 0.
SPIRV = bytes.fromhex(
    """
    030223070000010000000000380000000000000011000200010000000e00030000000000010000000f00060005000000010000006d61696e
    000000000200000010000600010000001100000040000000010000000100000047000400020000000b0000001c0000004800050003000000
    0000000023000000000000004700030003000000020000004700040004000000060000000400000048000500050000000000000023000000
    0000000047000300050000000300000047000400060000002200000000000000470004000600000021000000000000001300020007000000
    2100030008000000070000001400020009000000150004000a0000002000000000000000160003000b00000020000000170004000c000000
    0a000000030000001d000300040000000a0000001e00030005000000040000001e000300030000000a000000200004000d00000001000000
    0c000000200004000e000000010000000a000000200004000f00000002000000050000002000040010000000020000000a00000020000400
    1100000009000000030000002000040012000000090000000a0000003b0004000d00000002000000010000003b0004000f00000006000000
    020000003b0004001100000013000000090000002b0004000a00000014000000000000002b0004000a00000015000000010000002b000400
    0a00000016000000040000002b0004000a000000170000000f0000002b0004000a00000018000000ff0700002b0004000a00000019000000
    b179379e2b0004000b0000001a0000000000803f3600050007000000010000000000000008000000f80002001b000000410005000e000000
    1c00000002000000140000003d0004000a0000001d0000001c00000041000500120000001e00000013000000140000003d0004000a000000
    1f0000001e000000b000050009000000200000001d0000001f000000f70003002100000000000000fa000400200000002200000021000000
    f80002002200000041000600100000002300000006000000140000001d0000003d0004000a0000002400000023000000f900020025000000
    f800020025000000f50007000a0000002600000024000000220000002700000028000000f50007000a000000290000001400000022000000
    2a00000028000000b0000500090000002b0000002900000016000000f60004002c0000002800000000000000fa0004002b00000028000000
    2c000000f800020028000000c60005000a0000002d000000260000001d000000840005000a0000002e0000002d00000019000000c2000500
    0a0000002f0000002e00000017000000c60005000a000000270000002e0000002f000000800005000a0000002a0000002900000015000000
    f900020025000000f80002002c000000c70005000a000000300000002600000018000000c70005000a000000310000001d00000018000000
    700004000b0000003200000030000000700004000b0000003300000031000000850005000b00000034000000320000003300000081000500
    0b00000035000000340000001a0000006d0004000a0000003600000035000000c60005000a0000003700000026000000360000003e000300
    2300000037000000f900020021000000f800020021000000fd00010038000100
    """
)
