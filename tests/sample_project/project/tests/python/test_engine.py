"""What needs a compiled model; skipped without one, as upstream's are."""

import json

import pytest


@pytest.mark.unittest
def test_the_models_configuration_names_its_template(model):
    assert json.loads((model / "config.json").read_text())["conversation"]


@pytest.mark.unittest
def test_the_models_vocabulary_covers_all_bytes(model):
    assert json.loads((model / "config.json").read_text())["vocabulary_size"] >= 256


@pytest.mark.engine
def test_the_engine_finds_the_models_library(model):
    assert list(model.glob("*.so"))


@pytest.mark.endpoint
def test_the_endpoint_serves_the_model(model):
    assert (model / "endpoint.json").is_file()
