"""Tokens, checksums and sampling, computed by the compiled library."""

from array import array

from . import base


def checksum(data):
    """The CRC-32 of bytes, the same as zlib's."""
    return int(base.function("checksum")(bytes(data)))


def encode(text):
    """The token ids of a text; ids below 256 are the bytes of its UTF-8."""
    return [int(token) for token in base.function("encode")(text.encode("utf-8"))]


def decode(ids):
    """The text of token ids; what is no UTF-8 is replaced."""
    return bytes(base.function("decode")(list(ids))).decode("utf-8", errors="replace")


def sample_top_p(logits, *, temperature=1.0, top_p=1.0, uniform):
    """The token that `uniform` in [0, 1) selects among the most likely ones that together reach `top_p`."""
    values = array("f", logits).tobytes()
    return int(base.function("sample_top_p")(values, float(temperature), float(top_p), float(uniform)))
