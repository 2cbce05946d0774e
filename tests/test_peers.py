"""The comparison with other libraries: what it reads, converts, compares and says."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from bench.peers import __main__ as program
from bench.peers import exchange, peer_model, run_steering_bench, tables
from bench.peers.agreement import agreements, compare, disagreements, principal_direction
from bench.peers.exchange import Findings, Job, Pair, Report
from bench.peers.model_directory import older_config, write_for_transformers_4
from steering.errors import ModelError, SteeringError
from tests.documents import ROOT

LAYERS, WIDTH, PAIRS = 2, 6, 9


@pytest.fixture
def job(model_directory):
    pairs = (Pair("the old", "king sat", "queen sat down"), Pair("a", "man ran", "woman ran"), Pair("b", "c d", "e"))
    return Job("", str(model_directory), pairs, LAYERS, "once there was", (0, 1), (1.0, 2.0), 3, 4, 0.8, 0, 1)


@pytest.fixture
def reports():
    """Reports that agree: each other library found what follows from our differences."""
    differences = torch.from_numpy(np.random.default_rng(0).standard_normal((PAIRS, LAYERS, WIDTH))) + 1
    normed = differences[:, -1] * torch.linspace(1, 3, WIDTH)
    principal = [eigenvector(differences[:, 0].numpy()), eigenvector(normed.numpy())]
    tensors = {
        "steering-bench": {
            "vectors": differences.mean(dim=0),
            "differences": differences,
            "normed_differences": normed,
        },
        "steering-vectors": {"vectors": differences.mean(dim=0)},
        "repeng": {"vectors": torch.from_numpy(np.stack(principal))},
    }
    shared = {"logits": torch.arange(5.0), "steered_losses": torch.tensor([2.0, 3.0, 2.5, 4.0])}
    return {
        library: Report(library, "1.2", Findings(found | shared, [[1, 2], [3]], seconds, 3 * seconds))
        for seconds, (library, found) in enumerate(tensors.items(), start=1)
    }


def eigenvector(differences):
    return np.linalg.eigh(differences.T @ differences)[1][:, -1]


def changed(reports, library, **findings):
    report = reports[library]
    return {**reports, library: dataclasses.replace(report, findings=dataclasses.replace(report.findings, **findings))}


def with_tensor(reports, library, name, tensor):
    return changed(reports, library, tensors={**reports[library].findings.tensors, name: tensor})


def found_in(reports):
    return list(disagreements(reports, agreements(reports)))


def test_job_survives_its_file(job, tmp_path):
    exchange.write_job(tmp_path, job)
    assert exchange.read_job(tmp_path) == job


def test_report_survives_its_files(reports, tmp_path):
    written = reports["steering-bench"]
    exchange.write_report(tmp_path, written)
    read = exchange.read_report(tmp_path, "steering-bench")
    for name, tensor in written.findings.tensors.items():
        assert torch.equal(read.findings.tensors[name], tensor.float())
    same_tensors = dataclasses.replace(read.findings, tensors={})
    assert dataclasses.asdict(same_tensors) == dataclasses.asdict(dataclasses.replace(written.findings, tensors={}))
    assert (read.library, read.version) == (written.library, written.version)


def test_converted_directory_means_the_same_model(model_directory, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(model_directory, source)
    config = json.loads((source / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 4321.0
    (source / "config.json").write_text(json.dumps(config))
    write_for_transformers_4(source, target)
    assert json.loads((target / "config.json").read_text())["rope_theta"] == 4321.0
    assert AutoConfig.from_pretrained(target).rope_parameters["rope_theta"] == 4321.0
    assert (target / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert json.loads((target / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_config_without_rope_stays_and_another_rope_is_refused():
    assert older_config({"model_type": "gpt2"}) == {"model_type": "gpt2"}
    with pytest.raises(ModelError, match="rope_parameters .*linear.* cannot be written for transformers 4"):
        older_config({"rope_parameters": {"rope_theta": 1.0, "rope_type": "linear", "factor": 2.0}})
    with pytest.raises(ModelError, match="cannot be written"):
        older_config({"rope_parameters": {"full_attention": {"rope_theta": 1.0, "rope_type": "default"}}})


def test_principal_direction_is_what_pca_center_computes():
    generator = np.random.default_rng(3)
    positive, negative = generator.standard_normal((30, 8)) + 2, generator.standard_normal((30, 8))
    centre = (positive + negative) / 2
    moved = np.concatenate([positive - centre, negative - centre])
    expected = np.linalg.eigh(np.cov(moved.T))[1][:, -1]
    found = principal_direction(positive - negative)
    assert abs(found @ expected) == pytest.approx(1)
    centred = np.linalg.eigh(np.cov((positive - negative).T))[1][:, -1]
    assert abs(found @ centred) < 0.9


def test_cosine_and_ratio_of_norms_are_taken_layer_by_layer():
    expected = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = np.array([[3.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
    agreement = compare("other", "reference", found, expected)
    assert agreement.cosines == pytest.approx((1, -1, 0.5**0.5))
    assert agreement.norm_ratios == pytest.approx((3, 0.5, 0.5**0.5))
    assert (agreement.lowest_layer, agreement.lowest_cosine) == (1, pytest.approx(-1))
    with pytest.raises(ValueError, match=r"vectors of other are \(3, 2\).*\(2, 2\)"):
        compare("other", "reference", found, expected[:2])


def test_agreeing_reports_have_no_disagreement_whatever_the_sign_of_a_component(reports):
    assert found_in(reports) == []
    flipped = -reports["repeng"].findings.tensors["vectors"]
    assert found_in(with_tensor(reports, "repeng", "vectors", flipped)) == []


def test_mean_difference_of_the_other_sign_disagrees_at_every_layer(reports):
    flipped = -reports["steering-vectors"].findings.tensors["vectors"]
    [message] = found_in(with_tensor(reports, "steering-vectors", "vectors", flipped))
    assert "steering-vectors: the cosine with mean_difference is -1.000000 at layer" in message
    assert message.endswith("not above 0.9999 at layers 0, 1")


def test_one_layer_that_disagrees_is_named(reports):
    vectors = reports["repeng"].findings.tensors["vectors"].clone()
    vectors[1] = vectors[1].roll(1)
    [message] = found_in(with_tensor(reports, "repeng", "vectors", vectors))
    assert message.startswith("repeng: the cosine with uncentred PCA is ")
    assert message.endswith("at layer 1, and not above 0.9999 at layers 1")


def test_not_a_number_disagrees(reports):
    [message] = found_in(with_tensor(reports, "steering-vectors", "vectors", torch.full((LAYERS, WIDTH), torch.nan)))
    assert "nan" in message
    [message] = found_in(with_tensor(reports, "repeng", "logits", torch.full((5,), torch.nan)))
    assert "another model" in message


def test_other_tokens_and_another_model_disagree(reports):
    assert found_in(changed(reports, "repeng", token_ids=[[1, 2], [4]])) == [
        "repeng reads other token ids from the same texts"
    ]
    [message] = found_in(with_tensor(reports, "repeng", "logits", torch.arange(5.0) + 0.01))
    assert message == "repeng computes another model: logits differ by 0.01, above 0.001"
    [message] = found_in(with_tensor(reports, "repeng", "steered_losses", torch.tensor([2.0, 3.0, 2.5, 4.002])))
    assert message == "repeng steers otherwise: losses differ by 0.002, above 0.001"


def hooked_loss(model, tokenizer, job, layer, multiplier):
    """The loss as another library's process takes it, with a hook in the library's place."""
    addition = multiplier * exchange.probe(model.config.hidden_size)
    handle = model.model.layers[layer].register_forward_hook(lambda _module, _inputs, output: output + addition)
    try:
        return peer_model.loss(model, tokenizer, job)
    finally:
        handle.remove()


def test_own_process_finds_what_hidden_states_say(job):
    findings = run_steering_bench.measure(job)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(job.model), AutoTokenizer.from_pretrained(job.model)
    with torch.inference_mode():
        outputs = [model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True) for text in job.texts]
    hidden = torch.stack([torch.stack([layer[0, -1] for layer in output.hidden_states]) for output in outputs])
    untouched = hidden[0::2] - hidden[1::2]
    assert job.layer_count == LAYERS
    torch.testing.assert_close(findings.tensors["differences"][:, :-1], untouched[:, 1:-1])
    torch.testing.assert_close(findings.tensors["normed_differences"], untouched[:, -1])
    torch.testing.assert_close(findings.tensors["vectors"][0], untouched[:, 1].mean(dim=0))
    torch.testing.assert_close(findings.tensors["logits"], outputs[0].logits[0, -1])
    steered = [hooked_loss(model, tokenizer, job, *configuration) for configuration in job.configurations]
    torch.testing.assert_close(findings.tensors["steered_losses"].float(), torch.stack(steered))
    assert findings.token_ids == [tokenizer(text)["input_ids"] for text in job.texts]
    assert findings.construction_seconds > 0
    assert findings.rollout_seconds > 0


def test_times_are_shown_beside_the_first_library(reports):
    lines = tables.time_table(list(reports.values())).splitlines()
    assert lines[1].split() == ["steering-bench", "1.2", "1.0", "3.0", "4.0", "1.00"]
    assert lines[3].split() == ["repeng", "1.2", "3.0", "9.0", "12.0", "3.00"]
    assert len({len(line) for line in lines}) == 1


def test_exit_status_says_whether_all_agree(reports, job, capsys):
    assert program.show(job, reports) == 0
    assert "steering-vectors  mean_difference" in capsys.readouterr().out
    assert program.show(job, changed(reports, "repeng", token_ids=[])) == 1
    assert capsys.readouterr().err == "Error: repeng reads other token ids from the same texts\n"


@pytest.mark.parametrize("value", [None, "", "/nowhere/python"])
def test_missing_environment_ends_with_one_message(value, monkeypatch, capsys):
    monkeypatch.delenv(program.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(program.VARIABLE, value)
    assert program.main() == 2
    [message] = capsys.readouterr().err.splitlines()
    assert program.VARIABLE in message
    assert "`tox -e peers` makes one" in message


def test_process_that_fails_is_named_with_its_last_words(tmp_path):
    with pytest.raises(SteeringError, match=r"repeng ended with 1:\n(?s:.*)No module named bench.peers.none"):
        program.ask(program.Side("repeng", sys.executable, "bench.peers.none"), tmp_path)


def test_pinned_environment_is_older_and_names_each_version():
    lines = (ROOT / "bench/peers/requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pins["transformers"].startswith("4.")
    assert pins["numpy"].startswith("1.")
    assert {"steering-vectors", "repeng"} <= set(pins)
