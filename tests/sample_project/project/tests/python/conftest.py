"""Which mlc_sample the tests see: the installed wheel if there is one, else the source tree without its libraries."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("mlc_sample") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
    os.environ.setdefault("SKIP_LOADING_MLC_SAMPLE_SO", "1")


@pytest.fixture
def model():
    """A compiled model's folder, named by the environment; the CI has none, as upstream's has none."""
    path = os.environ.get("MLC_SAMPLE_MODEL")
    if not path:
        pytest.skip("needs a model: set MLC_SAMPLE_MODEL to the folder of a compiled one")
    return Path(path)
