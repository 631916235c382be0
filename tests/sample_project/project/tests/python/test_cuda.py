"""What a CUDA device computes, compared with the CPU."""

import pytest

mlc_sample = pytest.importorskip("mlc_sample")

pytestmark = pytest.mark.op_correctness


@pytest.fixture(autouse=True)
def library():
    if not mlc_sample.base.LIBRARIES:
        pytest.skip("needs the built wheel: this is the source tree")


@pytest.fixture
def device():
    if not mlc_sample.cuda_enabled():
        pytest.skip("needs a build with USE_CUDA ON")
    try:
        return mlc_sample.cuda_devices()[0]
    except mlc_sample.CudaUnavailable as reason:
        pytest.skip(f"needs a CUDA device: {reason}")


@pytest.mark.parametrize("count", [1, 255, 256, 257, 10007, 3_000_001])
def test_the_device_agrees_with_the_cpu(device, count):
    mlc_sample.cuda_self_test(count, device=device.index)


def test_empty_vectors_give_an_empty_vector(device):
    assert mlc_sample.cuda_add([], []) == []


def test_vectors_of_different_lengths_are_refused(device):
    with pytest.raises(ValueError, match="2 and 1 elements"):
        mlc_sample.cuda_add([1, 2], [3])


def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match="no CUDA device 99"):
        mlc_sample.cuda_add([1], [1], device=99)


def test_a_build_without_cuda_says_so():
    if mlc_sample.cuda_enabled():
        pytest.skip("this one has CUDA")
    with pytest.raises(mlc_sample.CudaUnavailable, match="built without CUDA"):
        mlc_sample.cuda_add([1], [1])
