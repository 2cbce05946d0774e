"""A concept is written by a server that misbehaves, stopped, and gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections import Counter
from contextlib import contextmanager

import pytest

from steering.concept_files import load_concept
from steering.concept_writing.briefs import concept_brief
from steering.concept_writing.chat import ChatClient, Reply
from steering.concept_writing.endpoints import ChatEndpoint
from steering.concept_writing.pairs import PARTIAL_NAME
from steering.concept_writing.writing import Order, generate
from steering.errors import DataError, EndpointError
from steering.progress import Silent
from tests.chat_servers import KEY, Answer, FakeTime, chat_server, completion, story, tells
from tests.concept_writing.test_concept_briefs import BRIEF
from tests.small_activations import Notes

PAIRS = 28


@pytest.fixture
def order(tmp_path):
    return Order(concept_brief(BRIEF, "x"), "writer", tmp_path / "weddings", PAIRS)


class Telling:
    """Tells some stories, a reply each, and then does something else."""

    def __init__(self, replies, then) -> None:
        self._replies, self._then = iter(replies), then

    def ask(self, prompt) -> Reply:
        assert "short stories like this" in prompt
        return Reply(next(self._replies, None) or self._then())


@contextmanager
def client_of(server):
    endpoint = ChatEndpoint(f"{server.url}/chat/completions", "writer", KEY)
    with ChatClient(endpoint, lambda _: None, clock=FakeTime().clock) as client:
        yield client


def write(order, server, progress=None):
    with client_of(server) as client:
        return generate(order, client, progress or Silent())


def refusal(order, server) -> str:
    with pytest.raises(EndpointError) as caught:
        write(order, server)
    return str(caught.value)


def test_concept_is_written_complete(order):
    with chat_server() as server:
        concept, tally = write(order, server)
    assert load_concept(str(order.directory)) == concept
    assert (len(concept.generation), len(concept.test)) == (24, 4)
    assert sorted(path.name for path in order.directory.iterdir()) == ["concept.toml", "generation.jsonl", "test.jsonl"]
    assert {pair.id for pair in concept.generation + concept.test} == {f"weddings-{n:03d}" for n in range(1, 29)}
    assert (concept.keywords.positive, concept.keywords.negative) == (("king", "letter"), ("parcel", "queen"))
    assert tally.replies == 10
    assert not tally.refused


def test_no_prompt_is_ever_the_same_and_each_shows_what_exists(order):
    with chat_server() as server:
        write(order, server)
    assert len(set(server.prompts)) == 10
    assert "place1" not in server.prompts[0]
    hooks = [line for line in server.prompts[-1].splitlines() if line.startswith("- ")]
    assert len(hooks) == 6


def test_everything_that_goes_wrong_is_counted_and_shown(order):
    cut = story(7)[: story(7).index("Negative")]
    answers = [
        tells(1, 2),
        Answer(completion("I cannot help with that.")),
        Answer(completion(cut)),
        Answer(b"<html>", 200, {"Content-Type": "text/html"}),
        tells(1, 3),
        Answer(b"", 500),
        Answer(completion(story(4, "duke"))),
        Answer(completion(f"{story(5)} {KEY}")),
        Answer(completion(story(6).replace("Soon a parcel", "Later a parcel"))),
    ]
    notes = Notes()
    with chat_server(answers) as server:
        _, tally = write(order, server, notes)
    assert tally.refused == Counter(
        {
            "a reply without a story": 1,
            "negative: missing": 1,
            "an answer that is not JSON (text/html, 6 bytes)": 1,
            "repeats an earlier story": 1,
            "an answer that holds the key": 1,
            "continuations start with different words": 1,
        }
    )
    assert notes.said[0] == "reply 2: a reply without a story: 'I cannot help with that.'"
    assert KEY not in "".join(notes.said)
    assert KEY not in "".join(path.read_text(encoding="utf-8") for path in order.directory.iterdir())


def test_server_that_gives_up_loses_nothing(order):
    with chat_server([tells(1, 2, 3), *[Answer(b"", 503)] * 6]) as server:
        message = refusal(order, server)
        assert message.endswith(
            f"the last: HTTP 503. 3 of 28 pairs are kept in {order.directory}; the same command goes on there"
        )
        assert [path.name for path in order.directory.iterdir() if path.name[0] != "."] == []
        concept, tally = write(order, server)
    assert tally.replies == 9
    assert {"Soon a letter number1 came from the king."} <= {
        pair.positive for pair in concept.generation + concept.test
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(completion("No.")), "a reply without a story"),
        (tells(1), "repeats an earlier story"),
        (Answer(b"<html>", 200, {"Content-Type": "text/html"}), "an answer that is not JSON (text/html, 6 bytes)"),
    ],
)
def test_replies_that_bring_nothing_come_to_an_end(order, answer, reason):
    with chat_server([answer] * 11) as server:
        message = refusal(order, server)
    assert message.startswith(f"10 replies in a row held no new pair (10 × {reason}). ")


def test_first_refusal_says_that_there_is_nothing_yet(order):
    with chat_server([Answer(b"", 401)]) as server:
        message = refusal(order, server)
    assert message.endswith(f"check the key. There is no pair yet to keep in {order.directory}")
    assert not order.directory.exists()


def test_directory_that_was_there_before_a_first_refusal_stays(order):
    order.directory.mkdir()
    with chat_server([Answer(b"", 401)]) as server:
        refusal(order, server)
    assert list(order.directory.iterdir()) == []


def test_pair_that_was_removed_by_hand_gives_its_number_to_no_other(order):
    with chat_server([tells(1, 2, 3), *[Answer(b"", 503)] * 6]) as server:
        refusal(order, server)
    lines = (order.directory / PARTIAL_NAME).read_text(encoding="utf-8").splitlines(keepends=True)
    (order.directory / PARTIAL_NAME).write_text("".join([*lines[:2], *lines[3:]]), encoding="utf-8")
    with chat_server() as server:
        concept, _ = write(order, server)
    ids = sorted(pair.id for pair in concept.generation + concept.test)
    assert ids == [f"weddings-{number:03d}" for number in (1, *range(3, PAIRS + 2))]


def test_pairs_whose_sides_no_word_tells_apart_are_kept(tmp_path):
    """Four pairs show nothing; with keywords in the brief the same pairs make a concept."""
    order = Order(concept_brief(BRIEF, "x"), "writer", tmp_path / "few", 4)
    with chat_server() as server:
        with pytest.raises(DataError, match=r"give keywords for both sides\. 4 of 4 pairs are kept in "):
            write(order, server)
        keywords = {"keywords": {"positive": ["king"], "negative": ["queen"]}}
        again = Order(concept_brief(BRIEF | keywords, "x"), "writer", tmp_path / "few", 4)
        asked = len(server.requests)
        concept, tally = write(again, server)
        assert len(server.requests) == asked
    assert (len(concept.generation), len(concept.test), tally.replies) == (3, 1, 0)


def test_stop_keeps_what_is_there_and_says_so(order):
    def stop():
        raise KeyboardInterrupt

    told = Telling([story(1) + story(2)], stop)
    with pytest.raises(
        KeyboardInterrupt, match=r"stopped\. 2 of 28 pairs are kept in .*weddings; the same command goes"
    ):
        generate(order, told, Silent())
    with chat_server() as server:
        concept, _ = write(order, server)
    assert len(concept.generation + concept.test) == PAIRS


def test_fewer_pairs_than_are_written_already_are_refused_and_none_is_lost(order):
    with chat_server([tells(1, 2, 3), *[Answer(b"", 503)] * 6]) as server:
        refusal(order, server)
    kept = (order.directory / ".partial.jsonl").read_bytes()
    told = "3 pairs are written already, of which 2 would be used; ask for as many by --pairs"
    with chat_server() as server, pytest.raises(DataError, match=told):
        write(dataclasses.replace(order, pairs=2), server)
    assert server.requests == []
    assert (order.directory / ".partial.jsonl").read_bytes() == kept


def test_more_stories_than_are_wanted_are_not_kept(tmp_path):
    keywords = {"keywords": {"positive": ["king"], "negative": ["queen"]}}
    order = Order(concept_brief(BRIEF | keywords, "x"), "writer", tmp_path / "c", 2, 20)
    with chat_server([tells(*range(20))]) as server:
        concept, _ = write(order, server)
    assert len(concept.generation + concept.test) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": 1}, "--pairs 1: a concept needs at least 2"),
        ({"stories": 0}, "--stories 0: ask for 1 to 20 at a time"),
        ({"stories": 21}, "--stories 21: ask for"),
    ],
)
def test_numbers_that_make_no_concept_are_refused(order, changes, message):
    with pytest.raises(DataError, match=message):
        Order(**(vars(order) | changes))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork is killed")
def test_killed_process_leaves_what_another_goes_on_from(order):
    told = Telling([story(1) + story(2), story(3)], lambda: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if child == 0:
        generate(order, told, Silent())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    lines = (order.directory / PARTIAL_NAME).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines[1:]] == [f"weddings-00{n}" for n in (1, 2, 3)]
    with chat_server() as server:
        concept, _ = write(order, server)
    assert len(concept.generation + concept.test) == PAIRS
