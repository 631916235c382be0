"""What a Vulkan device computes, compared with the CPU; and the compiled library's other functions."""

import zlib

import pytest

mlc_sample = pytest.importorskip("mlc_sample")

pytestmark = pytest.mark.op_correctness


@pytest.fixture(autouse=True)
def library():
    if not mlc_sample.base.LIBRARIES:
        pytest.skip("needs the built wheel: this is the source tree")


@pytest.fixture
def device():
    if not mlc_sample.vulkan_enabled():
        pytest.skip("needs a build with USE_VULKAN ON")
    devices = mlc_sample.vulkan_devices()
    if not devices:
        pytest.skip("needs a Vulkan device")
    return devices[0]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 10007])
def test_the_device_agrees_with_the_cpu(device, count):
    mlc_sample.vulkan_self_test(count, device=device.index)


def test_empty_vectors_give_an_empty_vector(device):
    assert mlc_sample.vulkan_add([], []) == []


def test_vectors_of_different_lengths_are_refused(device):
    with pytest.raises(ValueError, match="2 and 1 elements"):
        mlc_sample.vulkan_add([1, 2], [3])


def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match="no Vulkan device 99"):
        mlc_sample.vulkan_add([1], [1], device=99)


def test_the_checksum_is_zlibs():
    assert mlc_sample.checksum(b"mlc") == zlib.crc32(b"mlc")


@pytest.mark.parametrize("text", ["", "the model", "naïve 漢字 🙂", "\n\n\n"])
def test_text_survives_the_round_trip(text):
    assert mlc_sample.decode(mlc_sample.encode(text)) == text


def test_the_most_likely_token_is_chosen_when_top_p_is_small():
    assert mlc_sample.sample_top_p([0.0, 3.0, 1.0], top_p=0.01, uniform=0.999) == 1


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        mlc_sample.sample_top_p([0.0], temperature=0, uniform=0.5)
