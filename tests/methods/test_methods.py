"""Every registered construction method keeps the same properties, or names the one it cannot keep."""

from __future__ import annotations

import dataclasses
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.activations import ContrastActivations
from steering.errors import DataError, NonFiniteError, SaeError, UnknownNameError, VectorError
from steering.methods import Method, construct, create_method, methods
from steering.methods.mean_difference import MeanDifference
from steering.methods.optimized import _TERMS
from steering.methods.shuffled_labels import ShuffledLabels
from tests.methods.test_stored import PLANTED_VECTOR
from tests.planted import D_MODEL, KING, QUEEN, dense, planted_activations, planted_direction, reordered, swapped

#: What the conformance suite runs: each method by its defaults, and those that read features by others too.
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {"path": PLANTED_VECTOR} if name == "stored" else {}) for name in methods),
    ("feature_delta", {"tokens": "max", "pairs": "max"}),
    ("feature_delta", {"tokens": "last", "top": 2}),
    ("hand_crafted", {"ids": {"3": [KING, 1], "5": [KING, QUEEN]}}),
    ("hand_crafted", {"keywords": ["King"], "top": 1}),
    ("random_features", {"reference": "hand_crafted"}),
]


def keeps(method: Method, claimed_property: str) -> bool:
    """Whether a method claims a property; one that does not must give its reason."""
    reason = getattr(method, "exceptions", {}).get(claimed_property)
    assert reason is None or len(reason) > 10
    return reason is None


@pytest.fixture(params=CASES, ids=[f"{name}-{'-'.join(map(str, given))}" for name, given in CASES])
def method(request: pytest.FixtureRequest) -> Method:
    return create_method(*request.param)


def test_method_finds_planted_direction(method):
    direction = planted_direction()
    found = method.fit(planted_activations(direction), 5)
    cosine = float(torch.nn.functional.cosine_similarity(found, direction, dim=0))
    assert (cosine > 0.95) is keeps(method, "finds_planted_direction")


def test_method_looks_at_its_own_layer(method):
    activations = planted_activations(planted_direction())
    at_signal, at_noise = (method.fit(activations, layer) for layer in (5, 3))
    follows = float(at_signal.norm()) > 5 * float(at_noise.norm())
    assert follows is keeps(method, "looks_at_its_own_layer")


def test_method_swapping_sides_flips_sign(method):
    activations = planted_activations(planted_direction())
    there, back = method.fit(activations, 5), method.fit(swapped(activations), 5)
    flips = bool(torch.allclose(there, -back, rtol=1e-4, atol=1e-5))
    assert flips is keeps(method, "swapping_sides_flips_sign")


def test_method_does_not_depend_on_pair_order(method):
    activations = planted_activations(planted_direction())
    shuffled = reordered(activations, torch.randperm(40, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(method.fit(activations, 5), method.fit(shuffled, 5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_method_keeps_dtype_and_width(method, dtype):
    found = method.fit(planted_activations(planted_direction(dtype)), 5)
    assert (found.dtype, found.shape) == (dtype, (D_MODEL,))


def test_method_is_deterministic_and_leaves_its_input_alone(method):
    activations = planted_activations(planted_direction())
    before, codes_before = activations.positive.clone(), dense(activations, "mean")
    first, second = (method.fit(activations, 5) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(activations.positive, before)
    assert np.array_equal(dense(activations, "mean"), codes_before)


def test_methods_that_read_features_need_an_sae_and_say_so(method):
    activations = dataclasses.replace(planted_activations(planted_direction()), features={})
    if not getattr(method, "needs_sae", False):
        assert method.fit(activations, 5).shape == (D_MODEL,)
        return
    with pytest.raises(SaeError, match="layer 5 has no SAE here"):
        method.fit(activations, 5)


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_mean_difference_equals_numpy(pairs, seed):
    positive, negative = np.random.default_rng(seed).normal(size=(2, pairs, 1, 7)).astype(np.float32)
    ids = tuple(map(str, range(pairs)))
    activations = ContrastActivations(torch.from_numpy(positive), torch.from_numpy(negative), (0,), ids, "x", "y")
    found = create_method("mean_difference", {}).fit(activations, 0).numpy()
    expected = positive[:, 0].mean(axis=0, dtype=np.float64) - negative[:, 0].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_random_direction_has_the_norm_of_the_mean_difference_and_its_own_seed():
    activations = planted_activations(planted_direction())
    norm = float(create_method("mean_difference", {}).fit(activations, 5).norm())
    zero, one = (create_method("random_direction", {"seed": seed}).fit(activations, 5) for seed in (0, 1))
    assert float(zero.norm()) == pytest.approx(norm, rel=1e-5)
    assert float(one.norm()) == pytest.approx(norm, rel=1e-5)
    assert not torch.allclose(zero, one)
    other_layer = create_method("random_direction", {}).fit(activations, 3)
    assert abs(float(torch.nn.functional.cosine_similarity(zero, other_layer, dim=0))) < 0.9


@pytest.mark.parametrize("pairs", [1, 2, 7, 40])
def test_shuffled_labels_swap_half_of_the_pairs_and_the_seed_says_which(pairs):
    activations = planted_activations(planted_direction(torch.float64), pairs)
    differences = (activations.positive - activations.negative)[:, 1].numpy()
    found = [ShuffledLabels(seed).fit(activations, 5).numpy() * pairs for seed in range(3)]
    for total in found:
        signs = np.linalg.lstsq(differences.T, total, rcond=None)[0] if pairs < D_MODEL else None
        if signs is not None:
            expected = [-1.0] * (pairs // 2) + [0.0] * (pairs % 2) + [1.0] * (pairs // 2)
            np.testing.assert_allclose(np.sort(signs), expected, atol=1e-9)
    assert (pairs < 7) or not np.allclose(found[0], found[1])


def test_construct_records_provenance():
    activations = planted_activations(planted_direction())
    vector = construct("random_direction", activations, 5, {"seed": 4})
    found = (vector.layer, vector.method, vector.concept, vector.model, dict(vector.parameters))
    assert found == (5, "random_direction", "planted", "none", {"seed": 4})


def test_unknown_methods_parameters_and_layers_are_refused():
    activations = planted_activations(planted_direction())
    with pytest.raises(UnknownNameError, match="unknown method 'mean_diference'. Did you mean 'mean_difference'"):
        construct("mean_diference", activations, 5)
    with pytest.raises(UnknownNameError, match="parameter of method random_direction 'sed'. Did you mean 'seed'"):
        construct("random_direction", activations, 5, {"sed": 1})
    with pytest.raises(UnknownNameError, match="unknown captured layer '4'. Known: 3, 5"):
        construct("mean_difference", activations, 4)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        *(("random_direction", {"seed": value}, str(value)) for value in ("a", 1.5, -1)),
        ("random_features", {"seed": -1}, "seed is -1; it should be greater than or equal to 0"),
        ("random_features", {"reference": "mean_difference"}, "reference is 'mean_difference'"),
        ("feature_delta", {"tokens": "median"}, "tokens is 'median'"),
        *((name, {"top": 0}, "top is 0; it should be") for name in ("feature_delta", "hand_crafted")),
        ("hand_crafted", {"ids": {"first": [1]}}, "first"),
        *(("optimized", {"learning_rate": value}, "learning_rate is .*greater than 0") for value in (0.0, -0.1)),
        *(("optimized", {"seed": value}, "seed is .*; it should be") for value in (-1, 2**63)),
        *(("optimized", {name: 0}, f"{name} is 0; it should be") for name in ("steps", "batch")),
        ("optimized", {"dose": 0.0}, "a dose of 0 steers nothing"),
        ("optimized", dict.fromkeys(_TERMS, 0.0), "at least one weight must differ from 0"),
        ("hand_crafted", {"keywords": "king"}, "keywords is 'king'"),
        ("random_direction", {"seed": date(1979, 5, 27)}, "its parameters are no JSON"),
        ("feature_delta", {"top": float("nan")}, "its parameters are no JSON"),
    ],
)
def test_parameter_that_a_method_cannot_take_is_refused(name, parameters, message):
    with pytest.raises(DataError, match=f"method '{name}': .*{message}"):
        create_method(name, parameters)


def test_parameter_that_the_reference_of_random_features_cannot_take_is_refused_at_once():
    with pytest.raises(DataError, match="method 'feature_delta': top is 0; it should be"):
        create_method("random_features", {"parameters": {"top": 0}})
    with pytest.raises(UnknownNameError, match="parameter of method hand_crafted 'topp'"):
        create_method("random_features", {"reference": "hand_crafted", "parameters": {"topp": 3}})


def test_activations_that_are_not_finite_name_pair_and_layer():
    activations = planted_activations(planted_direction())
    damaged = activations.positive.clone()
    damaged[7, 1, 0] = float("inf")
    with pytest.raises(NonFiniteError, match="pair 'pair-7', layer 5"):
        dataclasses.replace(activations, positive=damaged)


def test_method_whose_code_fails_says_where(monkeypatch):
    def broken(*_):
        return torch.ones(2) @ torch.ones(3)

    monkeypatch.setattr(MeanDifference, "fit", broken)
    with pytest.raises(VectorError, match=r"method 'mean_difference' failed: RuntimeError: .*\(test_methods.py:\d+\)$"):
        construct("mean_difference", planted_activations(planted_direction()), 5)


def test_method_that_cannot_be_called_says_so(monkeypatch):
    monkeypatch.setattr(MeanDifference, "fit", lambda _method, _activations: None)  # the layer was forgotten
    with pytest.raises(VectorError, match=r"method 'mean_difference' failed: TypeError: .*2 positional arguments"):
        construct("mean_difference", planted_activations(planted_direction()), 5)


@dataclasses.dataclass(frozen=True)
class WithFields:
    """Fields of types that JSON does not know."""

    file: Path = Path("notes.txt")
    words: frozenset[str] = frozenset({"king", "queen", "duke", "prince"})

    def fit(self, _activations: ContrastActivations, _layer: int) -> torch.Tensor:
        return torch.ones(D_MODEL)


def test_parameters_of_any_type_are_written_as_json(monkeypatch):
    methods["mean_difference"]
    monkeypatch.setitem(methods._entries, "own", WithFields)
    vector = construct("own", planted_activations(planted_direction()), 5)
    assert vector.parameters == {"file": "notes.txt", "words": ["duke", "king", "prince", "queen"]}


def test_parameter_that_cannot_be_written_is_refused_before_anything_is_constructed(monkeypatch):
    methods["mean_difference"]
    for value, told in ((re.compile("x"), "a Pattern"), (float("inf"), "Out of range float values")):
        fields = [("found", Any, dataclasses.field(default=value))]
        monkeypatch.setitem(methods._entries, "own", dataclasses.make_dataclass("Own", fields, frozen=True))
        with pytest.raises(DataError, match=f"method 'own': a parameter cannot be written as JSON: {told}"):
            create_method("own", {})


def test_class_that_is_no_dataclass_is_refused(monkeypatch):
    methods["mean_difference"]
    monkeypatch.setitem(methods._entries, "plain", type("Plain", (), {"fit": lambda *_: torch.ones(3)}))
    with pytest.raises(DataError, match=r"method 'plain': its class is no dataclass; put @dataclass\(frozen=True\)"):
        create_method("plain", {})


@pytest.mark.parametrize(("returned", "found"), [(torch.ones(3), r"shape \(3,\)"), (None, "NoneType"), ([1.0], "list")])
def test_what_is_no_direction_of_the_model_s_width_is_refused(returned, found, monkeypatch):
    monkeypatch.setattr(MeanDifference, "fit", lambda *_: returned)
    with pytest.raises(VectorError, match=rf"method 'mean_difference' returned {found}; a tensor of shape \(\d+,\)"):
        construct("mean_difference", planted_activations(planted_direction()), 5)
