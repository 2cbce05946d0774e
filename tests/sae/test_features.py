"""What features mean: descriptions, keyword search, the logit lens, and the similarity to a vector."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import DataError, ModelError, SaeError, VectorError
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.features import Descriptions, compose, load_descriptions, logit_lens, write_descriptions
from steering.sae.similarity import similarity
from steering.vectors import SteeringVector
from tests.small_models import CONFIGS, small_model
from tests.small_saes import D_MODEL, D_SAE, numpy_weights, small_sae

WORDS = Descriptions(
    "words.jsonl",
    {
        9: "fires on kings; promotes crown",
        2: "The KING of a land",
        5: "asking for a woman",
        7: "a queen's throne",
        4: "everyday moments",
    },
)


@pytest.fixture(scope="module")
def sae(tmp_path_factory) -> SparseAutoencoder:
    return small_sae(tmp_path_factory.mktemp("sae"))


def described_by(path: Path, *lines: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def at(directory: Path, hook_name: str) -> SparseAutoencoder:
    return small_sae(directory, hook_name=hook_name)


def test_own_descriptions_are_read_and_several_of_one_feature_are_joined(sae, tmp_path):
    path = described_by(
        tmp_path / "d.jsonl",
        {"feature": 3, "description": "kings", "fires_on": ["king"]},
        {"feature": 63, "description": "queens"},
        {"feature": 3, "description": "crowns"},
    )
    found = load_descriptions(path, sae)
    assert dict(found.texts) == {3: "kings; crowns", 63: "queens"}
    assert found.source == str(path)
    assert [found[feature] for feature in (3, 63, 4)] == ["kings; crowns", "queens", ""]


def test_what_is_written_is_read_back(sae, tmp_path):
    records = [{"feature": index, "description": text} for index, text in enumerate(["König", "日本 👑", 'a "b"\nc'])]
    write_descriptions(tmp_path / "d.jsonl", records)
    found = load_descriptions(tmp_path / "d.jsonl", sae)
    assert list(found.texts.values()) == ["König", "日本 👑", 'a "b"\nc']
    assert [path.name for path in tmp_path.iterdir()] == ["d.jsonl"]


@pytest.mark.parametrize(
    ("model", "hook_name", "layer_name"),
    [
        ("gpt2-small", "blocks.8.hook_resid_pre", "8-res-jb"),  # the output of block 7
        ("gpt2-small", "blocks.11.hook_resid_post", "12-res-jb"),
        ("gpt2-small", "blocks.8.hook_resid_pre", "8-res_fs768-jb"),
        ("gemma-2b", "blocks.6.hook_resid_post", "6-res-jb"),
        ("gemma-2-2b", "blocks.20.hook_resid_post", "20-gemmascope-res-16k"),
        ("llama3.1-8b", "model.layers.3", "3-llamascope-res-32k"),
    ],
)
def test_neuronpedias_layer_names_are_those_of_the_hook(tmp_path, model, hook_name, layer_name):
    sae = at(tmp_path / "sae", hook_name)
    number, _, series = layer_name.partition("-")
    lines = [
        {"layer": layer_name, "index": "5", "description": "own"},
        {"layer": f"{int(number) - 1}-{series}", "index": "6", "description": "of the layer before"},
        {"layer": f"{int(number) + 1}-{series}", "index": "7", "description": "of the layer after"},
        {"layer": f"1{number}-{series}", "index": "8", "description": "of a layer with a longer number"},
    ]
    lines = [{"modelId": model} | line for line in lines]
    assert dict(load_descriptions(described_by(tmp_path / "d.jsonl", *lines), sae).texts) == {5: "own"}
    with pytest.raises(SaeError, match=rf"d\.jsonl: describes no feature of SAE .*\({hook_name}\)"):
        load_descriptions(described_by(tmp_path / "d.jsonl", *lines[1:]), sae)


@pytest.mark.parametrize("hook_name", ["blocks.8.hook_resid_pre", "blocks.7.hook_resid_post"])
def test_a_layer_that_is_a_number_is_the_block(tmp_path, hook_name):
    lines = [{"feature": layer, "layer": layer, "description": str(layer)} for layer in (6, 7, 8)]
    found = load_descriptions(described_by(tmp_path / "d.jsonl", *lines), at(tmp_path / "sae", hook_name))
    assert dict(found.texts) == {7: "7"}


def test_a_feature_of_another_layer_may_have_any_number(tmp_path):
    sae = at(tmp_path / "sae", "blocks.8.hook_resid_pre")
    lines = (
        {"layer": "9-res-jb", "index": 99999, "description": "x"},
        {"layer": "8-res-jb", "index": 1, "description": "y"},
    )
    assert dict(load_descriptions(described_by(tmp_path / "d.jsonl", *lines), sae).texts) == {1: "y"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"feature": D_SAE, "description": "x"}, rf"feature {D_SAE}; SAE .* has the features 0 to {D_SAE - 1}"),
        ({"feature": -1, "description": "x"}, "feature -1; SAE"),
        ({"index": "64", "description": "x"}, "feature 64; SAE"),
        ({"feature": "third", "description": "x"}, "is 'third'; it must be a whole number"),
        ({"feature": 1.5, "description": "x"}, "is 1.5; it must be a whole number"),
        ({"feature": True, "description": "x"}, "is True; it must be a whole number"),
        ({"index": "9" * 5000, "description": "x"}, "it must be a whole number"),
        ({"feature": "²", "description": "x"}, "is '²'; it must be a whole number"),
        ({"description": "x"}, "is None; it must be a whole number"),
        ({"feature": 1}, "'description' is missing"),
        ({"feature": 1, "description": " "}, "'description' is ' '"),
    ],
)
def test_a_malformed_description_is_named_by_its_line(sae, tmp_path, wrong, message):
    path = described_by(tmp_path / "d.jsonl", {"feature": 1, "description": "right"}, wrong)
    with pytest.raises(DataError, match=rf"d\.jsonl:2: .*{message}"):
        load_descriptions(path, sae)


def test_files_that_hold_no_descriptions_are_refused(sae, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"empty\.jsonl: empty"):
        load_descriptions(tmp_path / "empty.jsonl", sae)
    (tmp_path / "text.jsonl").write_text("kings\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"text\.jsonl:1: not valid JSON"):
        load_descriptions(tmp_path / "text.jsonl", sae)


@pytest.mark.parametrize(
    ("keywords", "features"),
    [
        (["king"], [2, 9]),
        (["Woman", "CROWN"], [5, 9]),
        (["queen"], [7]),
        (["moment"], [4]),
        (["throne", "king"], [2, 7, 9]),
    ],
)
def test_search_finds_whole_words_in_any_case_in_order_of_number(keywords, features):
    assert WORDS.search(keywords) == features


@pytest.mark.parametrize(
    ("keyword", "features"), [("fire", [2, 3]), ("fires on", [3]), ("promote", [3]), ("never", [4]), ("on", [3, 4])]
)
def test_search_passes_over_what_descriptions_say_of_every_feature(keyword, features):
    texts = {
        1: compose([" king"], [" crown"]),
        2: compose([" fire", " king"], []),
        3: "fires on fires on a hill; promotes promotes; fires on on",
        4: compose([" on"], [" never"]),
        5: compose([], []),
    }
    assert Descriptions("words.jsonl", texts).search([keyword]) == features


def test_a_search_that_finds_nothing_says_where_it_looked():
    with pytest.raises(SaeError, match=r"holds any of 'sking', 'man' \(5 descriptions in words\.jsonl\); give other"):
        WORDS.search(["sking", "man"])
    with pytest.raises(SaeError, match=r"holds any of 'king' \(0 descriptions in no descriptions\)"):
        Descriptions().search(["king"])


def test_a_search_for_no_words_finds_nothing():
    with pytest.raises(SaeError, match="no feature"):
        Descriptions("words.jsonl", {1: "ends with a full stop."}).search([])
    with pytest.raises(SaeError, match="no feature"):
        Descriptions("words.jsonl", {1: "ends with a full stop."}).search([""])


def lens_in_numpy(model, directions: np.ndarray) -> np.ndarray:
    """Final norm without bias, and unembedding, by their formulas (Ba 2016; Zhang and Sennrich 2019), in float64."""
    state = {name: tensor.double().numpy() for name, tensor in model.module.state_dict().items()}
    if model.module.config.model_type == "gpt2":
        centred = directions - directions.mean(axis=1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
        normed = centred / scale * state["transformer.ln_f.weight"]
    else:
        scale = np.sqrt((directions**2).mean(axis=1, keepdims=True) + model.module.config.rms_norm_eps)
        normed = directions / scale * state["model.norm.weight"]
    return normed @ state["lm_head.weight"].T


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_logit_lens_is_final_norm_and_unembedding(architecture):
    model = small_model(architecture)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # a norm that does more than nothing
        for name, parameter in model.module.named_parameters():
            if "norm" in name or "ln_f" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    directions = torch.randn(300, D_MODEL, generator=generator)
    effects = list(logit_lens(model, directions, 4))
    logits = lens_in_numpy(model, directions.double().numpy())
    order = logits.argsort(axis=1)
    assert len(effects) == 300
    for effect, row in zip(effects, order, strict=True):
        assert effect.promoted == tuple(model.tokenizer.decode([token]) for token in row[::-1][:4])
        assert effect.demoted == tuple(model.tokenizer.decode([token]) for token in row[:4])


def test_a_model_without_a_final_norm_has_no_logit_lens(monkeypatch):
    """As OPT-350m, which normalises after each block and projects what it unembeds."""
    config, settings = CONFIGS["opt"]
    settings = {**settings, "do_layer_norm_before": False, "word_embed_proj_dim": 16}
    monkeypatch.setitem(CONFIGS, "opt", (config, settings))
    with pytest.raises(ModelError, match=r"model small-opt: it has no final norm \(model\.decoder\.final_layer_norm\)"):
        next(logit_lens(small_model("opt"), torch.ones(1, D_MODEL), 1))


def test_the_direction_of_a_token_promotes_it(any_model):
    [token] = any_model.tokenizer.encode(" king")
    row = any_model.module.get_output_embeddings().weight[token].detach()
    [effect] = logit_lens(any_model, (row - row.mean()).unsqueeze(0), 1)
    assert effect.promoted == (" king",)
    [opposite] = logit_lens(any_model, -(row - row.mean()).unsqueeze(0), 1)
    assert opposite.demoted == (" king",)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100))
def test_similarity_is_the_product_of_decoder_and_direction(sae, seed, scale):
    direction = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed)) * scale
    found = similarity(sae, SteeringVector(direction, 1, "m", "c", "x"))
    expected = sae.decoder.double().numpy() @ direction.double().numpy()
    np.testing.assert_allclose(found.products, expected, rtol=1e-4, atol=1e-4 * scale)
    assert found.top == [int(expected.argmax())]
    assert found.bottom == [int(expected.argmin())]


@pytest.mark.parametrize(("d_sae", "count"), [(64, 1), (1499, 1), (3000, 3), (3600, 4)])
def test_the_extremes_are_a_thousandth_of_the_features_and_at_least_one(tmp_path, d_sae, count):
    sae = small_sae(tmp_path / "sae", d_sae=d_sae)
    direction = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(0))
    found = similarity(sae, SteeringVector(direction, 1, "m", "c", "x"))
    order = (numpy_weights(tmp_path / "sae")["W_dec"] @ direction.double().numpy()).argsort()
    assert found.bottom == order[:count].tolist()
    assert found.top == order[::-1][:count].tolist()


@pytest.mark.parametrize(("layer", "width"), [(0, D_MODEL), (1, 16)])
def test_a_vector_of_another_layer_or_width_is_refused(sae, layer, width):
    vector = SteeringVector(torch.ones(width), layer, "m", "c", "x")
    with pytest.raises(VectorError, match=rf"m-layer{layer}: layer {layer}, width {width}; SAE .* layer 1, width 32$"):
        similarity(sae, vector)


@pytest.mark.parametrize(
    ("fires_on", "promoted", "text"),
    [
        ([" king", "king", " queen"], [" crown"], "fires on king, queen; promotes crown"),
        ([" king"], [], "fires on king"),
        ([], ["a", " a", "b"], "promotes a, b"),
        ([], [], "never fires"),
        ([" ", "\n", "\t\t", "\ud7ff"], [], "fires on ␣, '\\ud7ff'"),
        ([" \x07", "x"], [], "fires on ' \\x07', x"),
    ],
)
def test_a_description_names_each_token_once_without_its_space(fires_on, promoted, text):
    assert compose(fires_on, promoted) == text
