"""Rollouts: what counts as a success, and completions of planted vectors."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from steering.keywords import keyword_pattern
from steering.metrics.rollouts import RolloutProbability, is_confirmed
from steering.models.language_model import LanguageModel
from steering.models.sampling import NucleusSampler, uniform_streams
from steering.models.tokens import text_of, tokenize_prompt
from steering.progress import Silent
from tests.references import Scripted, steer, towards
from tests.small_models import small_tokenizer


def rollouts(
    model: LanguageModel,
    *,
    prompts: tuple[str, ...] = ("the", "A story of"),
    keywords: tuple[str, ...] = ("king", "man"),
    count: int = 24,
    new_tokens: int = 10,
    seed: int = 0,
) -> RolloutProbability:
    return RolloutProbability(
        model=model,
        prompts=tuple(tokenize_prompt(model.tokenizer, prompt) for prompt in prompts),
        pattern=keyword_pattern(keywords),
        rollouts=count,
        new_tokens=new_tokens,
        sampler=NucleusSampler(uniform_streams(seed, count, new_tokens), 0.9, 1.0),
    )


def unsteered_texts(metric: RolloutProbability) -> tuple[str, ...]:
    return metric.observe([None], Silent())[0].texts


def test_success_looks_at_the_completion_only(llama):
    prompted = rollouts(llama, prompts=("the king saw a man and the",))
    [observed] = prompted.observe([None], Silent())
    pattern = keyword_pattern(("king", "man"))
    assert observed.items.tolist() == [float(bool(pattern.search(text))) for text in observed.texts]
    assert observed.items.min() == 0, "a keyword in the prompt would make every rollout a success"


@pytest.mark.parametrize(("continued", "success"), [("man ran.", 0.0), (" man ran.", 1.0), ("man saw a man.", 1.0)])
def test_completion_that_goes_on_with_the_prompt_s_last_word_holds_no_keyword_there(llama, continued, success):
    ids = llama.tokenizer.encode(continued)
    prompt = tokenize_prompt(llama.tokenizer, "Down the ladder came a fire")
    scripted = Scripted(torch.tensor([ids]))
    metric = RolloutProbability(llama, (prompt,), keyword_pattern(["man"]), 1, len(ids), scripted)
    [observed] = metric.observe([None], Silent())
    assert observed.items.tolist() == [success]
    assert continued.startswith(observed.texts[0])


def test_rollouts_of_a_planted_vector_succeed(llama):
    single = rollouts(llama, new_tokens=1)
    steered, unsteered = single.observe([towards(llama, " king", 60.0), None], Silent())
    [score] = single.score(steered, unsteered)
    assert score.value > 0.6
    assert unsteered.items.mean() < 0.1
    assert score.p_value < 0.01
    assert score.low < score.value <= score.high


def test_rollout_i_does_not_depend_on_how_many_are_asked_for(llama):
    assert unsteered_texts(rollouts(llama, count=6)) == unsteered_texts(rollouts(llama))[:6]


def test_rollouts_repeat_with_their_seed_and_differ_with_another(llama):
    first, again = (unsteered_texts(rollouts(llama)) for _ in range(2))
    assert first == again
    assert first != unsteered_texts(rollouts(llama, seed=1))


def test_rollouts_alternate_between_the_prompts(llama):
    [first, second, *_] = unsteered_texts(rollouts(llama))
    only_second = unsteered_texts(rollouts(llama, prompts=("A story of",)))
    assert second == only_second[1]
    assert first != only_second[0]


def test_baseline_and_steered_rollouts_are_checked_by_one_rule(llama):
    metric = rollouts(llama)
    zero, unsteered = metric.observe([towards(llama, " king", 0.0), None], Silent())
    assert zero.texts == unsteered.texts
    [score] = metric.score(zero, unsteered)
    assert score.p_value == 1.0


KEYWORDS = ("king", "man", "kings men", "king's", "boy", "o", "mr.", "é", "王", "か", "キ")
PIECES = (
    *KEYWORDS,
    "KING",
    "ma",
    "n",
    "s",
    "'",
    "’",
    "'s",
    " ",
    ".",
    "_",
    "7",
    "-",
    "\n",
    "e\u0301",
    "\ufffd",
    "wo",
    "\u3099",
    "は",
    "ー",
)
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(
    keywords=st.lists(st.sampled_from(KEYWORDS), min_size=1, max_size=3),
    beginning=texts,
    unfinished=st.integers(0, 2),
    rest=texts,
)
@example(["king"], "the king", 0, "s")
@example(["king"], "the king's", 0, "x")
@example(["king"], "the kings'", 0, "x")
@example(["king"], "the king", 1, "é")
@example(["king", "king's"], "the king'", 0, "sword")
def test_confirmed_success_is_undone_by_no_further_text(keywords, beginning, unfinished, rest):
    """Bytes that are no character yet, at the end, can become any."""
    pattern = keyword_pattern(keywords)
    if is_confirmed(pattern, beginning + "\ufffd" * unfinished):
        assert pattern.search(beginning + rest)
        assert pattern.search("fire" + beginning + rest, len("fire"))


@given(st.data(), st.sampled_from(["king", "man", "s", "e"]))
def test_confirmed_completion_is_undone_by_no_further_token(data, keyword):
    tokenizer, pattern = small_tokenizer(), keyword_pattern([keyword])
    pieces = [tokenizer.encode(piece) for piece in (f" {keyword}", "'s", "s", "’", " ", ".", "é", "😀", "x")]
    tokens = st.one_of(st.sampled_from(pieces), st.integers(1, len(tokenizer) - 1).map(lambda token: [token]))
    ids = [token for piece in data.draw(st.lists(tokens, max_size=12)) for token in piece]
    metric = RolloutProbability(SimpleNamespace(tokenizer=tokenizer), (), pattern, 1, 1, None)
    ends = [end for end in range(1, len(ids) + 1) if metric._has_ended(ids[:end])]
    for end in ends:
        texts = [text_of(tokenizer, ids[:longer]) for longer in range(end, len(ids) + 1)]
        assert all(pattern.search(f"a fire{text}", len("a fire")) for text in texts)


@pytest.mark.parametrize("ending", ["", "s", "'", "'s", "’", "’s", "s'", "s’"])
def test_success_is_confirmed_by_what_follows_the_keyword_with_its_ending(ending):
    pattern = keyword_pattern(["king"])
    assert is_confirmed(pattern, f"The king{ending} ")
    assert is_confirmed(pattern, f"The king{ending} \ufffd")


@pytest.mark.parametrize("text", ["The king", "The kings", "The king\ufffd", "The kings\ufffd", "kingdom ", "king "])
def test_success_is_not_confirmed_while_the_next_token_or_the_prompt_can_undo_it(text):
    assert not is_confirmed(keyword_pattern(["king"]), text)


@pytest.mark.parametrize("keywords", [tuple("etns"), tuple("aiou"), ("king", "man")])
def test_leaving_early_changes_no_success(any_model, keywords):
    """Against completions that all go on to their end, and a search in each."""
    metric = rollouts(any_model, keywords=keywords, count=80, new_tokens=12)
    choices = [None, steer(any_model, 0, 3.0), towards(any_model, " king", 20.0)]
    prompts, rows = list(metric.prompts) * 40 * len(choices), [choice for choice in choices for _ in range(80)]
    complete = any_model.generate(prompts, rows, metric.sampler, 12)
    early = any_model.generate(prompts, rows, metric.sampler, 12, ended=metric._has_ended)
    wholes = [any_model.tokenizer.decode([*prompt, *row]) for prompt, row in zip(prompts, complete, strict=True)]
    starts = [len(any_model.tokenizer.decode(prompt)) for prompt in prompts]
    pairs = zip(wholes, starts, strict=True)
    expected = [float(metric.pattern.search(whole, start) is not None) for whole, start in pairs]
    found = np.concatenate([observed.items for observed in metric.observe(choices, Silent())])
    assert found.tolist() == expected
    assert 0 < sum(expected) < len(expected)
    left = [(short, whole) for short, whole in zip(early, complete, strict=True) if short != whole]
    assert left, "otherwise none left early"
    for short, whole in left:
        assert short == whole[: len(short)]
        assert metric._has_ended(short)
        assert not any(metric._has_ended(short[:end]) for end in range(len(short)))
