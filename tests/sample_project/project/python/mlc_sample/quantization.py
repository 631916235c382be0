"""Group quantization of weights to 4 bits, with NumPy."""

import numpy as np

#: The largest magnitude a value can have: the nibbles 0 to 14 stand for -7 to 7.
LIMIT = 7


def quantize_q4(weight, group=32):
    """Returns (packed, scale) of a matrix: eight values a uint32 along the row, one float32 scale a group.

    Raises ValueError when the row is no whole number of groups, or a group no whole number of words.
    """
    rows, width = weight.shape
    if group % 8 or width % group:
        raise ValueError(f"a row of {width} cannot be split into groups of {group} of whole 32-bit words")
    groups = weight.astype("float32").reshape(rows, width // group, group)
    peak = np.abs(groups).max(axis=2)
    scale = np.where(peak > 0, peak / LIMIT, 1.0).astype("float32")
    levels = np.clip(np.rint(groups / scale[:, :, None]), -LIMIT, LIMIT).astype("int64") + LIMIT
    nibbles = levels.reshape(rows, width // 8, 8).astype("uint32")
    shifts = np.arange(8, dtype="uint32") * 4
    return np.bitwise_or.reduce(nibbles << shifts, axis=2).astype("uint32"), scale


def dequantize_q4(packed, scale, group=32):
    """The float32 matrix that `quantize_q4` stored; each value is within half a scale of the original."""
    shifts = np.arange(8, dtype="uint32") * 4
    levels = (packed[:, :, None] >> shifts) & 0xF
    values = levels.reshape(packed.shape[0], -1).astype("float32") - LIMIT
    return values * np.repeat(scale, group, axis=1)
