"""Quality of sparse autoencoders on a setting's neutral documents, as rows: the SAEs that `pytest bench` tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from steering import stats
from steering.errors import NonFiniteError
from steering.hashing import json_hash
from steering.journal import Journal
from steering.metrics import Score
from steering.models.continuation_losses import ContinuationLosses
from steering.models.language_model import LanguageModel
from steering.models.tokens import TokenizedText, tokenize_documents
from steering.progress import SILENT, Reporter
from steering.results import Row
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.library import SaeLibrary
from steering.sae.quality import loss_recovered, reconstruct
from steering.settings import Setting
from steering.sweeps.earlier import Earlier
from steering.sweeps.records import blank_row, of_sae, sae_parameters, with_score

METRICS = (
    "sae_variance_explained",
    "sae_l0",
    "sae_spliced_loss",
    "sae_loss_recovered",
    "sae_silent_features",
)


@dataclass(frozen=True, eq=False)
class SaeOutcome:
    """What was measured of one SAE.

    Attributes:
        layer: Its layer.
        scores: Metric name -> score; empty where the measurement failed.
        rows: What was written to the journal.
        was_measured_earlier: Whether an earlier run measured it.
    """

    layer: int
    scores: dict[str, Score]
    rows: tuple[Row, ...]
    was_measured_earlier: bool = False


class SaeQuality:
    """Measures the SAEs of a library on a setting's neutral documents.

    Args:
        setting: Its neutral documents are read.
        model: The model that the SAEs are for.
        library: The SAEs.
        journal: Where rows go.
        run: Identifies this run in the rows.
        progress: Where to report.
        earlier: What earlier runs measured: SAEs that are among it are not measured again, nor written.
    """

    def __init__(
        self,
        setting: Setting,
        model: LanguageModel,
        library: SaeLibrary,
        journal: Journal,
        *,
        run: str,
        progress: Reporter = SILENT,
        earlier: Earlier | None = None,
    ) -> None:
        self._setting = setting
        self._model = model
        self._library = library
        self._journal = journal
        self._run = run
        self._progress = progress
        self._earlier = earlier or Earlier()

    @cached_property
    def _texts(self) -> list[TokenizedText]:
        """The documents, cut as for the neutral loss, scored from their second token on."""
        setting = self._setting
        cut = tokenize_documents(self._model.tokenizer, setting.neutral.documents, *setting.profile.neutral_lengths)
        return [TokenizedText(text.ids, 1) for text in cut]

    @cached_property
    def _losses(self) -> ContinuationLosses:
        return ContinuationLosses(self._model, self._texts)

    @cached_property
    def _clean_losses(self) -> np.ndarray:
        clean: np.ndarray = self._losses.measure([None], self._progress)[0]
        return clean

    def measure(self, layer: int) -> SaeOutcome:
        """Measure the SAE of a layer and append its rows to the journal.

        Raises:
            SaeError: There is none, or it does not fit the model.
            ResultsError: The journal cannot be written.
        """
        model = self._model
        sae = self._library.load(layer, model.device)
        sae.check_fits(model.name, model.d_model, model.layer_count)
        blank = of_sae(blank_row(self._setting, model, self._run), layer, sae_parameters(sae) | _settings(sae))
        if (kept := self._earlier.find(blank, METRICS)) is not None:
            return SaeOutcome(layer, *kept, was_measured_earlier=True)
        try:
            scores = self._scores(sae)
        except NonFiniteError as error:
            rows = [replace(blank, metric=name, status="failed", reason=str(error)) for name in METRICS]
            scores = {}
        else:
            rows = [with_score(blank, score) for score in scores.values()]
        self._journal.append(rows)
        return SaeOutcome(layer, scores, tuple(rows))

    def _scores(self, sae: SparseAutoencoder) -> dict[str, Score]:
        model, texts = self._model, self._texts
        found = reconstruct(model, [sae], [text.ids for text in texts], self._progress)[sae.layer]
        clean = self._clean_losses
        spliced = self._losses.replaced(sae.layer, sae.reconstruct, self._progress)
        ablated = self._losses.replaced(sae.layer, torch.zeros_like, self._progress)
        silent = (~found.fired).astype(np.float64)
        items = {
            "sae_variance_explained": 1 - stats.ratio_items(found.squared_error, found.variance),
            "sae_l0": found.active,
            "sae_spliced_loss": spliced,
            "sae_loss_recovered": loss_recovered(clean, spliced, ablated),
        }
        scores = {name: Score(name, values, *stats.mean_interval(values)) for name, values in items.items()}
        # All features are counted, none is drawn: there is nothing that an interval over features could cover.
        share = float(silent.mean())
        return scores | {"sae_silent_features": Score("sae_silent_features", silent, share, share)}


def _settings(sae: SparseAutoencoder) -> dict[str, Any]:
    """What an SAE of given weights computes with; of the rest, such as the k of a TopK SAE, a hash."""
    return {"centred": sae.centred, "d_sae": sae.d_sae, "settings_hash": json_hash(sae.settings)}
