"""What cannot be concluded from a study, with its own numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np

from steering import stats
from steering.keywords import keyword_pattern
from steering.report.samples import Samples
from steering.report.studies import Study
from steering.report.verdict import detectable_in
from steering.results import NEUTRAL_BUDGET
from steering.tables import wording
from steering.tables.adjustment import of_another_unsteered_run

_KEYWORDS = (
    "A completion counts as a success if it contains a keyword as a whole word, whatever else it says. Nobody judged "
    "meaning, grammar or truth."
)
# Share of the successes from which they are said to be one word.
_ONE_WORD = 0.9
# Cells from which there is a choice among them.
_SEVERAL = 2
_BEST_LAYER = (
    "The highest of many values would, on average, be lower if it were measured again, because it was chosen on the "
    "rollouts that it is reported on. It is better to choose layers and doses on the development split."
)
_CHOSEN = " The table “Selection” shows what was chosen there, and what it reaches on the test split."


def limits_of(study: Study, samples: Samples | None, chosen_on_development: bool) -> list[tuple[str, str]]:
    """Heading and sentences of each limit that applies.

    Args:
        study: The cells.
        samples: What is shown of the completions; knows the prompts, or not.
        chosen_on_development: Whether layers were chosen on another split than they are reported on.
    """
    found = [
        ("Nothing found", _nothing_found(study)),
        ("Number of rollouts", _rollouts(study)),
        ("Unsteered run", _unsteered_again(study)),
        ("Prompts", _prompts(study, samples)),
        ("Keywords", _KEYWORDS),
        ("One word", _one_word(study, samples)),
        ("Many cells", _many_cells(study)),
        ("The best layer", _best_layer(study, chosen_on_development)),
        ("Doses", _doses(study)),
        ("Controls", _controls(study)),
        ("Neutral text", _neutral(study)),
        ("One model", _model(study)),
    ]
    return [(heading, paragraph) for heading, paragraph in found if paragraph]


def _nothing_found(study: Study) -> str:
    if not (smallest_rise := detectable_in(study)):
        return ""
    return (
        f"A cell that was not found to steer may still have an effect. {smallest_rise} The two rollouts of a "
        "pair are taken as independent here."
    )


def _rollouts(study: Study) -> str:
    unsteered = study.unsteered
    if unsteered is None or not unsteered.n:
        return ""
    low, high = stats.proportion_interval(np.arange(unsteered.n) < unsteered.n / 2)
    return (
        f"P(success) is a share of {unsteered.n} sampled completions; if it is one half, its 95 % interval goes "
        f"from {low:.2f} to {high:.2f}. An interval holds for its own cell, not for all cells at once, and whether "
        "two of them overlap is not a test."
    )


def _unsteered_again(study: Study) -> str:
    """Of cells that were held against another unsteered run than the one that is shown."""
    if not (differing := of_another_unsteered_run(study.rows)):
        return ""
    return (
        f"The p values of {wording.counted(len(differing), 'cell')} come from another unsteered run than the one "
        "shown, which was measured later and came out differently; they are left out. `pytest bench --resume` tests "
        "the cells anew, without measuring them again."
    )


def _prompts(study: Study, samples: Samples | None) -> str:
    if study.concept is None or samples is None or not samples.highlighted:
        return "All rollouts complete the concept's prompts. Intervals say nothing about other prompts."
    prompts = study.concept.rollout_prompts
    if len(prompts) == 1:
        return (
            f"All rollouts complete one prompt, “{prompts[0]}”. Intervals are over completions of it: another prompt "
            "may give other values, and rank methods and layers differently."
        )
    return (
        f"Rollouts complete {len(prompts)} prompts in turn; intervals treat them as independent. Completions of one "
        "prompt are more alike than those of different prompts, so other prompts may differ by more than intervals say."
    )


def _one_word(study: Study, samples: Samples | None) -> str:
    """Cells that steer, and whose successes hold the same keyword nearly always, as far as keywords explain them."""
    if study.concept is None or samples is None or not samples.highlighted:
        return ""
    pattern = keyword_pattern(study.concept.keywords.positive)
    found: dict[tuple[str, str], list[int]] = {}
    for cell in filter(study.steers, study.cells):
        if cell.success is None or len(cell.success.texts) != len(cell.success.items):
            continue
        counted = zip(cell.success.texts, cell.success.items, strict=True)
        successes = [text for text, succeeded in counted if succeeded]
        words = Counter(match.group().casefold() for text in successes if (match := pattern.search(text)))
        for word, count in words.most_common(1):
            if count >= _ONE_WORD * len(successes):
                found.setdefault((cell.label, word), []).append(cell.layer)
    if not found:
        return ""
    repeated = "; ".join(
        f"“{word}” by {label} at {wording.counted_layers(layers)}" for (label, word), layers in found.items()
    )
    return (
        f"At least nine tenths of the successes are the same word: {repeated}. A vector that makes a model say one "
        "word need not have anything to do with the concept."
    )


def _best_layer(study: Study, chosen_on_development: bool) -> str:
    if len([cell for cell in study.cells if cell.success is not None and not cell.row.is_control]) < _SEVERAL:
        return ""
    return _BEST_LAYER + (_CHOSEN if chosen_on_development else "")


def _many_cells(study: Study) -> str:
    if len(study.tested) < _SEVERAL:
        return ""
    return (
        f"P values against the unsteered run are adjusted by Holm's method over the {len(study.tested)} cells of this "
        "study, and those against controls separately. They are not adjusted over both, nor over other runs, concepts, "
        "doses or metrics that were looked at. All cells share one set of unsteered rollouts and of random numbers, so "
        "their errors are shared too."
    )


def _doses(study: Study) -> str:
    if any(NEUTRAL_BUDGET in cell.row.parameters for cell in study.cells):
        return (
            "Methods are compared at doses that stay within one budget of neutral loss, chosen on development "
            "documents from a fixed set of multipliers. The budget is seldom used up, and methods use different parts "
            "of it."
        )
    return (
        "Each cell was measured at the doses shown. Vectors have different lengths, and damage neutral text to "
        "different degrees: a method that is better here need not be at equal damage (pytest bench --budget)."
    )


def _controls(study: Study) -> str:
    if not study.controls:
        return "There is no control cell, so some other direction of this length might do the same."
    return (
        "A cell is held against one control at its layer, which is one drawn vector: the test says that the two "
        "differ, not that no vector without meaning would do as much. Only the empirical p value is about such "
        "vectors, and it takes those of other layers to be like those of the cell's own."
    )


def _neutral(study: Study) -> str:
    counts = {cell.neutral.n for cell in study.cells if cell.neutral is not None}
    if not counts:
        return "What steering costs was not measured."
    return (
        f"The cost is a change of loss on {max(counts)} documents. It says nothing about other abilities, and its mean "
        "may hide single documents that suffer more."
    )


def _model(study: Study) -> str:
    row = study.rows[0]
    return (
        f"Everything here is for one model ({row.model}, {row.dtype}, on {row.device}), one concept ({row.concept}, "
        f"towards its {row.toward} side) and one seed ({row.seed}). Another machine or number format gives slightly "
        "different completions from the same seed."
    )
