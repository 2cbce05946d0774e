"""What features of a sparse autoencoder mean: descriptions, keyword search, logit lens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from steering.errors import DataError, ModelError, SaeError
from steering.feature_weights import FeatureWeight
from steering.files import read_records, write_file
from steering.keywords import keyword_pattern
from steering.models.families import family
from steering.models.language_model import LanguageModel
from steering.sae.autoencoder import SparseAutoencoder

DESCRIPTIONS_FILE = "descriptions.jsonl"
# What `compose` writes around the tokens; they alone say what a feature means.
_FRAME = re.compile(r"(?:^|(?<=; ))(?:fires on|promotes) |^never fires$")


@dataclass(frozen=True)
class Descriptions:
    """What is known in words about the features of one SAE.

    Attributes:
        source: The file that they come from.
        texts: Feature -> description.
        hash: SHA-256 of the texts, where they were given in place of the SAE's own; empty otherwise.
    """

    source: str = "no descriptions"
    texts: Mapping[int, str] = field(default_factory=dict)
    hash: str = ""

    def __getitem__(self, feature: int) -> str:
        """Return a feature's description, or an empty string."""
        return self.texts.get(feature, "")

    def search(self, keywords: Sequence[str]) -> list[int]:
        """Features whose description holds one of the words, whole and in any case, in order of their number.

        "fires on" and "promotes", which descriptions of this project say of every feature, are not searched.

        Raises:
            SaeError: No description holds any of them.
        """
        pattern = keyword_pattern(keywords)
        found = sorted(feature for feature, text in self.texts.items() if pattern.search(_FRAME.sub("", text)))
        if not found:
            raise SaeError(
                f"no feature's description holds any of {', '.join(map(repr, keywords))} "
                f"({len(self.texts)} descriptions in {self.source}); give other keywords, or features by number"
            )
        return found


def check_features(features: Iterable[int], sae: SparseAutoencoder) -> None:
    """Refuse features that an SAE does not have.

    Raises:
        SaeError: The message names the feature, and those that there are.
    """
    for feature in features:
        if not 0 <= feature < sae.d_sae:
            raise SaeError(f"feature {feature}: SAE {sae.name} has the features 0 to {sae.d_sae - 1}")


def load_descriptions(path: Path, sae: SparseAutoencoder, *, of_several_layers: bool = False) -> Descriptions:
    """Read descriptions of an SAE's features from a JSON Lines file.

    A line is an object with `feature` (a number), `description` and `layer` (the block, a number), as `steering sae
    describe` writes it; or a line of Neuronpedia's export with `modelId`, `layer` (for instance "8-res-jb"), `index`
    and `description`. Those of the SAE's own layer are taken. Several descriptions of one feature are joined.

    Args:
        path: The file.
        sae: The SAE.
        of_several_layers: Whether the file may be about other layers' SAEs, too, so that each line must name its layer.

    Raises:
        DataError: The file is malformed; the message names file and line.
        SaeError: It describes no feature of this SAE.
    """
    texts: dict[int, str] = {}
    for number, record in read_records(path, ("description",)):
        if of_several_layers and "layer" not in record:
            raise DataError(
                f"{path}:{number}: 'layer' is missing; there are SAEs of several layers, and each line must say of "
                f'which it is, for instance "layer": {sae.layer}'
            )
        if "layer" in record and not _is_of(record, sae):
            continue
        feature = _feature_number(path, number, record)
        if not 0 <= feature < sae.d_sae:
            raise DataError(f"{path}:{number}: feature {feature}; SAE {sae.name} has the features 0 to {sae.d_sae - 1}")
        known = texts.get(feature)
        texts[feature] = f"{known}; {record['description']}" if known else record["description"]
    if not texts:
        raise SaeError(f"{path}: describes no feature of SAE {sae.name} ({sae.hook_name})")
    return Descriptions(str(path), texts)


def _feature_number(path: Path, number: int, record: Mapping[str, Any]) -> int:
    value = record.get("feature", record.get("index"))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    raise DataError(f"{path}:{number}: 'feature' (or 'index') is {value!r}; it must be a whole number")


def _is_of(record: Mapping[str, Any], sae: SparseAutoencoder) -> bool:
    """Whether the layer that a description names is the SAE's.

    A number is a block. Neuronpedia counts hooks as SAELens names them; in GPT-2 small's "res-jb" also the output of
    the last block counts as a `hook_resid_pre`.
    """
    if isinstance(record["layer"], int):
        return bool(record["layer"] == sae.layer)
    digits, _, series = str(record["layer"]).partition("-")
    of_the_paper = (record.get("modelId"), series) == ("gpt2-small", "res-jb")
    before_a_block = sae.hook_name.endswith("hook_resid_pre") or of_the_paper
    return digits == str(sae.layer + 1 if before_a_block else sae.layer)


def heaviest_features(weights: torch.Tensor, descriptions: Descriptions, count: int) -> tuple[FeatureWeight, ...]:
    """The features of largest absolute weight that is not 0, heaviest first.

    Args:
        weights: `[d_sae]`.
        descriptions: Of the features.
        count: How many at most.
    """
    heaviest = weights.abs().argsort(descending=True, stable=True)[:count].tolist()
    return tuple(
        FeatureWeight(feature, float(weights[feature]), descriptions[feature])
        for feature in heaviest
        if weights[feature] != 0
    )


@dataclass(frozen=True)
class TokenEffect:
    """What adding a direction does to the next token, read by the logit lens.

    Attributes:
        promoted: Tokens whose logits rise most, the first most.
        demoted: Tokens whose logits fall most.
    """

    promoted: tuple[str, ...]
    demoted: tuple[str, ...]


@torch.inference_mode()
def logit_lens(model: LanguageModel, directions: torch.Tensor, count: int) -> Iterator[TokenEffect]:
    """Put directions `[row, d_model]` through the model's final norm and unembedding (nostalgebraist, 2020).

    The logits of no direction at all, which biases of the norm or the unembedding give, are taken away: they are the
    same whatever the direction.

    Yields:
        For each row the `count` tokens at either end.

    Raises:
        ModelError: The model has no final norm.
    """
    final_norm = _final_norm(model)
    unembed: Any = model.module.get_output_embeddings()
    nothing = torch.zeros((1, model.d_model), device=model.device, dtype=model.dtype)
    of_biases = unembed(final_norm(nothing)).float()
    for chunk in torch.split(directions, 256):
        logits = unembed(final_norm(chunk.to(model.device, model.dtype))).float() - of_biases
        top, bottom = logits.topk(count).indices.tolist(), (-logits).topk(count).indices.tolist()
        for promoted, demoted in zip(top, bottom, strict=True):
            yield TokenEffect(_tokens(model, promoted), _tokens(model, demoted))


def _final_norm(model: LanguageModel) -> torch.nn.Module:
    path = family(model.module.config.model_type).final_norm
    try:
        return model.module.get_submodule(path)
    except AttributeError:  # OPT-350m normalises after each block, and projects to another width instead
        raise ModelError(
            f"model {model.name}: it has no final norm ({path}), through which the logit lens reads a direction; "
            "features can be described for models that have one"
        ) from None


def _tokens(model: LanguageModel, ids: Sequence[int]) -> tuple[str, ...]:
    return tuple(str(model.tokenizer.decode([token])) for token in ids)


def compose(fires_on: Sequence[str], promoted: Sequence[str]) -> str:
    """A description from the tokens that a feature fires on and those that it promotes."""
    parts = [
        f"{verb} {', '.join(words)}"
        for verb, tokens in (("fires on", fires_on), ("promotes", promoted))
        if (words := _distinct(tokens))
    ]
    return "; ".join(parts) or "never fires"


def _distinct(tokens: Sequence[str]) -> list[str]:
    """Tokens without white space around them, each once; white space alone is ␣.

    What else cannot be seen is shown as Python shows it.
    """
    shown = (token.strip() if token.strip().isprintable() else repr(token) for token in tokens)
    return list(dict.fromkeys(word or "␣" for word in shown))


def write_descriptions(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write one JSON object a line.

    Raises:
        ResultsError: The file cannot be written; what was there before is kept.
    """
    write_file(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())
