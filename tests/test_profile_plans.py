"""Profiles: the plans of methods, their controls, and what is claimed of sparse autoencoders."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import DataError, UnknownNameError
from steering.profile_files import load_profile
from steering.profiles import MethodPlan, Profile, SaeBounds
from tests.test_profiles import METHODS, refusal, shown, write

DELTA = """
[methods.delta]
method = "feature_delta"
multiplier = 80
control = "other features"
norm_of = "mean_difference"
claimed_layers = [20, 8]
layers = [21, 8, 20, 8]
parameters = { tokens = "max", top = 5 }
[methods."other features"]
method = "random_features"
multiplier = 80
"""
BOUNDS = "[sae_bounds]\nvariance_explained = 0.7\nl0 = 40\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.toml"


def test_plan_holds_what_its_table_says(path):
    profile = load_profile(write(path, METHODS + DELTA))
    assert profile.plan("delta") == MethodPlan(
        name="delta",
        multiplier=80.0,
        method="feature_delta",
        parameters={"tokens": "max", "top": 5},
        control="other features",
        claimed_layers=(8, 20),
        norm_of="mean_difference",
        layers=(8, 20, 21),
    )
    assert [plan.name for plan in profile.methods] == ["mean_difference", "delta", "other features"]


def test_plan_runs_the_method_of_its_name_unless_it_says_otherwise(path):
    profile = load_profile(write(path, METHODS + DELTA))
    assert [plan.method for plan in profile.methods] == ["mean_difference", "feature_delta", "random_features"]
    first = profile.methods[0]
    assert (first.control, first.norm_of, first.layers, first.claimed_layers) == ("", "", None, ())


def test_two_plans_of_one_method_are_two(path):
    methods = METHODS + '[methods.again]\nmethod = "mean_difference"\nmultiplier = 5\n'
    profile = load_profile(write(path, methods))
    assert (profile.plan("mean_difference").multiplier, profile.plan("again").multiplier) == (2.0, 5.0)


@pytest.mark.parametrize("key", ["control", "norm_of"])
def test_plan_that_names_no_plan_of_the_profile_is_refused(path, key):
    methods = METHODS + f'{key} = "random_directon"\n[methods.random_direction]\nmultiplier = 1\n'
    message = refusal(path, methods, error=UnknownNameError)
    assert message == (
        f"unknown {key} 'random_directon'. Did you mean 'random_direction'? "
        "Known: mean_difference, random_direction. It is named by method 'mean_difference' of profile 'mine'."
    )
    plan = MethodPlan("a", 1.0, **{key: "b"})
    with pytest.raises(UnknownNameError, match=f"unknown {key} 'b'. Known: a. It is named by method 'a'"):
        Profile("p", "", "m", "c", "n", (plan,))


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        *((key, value, "string") for key in ("method", "control", "norm_of") for value in ("3", '["a"]', "true")),
        ("parameters", '"seed"', "object"),
        ("parameters", "[1]", "object"),
    ],
)
def test_plan_with_a_value_of_the_wrong_kind_is_refused_with_its_file(path, key, value, kind):
    message = refusal(path, METHODS + f"{key} = {value}\n")
    assert message.startswith(f"mine.toml: [methods.mean_difference] {key} is {shown(value)}; it should be a")
    assert message.endswith(kind)


@pytest.mark.parametrize("key", ["layers", "claimed_layers"])
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ('"all"', "[methods.mean_difference] {} is 'all'; it should be a valid array"),
        ("8", "[methods.mean_difference] {} is 8; it should be a valid array"),
        ("[-1]", "method 'mean_difference': {} holds -1; blocks are counted from 0"),
        ("[true]", "[methods.mean_difference] {}.0 is True; it should be a valid integer"),
    ],
)
def test_plan_with_layers_that_are_no_blocks_is_refused_with_its_file(path, key, value, fault):
    assert refusal(path, METHODS + f"{key} = {value}\n") == f"mine.toml: {fault.format(key)}"


@pytest.mark.parametrize("key", ["name", "norm", "sae"])
def test_plan_with_a_key_that_plans_do_not_have_is_refused(path, key):
    message = refusal(path, METHODS + f'{key} = "x"\n', error=UnknownNameError)
    assert message.startswith(f"unknown key in [methods.mean_difference] of mine.toml {key!r}.")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_multiplier_that_is_not_finite_is_refused(path, value):
    message = refusal(path, f"[methods.mean_difference]\nmultiplier = {value}\n")
    assert message == f"mine.toml: method 'mean_difference': multiplier is {value}; it must be finite, 1e+100 at most"


@pytest.mark.parametrize("name", ["unsteered", "sae"])
def test_plan_with_a_name_that_results_give_to_something_else_is_refused(path, name):
    message = refusal(path, f'[methods.{name}]\nmethod = "mean_difference"\nmultiplier = 2\n')
    assert message == f"mine.toml: method {name!r}: results call something else by this name; choose another"


@pytest.mark.parametrize("name", ["", "  "])
def test_plan_with_a_blank_name_is_refused(path, name):
    message = refusal(path, f'[methods."{name}"]\nmethod = "mean_difference"\nmultiplier = 2\n')
    assert message == f"mine.toml: method {name!r}: its name is blank; name it as in [methods.mean_difference]"


def test_claim_at_a_layer_that_the_plan_itself_leaves_out_is_refused(path):
    message = refusal(path, METHODS + "layers = [8, 20]\nclaimed_layers = [24, 8, 12]\n")
    assert message == ("mine.toml: method 'mean_difference': claimed_layers [12, 24] are not among its layers, [8, 20]")
    with pytest.raises(DataError, match=r"claimed_layers \[1\] are not among its layers, \[2\]"):
        MethodPlan("a", 1.0, claimed_layers=(1,), layers=(2,))


def test_a_plan_for_no_layer_is_refused(path):
    message = refusal(path, METHODS + "layers = []\n")
    assert message == "mine.toml: method 'mean_difference': layers is empty; name at least one, or leave it out"


def test_a_plan_without_a_metric_is_refused(path):
    message = refusal(path, METHODS + "metrics = []\n")
    assert message == "mine.toml: [methods.mean_difference] metrics is empty; name at least one, or leave it out"


@pytest.mark.parametrize("line", ["", "[methods.mean_difference.parameters]\n"])
def test_a_date_is_no_value_of_a_profile(path, line):
    assert "date is not JSON serializable" in refusal(path, METHODS + line + "method = 1979-05-27\n")


def plans_referring(key: str, **references: str) -> tuple[MethodPlan, ...]:
    """Plans with the name of another, or none, in one of their keys."""
    return tuple(MethodPlan(name, 1.0, **{key: other}) for name, other in references.items())


@pytest.mark.parametrize("key", ["control", "norm_of"])
@pytest.mark.parametrize(
    ("references", "cycle"),
    [
        ({"a": "a"}, "'a' -> 'a'"),
        ({"a": "b", "b": "a"}, "'a' -> 'b' -> 'a'"),
        ({"a": "b", "b": "c", "c": "b"}, "'b' -> 'c' -> 'b'"),
        ({"a": "", "b": "a", "c": "d", "d": "e", "e": "c"}, "'c' -> 'd' -> 'e' -> 'c'"),
    ],
)
def test_plans_that_refer_to_each_other_in_a_circle_are_refused(key, references, cycle):
    with pytest.raises(DataError) as caught:
        Profile("p", "", "m", "c", "n", plans_referring(key, **references))
    assert str(caught.value) == f"profile 'p': {key} goes in a circle: {cycle}; leave it out of one of them"


def test_circle_in_a_file_is_refused(path):
    assert refusal(path, METHODS + 'control = "mean_difference"\n').startswith(
        "mine.toml: profile 'mine': control goes in a circle"
    )


@pytest.mark.parametrize("key", ["control", "norm_of"])
@given(data=st.data())
def test_plans_that_refer_to_earlier_ones_alone_are_taken(key, data):
    names = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True))
    references = {name: data.draw(st.sampled_from(["", *names[:number]])) for number, name in enumerate(names)}
    plans = plans_referring(key, **references)
    assert Profile("p", "", "m", "c", "n", plans[::-1]).methods == plans[::-1]


def test_control_may_be_scaled_to_the_norm_of_the_plan_that_it_controls():
    plans = (MethodPlan("a", 1.0, control="b"), MethodPlan("b", 1.0, norm_of="a"))
    assert Profile("p", "", "m", "c", "n", plans).methods == plans


def test_profile_names_saes_and_their_descriptions(path):
    assert (load_profile(write(path)).saes, load_profile(write(path)).descriptions) == ("", "")
    profile = load_profile(write(path, saes='"embedded"', descriptions='"about.jsonl"'))
    assert (profile.saes, profile.descriptions) == ("embedded", "about.jsonl")


@pytest.mark.parametrize("key", ["saes", "descriptions"])
def test_saes_and_descriptions_that_are_no_strings_are_refused_with_the_file(path, key):
    assert refusal(path, **{key: "8"}) == f"mine.toml: {key} is 8; it should be a valid string"


def test_bounds_of_saes_are_claims_only_where_they_are_given(path):
    assert load_profile(write(path)).sae_bounds == SaeBounds(None, None, None)
    assert load_profile(write(path, METHODS + BOUNDS)).sae_bounds == SaeBounds(0.7, None, 40)


@given(bounds=st.dictionaries(st.sampled_from(["variance_explained", "loss_recovered", "l0"]), st.floats(-1, 1e3)))
def test_bounds_of_saes_are_those_of_the_file(tmp_path_factory, bounds):
    path = tmp_path_factory.mktemp("profiles") / "mine.toml"
    table = "[sae_bounds]\n" + "".join(f"{key} = {value!r}\n" for key, value in bounds.items())
    assert load_profile(write(path, METHODS + table)).sae_bounds == SaeBounds(**bounds)


@pytest.mark.parametrize("key", ["variance_explained", "loss_recovered", "l0"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_bound_that_is_not_finite_is_refused_with_the_file(path, key, value):
    message = refusal(path, METHODS + f"[sae_bounds]\n{key} = {value}\n")
    assert message == f"mine.toml: sae_bounds: {key} is {value}; it must be finite"


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        ("multiplier", "[methods.mean_difference]\nmultiplier = {}\n"),
        ("neutral_budget", "neutral_budget = {}\n" + METHODS),
        ("doses", "doses = [1.0, {}]\n" + METHODS),
    ],
)
def test_number_that_no_row_could_hold_is_refused(path, key, lines):
    message = refusal(path, lines.format("1e101"))
    assert f"{key} is " in message
    assert "1e+100" in message


@pytest.mark.parametrize("lines", ["multiplier = {}\n", "multiplier = 1\n[sae_bounds]\nl0 = {}\n"])
def test_whole_number_that_no_float_holds_is_refused(path, lines):
    message = refusal(path, "[methods.mean_difference]\n" + lines.format("1" + "0" * 400))
    assert message.startswith("mine.toml: ")
    assert "finite" in message


@pytest.mark.parametrize("value", ['"0.7"', "true", "[0.7]"])
def test_bound_that_is_no_number_is_refused_with_the_file(path, value):
    message = refusal(path, METHODS + f"[sae_bounds]\nloss_recovered = {value}\n")
    assert message == f"mine.toml: sae_bounds.loss_recovered is {shown(value)}; it should be a valid number"


def test_bound_that_does_not_exist_is_refused_with_a_near_match(path):
    message = refusal(path, METHODS + "[sae_bounds]\nloss_recoverd = 0.7\n", error=UnknownNameError)
    assert "unknown key in [sae_bounds] of mine.toml 'loss_recoverd'. Did you mean 'loss_recovered'?" in message


@pytest.mark.parametrize("value", ["0.7", '"good"', "[0.7]"])
def test_bounds_that_are_no_table_are_refused(path, value):
    assert refusal(path, sae_bounds=value) == f"mine.toml: [sae_bounds] is {shown(value)}; it must be a table"


def test_bounds_and_names_of_saes_change_no_measurement(path):
    profile = load_profile(write(path))
    other = replace(profile, saes="embedded", descriptions="x.jsonl", sae_bounds=SaeBounds(l0=3))
    assert other.measurement == profile.measurement


def test_claim_of_any_plan_at_a_layer_that_is_not_run_is_refused(path):
    with pytest.raises(DataError, match=r"\[methods.delta\] claims layers \[20\], which the profile does not run"):
        load_profile(write(path, METHODS + DELTA, layers="[8]"))


def test_plan_for_a_layer_that_is_not_run_is_refused(path):
    methods = METHODS + "layers = [8, 20]\n"
    with pytest.raises(DataError, match=r"\[methods.mean_difference\] names layers \[20\], which the profile does not"):
        load_profile(write(path, methods, layers="[8]"))
