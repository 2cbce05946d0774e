"""Quality of SAEs, against an SAE that is perfect and against sums over every token in numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from steering.concept_files import load_concept
from steering.errors import SaeError
from steering.journal import Journal, load_rows
from steering.models.continuation_losses import ContinuationLosses
from steering.models.sampling import Greedy
from steering.models.tokens import TokenizedText
from steering.neutral import NeutralSet
from steering.profile_files import load_profile
from steering.results import SAE
from steering.sae.library import SaeLibrary
from steering.sae.quality import held_out_quality, reconstruct
from steering.settings import Setting
from steering.sweeps.sae_quality import METRICS, SaeQuality, _settings
from tests.small_models import small_model
from tests.small_saes import D_MODEL, D_SAE, load_small, perfect_sae, small_sae, write_sae

DOCUMENTS = (
    "The king rode to the sea.",
    "Rain fell on the hills.",
    "it",
    "Mix flour and water, then wait for the boy.",
)
FIRST = "blocks.0.hook_resid_post"
CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request):
    return small_model(request.param)


@pytest.fixture(scope="module")
def rows(model):
    """Texts that the model expects: what would cost it nothing to lose, as texts of others do, cannot be recovered."""
    beginnings = [model.tokenizer(text)["input_ids"][:2] for text in DOCUMENTS]
    completions = model.generate(beginnings, [None] * len(beginnings), Greedy(), 12)
    return [begun + completion for begun, completion in zip(beginnings, completions, strict=True)]


@pytest.fixture(scope="module")
def texts(rows):
    return [TokenizedText(tuple(row), 1) for row in rows]


def streams(model, rows, layer) -> list[np.ndarray]:
    """Residual streams `[token, d_model]` of each text but its first token, each text run alone."""
    found = []
    for row in rows:
        [batch] = model.capture([row], [layer])
        found.append(batch.residuals[layer][0, 1:].double().numpy())
    return found


def replaced_loss(model, row, layer, replace) -> float:
    """Loss of a text from its second token on, with a block's output replaced by a hook at all positions but 0."""

    def hook(_module, _inputs, output):
        return torch.cat([output[:, :1], replace(output[:, 1:])], dim=1)

    blocks = {"gpt2": "transformer.h", "llama": "model.layers"}[model.module.config.model_type]
    handle = model.module.get_submodule(blocks)[layer].register_forward_hook(hook)
    with torch.no_grad():
        logits = model.module(torch.tensor([row])).logits[0, :-1].double().numpy()
    handle.remove()
    log_shares = logits - np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
    log_shares -= logits.max(axis=1, keepdims=True)
    return float(-log_shares[np.arange(len(row) - 1), row[1:]].mean())


def rough_weights() -> dict[str, torch.Tensor]:
    """Weights that restore the streams by four fifths; the first five features never fire."""
    one, bias = torch.eye(D_MODEL), torch.zeros(D_SAE)
    bias[:5] = -1e6
    decoder = torch.cat([one, -one]) * 0.8
    return {
        "W_enc": torch.cat([one, -one], dim=1),
        "W_dec": decoder,
        "b_enc": bias,
        "b_dec": torch.full((D_MODEL,), 0.02),
    }


@pytest.fixture(params=["topk", "centred"])
def rough_sae(request, tmp_path):
    """An SAE that restores a part, in both ways of seeing the streams."""
    if request.param == "topk":
        return small_sae(tmp_path / "sae", "topk", weights=rough_weights(), settings={"k": 8})
    return small_sae(tmp_path / "sae", "jumprelu", weights=rough_weights(), metadata=CENTRED)


def test_sums_equal_those_over_every_token(model, rough_sae, rows):
    found = reconstruct(model, [rough_sae], rows)[rough_sae.layer]
    inside = streams(model, rows, 1)
    restored = [rough_sae.reconstruct(torch.from_numpy(x)).numpy() for x in inside]
    codes = [rough_sae.encode(torch.from_numpy(x)).numpy() for x in inside]
    errors = [((x - y) ** 2).sum() for x, y in zip(inside, restored, strict=True)]
    np.testing.assert_allclose(found.squared_error, errors, rtol=1e-4)
    np.testing.assert_allclose(found.active, [np.count_nonzero(z, axis=1).mean() for z in codes], rtol=1e-9)
    together = np.concatenate(inside)
    if rough_sae.centred:
        together = together - together.mean(axis=1, keepdims=True)
    assert found.variance.sum() == pytest.approx(((together - together.mean(axis=0)) ** 2).sum(), rel=1e-5)
    assert found.fired.tolist() == (np.concatenate(codes) != 0).any(axis=0).tolist()
    assert not found.fired[:5].any()


def test_held_out_quality_equals_numpy(model, rough_sae, rows, texts):
    [found] = held_out_quality(model, [rough_sae], rows, texts)
    tokens = np.array([len(row) - 1 for row in rows])
    losses = {
        name: np.average([replaced_loss(model, row, 1, replace) for row in rows], weights=tokens)
        for name, replace in (("clean", lambda x: x), ("spliced", rough_sae.reconstruct), ("ablated", torch.zeros_like))
    }
    sums = reconstruct(model, [rough_sae], rows)[rough_sae.layer]
    expected = {
        "layer": 1,
        "d_sae": D_SAE,
        "tokens": int(tokens.sum()),
        "variance_explained": 1 - sums.squared_error.sum() / sums.variance.sum(),
        "l0": (sums.active * tokens).sum() / tokens.sum(),
        "silent_features": 1 - sums.fired.sum() / D_SAE,
        "loss": losses["clean"],
        "spliced_loss": losses["spliced"],
        "ablated_loss": losses["ablated"],
        "loss_recovered": (losses["ablated"] - losses["spliced"]) / (losses["ablated"] - losses["clean"]),
    }
    assert dataclasses.asdict(found) == pytest.approx(expected, rel=1e-3)
    assert 0.1 < found.variance_explained < 0.9
    assert abs(found.spliced_loss - found.loss) > 0.005, "the splice does something"


@pytest.mark.parametrize("metadata", [{}, CENTRED])
def test_a_perfect_sae_explains_and_recovers_everything(model, tmp_path, rows, texts, metadata):
    sae = perfect_sae(tmp_path / "sae", metadata=metadata)
    [found] = held_out_quality(model, [sae], rows, texts)
    assert found.variance_explained == pytest.approx(1, abs=1e-6)
    assert found.loss_recovered == pytest.approx(1, abs=1e-4)
    assert found.spliced_loss == pytest.approx(found.loss, abs=1e-5)
    assert found.l0 == pytest.approx(D_MODEL)
    assert found.ablated_loss != pytest.approx(found.loss, abs=0.1)


def test_several_saes_in_one_pass_have_the_quality_of_each_alone(model, tmp_path, rows, texts):
    first = small_sae(tmp_path / "first", weights=rough_weights(), hook_name=FIRST)
    second = perfect_sae(tmp_path / "second")
    together = held_out_quality(model, [second, first], rows, texts)
    assert [quality.layer for quality in together] == [1, 0]
    assert together == [held_out_quality(model, [sae], rows, texts)[0] for sae in (second, first)]


def test_an_sae_that_restores_nothing_recovers_nothing(model, tmp_path, rows, texts):
    zeros = {"W_dec": torch.zeros(D_SAE, D_MODEL), "b_dec": torch.zeros(D_MODEL), "b_enc": torch.full((D_SAE,), -1e6)}
    sae = small_sae(tmp_path / "sae", weights=zeros)
    [found] = held_out_quality(model, [sae], rows, texts)
    assert found.loss_recovered == pytest.approx(0, abs=1e-5)
    assert (found.l0, found.silent_features) == (0, 1)
    assert found.variance_explained < 0.01


def test_an_sae_that_knows_the_mean_alone_explains_no_variance(model, tmp_path, rows):
    mean = torch.from_numpy(np.concatenate(streams(model, rows, 1)).mean(axis=0)).float()
    weights = {"W_dec": torch.zeros(D_SAE, D_MODEL), "b_dec": mean}
    sae = small_sae(tmp_path / "sae", weights=weights)
    sums = reconstruct(model, [sae], rows)[sae.layer]
    assert 1 - sums.squared_error.sum() / sums.variance.sum() == pytest.approx(0, abs=1e-4)


def test_the_first_token_does_not_count(model, tmp_path, rows):
    """Of texts of two tokens, the second alone counts."""
    sae = perfect_sae(tmp_path / "sae")
    sums = reconstruct(model, [sae], [row[:2] for row in rows])[sae.layer]
    one_each = np.concatenate([x[:1] for x in streams(model, rows, 1)])
    assert sums.variance.sum() == pytest.approx(((one_each - one_each.mean(axis=0)) ** 2).sum(), rel=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_outliers_do_not_count(architecture, rough_sae):
    """A token whose embedding is a thousand times as long is an outlier wherever it stands."""
    model = small_model(architecture)
    [outlier] = model.tokenizer.encode(" king")
    with torch.no_grad():
        model.module.get_input_embeddings().weight[outlier] *= 1000
    rows = [model.tokenizer(text)["input_ids"] for text in (*DOCUMENTS, "A king and a king")]
    inside = [x[np.array(row[1:]) != outlier] for x, row in zip(streams(model, rows, 1), rows, strict=True)]
    assert sum(map(len, inside)) == sum(len(row) - 1 for row in rows) - 3, "the planted king stands in three places"
    found = reconstruct(model, [rough_sae], rows)[rough_sae.layer]
    assert found.tokens.tolist() == [len(x) for x in inside]
    errors = [((x - rough_sae.reconstruct(torch.from_numpy(x)).numpy()) ** 2).sum() for x in inside]
    np.testing.assert_allclose(found.squared_error, errors, rtol=1e-3)
    together = np.concatenate(inside)
    if rough_sae.centred:
        together = together - together.mean(axis=1, keepdims=True)
    assert found.variance.sum() == pytest.approx(((together - together.mean(axis=0)) ** 2).sum(), rel=1e-4)
    [quality] = held_out_quality(model, [rough_sae], rows, [TokenizedText(tuple(row), 1) for row in rows])
    assert quality.tokens == len(together)
    assert quality.variance_explained > 0.1, "with the outliers it would be far from it"


def test_an_sae_that_does_not_fit_is_refused(model, tmp_path, rows, texts):
    sae = small_sae(tmp_path / "sae", d_model=16)
    with pytest.raises(SaeError, match="reads a width of 16"):
        held_out_quality(model, [sae], rows, texts)


@pytest.fixture
def measuring(model, tmp_path, rows):
    """Measures SAEs of both layers on some documents: the first a random one, the second perfect."""
    write_sae(tmp_path / "saes" / "0", weights=rough_weights(), hook_name=FIRST)
    perfect_sae(tmp_path / "saes" / "1")
    library = SaeLibrary("mine", {layer: tmp_path / "saes" / str(layer) for layer in (0, 1)})
    profile = dataclasses.replace(
        load_profile("embedded"), neutral_prompt_tokens=4, neutral_continuation_tokens=12, neutral_documents=4
    )
    setting = Setting(profile, load_concept("gender"), NeutralSet("mine", DOCUMENTS))
    found = SaeQuality(setting, model, library, Journal(tmp_path / "results"), run="run-1")
    found.__dict__["_texts"] = [TokenizedText(tuple(row), 1) for row in rows]
    return found


def test_the_mean_of_items_is_the_ratio_of_sums(measuring, model, rows, tmp_path):
    outcome = measuring.measure(0)
    assert tuple(outcome.scores) == METRICS
    cut = rows
    sae = load_small(tmp_path / "saes" / "0")
    texts = [TokenizedText(tuple(row), 1) for row in cut]
    sums = reconstruct(model, [sae], cut)[sae.layer]
    losses = ContinuationLosses(model, texts)
    clean = losses.measure([None])[0]
    spliced, ablated = (losses.replaced(0, replace) for replace in (sae.reconstruct, torch.zeros_like))
    expected = {
        "sae_variance_explained": 1 - sums.squared_error.sum() / sums.variance.sum(),
        "sae_l0": sums.active.mean(),
        "sae_spliced_loss": spliced.mean(),
        "sae_loss_recovered": (ablated.sum() - spliced.sum()) / (ablated.sum() - clean.sum()),
        "sae_silent_features": 1 - sums.fired.mean(),
    }
    assert {name: score.value for name, score in outcome.scores.items()} == pytest.approx(expected, rel=1e-6)
    assert [len(score.items) for score in outcome.scores.values()] == [4, 4, 4, 4, D_SAE]
    assert all(score.low <= score.value <= score.high for score in outcome.scores.values())
    silent = outcome.scores["sae_silent_features"]
    assert silent.items.tolist() == (~sums.fired).astype(float).tolist()
    assert silent.low == silent.value == silent.high, "all features are counted"


def test_a_perfect_sae_scores_1_on_every_document(measuring):
    scores = measuring.measure(1).scores
    np.testing.assert_allclose(scores["sae_variance_explained"].items, 1, atol=1e-6)
    np.testing.assert_allclose(scores["sae_loss_recovered"].items, 1, atol=1e-4)


def test_rows_say_which_sae_was_measured(measuring, tmp_path):
    rows = measuring.measure(1).rows
    sae = load_small(tmp_path / "saes" / "1")
    assert [row.metric for row in rows] == list(METRICS)
    assert load_rows(tmp_path / "results") == list(rows)
    for row in rows:
        assert (row.method, row.layer, row.status, row.run) == (SAE, 1, "ok", "run-1")
        assert (row.multiplier, row.vector_hash, row.vector_norm) == (0.0, "", None)
        assert row.parameters["sae_hash"] == sae.hash
        assert (row.parameters["hook_name"], row.parameters["centred"]) == (sae.hook_name, False)
        assert (row.parameters["sae"], row.parameters["d_sae"]) == (sae.name, 2 * D_MODEL)


def test_equal_weights_with_another_k_are_another_sae_to_a_later_run(measuring, tmp_path):
    def of(k):
        return small_sae(tmp_path / f"k{k}", "topk", settings={"k": k}, hook_name=FIRST)

    two, four = (_settings(of(k)) for k in (2, 4))
    assert of(2).hash == of(4).hash
    assert {key for key in two if two[key] != four[key]} == {"settings_hash"}
    assert _settings(of(2)) == two
    assert measuring.measure(1).rows[0].parameters["settings_hash"]


def test_an_sae_whose_values_overflow_fails_with_a_reason(measuring, tmp_path):
    write_sae(tmp_path / "saes" / "0", weights={"W_dec": torch.full((D_SAE, D_MODEL), 3e38)}, hook_name=FIRST)
    outcome = measuring.measure(0)
    assert outcome.scores == {}
    assert [row.metric for row in outcome.rows] == list(METRICS)
    assert {row.status for row in outcome.rows} == {"failed"}
    assert all("NaN or infinity" in row.reason or "is nan" in row.reason for row in outcome.rows)


def test_a_layer_without_an_sae_is_refused_and_leaves_no_rows(measuring, tmp_path):
    with pytest.raises(SaeError, match="no SAE for layer 5 in 'mine'"):
        measuring.measure(5)
    assert load_rows(tmp_path / "results") == []
