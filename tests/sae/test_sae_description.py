"""Descriptions of features: the tokens that they fire on and those that they promote."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steering.errors import SaeError
from steering.sae.description import describe_features
from steering.sae.feature_activity import FeatureActivity, read_activity
from steering.sae.features import compose, load_descriptions, logit_lens, write_descriptions
from tests.small_models import small_model
from tests.small_saes import D_MODEL, D_SAE, small_sae

TEXTS = (
    " the king the queen",
    " the man the king",
    " girl king boy",
    " queen queen queen",
    " a king",
    " king queen man",
)
KING, DEAD = 5, 6


@pytest.fixture(scope="module")
def model():
    return small_model("llama")


@pytest.fixture(scope="module")
def rows(model):
    return [model.tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.fixture(scope="module")
def sae(model, rows, tmp_path_factory):
    """An SAE with a feature that fires on " king" alone and promotes it, and one that never fires.

    There are fewer tokens than dimensions, so that a linear encoder can tell any of them from the others.
    """
    generator = torch.Generator().manual_seed(0)
    [token] = model.tokenizer.encode(" king")
    streams, wanted = [], []
    for batch in model.capture(rows, [1]):
        for index, row in enumerate(batch.rows):
            streams.append(batch.residuals[1][index, 1 : batch.lengths[index]])
            wanted += [1.0 if id_ == token else -1.0 for id_ in rows[row][1:]]
    direction = torch.linalg.lstsq(torch.cat(streams).double(), torch.tensor(wanted).double()).solution.float()
    encoder = torch.randn(D_MODEL, D_SAE, generator=generator)
    encoder[:, KING] = direction
    decoder = torch.randn(D_SAE, D_MODEL, generator=generator)
    decoder[KING] = model.module.get_output_embeddings().weight[token].detach()
    bias = torch.zeros(D_SAE)
    bias[DEAD] = -1e6
    weights = {"W_enc": encoder, "W_dec": decoder, "b_enc": bias, "b_dec": torch.zeros(D_MODEL)}
    return small_sae(tmp_path_factory.mktemp("sae"), weights=weights)


@pytest.fixture(scope="module")
def activity(model, sae, rows):
    return read_activity(model, [sae], rows, 24)[1]


@pytest.fixture(scope="module")
def records(model, sae, activity, rows):
    return list(describe_features(model, sae, activity, rows))


def test_a_planted_feature_is_described_by_its_token(model, rows, records):
    [token] = model.tokenizer.encode(" king")
    record = records[KING]
    assert record["feature"] == KING
    assert record["description"].startswith("fires on king; promotes king, ")
    times = sum(row[1:].count(token) for row in rows)
    assert record["frequency"] == pytest.approx(times / sum(len(row) - 1 for row in rows), rel=1e-2)


def test_a_feature_that_never_fires_says_so_alone(records):
    assert records[DEAD] == {
        "feature": DEAD,
        "layer": 1,
        "description": "never fires",
        "frequency": 0.0,
        "largest_activation": 0.0,
    }


def test_every_feature_has_one_record_in_order(records, sae):
    assert [record["feature"] for record in records] == list(range(sae.d_sae))


def test_records_equal_what_every_token_shows(model, sae, rows, records):
    codes, tokens = [], []
    for row in rows:
        [batch] = model.capture([row], [1])
        codes.append(sae.encode(batch.residuals[1][0, 1:]).numpy())
        tokens += row[1:]
    values = np.concatenate(codes)
    effects = list(logit_lens(model, sae.decoder, 6))
    for record, effect in zip(records, effects, strict=True):
        column = values[:, record["feature"]]
        order = [index for index in (-column).argsort(kind="stable")[:24] if column[index] > 0]
        fires_on = list(dict.fromkeys(model.tokenizer.decode([tokens[index]]) for index in order))[:6]
        assert record["description"] == compose(fires_on, effect.promoted if fires_on else ())
        assert record["largest_activation"] == pytest.approx(float(column.max()), rel=1e-2, abs=1e-3)
        assert record["frequency"] == pytest.approx((column != 0).mean(), rel=1e-2)


def test_the_records_of_one_run_are_read_as_descriptions(sae, records, tmp_path):
    path = tmp_path / "descriptions.jsonl"
    write_descriptions(path, records)
    found = load_descriptions(path, sae)
    assert found.texts == {record["feature"]: record["description"] for record in records}
    assert KING in found.search(["kings", "king"])
    assert load_descriptions(path, sae, of_several_layers=True) == found
    elsewhere = small_sae(tmp_path / "elsewhere", hook_name="blocks.0.hook_resid_post")
    with pytest.raises(SaeError, match=r"descriptions\.jsonl: describes no feature of SAE .*elsewhere"):
        load_descriptions(path, elsewhere)


def test_tokens_are_looked_up_in_the_texts_that_were_read(model, sae):
    """The strongest place of feature 0 is planted: position 2 of text 1."""
    zeros = torch.zeros(1, D_SAE)
    strongest, texts, positions = zeros.clone(), zeros.long(), zeros.long()
    strongest[0, 0], texts[0, 0], positions[0, 0] = 3.5, 1, 2
    activity = FeatureActivity(10, (strongest[0] > 0).float() * 4, strongest, texts, positions)
    rows = [[1, 2, 3], [4, 5, model.tokenizer.encode(" queen")[0]]]
    record = next(describe_features(model, sae, activity, rows))
    assert record["description"].startswith("fires on queen; promotes ")
    assert (record["frequency"], record["largest_activation"]) == (0.4, 3.5)
