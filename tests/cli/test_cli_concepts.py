"""`steering concept` as a user calls it."""

from __future__ import annotations

import json
import re

import pytest

from steering.concept_files import load_concept
from steering.concept_writing import chat
from tests.chat_servers import KEY, Answer, chat_server, completion, story, tells
from tests.concepts.test_concepts import edit, edit_pair

CONTRAST = ("--describe", "Kings against queens.", "--positive", "a king writes", "--negative", "a queen writes")


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def generating(server, directory, *options, pairs=28):
    where = ("--endpoint", server.url, "--model", "writer", "--output", directory, "--pairs", pairs)
    return ("concept", "generate", *CONTRAST, *where, *options)


def test_generate_writes_a_concept_that_check_accepts(call, tmp_path):
    with chat_server([tells(1, 2), Answer(completion("No."))]) as server:
        status, out, err = call(*generating(server, tmp_path / "royalty"))
    assert status == 0
    assert out.splitlines()[:2] == [
        f"{tmp_path}/royalty: 24 + 4 pairs from 11 replies",
        "refused: 1 × a reply without a story",
    ]
    assert "reply 2: a reply without a story: 'No.'" in err
    assert server.requests[0][1]["Authorization"] == f"Bearer {KEY}"
    concept = load_concept(str(tmp_path / "royalty"))
    assert (concept.name, concept.description) == ("royalty", "Kings against queens.")
    first = (tmp_path / "royalty" / "concept.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# The keywords are what tells the pairs apart; choose among them."
    status, out, _ = call("concept", "check", tmp_path / "royalty")
    assert status == 0
    assert "0 faults" in out


def test_options_win_over_a_brief_and_another_key_is_used(call, tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", "other-key")
    (tmp_path / "brief.toml").write_text(
        'name = "crowns"\ndescription = "x"\nlicence = "MIT"\n[keywords]\npositive = ["king"]\nnegative = ["queen"]\n',
        encoding="utf-8",
    )
    options = ("--brief", tmp_path / "brief.toml", "--key-variable", "MINE", "--licence", "CC0-1.0")
    keywords = ("--positive-keyword", "king", "--positive-keyword", "prince", "--negative-keyword", "queen")
    with chat_server() as server:
        status, _, _ = call(
            *generating(server, tmp_path / "c", *options, *keywords, "--rollout-prompt", "Once", pairs=4)
        )
    assert status == 0
    assert server.requests[0][1]["Authorization"] == "Bearer other-key"
    concept = load_concept(str(tmp_path / "c"))
    assert (concept.name, concept.licence, concept.rollout_prompts) == ("crowns", "CC0-1.0", ("Once",))
    assert concept.keywords.positive == ("king", "prince")


def test_keywords_of_one_side_leave_those_of_the_brief_s_other_side(call, tmp_path):
    (tmp_path / "brief.toml").write_text(
        'name = "crowns"\ndescription = "x"\n[keywords]\npositive = ["prince"]\nnegative = ["queen"]\n',
        encoding="utf-8",
    )
    with chat_server() as server:
        options = ("--brief", tmp_path / "brief.toml", "--positive-keyword", "king")
        assert call(*generating(server, tmp_path / "c", *options, pairs=4))[0] == 0
    keywords = load_concept(str(tmp_path / "c")).keywords
    assert (keywords.positive, keywords.negative) == (("king",), ("queen",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--positive", ""), "the pairs to write are not described: give --positive, or a --brief file\n"),
        (("--output", "My-Weddings"), "--output My-Weddings: a concept cannot be called so; give its name by --name ("),
        (("--describe", "a\udcff"), "--describe 'a\\udcff': not in the encoding of this terminal"),
        (("--rollout-prompt", "a\udcff"), "--rollout-prompt 'a\\udcff': not in the encoding of this terminal"),
        (("--name", "No Name"), "options: name 'No Name': use lower-case"),
        (("--key-variable", "ABSENT"), "--key-variable 'ABSENT': the environment has no such variable"),
        (("--endpoint", "http://example.org"), "the key in OPENAI_API_KEY would travel unencrypted to example.org"),
        (("--endpoint", f"https://{KEY}@h"), "--endpoint must hold neither"),
        (("--pairs", "1"), "--pairs 1: a concept needs at least 2"),
        (("--brief", "/nowhere.toml"), "/nowhere.toml: no such file"),
        (("--positive-keyword", "king"), "success words of one side alone were given: give --negative-keyword, too"),
    ],
)
def test_mistake_is_one_message_and_asks_nobody(call, tmp_path, options, message):
    with chat_server() as server:
        status, out, err = call(*generating(server, tmp_path / "royalty"), *options)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1
    assert KEY not in err
    assert server.requests == []
    assert not (tmp_path / "royalty").exists()


def test_refusal_of_the_server_is_one_message_without_the_key(call, tmp_path):
    refused = Answer(json.dumps({"error": {"message": f"Incorrect API key {KEY}"}}).encode(), 401)
    with chat_server([tells(1, 2), refused]) as server:
        status, out, err = call(*generating(server, tmp_path / "royalty"))
    assert (status, out) == (2, "")
    assert err.splitlines()[-1] == (
        f"error: {server.url}/chat/completions: HTTP 401: Incorrect API key [key]; check the key. "
        f"2 of 28 pairs are kept in {tmp_path}/royalty; the same command goes on there"
    )
    assert KEY not in err


def test_control_c_ends_with_130_and_says_what_is_kept(call, tmp_path, monkeypatch):
    class Stopped(chat.ChatClient):
        def ask(self, prompt):
            if "exist already" in prompt:
                raise KeyboardInterrupt
            return super().ask(prompt)

    monkeypatch.setattr(chat, "ChatClient", Stopped)
    with chat_server() as server:
        status, _, err = call(*generating(server, tmp_path / "royalty"))
    assert status == 130
    assert f"stopped. 3 of 28 pairs are kept in {tmp_path}/royalty; the same command goes on there" in err
    assert "Traceback" not in err


def test_terminal_is_not_obeyed_by_what_a_server_says(call, tmp_path):
    answers = [Answer(completion("\x1b[2Jboo")), Answer(b"\x1b[2J", 500)]
    with chat_server(answers) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("steering.concept_writing.chat.time.sleep", lambda _: None)
        status, _, err = call(*generating(server, tmp_path / "royalty"))
    assert status == 0
    assert "boo" in err
    assert "\x1b" not in err


def test_check_lists_all_faults_and_ends_with_1(call, concept_directory):
    edit(concept_directory, 'licence = "MIT"', "licence = 3")
    edit_pair(concept_directory, 2, prompt=" ")
    edit_pair(concept_directory, 4, positive=None)
    status, out, _ = call("concept", "check", concept_directory, "--model", "/nowhere")
    assert status == 1
    lines = out.replace(f"{concept_directory}/", "").splitlines()
    assert lines[:3] == [
        "fault: concept.toml:3: 'licence' must be a non-empty string, found 3",
        "fault: generation.jsonl:2: 'prompt' is ' '; it must be a non-empty string",
        "fault: generation.jsonl:4: 'positive' is missing; it must be a non-empty string",
    ]
    assert lines[-1].startswith("3 faults, ")


def test_check_predicts_by_a_model(call, concept_directory, model_directory):
    options = ("--model", model_directory, "--dtype", "float32", "--device", "cpu")
    status, out, _ = call("concept", "check", concept_directory, *options)
    assert status == 0
    rows = [line.split() for line in out.splitlines() if re.match(r" +[01] ", line)]
    assert [row[0] for row in rows] == ["0", "1"]
    # Six pairs can be swapped in 32 ways that differ: p is 1/32 at best, which two layers cannot bring below .01.
    assert "Layers 0–1: it is not shown that pairs agree more than by chance" in out
    assert "This does not show that steering works." in out
    status, out, _ = call("concept", "check", concept_directory, *options, "--layers", "1")
    assert "Layer 1: " in out


def test_check_of_a_layer_or_a_concept_that_is_not_there(call, concept_directory, model_directory):
    options = ("--model", model_directory, "--dtype", "float32", "--device", "cpu")
    status, _, err = call("concept", "check", concept_directory, *options, "--layers", "9")
    assert status == 2
    assert "unknown layer '9'. Known: 0 to 1." in err
    status, _, err = call("concept", "check", concept_directory, "--layers", "1")
    assert (status, err) == (2, "error: --layers '1' is for the prediction, which needs a --model\n")
    assert call("concept", "check", "gendre")[2].startswith("error: unknown concept 'gendre'. Did you mean 'gender'?")


@pytest.mark.parametrize("written", ["./gender", "gender/", "./gender/"])
def test_directory_that_has_a_built_in_concept_s_name_is_the_one_that_is_checked(
    call, concept_directory, tmp_path, monkeypatch, written
):
    monkeypatch.chdir(tmp_path)
    concept_directory.rename(tmp_path / "gender")
    by_path = call("concept", "check", tmp_path / "gender")[1]
    assert call("concept", "check", written)[1] == by_path.replace(f"{tmp_path}/", "")


def test_list_and_show(call):
    assert call("concept", "list")[1].startswith("gender: The gender of a story's protagonist")
    status, out, _ = call("concept", "show", "gender", "--pairs", "1")
    assert status == 0
    assert "pairs:               300 of generation, 50 of the test\n\nThe first " in out
    assert "positive keywords:   dad, father" in out
    assert out.count("positive: ") == 1
    assert "rollout prompts:     1, the first: My favorite doll is a little" in out


def test_story_of_the_tests_is_what_the_form_asks_for():
    assert [line for line in story(1).splitlines() if line.endswith(":")] == ["Hook:", "Positive:", "Negative:"]
