"""Group quantization to 4 bits."""

import numpy as np
import pytest
from mlc_sample.quantization import LIMIT, dequantize_q4, quantize_q4

pytestmark = pytest.mark.unittest


def test_the_error_is_at_most_half_a_step():
    weight = np.random.default_rng(3).standard_normal((8, 128)).astype("float32")
    packed, scale = quantize_q4(weight)
    error = np.abs(dequantize_q4(packed, scale) - weight)
    assert (error <= np.repeat(scale, 32, axis=1) / 2 + 1e-6).all()


def test_eight_values_share_a_word():
    packed, scale = quantize_q4(np.ones((2, 64), "float32"))
    assert packed.shape == (2, 8) and packed.dtype == np.uint32
    assert scale.shape == (2, 2)


def test_the_first_value_is_in_the_lowest_bits():
    weight = np.zeros((1, 32), "float32")
    weight[0, 0] = 1.0
    packed, _ = quantize_q4(weight)
    assert packed[0, 0] & 0xF == 2 * LIMIT
    assert packed[0, 0] >> 4 == 0x7777777


def test_zeros_stay_zeros():
    packed, scale = quantize_q4(np.zeros((1, 32), "float32"))
    np.testing.assert_array_equal(dequantize_q4(packed, scale), np.zeros((1, 32)))


@pytest.mark.parametrize(("width", "group"), [(48, 32), (20, 20)])
def test_a_row_that_cannot_be_split_is_refused(width, group):
    with pytest.raises(ValueError, match="cannot be split"):
        quantize_q4(np.zeros((1, width), "float32"), group)
