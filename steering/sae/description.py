"""Writing down what the features of an SAE are about, from the tokens that they fire on and those that they promote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from steering.models.language_model import LanguageModel
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.feature_activity import FeatureActivity
from steering.sae.features import compose, logit_lens

_PROMOTED = 6
_FIRES_ON = 6


def describe_features(
    model: LanguageModel, sae: SparseAutoencoder, activity: FeatureActivity, rows: Sequence[Sequence[int]]
) -> Iterator[dict[str, Any]]:
    """One record for each feature, as `load_descriptions` reads it.

    Args:
        model: The model that the SAE is for.
        sae: The SAE.
        activity: Of its features on `rows`.
        rows: Token ids of the texts that were read.

    Yields:
        feature; layer; its description, made of the tokens of its strongest activations, strongest first, and of those
        that it promotes by the logit lens; the share of tokens on which it fires; its largest activation.
    """
    for feature, effect in enumerate(logit_lens(model, sae.decoder, _PROMOTED)):
        places = activity.places(feature)
        tokens = [str(model.tokenizer.decode([rows[text][position]])) for text, position, _ in places]
        fires_on = list(dict.fromkeys(tokens))[:_FIRES_ON]
        yield {
            "feature": feature,
            "layer": sae.layer,
            "description": compose(fires_on, effect.promoted if fires_on else ()),
            "frequency": float(f"{activity.frequency(feature):.3g}"),
            "largest_activation": float(f"{places[0][2] if places else 0.0:.3g}"),
        }
