"""From pairs to a concept: the split, the words that tell sides apart, and files that say the same."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from steering.concept_files import load_concept
from steering.concept_writing.assembly import assemble, split_by_id, telling_words, write_concept
from steering.concept_writing.briefs import concept_brief
from steering.concept_writing.pairs import WrittenPair
from steering.concepts import ContrastPair
from steering.errors import DataError
from tests.concept_writing.test_concept_briefs import BRIEF


def pairs(
    count: int, positive: str = "Soon a bride came.", negative: str = "Soon a coffin came."
) -> list[ContrastPair]:
    return [ContrastPair(f"weddings-{n:03d}", f"Bell {n} rang.", positive, negative) for n in range(1, count + 1)]


def written(count: int) -> list[WrittenPair]:
    return [WrittenPair(pair, "writer") for pair in pairs(count)]


@given(st.lists(st.text("abc123", min_size=1), min_size=2, max_size=60, unique=True), st.randoms())
def test_split_depends_on_ids_alone(ids, random):
    some = [ContrastPair(name, f"prompt {name}", "one", "two") for name in ids]
    generation, test = split_by_id(some)
    assert sorted(pair.id for pair in generation + test) == sorted(ids)
    assert len(test) == max(1, round(len(ids) / 7))
    assert [pair for pair in some if pair in test] == test
    other = [replace(pair, prompt="another", positive="three") for pair in random.sample(some, len(some))]
    assert {pair.id for pair in split_by_id(other)[1]} == {pair.id for pair in test}
    highest = max(hashlib.sha256(pair.id.encode()).hexdigest() for pair in test)
    assert all(hashlib.sha256(pair.id.encode()).hexdigest() > highest for pair in generation)


def test_split_of_the_papers_number_is_the_papers():
    assert [len(split) for split in split_by_id(pairs(350))] == [300, 50]


def test_words_that_tell_the_sides_apart_are_found():
    some = pairs(20)
    some[:5] = [
        replace(pair, positive="Soon a happy bride came.", negative="Soon the coffin came.") for pair in some[:5]
    ]
    found = telling_words(some)
    assert (found.positive, found.negative) == (("bride",), ("coffin",))
    assert telling_words([*some, *pairs(1, "A bride sat.", "No coffin stood.")], frozenset({"coffins"})) == found
    with pytest.raises(DataError, match="no word tells the sides of the pairs apart"):
        telling_words(some, frozenset({"coffin"}))


def test_word_of_any_prompt_is_no_keyword():
    """Whichever kind of prompt holds the only word that tells a side, there is none left."""
    for kind in ("rollout_prompts", "one_word_prompts", "development_prompts"):
        with pytest.raises(DataError, match="no word tells the sides of the pairs apart"):
            assemble(concept_brief(BRIEF | {kind: ["The bride was there."]}, "x"), written(70))


def test_word_of_the_pairs_that_development_prompts_are_taken_from_is_no_keyword():
    """Where the brief names none, hooks of the pairs serve."""
    some = [WrittenPair(replace(entry.pair, prompt=f"Bride {n} sat."), "writer") for n, entry in enumerate(written(70))]
    with pytest.raises(DataError, match="no word tells the sides of the pairs apart"):
        assemble(concept_brief(BRIEF | {"rollout_prompts": ["Once"]}, "x"), some)


@pytest.mark.parametrize("count", [8, 9])
def test_level_of_a_word_is_shared_by_all_that_are_tested(count):
    """Two words, each for both sides, are four tests; where all of n pairs differ, p is 2 ** -n."""
    enough = 4 * binom.sf(count - 1, count, 0.5) < 0.01
    assert enough == (count == 9)
    if enough:
        assert telling_words(pairs(count)).positive == ("bride",)
    else:
        with pytest.raises(DataError):
            telling_words(pairs(count))


def test_words_by_chance_are_hardly_ever_chosen():
    rng = np.random.default_rng(0)
    chosen = 0
    for _ in range(5):
        texts = [" ".join(f"word{n}" for n in rng.integers(0, 12, size=4)) for _ in range(120)]
        some = [ContrastPair(str(n), f"p {n}", *texts[2 * n : 2 * n + 2]) for n in range(60)]
        try:
            telling_words(some)
        except DataError:
            continue
        chosen += 1
    assert chosen == 0


def test_concept_takes_from_the_pairs_what_the_brief_leaves_open():
    concept = assemble(concept_brief(BRIEF, "x"), written(70))
    assert (len(concept.generation), len(concept.test)) == (60, 10)
    assert (concept.keywords.positive, concept.keywords.negative) == (("bride",), ("coffin",))
    assert concept.rollout_prompts == tuple(pair.prompt for pair in concept.test[:8])
    assert concept.development_prompts == tuple(pair.prompt for pair in concept.generation[:8])
    assert concept.source.startswith(
        "Written by writer, asked by `steering concept generate` (temperature 0.7, top-p 1)"
    )


def test_concept_takes_from_the_brief_what_it_says():
    given_too = {
        "rollout_prompts": ["Once"],
        "one_word_prompts": ["The"],
        "development_prompts": ["Twice"],
        "keywords": {"positive": ["ring"], "negative": ["grave"]},
        "licence": "CC0-1.0",
    }
    concept = assemble(concept_brief(BRIEF | given_too, "x"), written(7))
    assert (concept.rollout_prompts, concept.one_word_prompts, concept.development_prompts) == (
        ("Once",),
        ("The",),
        ("Twice",),
    )
    assert (concept.keywords.positive, concept.licence) == (("ring",), "CC0-1.0")


def test_gender_survives_writing_and_reading(tmp_path):
    concept = load_concept("gender")
    write_concept(concept, tmp_path)
    assert load_concept(str(tmp_path)) == concept
    assert load_concept(str(tmp_path)).hash == concept.hash


def test_success_words_are_not_written_again_as_feature_keywords(tmp_path):
    concept = assemble(concept_brief(BRIEF, "x"), written(70))
    for words, said in ((concept.success_words, False), (("veil",), True)):
        write_concept(replace(concept, feature_keywords=words), tmp_path)
        assert ("feature_keywords" in (tmp_path / "concept.toml").read_text(encoding="utf-8")) is said
        assert load_concept(str(tmp_path)).feature_keywords == words


LINE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@given(description=LINE, prompts=st.lists(LINE, min_size=1, unique=True), hook=LINE)
def test_any_text_survives_writing_and_reading(tmp_path_factory, description, prompts, hook):
    brief = concept_brief(BRIEF | {"keywords": {"positive": ["a"], "negative": ["b"]}}, "x")
    concept = assemble(brief, written(7))
    first = replace(concept.generation[0], prompt=hook.strip())
    concept = replace(
        concept,
        description=description,
        rollout_prompts=tuple(prompts),
        development_prompts=(),
        generation=(first, *concept.generation[1:]),
    )
    directory = tmp_path_factory.mktemp("concept")
    write_concept(concept, directory, "A comment.")
    assert load_concept(str(directory)) == concept
