"""Vectors for other programs: read back by public readers, and applied as those programs apply them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from steering.errors import ModelError, NonFiniteError, VectorError
from steering.models.families import family
from steering.models.language_model import LanguageModel
from steering.vector_export import to_gguf, to_lm_eval
from steering.vectors import Intervention, Origin, SteeringVector
from tests.references import blocks_of, steering_vector
from tests.small_models import CONFIGS, small_module

PROMPT = "Once upon a time the queen"
FOLLOWING = " saw the king"


def known(vector: SteeringVector, model_type: str, **fields) -> SteeringVector:
    return replace(vector, origin=Origin(model_type=model_type, **fields))


def interventions(model: LanguageModel, *layers: int) -> list[Intervention]:
    kind = model.module.config.model_type
    return [Intervention(known(steering_vector(model, layer, seed=layer), kind), 0.5 + layer) for layer in layers]


def plain(*values: float, layer: int = 1, model_type: str = "llama", model: str = "x") -> SteeringVector:
    return known(SteeringVector(torch.tensor(values), layer, "m", "c", model), model_type)


def read_gguf(content: bytes, directory: Path) -> gguf.GGUFReader:
    path = directory / "vector.gguf"
    path.write_bytes(content)
    return gguf.GGUFReader(path)


def read_pt(content: bytes, directory: Path) -> dict[str, dict[str, object]]:
    path = directory / "vector.pt"
    path.write_bytes(content)
    return torch.load(path, weights_only=True)


def test_gguf_holds_a_float32_direction_for_each_layer_and_nothing_else(tmp_path):
    first, second = plain(1.5, -2.0, 0.1), plain(7.0, 0.0, -0.3, layer=29)
    reader = read_gguf(to_gguf([Intervention(second, -2.0), Intervention(first, 12.0)]), tmp_path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert set(found) == {"direction.1", "direction.29"}
    for tensor in found.values():  # what llama.cpp's loader asks for
        assert (tensor.tensor_type, len(tensor.shape)) == (gguf.GGMLQuantizationType.F32, 1)
    expected = np.array([1.5, -2.0, 0.1], dtype=np.float32) * np.float32(12)
    np.testing.assert_array_equal(found["direction.1"].data, expected)
    np.testing.assert_array_equal(found["direction.29"].data, np.array([-14.0, 0.0, 0.6], dtype=np.float32))
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    assert reader.get_field("controlvector.layer_count").contents() == 2


def test_gguf_says_where_its_directions_come_from(tmp_path):
    vector = replace(plain(1.0), parameters={"seed": 3}, origin=Origin(model_type="llama", model_hash="abc"))
    [entry] = json.loads(
        read_gguf(to_gguf([Intervention(vector, 2.5)]), tmp_path).get_field("general.description").contents()
    )
    assert (entry["method"], entry["layer"], entry["multiplier"], entry["concept"]) == ("m", 1, 2.5, "c")
    assert (entry["parameters"], entry["vector_hash"], entry["model_hash"]) == ({"seed": 3}, vector.hash, "abc")


@pytest.mark.parametrize("architecture", list(CONFIGS))
def test_hook_points_of_lm_eval_name_the_blocks_of_each_family(architecture, tmp_path):
    module = small_module(architecture)
    kind = module.config.model_type
    content = to_lm_eval([Intervention(plain(*[1.0] * 32, layer=layer, model_type=kind), 1.0) for layer in (0, 1)])
    modules = dict(module.base_model.named_modules())
    named = [modules[hook_point] for hook_point in read_pt(content, tmp_path)]
    blocks = module.get_submodule(family(kind).blocks)
    assert [found is block for found, block in zip(named, blocks, strict=True)] == [True, True]


def test_lm_eval_is_given_what_its_loader_reads(tmp_path):
    matrix = torch.randn(500, 8)
    vector = known(SteeringVector(matrix[3], 2, "m", "c", "x"), "llama")
    content = to_lm_eval([Intervention(vector, 12)])
    [(hook_point, entry)] = read_pt(content, tmp_path).items()
    assert hook_point == "layers.2"
    torch.testing.assert_close(entry.pop("steering_vector"), matrix[3], rtol=0, atol=0)
    assert entry == {"steering_coefficient": 12.0, "action": "add", "bias": None, "head_index": None}
    assert isinstance(entry["steering_coefficient"], float)
    assert len(content) < 500 * 8  # the row, not the matrix that it is a view of


@dataclass
class Recorder:
    """A sampler that follows a script and keeps the logits it was shown, one row at a time."""

    script: list[int]
    logits: list[torch.Tensor] = field(default_factory=list)

    def choose(self, logits: torch.Tensor, branches: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        self.logits.append(logits[branches[0]])
        return torch.tensor([self.script[step]] * len(rows))


def own_logits(model: LanguageModel, steered: Intervention | None) -> torch.Tensor:
    """What this project computes after the prompt, and after each token that follows it, `[step, vocab]`."""
    recorder = Recorder(model.tokenizer(FOLLOWING)["input_ids"])
    prompt = model.tokenizer(PROMPT)["input_ids"]
    model.generate([prompt], [steered], recorder, len(recorder.script))
    return torch.stack(recorder.logits)


@contextlib.contextmanager
def adding(additions: dict[torch.nn.Module, torch.Tensor]) -> Iterator[None]:
    """Add to modules' outputs at all positions, as both programs do."""

    def hook(module: torch.nn.Module, _: object, output: object) -> object:
        if isinstance(output, tuple):
            return (output[0] + additions[module], *output[1:])
        return output + additions[module]

    handles = [module.register_forward_hook(hook) for module in additions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def logits_there(model: LanguageModel, additions: dict[torch.nn.Module, torch.Tensor]) -> torch.Tensor:
    """The same logits with vectors at all positions."""
    prompt, following = (model.tokenizer(text)["input_ids"] for text in (PROMPT, FOLLOWING))
    with torch.no_grad(), adding(additions):
        logits = model.module(torch.tensor([prompt + following])).logits[0]
    return logits[len(prompt) - 1 : -1]


def as_llama_cpp(model: LanguageModel, steered: list[Intervention], directory: Path) -> dict:
    """llama.cpp's `build_cvec`: direction.N is added to the output of layer N, for N from 1."""
    reader = read_gguf(to_gguf(steered), directory)
    layers = {int(tensor.name.removeprefix("direction.")): tensor.data for tensor in reader.tensors}
    return {blocks_of(model)[layer]: torch.from_numpy(np.array(data)) for layer, data in layers.items()}


def as_lm_eval(model: LanguageModel, steered: list[Intervention], directory: Path) -> dict:
    """lm_eval's SteeredModel: hooks by name below the base model, the direction in the model's dtype × coefficient."""
    modules = dict(model.module.base_model.named_modules())
    return {
        modules[hook_point]: entry["steering_vector"].to(model.dtype) * entry["steering_coefficient"]
        for hook_point, entry in read_pt(to_lm_eval(steered), directory).items()
    }


CONSUMERS = pytest.mark.parametrize("consumer", [as_llama_cpp, as_lm_eval])
Consumer = Callable[[LanguageModel, list[Intervention], Path], dict]


@CONSUMERS
def test_vectors_elsewhere_do_to_a_prompt_what_they_do_here(any_model, consumer: Consumer, tmp_path):
    [steered] = interventions(any_model, 1)
    here = own_logits(any_model, steered)
    there = logits_there(any_model, consumer(any_model, [steered], tmp_path))
    torch.testing.assert_close(here[0], there[0], rtol=1e-4, atol=1e-4)
    assert (here[0] - own_logits(any_model, None)[0]).abs().max() > 0.1  # there was something to agree on


@CONSUMERS
def test_vectors_elsewhere_steer_generated_positions_too(any_model, consumer: Consumer, tmp_path):
    [steered] = interventions(any_model, 1)
    there = logits_there(any_model, consumer(any_model, [steered], tmp_path))
    assert ((own_logits(any_model, steered)[1:] - there[1:]).abs().amax(dim=1) > 0.05).all()


def test_vectors_of_several_layers_each_reach_their_own(llama, tmp_path):
    steered = interventions(llama, 0, 1)
    there = logits_there(llama, as_lm_eval(llama, steered, tmp_path))
    additions = {blocks_of(llama)[layer]: steered[layer].addition for layer in (0, 1)}
    torch.testing.assert_close(there, logits_there(llama, additions), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([], "no vector to export"),
        ([plain(1.0), plain(2.0)], "2 vectors for layer 1: a file holds one for each layer"),
        ([plain(1.0), plain(1.0, layer=2, model="y")], "different models cannot be in one file: x, y"),
        ([plain(1.0), plain(1.0, 2.0, layer=2)], "different widths cannot be in one file: 1, 2"),
        (
            [known(plain(1.0), "llama", model_hash="a"), known(plain(1.0, layer=2), "llama", model_hash="b")],
            "different models' weights cannot be in one file: a, b",
        ),
        ([plain(1.0), plain(1.0, layer=2, model_type="gpt2")], "model types cannot be in one file: gpt2, llama"),
        ([plain(1.0, model_type="")], "m-layer1: the file does not say of which type its model is; give --model-type"),
    ],
)
@pytest.mark.parametrize("write", [to_gguf, to_lm_eval])
def test_vectors_that_cannot_be_in_one_file_are_refused(write, vectors, message):
    with pytest.raises(VectorError, match=message.replace("-", r"\-")):
        write([Intervention(vector, 1.0) for vector in vectors])


@pytest.mark.parametrize("write", [to_gguf, to_lm_eval])
@pytest.mark.parametrize("multiplier", [1e39, float("nan"), float("inf")])
def test_an_addition_that_is_not_finite_is_refused(write, multiplier):
    with pytest.raises(NonFiniteError, match=r"m-layer1 times .* holds NaN or infinity in float32"):
        write([Intervention(plain(1.0), multiplier)])


def test_the_first_block_is_not_for_llama_cpp(llama, tmp_path):
    with pytest.raises(VectorError, match="a vector for layer 0 cannot be exported: llama.cpp never steers"):
        to_gguf(interventions(llama, 0))
    assert list(read_pt(to_lm_eval(interventions(llama, 0)), tmp_path)) == ["layers.0"]


def test_the_model_type_can_be_given_for_a_file_without_one(tmp_path):
    old = [Intervention(plain(1.0, model_type=""), 1.0)]
    assert list(read_pt(to_lm_eval(old, "gpt2"), tmp_path)) == ["h.1"]
    assert read_gguf(to_gguf(old, "gpt2"), tmp_path).get_field("controlvector.model_hint").contents() == "gpt2"
    with pytest.raises(VectorError, match="model types cannot be in one file: gpt2, llama"):
        to_gguf([Intervention(plain(1.0), 1.0)], "gpt2")
    with pytest.raises(ModelError, match="unknown model family 'bert'"):
        to_lm_eval(old, "bert")
