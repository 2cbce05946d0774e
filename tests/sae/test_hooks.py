"""Names of places in a model against the blocks that they stand for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import SaeError
from steering.models.families import FAMILIES
from steering.sae.hooks import layer_of_hook

blocks = st.integers(0, 9998)


@given(blocks)
def test_the_stream_before_the_next_block_and_after_a_block_is_that_blocks_output(block):
    assert layer_of_hook(f"blocks.{block}.hook_resid_post") == block
    assert layer_of_hook(f"blocks.{block + 1}.hook_resid_pre") == block


@given(blocks, st.sampled_from(sorted({family.blocks for family in FAMILIES.values()})))
def test_the_module_of_a_block_is_its_output(block, blocks_path):
    assert layer_of_hook(f"{blocks_path}.{block}") == block


@pytest.mark.parametrize(
    ("hook_name", "layer"),
    [
        ("blocks.11.hook_resid_post", 11),
        ("blocks.8.hook_resid_pre", 7),
        ("blocks.1.hook_resid_pre", 0),
        ("transformer.h.3", 3),
        ("model.layers.0", 0),
        ("layers.12", 12),
        ("h.5", 5),
    ],
)
def test_hook_names_in_use_give_their_layer(hook_name, layer):
    assert layer_of_hook(hook_name) == layer


@pytest.mark.parametrize("block", [0, 1])
def test_the_stream_after_a_block_is_what_the_next_block_reads(any_model, block):
    """The conversion rests on this: nothing stands between two blocks."""
    inputs = {}
    modules = any_model.module.get_submodule(FAMILIES[any_model.module.config.model_type].blocks)
    handle = modules[1].register_forward_pre_hook(lambda _module, given: inputs.update(given=given[0]))
    ids = any_model.tokenizer("the king of the story")["input_ids"]
    with torch.no_grad():
        any_model.module(torch.tensor([ids]))
    handle.remove()
    [batch] = any_model.capture([ids], [block])
    reads_output_of_0 = torch.allclose(inputs["given"], batch.residuals[block], atol=1e-5)
    assert reads_output_of_0 is (layer_of_hook("blocks.1.hook_resid_pre") == block)


def test_the_embeddings_are_the_output_of_no_block():
    with pytest.raises(SaeError, match=r"^hook 'blocks\.0\.hook_resid_pre' is the embeddings.*output of no block$"):
        layer_of_hook("blocks.0.hook_resid_pre")


@pytest.mark.parametrize(
    "hook_name",
    [
        "blocks.3.hook_mlp_out",
        "blocks.3.hook_resid_mid",
        "blocks.3.attn.hook_z",
        "blocks.hook_resid_post",
        "blocks.-1.hook_resid_post",
        "blocks.3.hook_resid_post.extra",
        " blocks.3.hook_resid_post",
        "blocksx3xhook_resid_post",
        "model.layers.3.mlp",
        "model.layers.-3",
        "model.sublayers.3",
        "hook_embed",
        f"blocks.{'9' * 5000}.hook_resid_post",
        f"model.layers.{'9' * 5000}",
        "",
    ],
)
def test_other_places_are_refused_by_name(hook_name):
    with pytest.raises(
        SaeError, match="is not the residual stream after a block.*hook_resid_post is required"
    ) as caught:
        layer_of_hook(hook_name)
    assert str(caught.value).startswith(f"hook {hook_name!r}")
    assert "\n" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_other_text_is_refused_with_one_message(text):
    with pytest.raises(SaeError, match="^hook "):
        layer_of_hook(f"{text}.hook_mlp_out")
