"""What a report says that cannot be concluded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steering.concept_files import load_concept
from steering.concepts import Concept
from steering.report.content import content_of
from steering.report.limits import limits_of
from steering.report.samples import samples_of
from steering.report.studies import studies_of
from tests.report_rows import MEASUREMENT, SUCCESSES, items, run, success_row, texts, unsteered

pytestmark = pytest.mark.usefixtures("without_collection")


@pytest.fixture
def concept(concept_directory) -> Concept:
    """Its keywords are "king" and "man"."""
    return load_concept(str(concept_directory))


def limits(rows, concept):
    [study] = studies_of(rows, 0.01, [concept] if concept else [])
    return dict(limits_of(study, samples_of(study), chosen_on_development=False))


def with_texts(concept, layer, successes):
    """The run, in which the mean difference has other completions at one layer."""
    changes = {"concept": concept.name, "toward": concept.toward}
    count = SUCCESSES["mean_difference"][(4, 8, 20).index(layer)]
    assert len(successes) == count
    words = iter(successes)
    completions = tuple(next(words) if item else text for item, text in zip(items(count), texts(0), strict=True))
    other = success_row("mean_difference", layer, count, **changes, texts=completions)
    return [other if row.key == other.key else row for row in run(**changes)]


def test_word_that_is_nearly_all_successes_is_named_with_its_layers(concept):
    told = limits(run(concept=concept.name, toward=concept.toward), concept)["One word"]
    assert told.startswith(
        "At least nine tenths of the successes are the same word: “king” by feature_delta at layer 20;"
    )
    assert "“king” by mean_difference at layers 8, 20." in told
    assert "random_direction" not in told


@pytest.mark.parametrize(("others", "named"), [(3, True), (4, False)])
def test_nine_tenths_are_the_bound(concept, others, named):
    words = (" a King, then",) * (30 - others) + (" some man",) * others
    told = limits(with_texts(concept, 8, words), concept)["One word"]
    assert ("mean_difference at layers 8, 20" in told) is named


def test_cell_whose_texts_were_not_kept_is_passed_over(concept):
    changes = {"concept": concept.name, "toward": concept.toward}
    rows = [replace(row, texts=()) if row.layer == 8 else row for row in run(**changes)]
    assert "“king” by mean_difference at layer 20." in limits(rows, concept)["One word"]


def test_nothing_is_said_where_keywords_are_not_known(concept):
    assert "One word" not in limits(run(), None)


def test_cells_of_another_unsteered_run_are_told():
    assert "Unsteered run" not in limits(run(), None)
    again = unsteered(items=items(30), value=0.75, low=0.6, high=0.9)
    told = limits([row for row in run() if row.key != again.key] + [again], None)["Unsteered run"]
    # Of two of the nine, which have no more successes than either, both p values are 1.
    assert told.startswith("The p values of 7 cells come from another unsteered run than the one shown")


def test_of_one_cell_nothing_is_said_of_many():
    one = [unsteered(), success_row("mean_difference", 8, 30)]
    assert {"Many cells", "The best layer"}.isdisjoint(limits(one, None))
    two = [*one, success_row("mean_difference", 20, 30)]
    assert {"Many cells", "The best layer"} <= set(limits(two, None))
    assert "over the 2 cells of this" in limits(two, None)["Many cells"]


def test_choice_on_the_development_split_is_told_of_the_study_that_was_chosen_in():
    def study(**changes):
        return [unsteered(**changes), *(success_row("mean_difference", layer, 30, **changes) for layer in (8, 20))]

    test = [*study(), *study(seed=7)]
    losses = [replace(row, metric="loss_change_neutral", value=0.01, low=0.0, high=0.02) for row in test]
    split = {"measurement": MEASUREMENT | {"split": "development"}}
    rows = [*test, *losses, *(replace(row, **split) for row in [*test, *losses] if row.seed == 7)]
    parts = content_of(rows, None, None).parts
    told = {part.study.name: "The table “Selection” shows" in dict(part.limits)["The best layer"] for part in parts}
    assert told == {"seed 0": False, "seed 7": True}


def test_unsteered_run_of_another_number_of_rollouts_is_held_against_nothing():
    fewer = unsteered(items=items(4)[:20], n=20)
    assert "Unsteered run" not in limits([row for row in run() if row.method != "unsteered"] + [fewer], None)


def test_what_one_control_can_show_is_said_and_that_there_is_none():
    assert limits(run(), None)["Controls"].startswith(
        "A cell is held against one control at its layer, which is one drawn"
    )
    alone = [row for row in run() if not row.is_control]
    assert limits(alone, None)["Controls"].startswith("There is no control cell")
