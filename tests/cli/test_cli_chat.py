"""`steering vector apply --chat`: a prompt as a user's message."""

from __future__ import annotations

import json

import pytest

from steering.vectors import Intervention, SteeringVector
from tests.chat_templates import chat_model, chat_tokenizer, rendered
from tests.references import reference_greedy, steering_vector
from tests.small_models import END


@pytest.fixture
def place(tmp_path):
    """A model directory whose tokenizer has a template, and a vector for it."""
    model, directory = chat_model(), tmp_path / "chatty"
    model.module.save_pretrained(directory)
    chat_tokenizer().save_pretrained(directory)
    steering_vector(model, 1).save(tmp_path / "v.safetensors")
    return ("vector", "apply", tmp_path / "v.safetensors"), ("--model", directory, "--dtype", "float32")


def test_prompt_is_a_message_where_that_is_asked_for(call, place, tmp_path):
    command, where = place
    options = ("--multiplier", "3", "--greedy", "--new-tokens", "5", "--json", *where)
    model = chat_model()
    vector = SteeringVector(steering_vector(model, 1).direction, 1, "test", "none", model.name)
    for chat, text in (((), "the king"), (("--chat",), END + rendered("the king"))):
        status, out, err = call(*command, "the king", *chat, *options)
        assert status == 0, err
        ids = model.tokenizer(text)["input_ids"]
        expected = [
            model.tokenizer.decode(reference_greedy(model, ids, dose, 5)) for dose in (None, Intervention(vector, 3.0))
        ]
        assert json.loads(out)["completions"] == [dict(zip(("unsteered", "steered"), expected, strict=True))]


def test_model_without_a_template_is_one_message(call, place, model_directory):
    command, _ = place
    options = ("--multiplier", "3", "--model", model_directory, "--dtype", "float32")
    status, out, err = call(*command, "the king", "--chat", *options)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].endswith("tokenizer has no chat template: take a model that has one")
