"""The SAEs that ship with the package: complete, small enough, described, and with features about the concept."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors import safe_open

from steering.models.embedded import LAYER_COUNT, TITLE
from steering.sae.config_file import CONFIG_FILE, WEIGHTS_FILE
from steering.sae.library import open_library

LAYERS = (8, 12, 16, 20, 24)
D_MODEL, D_SAE, K = 576, 4608, 48


@pytest.fixture(scope="module")
def library():
    return open_library("embedded")


def test_embedded_saes_are_of_five_blocks_of_the_embedded_model(library):
    assert library.layers == LAYERS
    assert max(library.layers) < LAYER_COUNT


def test_embedded_saes_take_at_most_60_megabytes(library):
    root = library.directories[8].parent
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) <= 60_000_000


@pytest.mark.parametrize("layer", LAYERS)
def test_embedded_weights_are_bfloat16_of_the_right_shapes(library, layer):
    with safe_open(library.directories[layer] / WEIGHTS_FILE, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == {"W_enc": (D_MODEL, D_SAE), "W_dec": (D_SAE, D_MODEL), "b_enc": (D_SAE,), "b_dec": (D_MODEL,)}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    norms = tensors["W_dec"].float().norm(dim=1)
    assert float((norms - 1).abs().max()) < 0.01


@pytest.mark.parametrize("layer", LAYERS)
def test_embedded_configurations_record_what_they_were_trained_on(library, layer):
    config = json.loads((library.directories[layer] / CONFIG_FILE).read_text(encoding="utf-8"))
    metadata = config["metadata"]
    assert (config["architecture"], config["k"], metadata["model_name"]) == ("topk", K, TITLE)
    assert metadata["hook_name"] == f"blocks.{layer}.hook_resid_post"
    training = metadata["steering_bench"]
    assert re.fullmatch("[0-9a-f]{64}", training["model_hash"])
    assert len(training["corpus"]) == 49
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in training["corpus"].values())
    assert training["recipe"]["seed"] == 0
    assert training["activations"] > 2_900_000


def test_model_card_reports_each_layer(library):
    card = (library.directories[8].parent / "README.md").read_text(encoding="utf-8")
    lines = [line for line in card.splitlines() if re.match(r"\| +(8|12|16|20|24) \|", line)]
    assert len(lines) == len(LAYERS)


@pytest.fixture(scope="module", params=LAYERS)
def described(request, library):
    sae = library.load(request.param, torch.device("cpu"))
    return sae, library.describe(sae)


def test_every_embedded_feature_is_described(described):
    sae, descriptions = described
    assert sorted(descriptions.texts) == list(range(sae.d_sae))
    assert sum(text == "never fires" for text in descriptions.texts.values()) <= 0.1 * sae.d_sae


# Features that the descriptions show to be about one of the two genders.
FEMININE = {8: [3429], 12: [3429], 16: [1486, 4486], 20: [273, 3413, 4486], 24: [2506]}
MASCULINE = {8: [163, 849], 12: [849, 1999], 16: [1334, 3032], 20: [1274], 24: [2407, 2554]}
FEMININE_WORDS = ("she", "her", "herself", "woman", "women")
MASCULINE_WORDS = ("he", "him", "his", "himself", "man")


def test_embedded_saes_have_feminine_and_masculine_features_found_by_keyword(described):
    sae, descriptions = described
    assert set(FEMININE[sae.layer]) <= set(descriptions.search(FEMININE_WORDS))
    assert set(MASCULINE[sae.layer]) <= set(descriptions.search(MASCULINE_WORDS))
    for feature in FEMININE[sae.layer]:
        assert set(re.findall(r"[a-z]+", descriptions[feature].lower())).isdisjoint(MASCULINE_WORDS)
    for feature in MASCULINE[sae.layer]:
        assert set(re.findall(r"[a-z]+", descriptions[feature].lower())).isdisjoint(FEMININE_WORDS)


def test_gendered_features_point_apart_in_the_residual_stream(described):
    """Their decoder rows are what steers: those of the two genders are less alike than those of one."""
    sae, _ = described
    feminine, masculine = (sae.decoder[ids[sae.layer]].mean(dim=0) for ids in (FEMININE, MASCULINE))
    assert float(torch.cosine_similarity(feminine, masculine, dim=0)) < 0.5
