"""Whether the differences of contrast pairs have a direction in common, and whether it tells held-out sides apart."""

from __future__ import annotations

import numpy as np
from scipy import stats as scipy_stats

from steering import stats

_RESAMPLES = 2000
_BATCH = 50


def leave_one_out_cosines(differences: np.ndarray) -> np.ndarray:
    """Cosine between each pair's difference and the mean of the others' `[pair]`; 0 where one of them is zero.

    The mean of all would hold the pair's own difference, so that even random ones would agree with it.

    Args:
        differences: Positive minus negative, `[pair, d_model]`, of two pairs or more.
    """
    return np.asarray(_cosines(_products(differences), np.ones((1, len(differences))))[0])


def sign_flip_null(differences: np.ndarray, flips: int) -> np.ndarray:
    """Mean leave-one-out cosine after each pair has had its sides swapped or not, at random, `[flip]`.

    That is its distribution where the sides of a pair could as well be called by each other's name.
    """
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(flips, len(differences)))
    return np.asarray(_cosines(_products(differences), signs).mean(axis=1))


def class_separation(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float, float]:
    """Area under the ROC curve of projections, with its percentile bootstrap interval over pairs at 95 %.

    The area is the share of all combinations of a positive and a negative text, of any two pairs, in which the positive
    one projects further; ties count half. Whole pairs are drawn, because both texts of one have their prompt in common.

    Args:
        positive: Projections of the positive texts, `[pair]`.
        negative: Those of the negative texts, `[pair]`.

    Returns:
        The area and the ends of its interval, which has no width where nothing varies, as at an area of 1.
    """
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    area = float(wins.mean())
    if np.ptp(wins) == 0:
        return area, area, area

    def resampled(drawn: np.ndarray, axis: int) -> np.ndarray:  # noqa: ARG001 - scipy gives the last one
        rows = drawn.astype(int)
        return np.asarray(wins[rows[..., :, None], rows[..., None, :]].mean(axis=(-2, -1)))

    interval = scipy_stats.bootstrap(
        (np.arange(len(wins)),),
        resampled,
        confidence_level=stats.CONFIDENCE,
        n_resamples=_RESAMPLES,
        batch=_BATCH,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return area, float(interval.low), float(interval.high)


def _products(differences: np.ndarray) -> np.ndarray:
    """Inner products of all differences `[pair, pair]`: all that cosines with sums of them depend on."""
    wide = differences.astype(np.float64)
    return np.asarray(wide @ wide.T)


def _cosines(products: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Cosine of each signed difference with the sum of the other signed ones, `[flip, pair]`.

    Args:
        products: As `_products` gives them.
        signs: 1 or -1, `[flip, pair]`.
    """
    own = np.diag(products)
    with_sum = signs * (signs @ products)  # of each signed difference with the sum of all
    others = with_sum - own
    squared = with_sum.sum(axis=1, keepdims=True) - 2 * with_sum + own  # norm of the sum of the others
    # A sum that comes to nothing leaves what was rounded, in proportion to the largest that the sum could have been.
    rounded = 64 * np.finfo(float).eps * len(own) * own.sum()
    norms = np.sqrt(np.where(squared > rounded, squared, 0) * own)
    return np.asarray(np.divide(others, norms, out=np.zeros_like(others), where=norms > 0))
