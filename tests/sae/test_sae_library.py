"""Which SAE belongs to which layer: directories and SAELens's releases."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path

import pytest
import torch

from steering.errors import DataError, SaeError, UnknownNameError
from steering.sae.autoencoder import release_ids
from steering.sae.config_file import CONFIG_FILE
from steering.sae.features import DESCRIPTIONS_FILE
from steering.sae.library import SaeLibrary, open_library
from tests.small_saes import D_SAE, change_config, load_small, numpy_weights, write_sae

CPU = torch.device("cpu")


@pytest.fixture
def two_layers(tmp_path):
    """A directory with SAEs of layers 0 and 1, and with what does not count as one."""
    root = tmp_path / "saes"
    write_sae(root / "first", hook_name="blocks.0.hook_resid_post")
    write_sae(root / "second", hook_name="blocks.1.hook_resid_post", seed=1)
    (root / "notes").mkdir()
    (root / "README.md").write_text("Two SAEs.", encoding="utf-8")
    return root


def write_descriptions(path: Path, feature: int = 3, **more: object) -> Path:
    path.write_text(json.dumps({"feature": feature, "description": "about kings", **more}) + "\n", encoding="utf-8")
    return path


def test_one_directory_is_the_sae_of_its_layer(tmp_path):
    directory = write_sae(tmp_path / "mine", hook_name="blocks.1.hook_resid_pre")
    library = open_library(str(directory))
    assert (library.name, library.layers) == ("mine", (0,))
    sae = library.load(0, CPU)
    assert sae.layer == 0
    assert sae.decoder.tolist() == numpy_weights(directory)["W_dec"].tolist()


def test_a_directory_of_directories_has_each_layers_sae(two_layers):
    library = open_library(str(two_layers))
    assert (library.name, library.layers) == ("saes", (0, 1))
    for layer, name in ((0, "first"), (1, "second")):
        expected = numpy_weights(two_layers / name)["W_dec"]
        assert library.load(layer, CPU).decoder.tolist() == expected.tolist()


def test_a_relative_directory_is_called_by_its_own_name(two_layers, monkeypatch):
    monkeypatch.chdir(two_layers)
    assert open_library(".").name == "saes"
    assert open_library("first").layers == (0,)


def test_two_saes_for_one_layer_are_refused_by_name(two_layers):
    write_sae(two_layers / "third", hook_name="blocks.1.hook_resid_pre")
    with pytest.raises(SaeError, match="saes: two SAEs for layer 0: first and third"):
        open_library(str(two_layers))


def test_a_directory_without_any_sae_is_refused(tmp_path):
    with pytest.raises(SaeError, match=rf"{tmp_path}: no SAE of a block's output here; a directory with cfg\.json"):
        open_library(str(tmp_path))


def test_the_embeddings_sae_of_a_whole_release_is_passed_over(two_layers):
    write_sae(two_layers / "embeddings", hook_name="blocks.0.hook_resid_pre")
    write_sae(two_layers / "mlp", hook_name="blocks.0.hook_mlp_out")
    assert open_library(str(two_layers)).layers == (0, 1)
    with pytest.raises(SaeError, match="is the embeddings"):
        open_library(str(two_layers / "embeddings"))


def test_a_damaged_configuration_among_others_is_named(two_layers):
    (two_layers / "second" / CONFIG_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(SaeError, match=r"second/cfg\.json: not a configuration"):
        open_library(str(two_layers))


def test_a_layer_without_an_sae_is_refused_with_those_that_have_one(two_layers):
    with pytest.raises(SaeError, match="no SAE for layer 7 in 'saes'; there are SAEs for the layers 0, 1$"):
        open_library(str(two_layers)).load(7, CPU)


def test_an_sae_that_reads_another_layer_than_its_place_says_is_refused(two_layers):
    library = open_library(str(two_layers))
    change_config(two_layers / "second", metadata={"hook_name": "blocks.4.hook_resid_post"})
    with pytest.raises(SaeError, match=r"reads blocks\.4\.hook_resid_post.*block 4; layer 1 was asked for"):
        library.load(1, CPU)


@pytest.mark.parametrize(
    "reference", ["no-such-release", "./nowhere", "/no/where", "embeded", "gpt2-small-res-j", "\0"]
)
def test_an_unknown_reference_says_what_there_is(reference):
    with pytest.raises(UnknownNameError, match=r"unknown SAEs .* Known: embedded\. Or give a directory with cfg\.json"):
        open_library(reference)


def test_a_missing_file_of_descriptions_is_named_before_anything_is_loaded(two_layers, tmp_path):
    with pytest.raises(SaeError, match=r"none\.jsonl: no such file of feature descriptions"):
        open_library(str(two_layers), str(tmp_path / "none.jsonl"))


def test_descriptions_come_from_beside_the_sae_or_from_the_given_file(two_layers, tmp_path):
    library = open_library(str(two_layers))
    sae = library.load(1, CPU)
    assert dict(library.describe(sae).texts) == {}
    assert DESCRIPTIONS_FILE in library.describe(sae).source
    write_descriptions(two_layers / "second" / DESCRIPTIONS_FILE, 3)
    assert dict(library.describe(sae).texts) == {3: "about kings"}
    given = write_descriptions(tmp_path / "given.jsonl", 5, layer=1)
    assert dict(open_library(str(two_layers), str(given)).describe(sae).texts) == {5: "about kings"}


def test_a_given_file_for_several_layers_must_say_which_a_line_is_about(two_layers, tmp_path):
    given = str(write_descriptions(tmp_path / "given.jsonl"))
    library = open_library(str(two_layers), given)
    with pytest.raises(DataError, match=r"given\.jsonl:1: 'layer' is missing; .* for instance \"layer\": 1$"):
        library.describe(library.load(1, CPU))
    alone = open_library(str(two_layers / "second"), given)
    assert dict(alone.describe(alone.load(1, CPU)).texts) == {3: "about kings"}


def test_a_given_file_that_is_malformed_or_gone_is_named(two_layers, tmp_path):
    path = tmp_path / "given.jsonl"
    path.write_text("{\n", encoding="utf-8")
    library = open_library(str(two_layers), str(path))
    sae = library.load(1, CPU)
    with pytest.raises(DataError, match=r"given\.jsonl:1: not valid JSON"):
        library.describe(sae)
    path.unlink()
    with pytest.raises(DataError, match=r"given\.jsonl: no such file"):
        library.describe(sae)


def test_the_packages_own_saes_lie_in_its_data(monkeypatch, two_layers):
    monkeypatch.setattr("steering.sae.library._embedded_root", lambda: two_layers)
    library = open_library("embedded")
    assert (library.name, library.layers, library.release) == ("embedded", (0, 1), "")


def test_saelens_own_list_has_the_papers_release():
    library = open_library("gpt2-small-res-jb")
    assert library.layers == tuple(range(12))
    assert library.release == "gpt2-small-res-jb"
    expected = {layer: f"blocks.{layer + 1}.hook_resid_pre" for layer in range(11)}
    assert library.ids == expected | {11: "blocks.11.hook_resid_post"}
    assert release_ids("no-such-release") is None


def test_a_release_whose_ids_name_no_hook_is_refused(release):
    release("layer_0/width_16k", "blocks.0.hook_mlp_out")
    with pytest.raises(SaeError, match="'small-release': its ids name no residual stream hook; .*give the directory"):
        open_library("small-release")


def test_an_sae_of_a_release_is_loaded_and_named(release, tmp_path):
    sae_id = "blocks.1.hook_resid_pre"
    directory = write_sae(tmp_path / "hub" / sae_id, hook_name=sae_id)
    sae = open_library(release(sae_id)).load(0, CPU)
    assert (sae.name, sae.layer, sae.hook_name) == (f"small-release/{sae_id}", 0, sae_id)
    assert sae.centred is False
    assert (sae.d_sae, sae.decoder.tolist()) == (D_SAE, numpy_weights(directory)["W_dec"].tolist())


@pytest.mark.parametrize("conversion", ["goodfire", "deepseek_r1", "dictionary_learning_1", "temporal", "gemma_2"])
def test_a_release_of_another_format_is_refused_before_anything_is_fetched(release, monkeypatch, conversion):
    from sae_lens import SAE

    def fetch(*_args, **_options):
        pytest.fail("was fetched")

    monkeypatch.setattr(SAE, "from_pretrained_with_cfg_and_sparsity", fetch)
    sae_id = "blocks.1.hook_resid_pre"
    library = open_library(release(sae_id, conversion=conversion))
    with pytest.raises(SaeError, match="'small-release': its weights are not in SAELens's own format.*directory"):
        library.load(0, CPU)


def test_saelens_own_format_is_read_without_pickles():
    from sae_lens.loading import pretrained_sae_loaders

    for reader in ("sae_lens_huggingface_loader", "read_sae_components_from_disk"):
        tree = ast.parse(inspect.getsource(getattr(pretrained_sae_loaders, reader)))
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        options = {keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords}
        assert called & {"torch.load", "pickle.load"} | options & {"allow_pickle"} == set()


@pytest.mark.parametrize("name", ["gemma-scope-2b-pt-res-canonical", "llama_scope_lxr_8x"])
def test_gemma_scope_and_llama_scope_are_not_loaded_by_name(name):
    with pytest.raises(SaeError, match=f"'{name}': its ids name no residual stream hook"):
        open_library(name)


def test_a_release_that_cannot_be_fetched_says_what_to_do(release):
    sae_id = "blocks.1.hook_resid_pre"
    library = open_library(release(sae_id))
    with pytest.raises(
        SaeError, match=r"SAE small-release/blocks.* cannot be loaded: .*Give a directory with cfg\.json"
    ):
        library.load(0, CPU)


def test_a_library_of_a_release_describes_from_a_given_file_only(release, tmp_path):
    sae_id = "blocks.1.hook_resid_pre"
    write_sae(tmp_path / "hub" / sae_id, hook_name=sae_id)
    library = open_library(release(sae_id))
    sae = library.load(0, CPU)
    assert dict(library.describe(sae).texts) == {}
    given = write_descriptions(tmp_path / "given.jsonl")
    named = SaeLibrary(library.name, {}, library.release, library.ids, given)
    assert dict(named.describe(sae).texts) == {3: "about kings"}


@pytest.mark.parametrize("change", [{"k": 1000}, {"k": -1}, {"k": 1.5}, {"k": "a"}, {"k": None}])
def test_settings_that_an_sae_cannot_compute_with_are_named(tmp_path, change):
    directory = write_sae(tmp_path / "sae", "topk")
    change_config(directory, **change)
    with pytest.raises(SaeError, match=r"it cannot compute with the settings of its cfg\.json|cannot be loaded|not a"):
        load_small(directory)
