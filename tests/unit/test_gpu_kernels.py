"""The kernels of the GPU check are what their texts say, and the comparison finds one wrong bit."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from workers.gpu import kernels
from workers.gpu.kernels import PTX, SIZES, SPIRV, difference, expected, given

ASSEMBLY = Path(kernels.__file__).with_name("check.spvasm")
GENERATOR = slice(8, 12)  # the word that names the assembler


def assembled(folder: Path, text: str) -> bytes:
    (folder / "check.spvasm").write_text(text, encoding="ascii")
    command = ["spirv-as", "--target-env", "vulkan1.0", "-o", folder / "check.spv", folder / "check.spvasm"]
    subprocess.run(command, check=True)
    return (folder / "check.spv").read_bytes()


def without_generator(words: bytes) -> bytes:
    return words[: GENERATOR.start] + words[GENERATOR.stop :]


def test_the_words_are_the_assembly_beside_them(tmp_path: Path) -> None:
    text = ASSEMBLY.read_text(encoding="ascii")
    assert without_generator(assembled(tmp_path, text)) == without_generator(SPIRV)
    other = text.replace("OpConstant %uint 15", "OpConstant %uint 16")  # the negative control
    assert without_generator(assembled(tmp_path, other)) != without_generator(SPIRV)


def test_the_words_are_valid_vulkan(tmp_path: Path) -> None:
    (tmp_path / "check.spv").write_bytes(SPIRV)
    validate = ["spirv-val", "--target-env", "vulkan1.0", tmp_path / "check.spv"]
    subprocess.run(validate, check=True)
    (tmp_path / "check.spv").write_bytes(SPIRV[:-4])  # the negative control
    assert subprocess.run(validate, check=False, capture_output=True).returncode != 0


def test_both_kernels_have_the_constants_of_the_text() -> None:
    numbers = [str(number) for number in (kernels._GOLDEN, kernels._LOW, kernels._ROUNDS, 15)]
    words = re.findall(r"OpConstant %uint (\d+)", ASSEMBLY.read_text(encoding="ascii"))
    assert set(numbers) <= set(words)
    ptx = PTX.decode("ascii").replace(f"{kernels._GOLDEN:#010X}".replace("X", "x"), str(kernels._GOLDEN))
    assert all(re.search(rf"\b{number};", ptx) for number in numbers)


def test_no_result_is_what_the_kernel_started_from() -> None:
    """Else a kernel that never ran would pass there. What it starts from is no zero either."""
    for size in SIZES:
        start = given(size)
        assert all(map(int.__ne__, start, expected(start)))
        assert 0 not in start


def test_floats_of_the_kernel_are_exact() -> None:
    """However a device rounds or fuses: the largest product and one more have fewer than a float's 24 bits."""
    assert kernels._LOW**2 + 1 < 1 << 24


def test_one_wrong_bit_is_found() -> None:
    wanted = expected(given(100))
    found = wanted[:]
    assert difference(found, wanted) == ""
    found[17] ^= 1 << 31
    said = f"wrong result at element 17: {found[17]:#010x}, where the CPU has {wanted[17]:#010x}; 1 of 100 are wrong"
    assert difference(found, wanted) == said
