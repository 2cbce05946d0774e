"""Tokens encoded in parts: the same activations, and no more of them at a time than memory is meant for."""

from __future__ import annotations

import pytest
import torch

from steering.sae import encoding
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.contrast_features import FeatureReduction
from steering.sae.encoding import encode_texts, tokens_of_part
from steering.sae.feature_activity import read_activity
from tests.small_models import small_model
from tests.small_saes import D_MODEL, D_SAE, small_sae

LENGTHS = (3, 1, 7, 2, 2, 5)


@pytest.fixture
def sae(tmp_path):
    return small_sae(tmp_path, "topk")


@pytest.fixture
def texts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, D_MODEL, generator=generator) for length in LENGTHS]


@pytest.fixture
def sizes(monkeypatch):
    """How many tokens were encoded in each call; at most eight fit into a part."""
    monkeypatch.setattr(encoding, "_CODES_BYTES", 8 * 4 * D_SAE)
    seen, encode = [], SparseAutoencoder.encode

    def counted(sae, residuals):
        seen.append(len(residuals))
        return encode(sae, residuals)

    monkeypatch.setattr(SparseAutoencoder, "encode", counted)
    return seen


def test_each_text_has_the_activations_that_it_has_alone(sae, texts, sizes):
    alone = [sae.encode(text) for text in texts]
    sizes.clear()
    for found, expected in zip(encode_texts(sae, texts), alone, strict=True):
        torch.testing.assert_close(found, expected)
    assert sum(sizes) == sum(LENGTHS)
    assert max(sizes) <= 8


def test_no_texts_have_no_activations(sae):
    assert list(encode_texts(sae, [])) == []


def test_one_text_is_never_split(sae, sizes):
    [found] = encode_texts(sae, [torch.zeros(20, D_MODEL)])
    assert (len(found), sizes) == (20, [20])


def test_a_text_of_no_tokens_is_kept(sae):
    assert [len(found) for found in encode_texts(sae, [torch.zeros(0, D_MODEL)] * 2)] == [0, 0]


@pytest.mark.parametrize(("width", "tokens"), [(4_608, 7_281), (65_536, 512), (1 << 30, 1)])
def test_wide_saes_encode_fewer_tokens_at_a_time(monkeypatch, sae, width, tokens):
    monkeypatch.setattr(SparseAutoencoder, "d_sae", width)
    assert tokens_of_part(sae) == tokens


def test_reductions_are_the_same_in_parts(sae, texts, request):
    def reduced():
        reduction = FeatureReduction(sae, len(texts))
        reduction.add(range(len(texts)), texts)
        return {rule: matrix.toarray() for rule, matrix in reduction.matrices().items()}

    together = reduced()
    sizes = request.getfixturevalue("sizes")
    parts = reduced()
    assert len(sizes) > 1
    for rule, matrix in together.items():
        torch.testing.assert_close(torch.from_numpy(parts[rule]), torch.from_numpy(matrix))


def test_activity_is_the_same_in_parts(tmp_path, request):
    model, sae = small_model("gpt2"), small_sae(tmp_path, "topk", hook_name="blocks.0.hook_resid_post")
    rows = [model.tokenizer(text)["input_ids"] for text in ("the king rode to the sea", "a", "the queen and the girl")]
    together = read_activity(model, [sae], rows, 2)[0]
    sizes = request.getfixturevalue("sizes")
    parts = read_activity(model, [sae], rows, 2)[0]
    assert len(sizes) > 1
    assert max(sizes) <= 8
    assert (parts.tokens, parts.fired.tolist()) == (together.tokens, together.fired.tolist())
    torch.testing.assert_close(parts.strongest, together.strongest)
    assert torch.equal(parts.positions[parts.strongest > 0], together.positions[together.strongest > 0])
