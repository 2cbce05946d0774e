"""`steering sae`, as a user calls it: a small training, and what is told before a model is loaded."""

from __future__ import annotations

import json
import re

import pytest

from steering.models.language_model import LanguageModel
from steering.sae.features import DESCRIPTIONS_FILE
from steering.sae.training import only_training
from tests.small_saes import write_sae

SENTENCE = "The king of the land saw a ship, and the girl told the story. "
SMALL = ("--tokens", 400, "--context-tokens", 16, "--expansion", 2, "--k", 4, "--batch-size", 16, "--device", "cpu")


@pytest.fixture
def corpus(tmp_path):
    """Twenty files of a few rows each."""
    directory = tmp_path / "texts"
    directory.mkdir()
    for number in range(20):
        (directory / f"{number:02}.txt").write_text(SENTENCE + str(number), encoding="utf-8")
    return directory


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr(LanguageModel, "load", lambda *_: pytest.fail("the model was loaded"))


def training(model_directory, corpus, out, work, *options):
    place = ("--model", model_directory, "--corpus", corpus, "--output", out, "--work", work)
    return ("sae", "train", "--layers", "1", *place, *SMALL, *options)


def test_trained_sae_is_described_for_its_layer_and_its_work_is_no_sae(call, model_directory, corpus, tmp_path):
    out, work = tmp_path / "saes", tmp_path / "work"
    status, printed, err = call(*training(model_directory, corpus, out, work, "--epochs", 40))
    assert (status, printed) == (0, f"{out / 'layer1'}\n"), err
    place = ("--corpus", corpus, "--model", model_directory, "--context-tokens", 16, "--device", "cpu")
    status, printed, err = call("sae", "describe", out, *place)
    assert status == 0, err
    lines = (out / "layer1" / DESCRIPTIONS_FILE).read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["layer"] for line in lines} == {1}
    assert len(lines) == 64
    assert (work / "layer1-checkpoint").is_dir()
    status, _, err = call("sae", "evaluate", work, *place)
    assert status == 2
    assert "layer1-checkpoint: its scaling is not folded into its weights" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("no_model")
def test_descriptions_of_the_package_are_not_replaced(call, corpus):
    status, _, err = call("sae", "describe", "embedded", "--corpus", corpus)
    assert (status, "the embedded SAEs have descriptions, which are the package's" in err) == (2, True)


def test_corpus_smaller_than_what_was_asked_for_is_told(call, model_directory, corpus, tmp_path):
    status, _, err = call(*training(model_directory, corpus, tmp_path / "saes", tmp_path / "work", "--tokens", 10**9))
    assert status == 0
    assert re.search(r"the corpus has [\d,]+ training tokens; 1,000,000,000 were asked for", err)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": "file/x"}, "file/x: cannot be written: Not a directory"),
        ({"work": "file/x"}, "file/x: writing failed: Not a directory"),
        ({"corpus": "nothing.txt"}, "nothing.txt: no such file"),
        ({"options": ("--layers", "2")}, "unknown layer '2'. Known: 0 to 1."),
        ({"options": ("--dtype", "float8")}, "dtype 'float8': choose one of auto, float32"),
        ({"options": ("--device", "nowhere")}, "device 'nowhere' cannot be used here"),
    ],
)
def test_what_a_training_could_not_end_with_is_told_before_the_model_is_loaded(
    call, model_directory, corpus, tmp_path, monkeypatch, changes, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    given = {"corpus": corpus, "out": "saes", "work": "work", "options": ()} | changes
    status, out, err = call(*training(model_directory, given["corpus"], given["out"], given["work"], *given["options"]))
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in err


@pytest.mark.usefixtures("no_model")
def test_training_beside_another_in_one_directory_is_refused_before_the_model_is_loaded(
    call, model_directory, corpus, tmp_path
):
    with only_training(tmp_path / "work"):
        status, _, err = call(*training(model_directory, corpus, tmp_path / "saes", tmp_path / "work"))
    assert status == 2
    assert f"error: {tmp_path / 'work'}: another process is training in this directory" in err


@pytest.mark.usefixtures("no_model")
def test_place_where_an_sae_would_be_lost_or_found_is_told_before_anything_is_trained(
    call, model_directory, corpus, tmp_path
):
    out = tmp_path / "saes"
    status, _, err = call(*training(model_directory, corpus, out, out))
    assert (status, f"error: --work {out}: that is --output, too" in err) == (2, True)
    (out / "layer1").mkdir(parents=True)
    (out / "layer1" / "thesis.txt").write_text("of years", encoding="utf-8")
    status, _, err = call(*training(model_directory, corpus, out, tmp_path / "work"))
    assert (status, f"error: {out}/layer1: this is no SAE, and would be replaced by an SAE" in err) == (2, True)
    assert not (tmp_path / "work").exists()


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("train", "--layers", "1", "--output", "out", "--work", "work"), ("--tokens", "0")),
        (("train", "--layers", "1", "--output", "out", "--work", "work"), ("--context-tokens", "1")),
        (("evaluate", "embedded"), ("--tokens", "0")),
        (("evaluate", "embedded"), ("--loss-tokens", "0")),
        (("evaluate", "embedded"), ("--context-tokens", "0")),
        (("describe", "saes"), ("--tokens", "0")),
        (("describe", "saes"), ("--context-tokens", "1")),
    ],
)
def test_counts_of_nothing_are_a_usage_error(call, command, option):
    status, out, err = call("sae", *command, "--corpus", "texts", *option)
    assert (status, out) == (2, "")
    assert f"Invalid value for '{option[0]}'" in err


def test_sae_of_another_width_is_one_message(call, model_directory, corpus, tmp_path):
    saes = write_sae(tmp_path / "saes" / "wide", d_model=16).parent
    place = ("--corpus", corpus, "--model", model_directory, "--context-tokens", 16, "--device", "cpu")
    status, _, err = call("sae", "describe", saes, *place)
    assert (status, err.splitlines()[-1]) == (
        2,
        "error: SAE saes/wide reads a width of 16, but model small has d_model 32",
    )
