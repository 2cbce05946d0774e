"""Sparse autoencoders: what they compute, and which files are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import SaeError
from steering.sae.autoencoder import read_hook_name
from steering.sae.config_file import CONFIG_FILE
from tests.small_saes import (
    D_MODEL,
    D_SAE,
    HOOK,
    SAE_ARCHITECTURES,
    change_config,
    change_weights,
    load_small,
    numpy_weights,
    small_sae,
    weights_of,
    write_old_sae,
    write_sae,
)

CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}


@pytest.fixture(scope="module")
def saes(tmp_path_factory):
    """Architecture -> (SAE, its weights in numpy)."""
    root = tmp_path_factory.mktemp("saes")
    loaded = {architecture: small_sae(root / architecture, architecture) for architecture in SAE_ARCHITECTURES}
    return {architecture: (sae, numpy_weights(root / architecture)) for architecture, sae in loaded.items()}


@pytest.fixture(params=SAE_ARCHITECTURES)
def architecture(request):
    return request.param


def residuals(shape=(5, D_MODEL), seed=0, scale=2.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def encode_in_numpy(architecture: str, weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Each architecture's encoder, from its paper."""
    given = x - weights["b_dec"]
    if architecture == "gated":  # Rajamanoharan et al. 2024, eq. 6 and 7
        gate = given @ weights["W_enc"] + weights["b_gate"] > 0
        return gate * np.maximum(given @ (weights["W_enc"] * np.exp(weights["r_mag"])) + weights["b_mag"], 0)
    before = given @ weights["W_enc"] + weights["b_enc"]
    if architecture == "standard":
        return np.maximum(before, 0)
    if architecture.startswith("topk"):
        norms = np.linalg.norm(weights["W_dec"], axis=1) if architecture == "topk_rescaled" else 1.0
        ranks = (-before * norms).argsort(axis=-1).argsort(axis=-1)
        return np.maximum(before * norms, 0) * (ranks < 8)
    return np.maximum(before, 0) * (before > weights["threshold"])  # JumpReLU, also what is trained by BatchTopK


def test_encode_equals_the_architecture_in_numpy(saes, architecture):
    sae, weights = saes[architecture]
    x = residuals((3, 7, D_MODEL))
    found, expected = sae.encode(x), encode_in_numpy(architecture, weights, x.double().numpy())
    assert found.dtype == torch.float32
    assert found.shape == (3, 7, D_SAE)
    assert 0.05 < (expected != 0).mean() < 0.6, "features that all fire or none would show nothing"
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_reconstruct_is_codes_times_decoder_plus_bias(saes, architecture):
    sae, weights = saes[architecture]
    x = residuals()
    rows = weights["W_dec"]
    if architecture == "topk_rescaled":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = encode_in_numpy(architecture, weights, x.double().numpy()) @ rows + weights["b_dec"]
    np.testing.assert_allclose(sae.reconstruct(x).numpy(), expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(sae.decoder.numpy(), rows, rtol=1e-5, atol=1e-6)


@given(st.sampled_from(SAE_ARCHITECTURES), st.integers(0, 2**32 - 1), st.floats(-3, 3, width=32))
def test_decode_difference_is_the_difference_of_two_decodings(saes, architecture, seed, factor):
    sae, _ = saes[architecture]
    codes, other, difference = residuals((3, D_SAE), seed)
    with torch.inference_mode():
        there, here = (sae._lens.decode(z) for z in (codes + difference, codes))
    torch.testing.assert_close(sae.decode_difference(difference), there - here, rtol=1e-3, atol=1e-3)
    combined = sae.decode_difference(difference * factor + other)
    apart = sae.decode_difference(difference) * factor + sae.decode_difference(other)
    torch.testing.assert_close(combined, apart, rtol=1e-3, atol=1e-3)


def test_no_difference_decodes_to_exactly_nothing(tmp_path, architecture):
    sae = small_sae(tmp_path / "sae", architecture, weights={"b_dec": torch.full((D_MODEL,), 1e3)})
    assert sae.decode_difference(torch.zeros(D_SAE)).tolist() == [0.0] * D_MODEL
    with torch.inference_mode():
        assert float(sae._lens.decode(torch.zeros(D_SAE)).min()) > 900, "the bias is there"


def test_a_centred_sae_does_not_see_the_mean_and_an_uncentred_one_does(tmp_path, architecture):
    centred = small_sae(tmp_path / "centred", architecture, metadata=CENTRED)
    plain = small_sae(tmp_path / "plain", architecture)
    x, shift = residuals(), torch.tensor([[3.0], [-5.0], [0.5], [10.0], [0.0]])
    torch.testing.assert_close(centred.encode(x + shift), centred.encode(x), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(plain.encode(x + shift), plain.encode(x), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(centred.encode(x), plain.encode(x - x.mean(dim=-1, keepdim=True)))
    torch.testing.assert_close(centred.reconstruct(x + shift), centred.reconstruct(x) + shift, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(centred.seen(x + shift).mean(dim=-1), torch.zeros(5), rtol=0, atol=1e-5)
    assert torch.equal(plain.seen(x), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_reconstruct_gives_back_dtype_and_shape_and_computes_in_float32(saes, dtype):
    sae, _ = saes["standard"]
    x = residuals((2, 3, D_MODEL)).to(dtype)
    found = sae.reconstruct(x)
    assert (found.dtype, found.shape) == (dtype, x.shape)
    assert torch.equal(found, sae.reconstruct(x.float()).to(dtype))
    assert sae.encode(x).dtype == torch.float32


def test_weights_in_bfloat16_are_loaded_as_float32(tmp_path):
    directory = write_sae(tmp_path / "sae", settings={"dtype": "bfloat16"})
    sae = load_small(directory)
    assert sae.decoder.dtype == torch.float32
    assert np.array_equal(sae.decoder.double().numpy(), numpy_weights(directory)["W_dec"])


@pytest.mark.parametrize(("hook_name", "layer"), [("blocks.1.hook_resid_pre", 0), (HOOK, 1), ("model.layers.1", 1)])
def test_layer_and_hook_name_are_both_recorded(tmp_path, hook_name, layer):
    directory = write_sae(tmp_path / "sae", hook_name=hook_name)
    sae = load_small(directory)
    assert (sae.layer, sae.hook_name, sae.name) == (layer, hook_name, f"{tmp_path.name}/sae")
    assert (sae.d_model, sae.d_sae, sae.device.type) == (D_MODEL, D_SAE, "cpu")
    assert read_hook_name(directory) == hook_name


def test_an_sae_of_gpt2_in_the_oldest_format_is_centred(tmp_path):
    directory = write_old_sae(tmp_path / "old", "blocks.8.hook_resid_pre")
    sae = load_small(directory)
    assert (sae.layer, sae.hook_name, sae.centred) == (7, "blocks.8.hook_resid_pre", True)
    x = residuals().double().numpy()
    expected = encode_in_numpy("standard", numpy_weights(directory), x - x.mean(axis=1, keepdims=True))
    np.testing.assert_allclose(sae.encode(residuals()).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "centred"),
    [
        ({}, True),
        ({"model_name": "gpt2-medium"}, True),
        ({"model_name": "pythia-70m-deduped"}, False),
        ({"model_from_pretrained_kwargs": {"center_writing_weights": False}}, False),
        ({"model_from_pretrained_kwargs": {"n_devices": 2}}, True),
        ({"model_name": "pythia-70m-deduped", **CENTRED}, True),
    ],
)
def test_what_a_configuration_of_the_oldest_format_says_of_centring_wins(tmp_path, changes, centred):
    assert load_small(write_old_sae(tmp_path / "old", **changes)).centred is centred


@pytest.mark.parametrize(
    ("metadata", "centred"),
    [
        ({}, False),
        ({"model_name": "gpt2-small"}, False),
        ({"model_from_pretrained_kwargs": {}}, False),
        ({"model_from_pretrained_kwargs": {"center_writing_weights": False}}, False),
        (CENTRED, True),
    ],
)
def test_newer_formats_say_themselves_whether_they_are_centred(tmp_path, metadata, centred):
    assert small_sae(tmp_path / "sae", metadata=metadata).centred is centred


def test_the_hash_is_of_weights_and_place(tmp_path):
    first = write_sae(tmp_path / "a")
    again, other_seed = write_sae(tmp_path / "b"), write_sae(tmp_path / "c", seed=1)
    elsewhere = write_sae(tmp_path / "d", hook_name="blocks.0.hook_resid_post")
    bias = write_sae(tmp_path / "e", weights={"b_enc": torch.zeros(D_SAE)})
    hashes = [load_small(directory).hash for directory in (first, again, other_seed, elsewhere, bias)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_an_sae_that_does_not_fit_the_model_names_both_sides(saes):
    sae, _ = saes["standard"]
    sae.check_fits("small", D_MODEL, 2)
    with pytest.raises(SaeError, match="reads a width of 32, but model small has d_model 48"):
        sae.check_fits("small", 48, 2)
    with pytest.raises(SaeError, match=r"blocks\.1\.hook_resid_post, the output of block 1, .* blocks 0 to 0$"):
        sae.check_fits("small", D_MODEL, 1)


@pytest.mark.parametrize("missing", [CONFIG_FILE, "sae_weights.safetensors"])
def test_a_missing_file_is_named(tmp_path, missing):
    directory = write_sae(tmp_path / "sae")
    (directory / missing).unlink()
    with pytest.raises(SaeError, match=rf"sae/{missing}: no such file"):
        load_small(directory)


@pytest.mark.parametrize("length", [0, 7, 100, -1, -1000])
def test_damaged_weights_are_named(tmp_path, length):
    directory = write_sae(tmp_path / "sae")
    weights_of(directory).write_bytes(weights_of(directory).read_bytes()[:length])
    with pytest.raises(SaeError, match=r"sae_weights\.safetensors: damaged safetensors file"):
        load_small(directory)


def test_weights_that_are_pickled_are_not_opened(tmp_path):
    directory = write_sae(tmp_path / "sae")
    torch.save({"W_dec": torch.ones(3)}, weights_of(directory))
    with pytest.raises(SaeError, match=r"sae_weights\.safetensors: damaged safetensors file"):
        load_small(directory)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a configuration: .*line 1"),
        ("\xff", "not a configuration: .*utf-8"),
        ("[1]", "a JSON object is required, found list"),
        ("[" * 100_000, "not a configuration"),
        ("{}", r"names no hook \(metadata\.hook_name\)"),
        ('{"metadata": {"hook_name": 3}}', "names no hook"),
        ('{"metadata": ["blocks.1.hook_resid_post"]}', "names no hook"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_named(tmp_path, content, message):
    directory = write_sae(tmp_path / "sae")
    (directory / CONFIG_FILE).write_bytes(content.encode("latin-1"))
    with pytest.raises(SaeError, match=rf"cfg\.json: (?:{message})"):
        load_small(directory)


@pytest.mark.parametrize("tensor", ["W_enc", "W_dec", "b_enc", "b_dec"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, tensor, wrong):
    directory = write_sae(tmp_path / "sae")
    values = torch.from_numpy(numpy_weights(directory)[tensor]).float()
    values.view(-1)[3] = wrong
    change_weights(directory, **{tensor: values})
    with pytest.raises(SaeError, match=f"{tensor} holds NaN or infinity"):
        load_small(directory)


@pytest.mark.parametrize(("change", "shape"), [({"d_sae": 16}, "16, 32"), ({"d_in": 16}, "64, 16")])
def test_a_configuration_that_disagrees_with_the_weights_says_how(tmp_path, change, shape):
    directory = write_sae(tmp_path / "sae")
    change_config(directory, **change)
    with pytest.raises(SaeError, match=rf"{directory}: .*64, 32.*{shape}"):
        load_small(directory)


@pytest.mark.parametrize("scaling", ["expected_average_only_in", "covariance_whitening"])
def test_a_scaling_that_is_not_folded_into_the_weights_is_refused(tmp_path, scaling):
    directory = write_sae(tmp_path / "sae", settings={"normalize_activations": scaling})
    with pytest.raises(SaeError, match=rf"/sae: its scaling is not folded into its weights.*'{scaling}', and 'none'"):
        load_small(directory)


def test_an_unknown_architecture_is_named(tmp_path):
    directory = write_sae(tmp_path / "sae")
    change_config(directory, architecture="crosscoder")
    with pytest.raises(SaeError, match=rf"{directory}: not an SAE that SAELens can load: .*crosscoder"):
        load_small(directory)


@pytest.mark.parametrize(("d_out", "metadata"), [(D_MODEL, {"hook_name_out": "blocks.1.hook_mlp_out"}), (16, {})])
def test_a_transcoder_is_refused(tmp_path, d_out, metadata):
    from sae_lens import Transcoder, TranscoderConfig
    from sae_lens.saes.sae import SAEMetadata

    about = SAEMetadata(hook_name=HOOK, **metadata)
    config = TranscoderConfig(d_in=D_MODEL, d_out=d_out, d_sae=D_SAE, apply_b_dec_to_input=False, metadata=about)
    Transcoder(config).save_model(tmp_path / "transcoder")
    with pytest.raises(SaeError, match=r"SAE .*transcoder: .*(?:does not decode to what it reads|decoder has shape)"):
        load_small(tmp_path / "transcoder")


def test_an_sae_of_another_place_is_refused(tmp_path):
    directory = write_sae(tmp_path / "sae", hook_name="blocks.1.hook_mlp_out")
    assert json.loads((directory / CONFIG_FILE).read_text())["metadata"]["hook_name"] == "blocks.1.hook_mlp_out"
    with pytest.raises(SaeError, match=r"blocks\.1\.hook_mlp_out.*not the residual stream"):
        load_small(directory)
