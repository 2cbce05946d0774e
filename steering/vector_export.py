"""Steering vectors for other programs: control vectors of llama.cpp, steered models of lm-evaluation-harness.

Both add a vector at every position of the same block's output, generated positions included, as this project does where
`steered_positions` is "all"; by default it steers the prompt's alone. What is added at a position is the same: the
direction times the multiplier.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import gguf
import torch

from steering.errors import NonFiniteError, VectorError
from steering.models.families import family
from steering.vectors import Intervention

_ARCHITECTURE = "controlvector"
#: Key of the model type in a control vector.
MODEL_HINT = f"{_ARCHITECTURE}.model_hint"


def to_gguf(interventions: Sequence[Intervention], model_type: str = "") -> bytes:
    """Directions times multipliers as a control vector of llama.cpp, which repeng reads too.

    `direction.N`, float32 `[d_model]`, is added to the output of block N, counted from 0: llama.cpp's graphs add it
    after the block's last residual sum, repeng after the block. llama.cpp keeps no direction for block 0 and refuses a
    file with one. Scale 1 (llama.cpp's `--control-vector`, repeng's `coeff=1`) is the dose of the interventions.

    Args:
        interventions: At most one for each layer, of one model.
        model_type: Of the model, where the vectors do not say.

    Returns:
        The file's content.

    Raises:
        VectorError: Vectors of several models or widths, two for one layer, one for layer 0, or no known model type.
        NonFiniteError: A direction times its multiplier is not finite.
    """
    hint = _model_type(interventions, model_type)
    if any(intervention.vector.layer == 0 for intervention in interventions):
        raise VectorError("a vector for layer 0 cannot be exported: llama.cpp never steers the output of its block 0")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "vector.gguf"
        writer = gguf.GGUFWriter(path, _ARCHITECTURE)
        writer.add_description(json.dumps([_provenance(intervention) for intervention in interventions]))
        writer.add_string(MODEL_HINT, hint)
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(interventions))
        for intervention in interventions:
            addition = _finite(intervention)
            writer.add_tensor(f"direction.{intervention.vector.layer}", addition.detach().cpu().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def to_lm_eval(interventions: Sequence[Intervention], model_type: str = "") -> bytes:
    """Directions and coefficients, as `steer_path` of lm-evaluation-harness's model "steered" takes them.

    The content is that of a .pt file: a dictionary from hook points, names of modules below the `base_model`, to what
    is done there. `torch.load` reads it with `weights_only=True`; this project writes one and never loads one. The
    harness casts directions to its model's dtype.

    Args:
        interventions: At most one for each layer, of one model.
        model_type: Of the model, where the vectors do not say.

    Returns:
        The file's content.

    Raises:
        VectorError: Vectors of several models or widths, two for one layer, or no known model type.
        ModelError: The model type is of an unknown family.
        NonFiniteError: A direction times its multiplier is not finite.
    """
    # The base model is the first part of the blocks' path: `transformer` of GPT-2's `transformer.h`.
    _, blocks = family(_model_type(interventions, model_type)).blocks.split(".", maxsplit=1)
    entries = {}
    for intervention in interventions:
        _finite(intervention)
        entries[f"{blocks}.{intervention.vector.layer}"] = {
            # A copy: of a view, all would be saved that it is a view of.
            "steering_vector": intervention.vector.direction.detach().cpu().clone(),
            "steering_coefficient": float(intervention.multiplier),
            "action": "add",
            "bias": None,
            "head_index": None,
        }
    content = io.BytesIO()
    torch.save(entries, content)
    return content.getvalue()


def _finite(intervention: Intervention) -> torch.Tensor:
    addition = intervention.addition
    if not bool(torch.isfinite(addition).all()):
        what = f"{intervention.vector.label} times {intervention.multiplier:g}"
        raise NonFiniteError(f"{what} holds NaN or infinity in float32; give a smaller multiplier")
    return addition


def _model_type(interventions: Sequence[Intervention], given: str) -> str:
    """The one model type of vectors that go into one file, which have to be of one model and of different layers."""
    vectors = [intervention.vector for intervention in interventions]
    if not vectors:
        raise VectorError("no vector to export")
    # What a file does not say contradicts nothing.
    for what, said in (
        ("models", [vector.model for vector in vectors]),
        ("models' weights", [vector.origin.model_hash for vector in vectors]),
        ("model types", [given, *(vector.origin.model_type for vector in vectors)]),
        ("widths", [str(len(vector.direction)) for vector in vectors]),
    ):
        values = sorted({value for value in said if value})
        if len(values) > 1:
            raise VectorError(f"vectors of different {what} cannot be in one file: {', '.join(values)}")
    [(layer, count)] = Counter(vector.layer for vector in vectors).most_common(1)
    if count > 1:
        raise VectorError(f"{count} vectors for layer {layer}: a file holds one for each layer")
    known = given or next((vector.origin.model_type for vector in vectors if vector.origin.model_type), "")
    if not known:
        raise VectorError(
            f"{vectors[0].label}: the file does not say of which type its model is; give --model-type, the model_type "
            "of the model's config.json"
        )
    return known


def _provenance(intervention: Intervention) -> dict[str, object]:
    vector = intervention.vector
    return {
        "method": vector.method,
        "layer": vector.layer,
        "multiplier": intervention.multiplier,
        "concept": vector.concept,
        "model": vector.model,
        "parameters": dict(vector.parameters),
        "vector_hash": vector.hash,
        **{key: value for key, value in dataclasses.asdict(vector.origin).items() if value},
    }
