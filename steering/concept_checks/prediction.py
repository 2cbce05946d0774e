"""At which layers a concept's mean difference is worth measuring, before anything is steered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby

import numpy as np

from steering import stats
from steering.activations import ContrastActivations
from steering.concept_checks.pair_directions import class_separation, leave_one_out_cosines, sign_flip_null
from steering.errors import DataError
from steering.methods import construct
from steering.tables import wording

_LEVEL = 0.01
# The smallest p value is 1 over their number; times the number of layers, it must be able to fall below the level.
_FEWEST_FLIPS = 9_999

#: What no prediction of this kind shows, to be said beside each.
LIMITS = (
    "This does not show that steering works. Pairs that agree, and sides that can be told apart, are needed for a mean "
    "difference that stands for something, but they are not enough: the model must also act on what is added. With the "
    "embedded model and the concept gender, the agreement is about 0.5 already in low layers, at which the mean "
    "difference hardly steers. Nor does it show that the concept is what the pairs agree in: whatever else differs "
    "regularly between the sides, such as length or a last word, agrees as well. Only a run measures both: "
    "pytest bench --concept, with controls."
)


class Promise(Enum):
    """What a layer is good for, by its pairs."""

    CHANCE = "it is not shown that pairs agree more than by chance: do not expect their mean difference to steer"
    NOT_HELD_OUT = (
        "generation pairs agree, but it is not shown that their mean difference tells the sides of test pairs apart: "
        "do not expect it to steer"
    )
    HELD_OUT = (
        "pairs agree, and their mean difference tells the sides of test pairs apart: it may steer, which remains to be "
        "measured"
    )


@dataclass(frozen=True)
class LayerPrediction:
    """What the pairs show at one layer.

    Attributes:
        layer: Block, from 0.
        agreement: Mean over generation pairs of the cosine with the mean difference of the others.
        by_chance: What 95 % of the means stay under where sides are swapped at random.
        p_value: One-sided, of the agreement, by swaps, adjusted over the layers by Holm.
        separation: Area under the ROC curve of test texts projected on the generation mean difference, and the ends of
            its 95 % interval.
        right: Share of test pairs whose positive text projects further than the negative one, and the ends of its
            interval.
        p_right: One-sided, that more pairs lie this way round than the other, by the exact sign test, adjusted in the
            same way.
    """

    layer: int
    agreement: float
    by_chance: float
    p_value: float
    separation: tuple[float, float, float]
    right: tuple[float, float, float]
    p_right: float

    @property
    def promise(self) -> Promise:
        """What this comes to."""
        if self.p_value >= _LEVEL:
            return Promise.CHANCE
        return Promise.HELD_OUT if self.p_right < _LEVEL else Promise.NOT_HELD_OUT


def predict(generation: ContrastActivations, test: ContrastActivations) -> list[LayerPrediction]:
    """Judge each layer by pairs that a vector is constructed from, and by pairs that it has not seen.

    Raises:
        DataError: There are fewer than two generation pairs.
    """
    if len(generation.pair_ids) < 2:
        raise DataError("whether pairs agree cannot be told of a single generation pair; give more")
    flips = max(_FEWEST_FLIPS, round(2 * len(generation.layers) / _LEVEL))
    found = [_measure(generation, test, layer, flips) for layer in generation.layers]
    agreement = stats.holm([entry.p_value for entry in found])
    right = stats.holm([entry.p_right for entry in found])
    return [
        replace(entry, p_value=float(p_value), p_right=float(p_right))
        for entry, p_value, p_right in zip(found, agreement, right, strict=True)
    ]


def _measure(generation: ContrastActivations, test: ContrastActivations, layer: int, flips: int) -> LayerPrediction:
    """One layer, its p values not adjusted."""
    positive, negative = (side.double().numpy() for side in generation.at(layer))
    agreement = float(leave_one_out_cosines(positive - negative).mean())
    null = sign_flip_null(positive - negative, flips)
    direction = construct("mean_difference", generation, layer).direction.double().numpy()
    positive, negative = (side.double().numpy() @ direction for side in test.at(layer))
    right, wrong = (positive > negative).astype(float), (negative > positive).astype(float)
    return LayerPrediction(
        layer=layer,
        agreement=agreement,
        by_chance=float(np.quantile(null, 0.95)),
        p_value=stats.empirical_p(agreement, null),
        separation=class_separation(positive, negative),
        right=(float(right.mean()), *stats.proportion_interval(right)),
        p_right=stats.p_more_successes(right, wrong),
    )


def prediction_table(predictions: Sequence[LayerPrediction]) -> list[list[str]]:
    """One line for each layer, under a line of headings."""
    lines = [
        ["layer", "agreement", "by chance", "p (Holm)", "AUC [95 % CI]", "pairs right [95 % CI]", "p right (Holm)"]
    ]
    return lines + [
        [
            str(entry.layer),
            f"{entry.agreement:.3f}",
            f"< {entry.by_chance:.3f}",
            wording.p_value(entry.p_value),
            *(wording.interval(*found) for found in (entry.separation, entry.right)),
            wording.p_value(entry.p_right),
        ]
        for entry in predictions
    ]


def sentences(predictions: Sequence[LayerPrediction]) -> list[str]:
    """One sentence for each run of layers that come to the same."""
    found = []
    for verdict, group in groupby(predictions, key=lambda entry: entry.promise):
        layers = list(group)
        where = wording.counted_layers([entry.layer for entry in layers]).capitalize()
        areas = sorted(entry.separation[0] for entry in layers)
        area = " to ".join(dict.fromkeys((f"{areas[0]:.2f}", f"{areas[-1]:.2f}")))
        found.append(f"{where}: {verdict.value} (AUC {area}).")
    return found
