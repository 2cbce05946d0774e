"""Capture, losses and generation on four architectures, against plain Hugging Face calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from steering.errors import DataError, ModelError, NonFiniteError, UnknownNameError, VectorError
from steering.families import FAMILIES, family
from steering.model import LanguageModel
from steering.sampling import Greedy, NucleusSampler, uniform_streams
from steering.tokens import TokenizedText, tokenize_continuation
from steering.vectors import Intervention, SteeringVector
from tests.small_models import CONFIGS, small_model, small_module, small_tokenizer

PROMPTS = ["the king", "Once upon a time the queen", "A"]
TEXTS = [
    ("The old", "man saw the king."),
    ("Long ago there was a", "girl."),
    ("Hm,", "the story of the queen and the boy."),
]


def steering_vector(model: LanguageModel, layer: int, seed: int = 0) -> SteeringVector:
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))
    return SteeringVector(direction, layer, "test", "none", model.name)


def tokenized(model: LanguageModel) -> list[TokenizedText]:
    return [tokenize_continuation(model.tokenizer, prompt, rest) for prompt, rest in TEXTS]


class Hooked:
    """An independent way to steer: a forward hook on the block, no nnsight."""

    def __init__(self, model: LanguageModel, intervention: Intervention, positions: slice) -> None:
        blocks = model.module.get_submodule(family(model.module.config.model_type).blocks)
        self._block = blocks[intervention.vector.layer]
        self._addition, self._positions = intervention.addition, positions

    def __enter__(self) -> None:
        def add(_module, _inputs, output):
            output = output.clone()
            output[:, self._positions] += self._addition
            return output

        self._handle = self._block.register_forward_hook(add)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def reference_loss(model: LanguageModel, text: TokenizedText, intervention: Intervention | None) -> float:
    ids = torch.tensor([text.ids])
    with torch.no_grad():
        if intervention is None:
            logits = model.module(ids).logits
        else:
            with Hooked(model, intervention, slice(0, text.prompt_length)):
                logits = model.module(ids).logits
    start = text.prompt_length
    return float(functional.cross_entropy(logits[0, start - 1 : -1], ids[0, start:]))


def reference_greedy(
    model: LanguageModel, prompt: list[int], intervention: Intervention | None, count: int
) -> list[int]:
    """Recompute the whole sequence at every step: no cache, the prompt positions steered each time."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            if intervention is None:
                logits = model.module(torch.tensor([ids])).logits
            else:
                with Hooked(model, intervention, slice(0, len(prompt))):
                    logits = model.module(torch.tensor([ids])).logits
        ids.append(int(logits[0, -1].argmax()))
    new = ids[len(prompt) :]
    return new[: new.index(0)] if 0 in new else new


@pytest.mark.parametrize("architecture", CONFIGS)
def test_block_lists_hold_the_blocks_of_each_family(architecture):
    module = small_module(architecture)
    blocks = module.get_submodule(family(module.config.model_type).blocks)
    assert len(blocks) == 2
    assert isinstance(blocks, torch.nn.ModuleList)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_losses_and_generation_of_each_family_equal_the_reference(architecture):
    model = small_model(architecture)
    texts = tokenized(model)
    prompts = [model.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    intervention = Intervention(steering_vector(model, 0), 3.0)
    expected = [reference_loss(model, text, intervention) for text in texts]
    np.testing.assert_allclose(model.losses(texts, [intervention] * 3), expected, rtol=1e-4)
    found = model.generate(prompts, [intervention] * 3, Greedy(), 8)
    assert found == [reference_greedy(model, prompt, intervention, 8) for prompt in prompts]


def test_every_family_is_exercised():
    assert set(CONFIGS) == set(FAMILIES)


def test_unknown_family_says_what_to_add():
    with pytest.raises(ModelError, match=r"'mamba'.*FAMILIES in steering/families\.py"):
        family("mamba")
    assert "mamba" not in FAMILIES


def test_layer_k_is_the_output_of_block_k(any_model):
    ids = any_model.tokenizer("the king saw the queen")["input_ids"]
    with torch.no_grad():
        hidden = any_model.module(torch.tensor([ids]), output_hidden_states=True).hidden_states
    [batch] = any_model.capture([ids], [0])
    # hidden_states[0] is the embedding, so block 0's output is entry 1; the last entry has the final norm applied.
    torch.testing.assert_close(batch.residuals[0][0], hidden[1][0])


def test_capture_does_not_depend_on_batching(any_model):
    rows = [any_model.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    together = {}
    for batch in any_model.capture(rows, [0, 1]):
        for index, (row, length) in enumerate(zip(batch.rows, batch.lengths, strict=True)):
            together[row] = {layer: residual[index, :length] for layer, residual in batch.residuals.items()}
    for row, ids in enumerate(rows):
        [alone] = any_model.capture([ids], [0, 1])
        for layer in (0, 1):
            torch.testing.assert_close(together[row][layer], alone.residuals[layer][0])


@pytest.mark.parametrize("layer", [0, 1])
def test_losses_equal_a_plain_forward_pass(any_model, layer):
    texts = tokenized(any_model)
    intervention = Intervention(steering_vector(any_model, layer), 2.0)
    for choice in (None, intervention):
        found = any_model.losses(texts, [choice] * len(texts))
        expected = [reference_loss(any_model, text, choice) for text in texts]
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_steering_changes_the_losses(any_model):
    texts = tokenized(any_model)
    steered = any_model.losses(texts, [Intervention(steering_vector(any_model, 0), 4.0)] * 3)
    assert (np.abs(steered - any_model.losses(texts, [None] * 3)) > 1e-3).all()


def test_zero_multiplier_reproduces_the_unsteered_run_exactly(any_model):
    texts = tokenized(any_model)
    zero = Intervention(steering_vector(any_model, 1), 0.0)
    assert (any_model.losses(texts, [zero] * 3) == any_model.losses(texts, [None] * 3)).all()
    prompts = [any_model.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    sampler = NucleusSampler(uniform_streams(0, 3, 12), 0.9, 1.0)
    steered = any_model.generate(prompts, [zero] * 3, sampler, 12)
    assert steered == any_model.generate(prompts, [None] * 3, sampler, 12)


def test_rows_of_a_batch_are_steered_each_by_its_own_intervention(any_model):
    texts = tokenized(any_model)
    choices = [
        Intervention(steering_vector(any_model, 0), 1.0),
        None,
        Intervention(steering_vector(any_model, 1, 5), -3.0),
    ]
    expected = [reference_loss(any_model, text, choice) for text, choice in zip(texts, choices, strict=True)]
    np.testing.assert_allclose(any_model.losses(texts, choices), expected, rtol=1e-4)


def test_steering_the_last_block_changes_only_the_first_continuation_token(any_model):
    last = any_model.layer_count - 1
    intervention = Intervention(steering_vector(any_model, last), 5.0)
    [text] = tokenized(any_model)[:1]
    ids = torch.tensor([text.ids])
    with torch.no_grad():
        plain = functional.log_softmax(any_model.module(ids).logits[0], dim=-1)
    token_losses = -plain[range(len(text.ids) - 1), text.ids[1:]]
    first = text.prompt_length - 1
    count = len(text.ids) - text.prompt_length
    change = any_model.losses([text], [intervention])[0] - any_model.losses([text], [None])[0]
    # All of the change is in the first token's loss: with only that token scored, the sum of the changes is the same.
    head = TokenizedText(text.ids[: text.prompt_length + 1], text.prompt_length)
    head_change = any_model.losses([head], [intervention])[0] - float(token_losses[first])
    assert abs(head_change) > 1e-3
    assert change * count == pytest.approx(head_change, rel=1e-3)


@pytest.mark.parametrize("layer", [0, 1])
def test_generation_steers_the_prompt_positions_and_no_others(any_model, layer):
    prompts = [any_model.tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    intervention = Intervention(steering_vector(any_model, layer), 3.0)
    for choice in (None, intervention):
        found = any_model.generate(prompts, [choice] * 3, Greedy(), 8)
        assert found == [reference_greedy(any_model, prompt, choice, 8) for prompt in prompts]


def test_generation_equals_the_library_s_own(any_model):
    prompt = any_model.tokenizer("the king and the queen")["input_ids"]
    own = any_model.module.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    expected = own[0, len(prompt) :].tolist()
    expected = expected[: expected.index(0)] if 0 in expected else expected
    assert any_model.generate([prompt], [None], Greedy(), 8) == [expected]


def test_mixed_interventions_can_share_a_generated_batch(any_model):
    prompt = any_model.tokenizer("the king")["input_ids"]
    choices = [
        None,
        Intervention(steering_vector(any_model, 0), 3.0),
        Intervention(steering_vector(any_model, 1, 7), 3.0),
    ]
    together = any_model.generate([prompt] * 3, choices, Greedy(), 8)
    assert together == [any_model.generate([prompt], [choice], Greedy(), 8)[0] for choice in choices]


def test_generation_ends_at_any_end_token_of_the_model():
    module = small_module("llama")
    module.generation_config.eos_token_id = [9, 11]
    model = LanguageModel(module, small_tokenizer(), "several ends")
    assert [model._until_end(row) for row in ([5, 6, 0, 7], [5, 9, 6], [11], [5, 6])] == [[5, 6], [5], [], [5, 6]]


def test_text_longer_than_the_context_is_refused():
    model = small_model("gpt2")
    limit = model.module.config.max_position_embeddings
    for ask in (
        lambda: list(model.capture([[1] * (limit + 1)], [0])),
        lambda: model.losses([TokenizedText((1,) * (limit + 1), 4)], [None]),
        lambda: model.generate([[1] * limit], [None], Greedy(), 1),
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
        llama.losses(tokenized(llama), [Intervention(vector, 1.0)] * 3)
    with pytest.raises(VectorError, match="width is 7"):
        llama.generate([[1, 2]], [Intervention(vector, 1.0)], Greedy(), 1)


def test_a_multiplier_that_is_not_finite_is_refused(llama):
    with pytest.raises(NonFiniteError, match="multiplier nan"):
        llama.losses(tokenized(llama), [Intervention(steering_vector(llama, 0), float("nan"))] * 3)


def test_non_finite_activations_losses_and_logits_are_reported():
    model = small_model("gpt2")
    with torch.no_grad():
        model.module.transformer.h[0].mlp.c_proj.bias[0] = float("nan")
    with pytest.raises(NonFiniteError, match="output of block 0"):
        list(model.capture([[1, 2, 3]], [0]))
    with pytest.raises(NonFiniteError, match="loss of text 0 is nan"):
        model.losses(tokenized(model), [None] * 3)
    with pytest.raises(
        NonFiniteError, match="logits hold NaN or infinity; try a smaller multiplier or --dtype float32"
    ):
        model.generate([[1, 2, 3]], [None], Greedy(), 2)


def test_hash_is_of_the_weights():
    assert small_model("llama").hash == small_model("llama").hash
    assert small_model("llama").hash != small_model("llama", seed=1).hash


def test_small_tokenizer_gives_whole_words_one_token():
    assert small_tokenizer().tokenize("the king") == ["t", "h", "e", "Ġking"]
