"""The cache of activations: it changes no bit, spares the model, and tells apart whatever gives other numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from steering import activation_cache
from steering.activation_cache import ActivationCache, units_of
from steering.activations import ContrastActivations, FeatureReader, capture_pairs
from steering.cli import main
from steering.concept_files import load_concept
from steering.concepts import ContrastPair
from steering.errors import NonFiniteError, UnknownNameError
from steering.journal import Journal
from steering.methods import construct
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText
from steering.neutral import load_neutral
from steering.profiles import MethodPlan, Profile
from steering.sae.features import Descriptions
from steering.settings import Setting
from steering.sweeps.cells import Cell
from steering.sweeps.sweep import Sweep
from tests.documents import ROOT
from tests.small_models import small_model, small_module, small_tokenizer
from tests.small_saes import load_small, small_sae, write_old_sae, write_sae

PAIRS = (
    ContrastPair("a", "The ruler", "was a king.", "was a queen of the story."),
    ContrastPair("b", "Long ago there lived", "a boy.", "a girl."),
    ContrastPair("c", "It was", "the man who came home late that night.", "she."),
)
TEXTS = (TokenizedText((5, 6, 7, 8), 2), TokenizedText((9, 10, 11), 1))


@pytest.fixture
def reader(tmp_path: Path) -> FeatureReader:
    """SAEs of both blocks, with ReLU features."""
    saes = [small_sae(tmp_path / f"{k}", hook_name=f"blocks.{k}.hook_resid_post", seed=k) for k in (0, 1)]
    return FeatureReader([(sae, Descriptions()) for sae in saes], ("king",))


@pytest.fixture
def cache(tmp_path: Path) -> ActivationCache:
    return ActivationCache(tmp_path / "cache")


@pytest.fixture
def captured_layers(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The layers of each pass over the texts, as they come."""
    passes: list[list[int]] = []
    capture = LanguageModel.capture

    def counted(self, rows, layers, progress=None):
        passes.append(list(layers))
        return capture(self, rows, layers, progress)

    monkeypatch.setattr(LanguageModel, "capture", counted)
    return passes


def bits(activations: ContrastActivations) -> dict[str, object]:
    """All that a construction method can see, byte by byte."""
    found: dict[str, object] = {"layers": activations.layers, "ids": activations.pair_ids}
    for side in ("positive", "negative"):
        tensor = getattr(activations, side)
        found[side] = (tensor.dtype, tensor.shape, tensor.stride(), tensor.numpy().tobytes())
        for layer, features in activations.features.items():
            for rule, matrix in getattr(features, side).items():
                parts = (matrix.data, matrix.indices, matrix.indptr)
                found[f"{side} {layer} {rule}"] = (matrix.shape, *((part.dtype, part.tobytes()) for part in parts))
    return found


def loaded(architecture: str, dtype: torch.dtype) -> LanguageModel:
    return LanguageModel(small_module(architecture).to(dtype), small_tokenizer(), "small")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_cache_changes_no_bit(architecture, dtype, reader, cache, captured_layers):
    model = loaded(architecture, dtype)
    plain, first, second = (
        capture_pairs(model, PAIRS, [0, 1], "x", reader=reader, cache=given) for given in (None, cache, cache)
    )
    assert len(captured_layers) == 2
    assert bits(plain) == bits(first) == bits(second)
    vectors = [construct("feature_delta", found, 1, {"top": 5}).hash for found in (plain, second)]
    assert vectors[0] == vectors[1]


def test_model_is_not_run_where_nothing_is_missing_not_even_by_another_cache_object(
    any_model, reader, cache, captured_layers
):
    written = capture_pairs(any_model, PAIRS, [0, 1], "x", reader=reader, cache=cache)
    again = capture_pairs(any_model, PAIRS, [1, 0], "x", reader=reader, cache=ActivationCache(cache.directory))
    assert captured_layers == [[0, 1]]
    assert bits(written) == bits(again)


def test_layers_that_are_missing_are_captured_in_one_pass(llama, reader, cache, captured_layers):
    below = FeatureReader(reader.saes[:1])
    capture_pairs(llama, PAIRS, [0], "x", reader=below, cache=cache)
    mixed = capture_pairs(llama, PAIRS, [0, 1], "x", reader=below, cache=cache)
    assert captured_layers == [[0], [1]]
    assert bits(mixed) == bits(capture_pairs(llama, PAIRS, [0, 1], "x", reader=below))
    capture_pairs(llama, PAIRS, [0, 1], "x", reader=reader, cache=cache)
    assert captured_layers[3:] == [[1]], "an SAE is read there now"


def test_fresh_reads_nothing_and_takes_the_place_of_what_is_kept(llama, cache, captured_layers):
    expected = capture_pairs(llama, PAIRS, [1], "x", cache=cache)
    [path] = cache.directory.iterdir()
    content = path.read_bytes()
    path.write_bytes(b"old")
    found = capture_pairs(llama, PAIRS, [1], "x", cache=ActivationCache(cache.directory, fresh=True))
    assert captured_layers == [[1], [1]]
    assert bits(found) == bits(expected)
    assert path.read_bytes() == content


def test_without_a_cache_nothing_is_written(llama, monkeypatch):
    monkeypatch.setattr(ActivationCache, "write", lambda *_: pytest.fail("written"))
    capture_pairs(llama, PAIRS, [0], "x")
    assert not ActivationCache().directory.exists()


def test_errors_are_those_of_a_run_without_a_cache_and_keep_nothing(llama, cache):
    with pytest.raises(UnknownNameError):
        capture_pairs(llama, PAIRS, [0, 7], "x", cache=cache)
    broken = small_model("llama")
    broken.module.model.layers[1].mlp.down_proj.weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError):
        capture_pairs(broken, PAIRS, [0, 1], "x", cache=cache)
    assert not cache.directory.exists()


def key(model, texts=TEXTS, layer=1, sae=None) -> str:
    return units_of(model, texts, [layer], {} if sae is None else {layer: sae})[layer].key


def test_key_is_the_same_in_another_object_of_the_same_model_and_sae(tmp_path):
    found = [key(small_model("llama"), sae=small_sae(tmp_path / name)) for name in ("one", "two")]
    assert found[0] == found[1]


def other_models() -> dict[str, LanguageModel]:
    theta, one_weight = small_model("llama"), small_model("llama")
    theta.module.config.rope_parameters["rope_theta"] = 500.0
    with torch.no_grad():
        one_weight.module.model.layers[0].mlp.down_proj.weight[3, 4] += 1e-6
    return {
        "plain": small_model("llama"),
        "seed": small_model("llama", seed=1),
        "one weight": one_weight,
        "architecture": small_model("gpt2"),
        "dtype": loaded("llama", torch.bfloat16),
        "configuration": theta,
    }


def other_saes(directory: Path) -> dict[str, object]:
    plain = small_sae(directory / "plain", "topk")
    return {
        "none": None,
        "plain": plain,
        "weights": small_sae(directory / "weights", "topk", seed=1),
        "k": small_sae(directory / "k", "topk", settings={"k": 9}),
        "decoder's norm": small_sae(directory / "norm", "topk_rescaled"),
        "architecture": small_sae(directory / "architecture"),
        "hook": load_small(write_old_sae(directory / "hook")),
        "centring": dataclasses.replace(plain, centred=True),
    }


def test_key_tells_models_apart():
    found = {name: key(model) for name, model in other_models().items()}
    assert len(set(found.values())) == len(found)


def test_key_tells_saes_apart(llama, tmp_path):
    saes = other_saes(tmp_path)
    found = {name: key(llama, sae=sae) for name, sae in saes.items()}
    assert len(set(found.values())) == len(found)


def test_topk_saes_of_one_hash_are_told_apart_by_their_k(llama, tmp_path):
    saes = other_saes(tmp_path)
    assert saes["plain"].hash == saes["k"].hash
    assert key(llama, sae=saes["plain"]) != key(llama, sae=saes["k"])


def test_key_tells_layers_apart(llama):
    assert key(llama, layer=0) != key(llama, layer=1)


tokenized = st.builds(
    lambda ids, boundary: TokenizedText(tuple(ids), 1 + boundary % (len(ids) - 1)),
    st.lists(st.integers(0, 300), min_size=2, max_size=6),
    st.integers(0, 10),
)


@given(st.lists(tokenized, max_size=4), st.lists(tokenized, max_size=4))
def test_keys_are_equal_exactly_where_the_texts_are(llama, one, other):
    assert (key(llama, one) == key(llama, other)) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        (TokenizedText((5, 6, 7, 9), 2), TEXTS[1]),
        (TokenizedText((5, 6, 7, 8), 3), TEXTS[1]),
        (TEXTS[1], TEXTS[0]),
        TEXTS[:1],
        (TokenizedText((5, 6, 7), 2), TokenizedText((8, 9, 10, 11), 1)),
        (*TEXTS, TEXTS[1]),
    ],
    ids=["one token", "boundary", "order", "fewer", "cut elsewhere", "more"],
)
def test_key_tells_texts_apart(llama, other):
    assert key(llama) != key(llama, other)


def test_key_tells_circumstances_apart(llama, monkeypatch):
    environment = activation_cache.os.environ
    changes = (
        (activation_cache, "FORMAT", activation_cache.FORMAT + 1),
        (activation_cache, "_code_hash", lambda: "other"),
        (activation_cache.metadata, "version", lambda name: "9" if name == "torch" else "0"),
        (torch.cpu, "get_capabilities", lambda: {"amx_bf16": False}),
        (torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT"),
        (torch, "get_num_threads", lambda: 77),
        (torch, "get_float32_matmul_precision", lambda: "medium"),
        (activation_cache.os, "environ", {**environment, "MKL_CBWR": "COMPATIBLE"}),
        (activation_cache.os, "environ", {**environment, "ONEDNN_MAX_CPU_ISA": "AVX2"}),
        (LanguageModel, "token_budget", 77),
        (llama, "device", torch.device("meta")),
        (llama.module.config, "_attn_implementation", "eager"),
    )
    keys = [key(llama)]
    for change in changes:
        with monkeypatch.context() as changed:
            changed.setattr(*change)
            keys.append(key(llama))
    assert len(set(keys)) == len(keys) == 1 + len(changes)
    assert key(llama) == keys[0]


@pytest.mark.parametrize("changed", activation_cache._MODULES)
def test_code_that_computes_is_part_of_the_key(changed, tmp_path, monkeypatch):
    before = activation_cache._code_hash.__wrapped__()
    for name in activation_cache._MODULES:
        source = (ROOT / "steering" / f"{name}.py").read_bytes()
        (tmp_path / f"{name}.py").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_bytes(source + (b"#" if name == changed else b""))
    monkeypatch.setattr(activation_cache.resources, "files", lambda _package: tmp_path)
    assert activation_cache._code_hash.__wrapped__() != before


PROFILE = Profile(
    "test", "", "m", "c", "n", (MethodPlan("mean_difference", 2.0),), rollouts=2, new_tokens=2, neutral_prompt_tokens=4
)


def test_sweep_reads_what_an_earlier_one_captured(
    llama, concept_directory, neutral_file, tmp_path, cache, captured_layers
):
    setting = Setting(PROFILE, load_concept(str(concept_directory)), load_neutral(str(neutral_file), 4))
    cell = Cell("mean_difference", 1, 2.0)
    outcomes = [
        Sweep(setting, llama, Journal(tmp_path / name), [cell], run="test", cache=given).measure(cell)
        for name, given in (("none", None), ("first", cache), ("second", cache))
    ]
    assert captured_layers == [[1], [1]]
    assert len({tuple(row.items for row in outcome.rows) for outcome in outcomes}) == 1
    assert len({row.vector_hash for outcome in outcomes for row in outcome.rows}) == 1


def test_bench_reads_the_cache_unless_fresh_is_asked_for(bench, arguments, captured_layers):
    for expected, options in ((1, ()), (1, ()), (2, ("--fresh",))):
        bench(*arguments, "--layers", "1", *options).assert_outcomes(passed=2)
        assert len(captured_layers) == expected
    assert len(list(ActivationCache().directory.iterdir())) == 1


def test_features_command_reads_the_cache(arguments, concept_directory, model_directory, tmp_path, captured_layers):
    write_sae(tmp_path / "saes" / "1")
    options = [f"--concept={concept_directory}", f"--model={model_directory}", f"--saes={tmp_path / 'saes'}"]
    for command in ("changed", "similar", "changed"):
        result = CliRunner().invoke(main.app, ["features", command, "--layer=1", *options])
        assert result.exit_code == 0, result.output
    assert captured_layers == [[1]]
