"""Profiles: the built-in ones, what a file may say, and what is refused with which words."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace

import pytest

from steering.concept_files import builtin_concepts
from steering.errors import DataError, UnknownNameError
from steering.methods import create_method
from steering.models import embedded
from steering.profile_files import builtin_profiles, load_profile
from steering.profiles import MethodPlan, Profile
from steering.settings import Setting

REQUIRED = {"description": '"A test."', "model": '"embedded"', "concept": '"gender"', "neutral": '"embedded"'}
METHODS = "[methods.mean_difference]\nmultiplier = 2\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.toml"


@pytest.fixture
def profile(concept_directory, neutral_file):
    plans = (MethodPlan("mean_difference", 2.0), MethodPlan("random_direction", 3.0, parameters={"seed": 1}))
    return Profile("mine", "A test.", "embedded", str(concept_directory), str(neutral_file), plans)


def write(path, methods=METHODS, **keys):
    """Write a profile; a key given as None is left out."""
    lines = [f"{key} = {value}" for key, value in (REQUIRED | keys).items() if value is not None]
    path.write_text("\n".join(lines) + "\n" + methods, encoding="utf-8")
    return str(path)


def shown(value):
    """A TOML value as messages show it."""
    return repr(tomllib.loads(f"value = {value}")["value"])


def refusal(path, *args, error=DataError, **keys):
    """Return the message with which a profile is refused, the path shortened to the file's name."""
    with pytest.raises(error) as caught:
        load_profile(write(path, *args, **keys))
    return str(caught.value).replace(str(path), path.name)


@pytest.mark.parametrize("name", builtin_profiles())
def test_builtin_profile_names_things_that_exist(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.concept in builtin_concepts()
    assert profile.neutral in ("embedded", "openwebtext")
    for plan in profile.methods:
        create_method(plan.method, plan.parameters)


def test_the_embedded_profile_claims_layers_that_its_model_has_and_it_steers():
    profile = load_profile("embedded")
    assert (profile.model, profile.layers) == ("embedded", None)
    claimed = {layer for plan in profile.methods for layer in plan.claimed_layers}
    assert set() < claimed <= set(range(embedded.LAYER_COUNT))


def test_the_paper_s_profile_is_the_paper_s_set_up():
    profile = load_profile("paper")
    assert (profile.model, profile.neutral) == ("openai-community/gpt2", "openwebtext")
    assert (profile.plan("mean_difference").multiplier, profile.layers) == (3.0, None)
    assert profile.plan("mean_difference").control == "random_direction"
    assert (profile.rollouts, profile.new_tokens, profile.temperature, profile.top_p) == (200, 40, 1.0, 0.8)


def test_profile_holds_what_its_file_says(path):
    further = "claimed_layers = [5, 4]\n[methods.random_direction]\nmultiplier = -1.5\nparameters = { seed = 3 }\n"
    keys = {"toward": '"negative"', "rollouts": "7", "temperature": "0.5", "seed": "9", "neutral_bound": "0.3"}
    profile = load_profile(write(path, METHODS + further, **keys))
    assert (profile.description, profile.model, profile.concept) == ("A test.", "embedded", "gender")
    assert (profile.toward, profile.rollouts, profile.temperature) == ("negative", 7, 0.5)
    assert (profile.seed, profile.neutral_bound) == (9, 0.3)
    assert profile.methods == (
        MethodPlan("mean_difference", 2.0, "mean_difference", {}, "", (4, 5), ""),
        MethodPlan("random_direction", -1.5, "random_direction", {"seed": 3}, "", (), ""),
    )


def test_profile_is_called_after_its_file_unless_it_says_otherwise(path):
    assert load_profile(write(path)).name == "mine"
    assert load_profile(write(path, name='"yours"')).name == "yours"


def test_profile_takes_whole_numbers_where_fractions_are_allowed(path):
    assert repr(load_profile(write(path, temperature="2")).temperature) == "2.0"
    assert isinstance(load_profile(write(path)).methods[0].multiplier, float)


def test_unknown_profile_gives_a_near_match_and_the_other_way_to_name_one():
    with pytest.raises(UnknownNameError, match=r"unknown profile 'papr'\. Did you mean 'paper'\?.*TOML file"):
        load_profile("papr")


@pytest.mark.parametrize(("key", "near"), [("rolouts", "rollouts"), ("layer", "layers"), ("zzz", "")])
def test_unknown_key_is_refused_with_a_near_match(path, key, near):
    message = refusal(path, error=UnknownNameError, **{key: "3"})
    assert message.startswith(f"unknown key in mine.toml {key!r}.")
    assert ("Did you mean" in message) == bool(near)
    assert f"Did you mean {near!r}?" in message or not near


def test_unknown_key_of_a_method_is_refused_with_a_near_match(path):
    message = refusal(path, METHODS + "claimed_layer = [3]\n", error=UnknownNameError)
    assert "[methods.mean_difference] of mine.toml 'claimed_layer'. Did you mean 'claimed_layers'?" in message


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_key_is_named(path, key):
    assert refusal(path, **{key: None}) == f"mine.toml: missing {key}"


def test_all_missing_keys_are_named_at_once(path):
    message = refusal(path, METHODS, model=None, description=None)
    assert message == "mine.toml: missing description, model"


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        *(
            (key, value, "a valid string")
            for key in ("description", "model", "name")
            for value in ("5", "true", '["a"]')
        ),
        *((key, value, "a valid integer") for key in ("rollouts", "seed") for value in ('"200"', "200.0", "true")),
        *((key, value, "a valid number") for key in ("temperature", "alpha") for value in ('"1"', "true", "[0.5]")),
        ("toward", "1", "'positive' or 'negative'"),
    ],
)
def test_value_of_the_wrong_type_is_refused(path, key, value, kind):
    message = refusal(path, **{key: value})
    assert message == f"mine.toml: {key} is {shown(value)}; it should be {kind}"


@pytest.mark.parametrize(
    ("value", "layers"), [(None, None), ('"all"', None), ("[3]", (3,)), ("[8, 0, 8, 2]", (0, 2, 8))]
)
def test_layers_are_all_or_a_sorted_list(path, value, layers):
    assert load_profile(write(path, layers=value)).layers == layers


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ('"most"', "layers is 'most'; it should be a valid array"),
        ("3", "layers is 3; it should be a valid array"),
        ("[-1]", "profile 'mine': layers holds -1; blocks are counted from 0"),
        ("[1.0]", "layers.0 is 1.0; it should be a valid integer"),
        ("[true]", "layers.0 is True; it should be a valid integer"),
        ('["1"]', "layers.0 is '1'; it should be a valid integer"),
    ],
)
def test_layers_that_are_no_blocks_are_refused(path, value, fault):
    assert refusal(path, layers=value) == f"mine.toml: {fault}"


def test_no_layers_are_refused(path):
    message = refusal(path, layers="[]")
    assert message == "mine.toml: profile 'mine': layers is empty; name at least one, or leave it out"


@pytest.mark.parametrize("value", ['"most"', "0"])
def test_claimed_layers_that_are_no_blocks_are_refused_by_their_own_name(path, value):
    assert f"claimed_layers is {shown(value)}; it should be " in refusal(path, METHODS + f"claimed_layers = {value}\n")


@pytest.mark.parametrize(
    ("methods", "fault"),
    [
        ("[methods.m]\n", "missing [methods.m] multiplier"),
        ('[methods.m]\nmultiplier = "3"\n', "[methods.m] multiplier is '3'; it should be a valid number"),
        ("[methods]\nm = 3\n", "[methods.m] is 3; it must be a table"),
    ],
)
def test_method_without_a_multiplier_is_refused(path, methods, fault):
    assert refusal(path, methods) == f"mine.toml: {fault}"


def test_claim_at_a_layer_that_is_not_run_is_refused(path):
    message = refusal(path, METHODS + "claimed_layers = [3, 20]\n", layers="[3]")
    assert message == "mine.toml: [methods.mean_difference] claims layers [20], which the profile does not run"


def test_method_with_parameters_that_are_no_table_is_refused(path):
    message = refusal(path, METHODS + "parameters = 3\n")
    assert message.startswith("mine.toml: ")
    assert "parameters" in message


def test_methods_that_are_no_tables_are_refused(path):
    message = refusal(path, 'methods = ["mean_difference"]')
    assert message == "mine.toml: methods must be tables such as [methods.mean_difference]"


def test_profile_without_methods_is_refused(path):
    assert refusal(path, "[methods]\n") == "mine.toml: profile 'mine': methods is (); it must be at least one method"


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        *((key, 0, "at least 1") for key in ("rollouts", "new_tokens")),
        *((key, 1, "at least 2: one has no interval") for key in ("neutral_documents", "development_documents")),
        *((f"neutral_{part}_tokens", -1, "at least 1") for part in ("prompt", "continuation")),
        *(
            ("temperature", value, "finite and at least 0.000001")
            for value in (0.0, -1.0, 1e-7, float("nan"), float("inf"))
        ),
        *(("top_p", value, "above 0 and at most 1") for value in (0.0, 1.01, float("nan"))),
        ("steered_positions", "generated", "'prompt' or 'all'"),
        *(("alpha", value, "between 0 and 1") for value in (0.0, 1.0, float("nan"))),
        *(("seed", value, "0 or more, and less than 2^63") for value in (-1, 2**63)),
        ("toward", "sideways", "'positive' or 'negative'"),
    ],
)
def test_value_out_of_bounds_is_refused(profile, key, value, right):
    with pytest.raises(DataError) as caught:
        replace(profile, **{key: value})
    assert str(caught.value) == f"profile 'mine': {key} is {value!r}; it must be {right}"


@pytest.mark.parametrize(("key", "value"), [("rollouts", 1), ("temperature", 0.01), ("top_p", 1.0), ("seed", 0)])
def test_value_at_its_bound_is_taken(profile, key, value):
    assert getattr(replace(profile, **{key: value}), key) == value


@pytest.mark.parametrize("content", ["model = embedded", pytest.param("a = " + "[" * 10_000, id="nested")])
def test_malformed_toml_is_refused(path, content):
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"mine\.toml: not valid TOML: "):
        load_profile(str(path))


def test_plan_is_found_by_name(profile):
    assert profile.plan("random_direction") == MethodPlan("random_direction", 3.0, parameters={"seed": 1})
    with pytest.raises(UnknownNameError, match=r"'mean_diference'\. Did you mean 'mean_difference'\?.*random_dir"):
        profile.plan("mean_diference")


def test_measurement_holds_what_decides_the_meaning_of_a_value(profile):
    changes = {"rollouts": 7, "new_tokens": 8, "temperature": 0.5, "top_p": 0.9}
    changes |= {"neutral_prompt_tokens": 5, "neutral_continuation_tokens": 6}
    before, after = profile.measurement, replace(profile, **changes).measurement
    assert after == before | changes
    assert not before.items() & changes.items()


def test_measurement_says_which_positions_are_steered_and_scored(profile):
    fixed = {"steered_positions": "prompt", "first_continuation_token": "scored"}
    assert fixed.items() <= profile.measurement.items()
    everywhere = replace(profile, steered_positions="all")
    assert everywhere.measurement == profile.measurement | {"steered_positions": "all"}


@pytest.mark.parametrize("key", ["name", "description", "alpha", "neutral_bound", "layers", "methods"])
def test_measurement_leaves_out_what_changes_no_value(profile, key):
    others = {"layers": (1,), "methods": profile.methods[:1], "alpha": 0.5, "neutral_bound": 0.5}
    assert replace(profile, **{key: others.get(key, "other")}).measurement == profile.measurement


def test_setting_loads_the_texts_that_its_profile_names(profile):
    setting = Setting.load(replace(profile, toward="negative", neutral_documents=3))
    assert (setting.concept.name, setting.concept.toward) == ("royalty", "negative")
    assert setting.concept.keywords.positive == ("queen", "woman")
    assert (setting.neutral.name, len(setting.neutral.documents)) == ("neutral.jsonl", 3)


@pytest.mark.parametrize(
    ("key", "value"), [("toward", "negative"), ("neutral_documents", 3), ("concept", "gender"), ("neutral", "embedded")]
)
def test_data_hash_changes_with_the_texts_and_nothing_else(profile, key, value):
    hashes = [
        Setting.load(replace(profile, **changes)).data_hash
        for changes in ({}, {key: value}, {"rollouts": 5, "name": "other", "model": "other"})
    ]
    assert re.fullmatch("[0-9a-f]{64}", hashes[0])
    assert [found == hashes[0] for found in hashes] == [True, False, True]


@pytest.mark.parametrize("name", builtin_profiles())
def test_random_features_of_the_built_in_profiles_have_the_norm_of_what_they_control_for(name):
    profile = load_profile(name)
    steering = [plan for plan in profile.methods if plan.method in ("feature_delta", "hand_crafted")]
    assert steering
    for plan in steering:
        control = profile.plan(plan.control)
        assert (control.method, control.norm_of, control.multiplier) == ("random_features", plan.name, plan.multiplier)
