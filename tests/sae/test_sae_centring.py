"""Which SAEs are given centred residual streams: by every format, from a directory and from a release."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from steering.sae.autoencoder import load_release
from steering.sae.config_file import CONFIG_FILE
from steering.sae.library import open_library
from tests.small_saes import write_old_sae, write_sae

CPU = torch.device("cpu")
CENTRING = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


@pytest.mark.parametrize("old", [True, False])
def test_a_releases_overrides_ask_for_centring(release, tmp_path, old):
    sae_id = "blocks.1.hook_resid_pre"
    if old:
        write_old_sae(tmp_path / "hub" / sae_id, sae_id, model_name="pythia-70m")
    else:
        write_sae(tmp_path / "hub" / sae_id, hook_name=sae_id)
    assert load_release(release(sae_id), sae_id, CPU).centred is False
    assert load_release(release(sae_id, overrides=CENTRING), sae_id, CPU).centred is True


def without_the_oldest_keys(directory: Path) -> Path:
    """Make of the oldest format that of SAELens 3 to 5."""
    path = directory / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    for old, new in (("", "name"), ("_layer", "layer"), ("_head_index", "head_index")):
        config[f"hook_{new}"] = config.pop(f"hook_point{old}")
    path.write_text(json.dumps(config | {"sae_lens_training_version": "3.18.2"}), encoding="utf-8")
    return directory


def saved_again(directory: Path) -> Path:
    """Load and save by the SAELens that is installed, in place."""
    from sae_lens import SAE

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on loading a model by TransformerLens
        SAE.load_from_disk(directory, dtype="float32").save_model(directory)
    return directory


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize(
    ("changes", "centred"),
    [
        ({}, True),
        ({"model_name": "pythia-70m"}, False),
        ({"model_from_pretrained_kwargs": {"center_writing_weights": False}}, False),
    ],
)
def test_an_old_sae_is_centred_alike_however_it_reached_the_disk(release, tmp_path, changes, centred, newer, again):
    sae_id = "blocks.1.hook_resid_pre"
    directory = write_old_sae(tmp_path / "hub" / sae_id, sae_id, **changes)
    if newer:
        without_the_oldest_keys(directory)
    if again:
        saved_again(directory)
    assert open_library(str(directory)).load(0, CPU).centred is centred
    assert load_release(release(sae_id), sae_id, CPU).centred is centred
