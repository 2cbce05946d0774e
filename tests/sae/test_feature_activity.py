"""Where features fire, against a count over every token one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import SaeError
from steering.models.machine import _TOKEN_BUDGETS
from steering.progress import Silent
from steering.sae.feature_activity import FeatureActivity, _Count, read_activity
from tests.small_models import small_model
from tests.small_saes import D_MODEL, D_SAE, small_sae

TEXTS = (
    "the king rode to the sea",
    "a",
    "ab",
    "the queen and the girl of the story",
    "the king rode to the sea",
    "zz top",
)


@pytest.fixture(scope="module")
def saes(tmp_path_factory):
    root = tmp_path_factory.mktemp("saes")
    never = torch.zeros(D_SAE)
    never[:10] = -1e6  # the first ten features never fire
    hooks = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
    return [
        small_sae(
            root / str(layer), "topk" if layer else "standard", hook_name=hook, seed=layer, weights={"b_enc": never}
        )
        for layer, hook in enumerate(hooks)
    ]


def every_token(model, sae, rows) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Codes of each token but the first of each text, each text run alone, and where it stands."""
    codes, places = [], []
    for text, row in enumerate(rows):
        [batch] = model.capture([row], [sae.layer])
        residual = batch.residuals[sae.layer][0]
        for position in range(1, len(row)):
            codes.append(sae.encode(residual[position]).numpy())
            places.append((text, position))
    return np.array(codes), places


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request):
    return small_model(request.param)


@pytest.fixture(scope="module")
def rows(model):
    return [model.tokenizer(text)["input_ids"] for text in TEXTS]


@pytest.fixture(scope="module")
def seen(model, saes, rows):
    """The activity of both layers, read in one pass, in batches of a few texts."""
    return read_activity(model, saes, rows, 4)


def test_counts_equal_those_over_every_token(model, saes, rows, seen):
    assert sorted(seen) == [0, 1]
    for sae in saes:
        codes, _ = every_token(model, sae, rows)
        found = seen[sae.layer]
        assert found.tokens == len(codes) == sum(len(row) - 1 for row in rows)
        assert found.fired.tolist() == (codes != 0).sum(axis=0).tolist()
        dead = (codes == 0).all(axis=0)
        assert found.silent_share == pytest.approx(dead.mean())
        assert dead[:10].all()
        assert 10 <= dead.sum() < D_SAE


def test_the_strongest_places_equal_those_over_every_token(model, saes, rows, seen):
    for sae in saes:
        codes, places = every_token(model, sae, rows)
        for feature in range(D_SAE):
            found = seen[sae.layer].places(feature)
            strongest = np.sort(codes[:, feature])[::-1][:4]
            np.testing.assert_allclose([value for *_, value in found], strongest[strongest > 0], rtol=1e-4, atol=1e-4)
            for text, position, value in found:
                token = places.index((text, position))
                assert codes[token, feature] == pytest.approx(value, rel=1e-3, abs=1e-3)
            assert len({place[:2] for place in found}) == len(found), "no place twice"


def test_position_0_is_left_out(model, saes, rows, seen):
    for sae in saes:
        for feature in range(D_SAE):
            assert all(position > 0 for _, position, _ in seen[sae.layer].places(feature))
        assert seen[sae.layer].places(0) == []
    first_only = read_activity(model, saes, [row[:1] for row in rows], 4)
    assert [first_only[layer].tokens for layer in (0, 1)] == [0, 0]
    assert [first_only[layer].silent_share for layer in (0, 1)] == [1.0, 1.0]


def test_batches_of_any_size_add_up_to_the_same(saes, monkeypatch):
    model = small_model("llama")
    rows = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    found = []
    for budget in (8, 1024):
        monkeypatch.setitem(_TOKEN_BUDGETS, "cpu", budget)
        found.append(read_activity(model, saes, rows, 4, Silent())[1])
    torch.testing.assert_close(found[0].strongest, found[1].strongest, rtol=1e-4, atol=1e-4)
    assert torch.equal(found[0].fired, found[1].fired)
    assert found[0].tokens == found[1].tokens


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 6))
def test_any_split_into_batches_finds_the_largest(saes, seed, sizes, ranks):
    """Against a sort of everything, for values that are all different."""
    generator = np.random.default_rng(seed)
    tokens = sum(sizes)
    values = generator.permutation(tokens * D_SAE).reshape(tokens, D_SAE).astype(np.float32)
    values *= generator.random(values.shape) < 0.5
    where = torch.stack([torch.arange(tokens) // 5, torch.arange(tokens) % 5 + 1], dim=1)
    count = _Count.empty(saes[0], ranks)
    for codes, places in zip(torch.from_numpy(values).split(sizes), where.split(sizes), strict=True):
        count.add(codes, places)
    found = count.result()
    for feature in range(0, D_SAE, 7):
        order = (-values[:, feature]).argsort(kind="stable")[:ranks]
        expected = [(token // 5, token % 5 + 1, values[token, feature]) for token in order if values[token, feature]]
        assert found.places(feature) == [(int(text), int(position), float(value)) for text, position, value in expected]
    assert found.fired.tolist() == (values != 0).sum(axis=0).tolist()


def test_an_sae_that_does_not_fit_is_refused_before_the_model_is_run(model, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(type(model), "capture", lambda *_: pytest.fail("the model was run"))
    with pytest.raises(SaeError, match=rf"sae reads a width of 16, but model {model.name} has d_model 32"):
        read_activity(model, [small_sae(tmp_path / "sae", d_model=16)], rows, 4)


def test_silent_share_counts_the_features_that_never_fired():
    fired = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0])
    empty = torch.zeros(2, 5)
    assert FeatureActivity(7, fired, empty, empty.long(), empty.long()).silent_share == pytest.approx(0.6)


def test_frequency_of_features_where_no_token_was_read_is_0():
    nothing = torch.zeros(1, 4)
    assert FeatureActivity(0, torch.zeros(4), nothing, nothing, nothing).frequency(2) == 0.0
    assert FeatureActivity(8, torch.tensor([0, 2, 0, 0]), nothing, nothing, nothing).frequency(1) == 0.25


def test_the_sae_of_each_layer_sees_its_own_layer(saes, seen, model, rows):
    swapped = [saes[1], saes[0]]
    again = read_activity(model, swapped, rows, 4)
    for layer in (0, 1):
        assert torch.equal(again[layer].strongest, seen[layer].strongest)
    assert saes[0].d_model == D_MODEL
    assert not torch.equal(seen[0].fired, seen[1].fired)
