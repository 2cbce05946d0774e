"""`steering vector`, as a user calls it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import gguf
import pytest
import torch

from steering.feature_weights import FeatureWeight
from steering.models.language_model import LanguageModel
from steering.models.tokens import tokenize_continuation
from steering.sae.features import write_descriptions
from steering.vectors import Intervention, Origin, SteeringVector, load_vector
from tests.documents import ROOT, code_blocks
from tests.references import Captured, Hooked, reference_greedy, towards
from tests.small_models import small_module, small_tokenizer
from tests.small_saes import write_sae

PROMPT = "Once upon a time the"


@pytest.fixture
def small(model_directory) -> LanguageModel:
    """The model in the directory, as the command calls it."""
    return LanguageModel(small_module("llama"), small_tokenizer(), model_directory.name)


@pytest.fixture
def place(model_directory) -> tuple[object, ...]:
    return ("--model", model_directory, "--dtype", "float32", "--device", "cpu")


@pytest.fixture
def queens(small, tmp_path) -> Path:
    """A vector that makes the small model say queen."""
    direction = towards(small, " queen", 1.0).vector.direction
    path = tmp_path / "queens.safetensors"
    origin = Origin(small.hash, "llama", 2, "float32")
    SteeringVector(direction, 1, "planted", "none", small.name, origin=origin, recommended_multiplier=40.0).save(path)
    return path


def last_residuals(model: LanguageModel, directory: Path, side: str, layer: int) -> torch.Tensor:
    """Residual streams at the last token of one side's texts, each text run alone."""
    found = []
    for line in (directory / "generation.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        text = tokenize_continuation(model.tokenizer, pair["prompt"], pair[side])
        with torch.no_grad(), Captured(model, layer) as captured:
            model.module(torch.tensor([text.ids]))
        found.append(captured.output[0, -1])
    return torch.stack(found).double()


@pytest.mark.parametrize(("toward", "sign"), [("positive", 1), ("negative", -1)])
def test_built_vectors_are_the_mean_difference_at_their_layers(
    call, small, place, concept_directory, tmp_path, toward, sign
):
    status, out, _ = call(
        *("vector", "build", "--method", "mean_difference", "--layers", "1,0", "--concept", concept_directory, *place),
        *("--toward", toward, "--multiplier", "3", "--output", tmp_path / "v.safetensors"),
    )
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == [
        str(tmp_path / f"v-layer{layer}.safetensors") for layer in (0, 1)
    ]
    for layer in (0, 1):
        found = load_vector(tmp_path / f"v-layer{layer}.safetensors")
        sides = [last_residuals(small, concept_directory, side, layer) for side in ("positive", "negative")]
        expected = sign * (sides[0] - sides[1]).mean(dim=0).float()
        torch.testing.assert_close(found.direction, expected, rtol=1e-4, atol=1e-5)
        assert (found.layer, found.method, found.concept) == (layer, "mean_difference", "royalty")
        assert found.recommended_multiplier == 3
        origin = found.origin
        assert (origin.model_hash, origin.model_type, origin.layer_count) == (small.hash, "llama", 2)
        assert (origin.dtype, origin.toward, origin.versions["torch"]) == ("float32", toward, version("torch"))
        assert (origin.sae, len(origin.concept_hash)) == ("", 64)


def test_a_vector_of_features_says_which_and_of_which_autoencoder(call, place, concept_directory, tmp_path):
    saes = write_sae(tmp_path / "saes" / "one", hook_name="blocks.1.hook_resid_post").parent
    texts = [{"feature": feature, "description": f"about {feature}"} for feature in range(64)]
    write_descriptions(saes / "one" / "descriptions.jsonl", texts)
    (tmp_path / "p.toml").write_text('tokens = "mean"\ntop = 3\n', encoding="utf-8")
    (tmp_path / "p.json").write_text('{"tokens": "mean", "top": 3}', encoding="utf-8")
    build = ("vector", "build", "--method", "feature_delta", "--layer", "1", "--concept", concept_directory, *place)
    found = []
    for number, parameters in enumerate((tmp_path / "p.toml", tmp_path / "p.json", '{"top": 3}')):
        output = tmp_path / f"{number}.safetensors"
        assert call(*build, "--saes", saes, "--parameters", parameters, "--output", output)[0] == 0
        found.append(load_vector(output))
    assert len({vector.hash for vector in found}) == 1
    assert found[0].parameters["top"] == 3
    assert len(found[0].features) == 3
    assert found[0].origin.sae.endswith("one")
    assert len(found[0].origin.sae_hash) == 64
    _, out, _ = call("vector", "show", output)
    assert all(f"about {feature.feature}" in out for feature in found[0].features)


def test_show_says_where_a_vector_comes_from_and_moves_no_cursor(call, tmp_path):
    features = (FeatureWeight(7, -0.25, "kings \x1b[2J[bold]"),)
    vector = SteeringVector(
        torch.tensor([3.0, 4.0]), 5, "m\x1b[31m", "royalty", "x", {"top": 2}, features, Origin(dtype="float16"), 12.0
    )
    vector.save(tmp_path / "v.safetensors")
    status, out, err = call("vector", "show", tmp_path / "v.safetensors")
    assert (status, err) == (0, "")
    said = dict(line.split(":", 1) for line in out.splitlines() if ":" in line)
    assert float(said["norm"]) == 5
    assert float(said["added norm"]) == 60
    assert (said["layer"].strip(), said["d model"].strip(), said["dtype"].strip()) == ("5", "2", "float16")
    assert "-0.2500" in out
    assert "[bold]" in out
    assert "\x1b" not in out
    status, out, _ = call("vector", "show", tmp_path / "v.safetensors", "--json")
    assert json.loads(out)["features"] == [{"feature": 7, "weight": -0.25, "description": features[0].description}]
    assert json.loads(out)["vector_hash"] == vector.hash


@pytest.mark.parametrize("where", [(), ("--steered-positions", "all")])
def test_greedy_completions_are_those_of_a_model_with_a_hook(call, small, place, queens, where):
    status, out, err = call("vector", "apply", queens, PROMPT, "--greedy", "--new-tokens", 6, "--json", *where, *place)
    assert (status, "note:" in err) == (0, False)
    ids = small.tokenizer(PROMPT)["input_ids"]
    steered = Intervention(load_vector(queens), 40.0, *where[1:])
    expected = [small.tokenizer.decode(reference_greedy(small, ids, dose, 6)) for dose in (None, steered)]
    assert json.loads(out)["completions"] == [dict(zip(("unsteered", "steered"), expected, strict=True))]
    assert expected[1].startswith(" queen")
    assert not expected[0].startswith(" queen")


def test_sampled_completions_share_their_random_numbers(call, place, queens):
    apply = ("vector", "apply", queens, PROMPT, "--samples", "4", "--new-tokens", "5", "--json", *place)
    _, out, _ = call(*apply, "--multiplier", "0")
    pairs = json.loads(out)["completions"]
    assert all(pair["unsteered"] == pair["steered"] for pair in pairs)
    assert len({pair["unsteered"] for pair in pairs}) > 1
    _, again, _ = call(*apply)
    _, others, _ = call(*apply, "--seed", "1")
    assert [pair["unsteered"] for pair in json.loads(again)["completions"]] == [pair["unsteered"] for pair in pairs]
    assert json.loads(others)["completions"] != json.loads(again)["completions"]
    assert any(pair["steered"] != pair["unsteered"] for pair in json.loads(again)["completions"])


def test_completions_stand_side_by_side(call, place, queens, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    options = ("--new-tokens", "4", "--top-p", "0.01", *place)  # a nucleus of one token
    status, out, _ = call("vector", "apply", queens, f"{PROMPT}\x1b[2J", *options)
    lines = out.splitlines()
    assert status == 0
    assert lines[0].startswith(PROMPT)
    [heading] = [line for line in lines if "unsteered" in line]
    assert "planted, layer 1, × 40" in heading
    column = heading.index("planted")
    assert sum(line[column:].startswith("queen") for line in lines) == 3
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (SteeringVector(torch.ones(7), 1, "m", "c", "x"), "steering vector m-layer1: its width is 7, but model small"),
        (SteeringVector(torch.ones(32), 2, "m", "c", "x"), "unknown layer '2'. Known: 0 to 1. Model: small."),
    ],
)
def test_a_vector_that_does_not_fit_the_model_is_one_message(call, place, tmp_path, vector, message):
    vector.save(tmp_path / "v.safetensors")
    status, out, err = call("vector", "apply", tmp_path / "v.safetensors", PROMPT, "--multiplier", "1", *place)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("model", "origin", "note"),
    [
        ("other", Origin(model_hash="0"), "constructed on model other, applied to small: it may mean nothing there"),
        ("small", Origin(model_hash="0"), "constructed on other weights than those of the model small that is loaded"),
        ("small", Origin(model_hash="0", dtype="float16"), "constructed in float16, applied in float32"),
        ("small", Origin(), None),
    ],
)
def test_a_model_that_is_another_than_the_vectors_is_said(call, place, tmp_path, model, origin, note):
    path = tmp_path / "v.safetensors"
    SteeringVector(torch.ones(32), 1, "m", "c", model, origin=origin).save(path)
    options = ("--multiplier", "1", "--new-tokens", "1", "--samples", "1", *place)
    status, _, err = call("vector", "apply", path, PROMPT, *options)
    assert status == 0
    assert [line for line in err.splitlines() if "note" in line] == ([f"note: {path}: {note}"] if note else [])


def test_the_same_weights_by_another_name_are_the_same_model(call, small, place, tmp_path):
    path = tmp_path / "v.safetensors"
    SteeringVector(torch.ones(32), 1, "m", "c", "hub/small", origin=Origin(model_hash=small.hash)).save(path)
    assert "note" not in call("vector", "apply", path, PROMPT, "--multiplier", "1", "--new-tokens", "1", *place)[2]


def test_exports_say_that_generated_positions_are_steered_there(call, queens, tmp_path):
    direction = load_vector(queens).direction
    status, out, _ = call("vector", "export", queens, "--format", "gguf", "--output", tmp_path / "v.gguf")
    assert status == 0
    assert "planted at layer 1, × 40" in out
    assert "llama.cpp adds it at all positions, generated ones too." in out
    [tensor] = gguf.GGUFReader(tmp_path / "v.gguf").tensors
    torch.testing.assert_close(torch.tensor(tensor.data), direction * 40)
    status, out, _ = call(
        *("vector", "export", queens, "--format", "lm-eval", "--multiplier", "-2", "--output", tmp_path / "v.pt")
    )
    assert status == 0
    assert f"--model steered --model_args pretrained=MODEL,steer_path={tmp_path / 'v.pt'}" in out
    [entry] = torch.load(tmp_path / "v.pt", weights_only=True).values()
    assert entry["steering_coefficient"] == -2


BUILD = ("build", "--layer", "1", "--method", "mean_difference")
EXPORT = ("export", "old.safetensors", "--format", "gguf", "--output", "v.gguf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*BUILD, "--output", "v.gguf"), "--output v.gguf: a file whose name ends in .safetensors is required"),
        ((*BUILD, "--output", "no/v.safetensors"), "--output no/v.safetensors: its directory does not exist"),
        ((*BUILD, "--output", "v.safetensors", "--layer", "x"), "--layers 'x': give block numbers with commas"),
        ((*BUILD, "--output", "v.safetensors", "--method", "mean"), "unknown method 'mean'."),
        ((*BUILD, "--output", "v.safetensors", "--parameters", '{"top": 1}'), "unknown parameter of method mean_diff"),
        ((*BUILD, "--output", "v.safetensors", "--parameters", "day.toml"), "--parameters 'day.toml': Object of type"),
        ((*BUILD, "--output", "v.safetensors", "--parameters", "no.toml"), "no.toml: no such file"),
        ((*BUILD, "--output", "v.safetensors", "--parameters", "[1]"), "--parameters '[1]': a JSON object is requ"),
        ((*BUILD, "--output", "v.safetensors", "--concept", "gendr"), "unknown concept 'gendr'. Did you mean"),
        ((*BUILD, "--output", "v.safetensors", "--multiplier", "nan"), "multiplier nan is not finite"),
        ((*BUILD, "--output", "v.safetensors", "--method", "feature_delta"), "no SAE for layer 1 in 'embedded'"),
        (("show", "no.safetensors"), "no.safetensors: no such file"),
        (("show", "day.toml"), "day.toml: not a steering vector file: "),
        (("apply", "old.safetensors", "A"), "old.safetensors: it recommends no multiplier; give --multiplier"),
        (("export", "old.safetensors", "--format", "gguf", "--output", "v.pt"), "--output v.pt: a file whose name"),
        (EXPORT, "old.safetensors: it recommends no multiplier; give --multiplier"),
        (
            ("export", "old.safetensors", "--format", "lm-eval", "--output", "v.pt", "--multiplier", "1"),
            "steering vector m-layer1: the file does not say of which type its model is; give --model-type",
        ),
        (
            (*EXPORT, "--multiplier", "1e39", "--model-type", "llama"),
            "steering vector m-layer1 times 1e+39 holds NaN or infinity in float32; give a smaller multiplier",
        ),
    ],
)
def test_mistake_is_one_message_before_the_model_is_loaded(call, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "day.toml").write_text("top = 2024-01-01\n", encoding="utf-8")
    SteeringVector(torch.ones(32), 1, "m", "c", "x").save(tmp_path / "old.safetensors")
    before = sorted(tmp_path.iterdir())
    place = ("--model", "/nowhere") if arguments[0] in {"build", "apply"} else ()
    status, out, err = call("vector", *arguments, *place)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_prompt_is_one_message(call, place, queens):
    status, out, err = call("vector", "apply", queens, "", *place)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == "error: prompt '' has no token"


def test_the_documents_way_to_use_a_vector_without_this_project_works(small, queens):
    [code] = code_blocks(ROOT / "docs" / "vectors.md", "python")
    names: dict[str, object] = {}
    exec(compile(code, "docs/vectors.md", "exec"), names)
    ids = torch.tensor([small.tokenizer(PROMPT)["input_ids"]])
    handle = names["steer"](small.module, queens)
    with torch.no_grad():
        found = small.module(ids).logits
    handle.remove()
    with torch.no_grad(), Hooked(small, Intervention(load_vector(queens), 40.0, "all"), 0):
        expected = small.module(ids).logits
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        assert (small.module(ids).logits - expected).abs().max() > 0.1


def test_method_that_optimises_builds_a_vector_of_its_own(call, place, concept_directory, tmp_path):
    neutral = tmp_path / "neutral.jsonl"  # the first 256 are for tests
    neutral.write_text("".join(json.dumps({"text": f"A road leads to town {n}."}) + "\n" for n in range(260)), "utf-8")
    common = ("vector", "build", "--layer", 1, "--concept", concept_directory, *place)
    for method in ("mean_difference", "optimized"):
        written = ("--output", tmp_path / f"{method}.safetensors")
        status, _, err = call(*common, "--method", method, "--neutral", neutral, *written)
        assert status == 0, err
    start, found = (load_vector(tmp_path / f"{method}.safetensors") for method in ("mean_difference", "optimized"))
    assert found.parameters["steps"] == 20
    cosine = float(torch.nn.functional.cosine_similarity(start.direction, found.direction, dim=0))
    assert 0 < cosine < 0.9999
