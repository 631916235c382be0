"""The kernels, compiled by the prebuilt TVM and compared with NumPy."""

import numpy as np
import pytest
import tvm
from mlc_sample import compiler, quantization

pytestmark = pytest.mark.unittest

RNG_SEED = 7


def run(function, *inputs, shape, dtype="float32"):
    """Compiles one kernel, runs it on the CPU and returns its result."""
    built = compiler.build({"kernel": function})
    result = tvm.runtime.tensor(np.zeros(shape, dtype))
    built["kernel"](*(tvm.runtime.tensor(value) for value in inputs), result)
    return result.numpy()


@pytest.fixture
def rng():
    return np.random.default_rng(RNG_SEED)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_vector_add_is_exact(rng, dtype):
    a = (rng.standard_normal(33) * 100).astype(dtype)
    b = (rng.standard_normal(33) * 100).astype(dtype)
    np.testing.assert_array_equal(run(compiler.vector_add(33, dtype), a, b, shape=(33,), dtype=dtype), a + b)


def test_matmul_agrees_with_numpy(rng):
    a = rng.standard_normal((5, 17)).astype("float32")
    b = rng.standard_normal((17, 3)).astype("float32")
    np.testing.assert_allclose(run(compiler.matmul(5, 3, 17), a, b, shape=(5, 3)), a @ b, rtol=1e-5, atol=1e-5)


def test_rms_norm_agrees_with_numpy(rng):
    x = rng.standard_normal((4, 64)).astype("float32")
    weight = rng.standard_normal(64).astype("float32")
    expected = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(run(compiler.rms_norm(4, 64), x, weight, shape=(4, 64)), expected, rtol=1e-4)


def test_rms_norm_of_zeros_is_finite():
    x = np.zeros((1, 8), "float32")
    result = run(compiler.rms_norm(1, 8), x, np.ones(8, "float32"), shape=(1, 8))
    np.testing.assert_array_equal(result, x)


def test_softmax_rows_sum_to_one(rng):
    x = rng.standard_normal((3, 50)).astype("float32")
    result = run(compiler.softmax(3, 50), x, shape=(3, 50))
    np.testing.assert_allclose(result.sum(axis=1), np.ones(3), rtol=1e-5)
    np.testing.assert_array_equal(result.argmax(axis=1), x.argmax(axis=1))


def test_softmax_of_large_logits_does_not_overflow():
    x = np.array([[10000.0, 10000.0, -10000.0]], "float32")
    np.testing.assert_allclose(run(compiler.softmax(1, 3), x, shape=(1, 3)), [[0.5, 0.5, 0.0]], atol=1e-6)


def test_the_kernel_that_dequantizes_agrees_with_numpy(rng):
    packed, scale = quantization.quantize_q4(rng.standard_normal((6, 64)).astype("float32"))
    result = run(compiler.dequantize_q4(6, 64), packed, scale, shape=(6, 64))
    np.testing.assert_array_equal(result, quantization.dequantize_q4(packed, scale))


def test_one_module_holds_many_kernels(rng):
    built = compiler.build({"add": compiler.vector_add(4), "norm": compiler.rms_norm(1, 4)})
    a = tvm.runtime.tensor(np.arange(4, dtype="float32"))
    out = tvm.runtime.tensor(np.zeros(4, "float32"))
    built["add"](a, a, out)
    np.testing.assert_array_equal(out.numpy(), [0, 2, 4, 6])
    with pytest.raises(AttributeError):
        built["no_such_kernel"]


def test_a_kernel_refuses_a_tensor_of_another_type(rng):
    built = compiler.build({"add": compiler.vector_add(4)})
    wrong = tvm.runtime.tensor(np.zeros(4, "float64"))
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        built["add"](wrong, wrong, wrong)
