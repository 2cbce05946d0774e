"""Loading models from disk: safetensors only, one message for what goes wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from steering.errors import DataError, ModelError
from steering.models import pretrained
from steering.models.families import FAMILIES
from steering.models.language_model import LanguageModel
from steering.models.loading import choose_device, choose_dtype, layer_count, load_model
from tests.small_models import ARCHITECTURES, small_module, small_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small model as Hugging Face writes it."""
    directory = tmp_path / "my-model"
    small_module("gpt2").save_pretrained(directory)
    small_tokenizer().save_pretrained(directory)
    return directory


def test_local_directory_loads_and_is_called_by_its_name(saved):
    model = LanguageModel.load(str(saved), dtype="float32", device="cpu")
    assert (model.name, model.layer_count, model.d_model, model.dtype) == ("my-model", 2, 768 // 24, torch.float32)
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        torch.testing.assert_close(model.module(ids).logits, small_module("gpt2")(ids).logits)


def test_layer_count_needs_the_configuration_alone(saved):
    (saved / "model.safetensors").unlink()
    assert layer_count(str(saved)) == 2
    assert layer_count("embedded") == 30


def test_dtype_is_applied_and_chosen_by_the_processor(saved, monkeypatch):
    assert LanguageModel.load(str(saved), dtype="bfloat16", device="cpu").dtype == torch.bfloat16
    for capabilities, expected in (({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert choose_dtype("auto", CPU) == expected


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_alone_are_rounded_as_transformers_does(tmp_path, architecture, dtype):
    """Rotary frequencies in bfloat16 turn a text's later positions by the wrong angles."""
    small_module(architecture).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    _, found, _ = load_model(str(tmp_path), CPU, dtype)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    assert {name: buffer.dtype for name, buffer in found.named_buffers()} == {
        name: buffer.dtype for name, buffer in expected.named_buffers()
    }
    assert {parameter.dtype for parameter in found.parameters()} == {dtype}
    ids = torch.arange(48).unsqueeze(0) % 20
    with torch.no_grad():
        assert torch.equal(found(ids).logits, expected(ids).logits)


def test_pickled_weights_are_refused(saved):
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \*\.safetensors file; weights are read from safetensors or GGUF only"):
        load_model(str(saved), CPU, torch.float32)


def test_damaged_weights_are_one_message(saved):
    (saved / "model.safetensors").write_bytes(b"\x10\x00\x00\x00damaged")
    with pytest.raises(ModelError, match="my-model' cannot be loaded"):
        load_model(str(saved), CPU, torch.float32)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_model_that_lacks_a_weight_is_refused_and_none_is_drawn_at_random(tmp_path, architecture):
    small_module(architecture).save_pretrained(tmp_path)
    small_tokenizer().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[removed := max(weights, key=lambda name: weights[name].numel() * ("1" in name))]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"wants weights that its files lack: .*{removed.split('1', 1)[1]}"):
        load_model(str(tmp_path), CPU, torch.float32)


def test_configuration_of_more_blocks_than_there_are_weights_for_is_refused(saved):
    path = saved / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"n_layer": 3}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"wants weights that its files lack: transformer\.h\.2\..* and 11 more"):
        load_model(str(saved), CPU, torch.float32)


@pytest.mark.parametrize("name", ["", "model.gguf"])
def test_no_code_of_a_model_is_run(tmp_path, monkeypatch, name):
    """Unless told not to, transformers asks on the terminal, and takes a yes from a pipe."""
    calls = []

    def reading(*_, **options):
        calls.append(options)
        return small_module("gpt2"), {"missing_keys": set()}

    def reading_tokenizer(*_, **options):
        calls.append(options)
        return small_tokenizer()

    for reader in (pretrained.AutoConfig, pretrained.AutoModelForCausalLM):
        monkeypatch.setattr(reader, "from_pretrained", reading)
    monkeypatch.setattr(pretrained.AutoTokenizer, "from_pretrained", reading_tokenizer)
    monkeypatch.setattr(pretrained, "check_header", lambda *_: None)
    for file in ("model.safetensors", "model.gguf"):
        (tmp_path / file).touch()
    read = pretrained.read_gguf if name else pretrained.read_pretrained
    read(tmp_path / name, torch.float32)
    with pytest.raises(AttributeError):  # of a pair, which stands for the configuration
        pretrained.read_layer_count(str(tmp_path / name))
    assert [options["trust_remote_code"] for options in calls] == [False] * 3


def test_missing_tokenizer_is_one_message(saved):
    (saved / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="my-model' cannot be loaded"):
        load_model(str(saved), CPU, torch.float32)
    (saved / "tokenizer_config.json").unlink()  # as a model that was saved alone
    with pytest.raises(ModelError, match="my-model' cannot be loaded: there is no tokenizer beside it; put one there"):
        load_model(str(saved), CPU, torch.float32)


def test_unknown_family_is_refused(saved, monkeypatch):
    monkeypatch.setattr("steering.models.families.FAMILIES", {"llama": FAMILIES["llama"]})
    with pytest.raises(ModelError, match="unknown model family 'gpt2'"):
        load_model(str(saved), CPU, torch.float32)


def test_hub_id_without_a_hub_says_what_can_be_given(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="'nobody/nothing' cannot be loaded.*'embedded', a directory"):
        load_model("nobody/nothing", CPU, torch.float32)


@pytest.mark.parametrize("proxies", [{}, {"https": "http://proxy"}], ids=["without a proxy", "by a proxy"])
def test_hub_without_an_address_is_not_asked(monkeypatch, proxies):
    """It would be asked five times, seconds apart. Behind a proxy, this machine need not know the address."""

    def unknown(*_arguments):
        raise socket.gaierror(-2, "Name or service not known")

    asked = []
    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr("steering.models.pretrained.getproxies", lambda: proxies)
    monkeypatch.setattr(
        "steering.models.pretrained.AutoTokenizer.from_pretrained", lambda *_, **options: asked.append(options) or 1 / 0
    )
    with pytest.raises(ModelError, match="'nobody/nothing' cannot be loaded"):
        load_model("nobody/nothing", CPU, torch.float32)
    assert [options["local_files_only"] for options in asked] == [not proxies]


@pytest.mark.parametrize("ending", ["", "/m", ".gguf"])
def test_name_that_is_too_long_for_a_path_is_one_message(monkeypatch, ending):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=f"model 'm{{5000}}{ending}'(?:: no such file| cannot be loaded)"):
        load_model("m" * 5000 + ending, CPU, torch.float32)


def test_dtype_that_does_not_exist_names_those_that_do():
    with pytest.raises(DataError, match="dtype 'float8': choose one of auto, float32, bfloat16, float16"):
        choose_dtype("float8", CPU)


def test_missing_gguf_file_is_reported():
    with pytest.raises(ModelError, match=r"'/nowhere/model.gguf': no such file"):
        load_model("/nowhere/model.gguf", CPU, torch.float32)


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "hpu", "meta"])
def test_device_that_does_not_exist_is_refused(name):
    with pytest.raises(ModelError, match=f"device '{name}' cannot be used here"):
        choose_device(name)


@pytest.mark.parametrize("reference", ["./nowhere", "/nowhere/model", "../nowhere", "~/nowhere", "nowhere/"])
def test_path_that_leads_nowhere_is_not_looked_for_on_the_hub(reference, monkeypatch):
    monkeypatch.setattr(pretrained.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("the hub was asked"))
    for load in (layer_count, LanguageModel.load):
        with pytest.raises(ModelError, match=f"model '{reference}': no such file or directory"):
            load(reference)


def test_path_may_be_a_path_object(saved):
    assert LanguageModel.load(saved, "float32", "cpu").name == saved.name
