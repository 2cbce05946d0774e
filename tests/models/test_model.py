"""Capture and generation on four architectures, against plain Hugging Face calls."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from steering.errors import DataError, ModelError, NonFiniteError, UnknownNameError, VectorError
from steering.models.continuation_losses import ContinuationLosses
from steering.models.families import FAMILIES, family
from steering.models.language_model import LanguageModel
from steering.models.sampling import Greedy, NucleusSampler, uniform_streams
from steering.models.tokens import TokenizedText
from steering.positions import Positions
from steering.vectors import Intervention, SteeringVector
from tests.references import Scripted, prompt_ids, reference_greedy, steer, tokenized
from tests.small_models import CONFIGS, small_model, small_module, small_tokenizer


@pytest.mark.parametrize("architecture", CONFIGS)
def test_block_lists_hold_the_blocks_of_each_family(architecture):
    module = small_module(architecture)
    blocks = module.get_submodule(family(module.config.model_type).blocks)
    assert len(blocks) == 2
    assert isinstance(blocks, torch.nn.ModuleList)


def test_every_family_is_exercised():
    assert set(CONFIGS) == set(FAMILIES)


def test_unknown_family_says_what_to_add():
    with pytest.raises(ModelError, match=r"'mamba'.*FAMILIES in steering/models/families\.py"):
        family("mamba")
    assert "mamba" not in FAMILIES


def test_logits_of_a_batch_fit_into_memory_on_a_cpu(llama, monkeypatch):
    assert llama.token_budget == 4096
    monkeypatch.setattr(llama.module.config, "vocab_size", 1 << 20)
    assert llama.token_budget == (1 << 29) // (4 << 20)
    monkeypatch.setattr(llama, "dtype", torch.bfloat16)
    assert llama.token_budget == (1 << 29) // (2 << 20)


def test_logits_of_a_batch_fit_into_the_memory_of_a_gpu(llama, monkeypatch):
    monkeypatch.setattr(llama, "device", torch.device("cuda"))
    logits = 4 * llama.module.config.vocab_size
    for memory, budget in ((80 << 30, 16384), (16 * 100 * logits, 100), (1, 1)):
        found = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda _, found=found: found)
        assert llama.token_budget == budget


def test_logits_of_a_batch_fit_into_what_an_apple_gpu_may_use(llama, monkeypatch):
    monkeypatch.setattr(llama, "device", torch.device("mps"))
    logits = 4 * llama.module.config.vocab_size
    for memory, budget in ((80 << 30, 16384), (16 * 100 * logits, 100), (1, 1)):
        monkeypatch.setattr("torch.mps.recommended_max_memory", lambda memory=memory: memory)
        assert llama.token_budget == budget


def test_layer_k_is_the_output_of_block_k(any_model):
    ids = any_model.tokenizer("the king saw the queen")["input_ids"]
    with torch.no_grad():
        hidden = any_model.module(torch.tensor([ids]), output_hidden_states=True).hidden_states
    [batch] = any_model.capture([ids], [0])
    # hidden_states[0] is the embedding, so block 0's output is entry 1; the last entry has the final norm applied.
    torch.testing.assert_close(batch.residuals[0][0], hidden[1][0])


def test_capture_does_not_depend_on_batching(any_model):
    rows = prompt_ids(any_model)
    together = {}
    for batch in any_model.capture(rows, [0, 1]):
        for index, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            together[row] = {layer: residual[index, :length] for layer, residual in batch.residuals.items()}
    for row, ids in enumerate(rows):
        [alone] = any_model.capture([ids], [0, 1])
        for layer in (0, 1):
            torch.testing.assert_close(together[row][layer], alone.residuals[layer][0])


@pytest.mark.parametrize("layer", [0, 1])
def test_generation_steers_the_positions_that_are_asked_for_and_no_others(any_model, layer):
    prompts = prompt_ids(any_model)
    choices = [None, *(steer(any_model, layer, 3.0, positions=positions) for positions in get_args(Positions))]
    found = [any_model.generate(prompts, [choice] * 3, Greedy(), 8) for choice in choices]
    assert found == [[reference_greedy(any_model, prompt, choice, 8) for prompt in prompts] for choice in choices]
    assert found[0] != found[1] != found[2], "the positions make a difference"
    assert [row[0] for row in found[1]] == [row[0] for row in found[2]], "though not to what follows the prompt first"


@pytest.mark.parametrize("positions", get_args(Positions))
@pytest.mark.parametrize("architecture", CONFIGS)
def test_generation_of_each_family_equals_the_reference(architecture, positions):
    model = small_model(architecture)
    prompts, steered = prompt_ids(model), steer(model, 0, 3.0, positions=positions)
    found = model.generate(prompts, [steered] * 3, Greedy(), 8)
    assert found == [reference_greedy(model, prompt, steered, 8) for prompt in prompts]


@pytest.mark.parametrize("positions", get_args(Positions))
def test_generation_with_a_multiplier_of_zero_is_the_unsteered_one(any_model, positions):
    prompts, zero = prompt_ids(any_model), steer(any_model, 1, 0.0, positions=positions)
    sampler = NucleusSampler(uniform_streams(0, 3, 12), 0.9, 1.0)
    found = any_model.generate(prompts, [zero] * 3, sampler, 12)
    assert found == any_model.generate(prompts, [None] * 3, sampler, 12)


def test_generation_equals_the_library_s_own(any_model):
    prompt = any_model.tokenizer("the king and the queen")["input_ids"]
    untouched = small_module(any_model.module.config.model_type)
    own = untouched.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    expected = own[0, len(prompt) :].tolist()
    expected = expected[: expected.index(0)] if 0 in expected else expected
    assert any_model.generate([prompt], [None], Greedy(), 8) == [expected]


def test_mixed_interventions_can_share_a_generated_batch(any_model):
    prompt = any_model.tokenizer("the king")["input_ids"]
    choices = [None, steer(any_model, 0, 3.0), steer(any_model, 1, 3.0, seed=7)]
    together = any_model.generate([prompt] * 3, choices, Greedy(), 8)
    assert together == [any_model.generate([prompt], [choice], Greedy(), 8)[0] for choice in choices]


def test_generation_ends_at_any_end_token_of_the_model():
    module = small_module("llama")
    module.generation_config.eos_token_id = [9, 11]
    model = LanguageModel(module, small_tokenizer(), "several ends")
    script = torch.tensor([[5, 6, 0, 7], [5, 9, 6, 6], [11, 5, 6, 7], [5, 6, 7, 8]])
    found = model.generate([[1, 2]] * 4, [None] * 4, Scripted(script), 4)
    assert found == [[5, 6], [5], [], [5, 6, 7, 8]]


def test_text_longer_than_the_context_is_refused():
    model = small_model("gpt2")
    limit = model.module.config.max_position_embeddings
    for ask in (
        lambda: list(model.capture([[1] * (limit + 1)], [0])),
        lambda: ContinuationLosses(model, [TokenizedText((1,) * (limit + 1), 4)]),
        lambda: model.generate([[1] * limit], [None], Greedy(), 2),
    ):
        with pytest.raises(DataError, match=f"{limit + 1} tokens is longer than the {limit} that model small-gpt2"):
            ask()


@pytest.mark.parametrize("layer", [2, -1])
def test_a_layer_the_model_lacks_is_refused(llama, layer):
    with pytest.raises(UnknownNameError, match=r"layer.*Known: 0 to 1"):
        list(llama.capture([[1, 2]], [layer]))


def test_a_vector_of_the_wrong_width_is_refused(llama):
    vector = SteeringVector(torch.ones(7), 0, "test", "none", "other")
    with pytest.raises(VectorError, match="width is 7, but model small-llama has d_model 32"):
        ContinuationLosses(llama, tokenized(llama)).measure([Intervention(vector, 1.0)])
    with pytest.raises(VectorError, match="width is 7"):
        llama.generate([[1, 2]], [Intervention(vector, 1.0)], Greedy(), 1)


def test_a_multiplier_that_is_not_finite_is_refused(llama):
    with pytest.raises(NonFiniteError, match="multiplier nan"):
        ContinuationLosses(llama, tokenized(llama)).measure([steer(llama, 0, float("nan"))])


def test_non_finite_activations_losses_and_logits_are_reported():
    model = small_model("gpt2")
    with torch.no_grad():
        model.module.transformer.h[0].mlp.c_proj.bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match="output of block 0"):
        list(model.capture([[1, 2, 3]], [0]))
    with pytest.raises(NonFiniteError, match="loss of text 0 is nan"):
        ContinuationLosses(model, tokenized(model)).measure([None])
    with pytest.raises(NonFiniteError, match="logits hold NaN or infinity; try a smaller multiplier$"):
        model.generate([[1, 2, 3]], [None], Greedy(), 2)
    halved = LanguageModel(model.module.bfloat16(), small_tokenizer(), "halved")
    with pytest.raises(NonFiniteError, match="try a smaller multiplier or --dtype float32$"):
        halved.generate([[1, 2, 3]], [None], Greedy(), 2)


def test_last_token_of_the_context_can_be_generated():
    model = small_model("gpt2")
    prompt = [1] * model.module.config.max_position_embeddings
    [completion] = model.generate([prompt], [None], Greedy(), 1)
    assert len(completion) <= 1


def test_dropout_is_off_whatever_the_module_was_left_in():
    module = small_module("gpt2").train()
    model = LanguageModel(module, small_tokenizer(), "left in training")
    first, second = (next(batch.residuals[1] for batch in model.capture([[1, 2, 3]], [1])) for _ in range(2))
    assert torch.equal(first, second)
    assert not module.training


def test_hash_is_of_the_weights():
    assert small_model("llama").hash == small_model("llama").hash
    assert small_model("llama").hash != small_model("llama", seed=1).hash


def test_settings_hash_is_of_configuration_tokenizer_and_end_of_text_but_not_of_where_or_when_they_were_read():
    def changed(change):
        model = LanguageModel(small_module("llama"), copy.deepcopy(small_tokenizer()), "other")
        change(model)
        return model

    def of_another_place_and_release(model):
        model.module.config._name_or_path = "/elsewhere"
        model.module.config.transformers_version = "4.0.0"

    expected = small_model("llama").settings_hash
    same = [
        small_model("llama", seed=1),
        changed(of_another_place_and_release),
        changed(lambda model: model.tokenizer(["a", "long text"], padding=True, truncation=True, max_length=3)),
    ]
    assert {model.settings_hash for model in same} == {expected}
    others = [
        small_model("gpt2"),
        changed(lambda model: model.module.config.rope_parameters.update(rope_theta=500.0)),
        changed(lambda model: setattr(model.module.config, "rms_norm_eps", 0.1)),
        changed(lambda model: model.tokenizer.add_tokens(["queen of the"])),
        changed(lambda model: model._end_ids.add(5)),
    ]
    assert len({model.settings_hash for model in others} | {expected}) == len(others) + 1


def test_small_tokenizer_gives_whole_words_one_token():
    assert small_tokenizer().tokenize("the king") == ["t", "h", "e", "Ġking"]
