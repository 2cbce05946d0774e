"""The figure of how alike a vector is to all features."""

from __future__ import annotations

import numpy as np
import pytest

from steering.errors import NonFiniteError, SteeringError
from steering.report.figures import similarity_figure
from steering.sae.similarity import FeatureSimilarity
from tests.figure_rows import records

PRODUCTS = np.random.default_rng(0).normal(size=3000)


def test_data_rank_all_features_and_mark_the_outermost_thousandth():
    figure = similarity_figure(FeatureSimilarity(8, PRODUCTS))
    entries = records(figure)
    assert {entry["feature"]: entry["product"] for entry in entries} == dict(enumerate(PRODUCTS.tolist()))
    assert [entry["product"] for entry in entries] == sorted(PRODUCTS.tolist(), reverse=True)
    assert [entry["rank"] for entry in entries] == list(range(1, 3001))
    by_size = np.argsort(PRODUCTS)
    assert {entry["feature"] for entry in entries if entry["tail"] == "top"} == set(by_size[-3:].tolist())
    assert {entry["feature"] for entry in entries if entry["tail"] == "bottom"} == set(by_size[:3].tolist())


def test_extremes_are_drawn_by_name():
    highest, lowest = (int(np.argsort(PRODUCTS)[place]) for place in (-1, 0))
    descriptions = {highest: "about men", lowest: "women"}
    overview, extremes = similarity_figure(FeatureSimilarity(8, PRODUCTS), descriptions).draw().axes
    texts = [text.get_text() for text in extremes.texts]
    assert len(texts) == 6
    assert (texts[0], texts[-1]) == (f"{highest}  about men", f"{lowest}  women")
    ends = {line.get_label(): line.get_xdata().tolist() for line in overview.lines}
    in_order = np.sort(PRODUCTS).tolist()
    assert ends["top 0.1 %"] == in_order[:-4:-1]
    assert ends["bottom 0.1 %"] == in_order[:3]
    counted = sum(patch.get_height() for patch in overview.patches)
    assert counted == 3000


@pytest.mark.parametrize("products", [[2.0], [0.0, 0.0], [1.0, 2.0, 3.0], [-1.0, -2.0]])
def test_few_features_are_drawn(products):
    drawn = similarity_figure(FeatureSimilarity(0, np.array(products))).draw()
    assert len(drawn.axes[1].texts) == min(2, len(products))


@pytest.mark.parametrize(
    ("products", "error", "message"),
    [
        (np.array([]), SteeringError, r"shape \(0,\); one product for each feature"),
        (np.ones((2, 2)), SteeringError, r"shape \(2, 2\)"),
        (np.array([1.0, np.nan]), NonFiniteError, "NaN or infinite"),
    ],
)
def test_what_has_no_order_is_no_similarity(products, error, message):
    with pytest.raises(error, match=message):
        FeatureSimilarity(0, products)


def test_of_equal_products_the_lower_number_is_higher():
    found = FeatureSimilarity(0, np.array([1.0, 2.0, 2.0, 1.0]))
    assert (found.order, found.top, found.bottom) == ([1, 2, 0, 3], [1], [3])
