"""Whether two libraries' vectors are the same, and do the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.peers.exchange import Report

LOWEST_COSINE = 0.9999
# The two environments' float32 kernels differ by some 1e-5; another rope_theta changes logits by some tenths.
LARGEST_LOGIT_DIFFERENCE = LARGEST_LOSS_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How alike another library's vectors and a reference of ours are.

    Attributes:
        library: The other one.
        reference: What its vectors should be.
        cosines: At each layer.
        norm_ratios: Norm of its vector over that of the reference, at each layer.
    """

    library: str
    reference: str
    cosines: tuple[float, ...]
    norm_ratios: tuple[float, ...]

    @property
    def lowest_layer(self) -> int:
        """Where the two are least alike."""
        return int(np.argmin(self.cosines))

    @property
    def lowest_cosine(self) -> float:
        """The cosine there."""
        return self.cosines[self.lowest_layer]


def principal_direction(differences: np.ndarray) -> np.ndarray:
    """First component of an uncentred PCA of `[pair, d_model]`: the unit vector with the largest sum of squares."""
    *_, directions = np.linalg.svd(differences.astype(np.float64), full_matrices=False)
    first: np.ndarray = directions[0]
    return first


def compare(library: str, reference: str, found: np.ndarray, expected: np.ndarray) -> Agreement:
    """Compare two sets of vectors `[layer, d_model]`, layer by layer.

    Raises:
        ValueError: They are of different shapes.
    """
    if found.shape != expected.shape:
        raise ValueError(f"vectors of {library} are {found.shape}, those that they are compared with {expected.shape}")
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    found_norms, expected_norms = np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(axis=1) / (found_norms * expected_norms)
    return Agreement(library, reference, tuple(cosines.tolist()), tuple((found_norms / expected_norms).tolist()))


def agreements(reports: Mapping[str, Report]) -> list[Agreement]:
    """Compare each other library's vectors with what this project's activations say that they are."""
    ours, vectors, repeng = (
        {name: tensor.numpy() for name, tensor in reports[library].findings.tensors.items()}
        for library in ("steering-bench", "steering-vectors", "repeng")
    )
    differences = [*ours["differences"].swapaxes(0, 1)[:-1], ours["normed_differences"]]
    principal = np.stack([principal_direction(layer) for layer in differences])
    # A component of a PCA has no sign; repeng's follows the majority of the pairs, which can be undecided.
    principal *= np.where((principal * repeng["vectors"]).sum(axis=1, keepdims=True) < 0, -1, 1)
    return [
        compare("steering-vectors", "mean_difference", vectors["vectors"], ours["vectors"]),
        compare("repeng", "uncentred PCA", repeng["vectors"], principal),
    ]


def disagreements(reports: Mapping[str, Report], compared: Sequence[Agreement]) -> Iterator[str]:
    """Say what is not as it should be: the model, its tokens, what steering does, or a vector."""
    ours = reports["steering-bench"].findings
    for library, report in reports.items():
        if report.findings.token_ids != ours.token_ids:
            yield f"{library} reads other token ids from the same texts"
        apart = logit_difference(report, reports["steering-bench"])
        if not apart <= LARGEST_LOGIT_DIFFERENCE:
            yield f"{library} computes another model: logits differ by {apart:.2g}, above {LARGEST_LOGIT_DIFFERENCE}"
        apart = steered_difference(report, reports["steering-bench"])
        if not apart <= LARGEST_LOSS_DIFFERENCE:
            yield f"{library} steers otherwise: losses differ by {apart:.2g}, above {LARGEST_LOSS_DIFFERENCE}"
    for agreement in compared:
        apart_at = [layer for layer, cosine in enumerate(agreement.cosines) if not cosine > LOWEST_COSINE]
        if apart_at:
            yield (
                f"{agreement.library}: the cosine with {agreement.reference} is {agreement.lowest_cosine:.6f} at layer "
                f"{agreement.lowest_layer}, and not above {LOWEST_COSINE} at layers {', '.join(map(str, apart_at))}"
            )


def logit_difference(report: Report, other: Report) -> float:
    """Largest absolute difference of two libraries' logits after the first text."""
    return _largest_difference(report, other, "logits")


def steered_difference(report: Report, other: Report) -> float:
    """Largest absolute difference of two libraries' losses of the first text, steered by the same vector."""
    return _largest_difference(report, other, "steered_losses")


def _largest_difference(report: Report, other: Report, name: str) -> float:
    return float((report.findings.tensors[name] - other.findings.tensors[name]).abs().max())
