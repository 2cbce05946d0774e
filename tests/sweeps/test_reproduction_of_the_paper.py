"""`steering reproduce --profile paper` with local directories: a small GPT-2 with twelve blocks, and SAEs for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from steering.cli.main import app
from steering.journal import load_rows
from steering.profile_files import load_profile
from tests.small_models import small_tokenizer
from tests.small_saes import D_MODEL, write_old_sae

D_SAE = 24_576  # as wide as the published ones: the profile's hand-crafted features have their numbers
LAYERS = (7, 8)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 on disk, with as many blocks as the paper's."""
    directory = tmp_path_factory.mktemp("models") / "gpt2"
    config = GPT2Config(vocab_size=len(small_tokenizer()), n_layer=12, n_embd=D_MODEL, n_head=2, eos_token_id=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(directory)
    small_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def output(gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command leaves."""
    directory = tmp_path_factory.mktemp("paper")
    for layer in LAYERS:  # an SAE at the input of a block reads the output of the block before
        write_old_sae(directory / "saes" / f"{layer}", f"blocks.{layer + 1}.hook_resid_pre", d_sae=D_SAE, seed=layer)
    neutral = directory / "neutral.jsonl"
    texts = [f"A lake lies {number} miles from the road, and nobody has measured it." for number in range(12)]
    neutral.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    options = {
        "--profile": "paper",
        "--model": gpt2,
        "--neutral": neutral,
        "--saes": directory / "saes",
        "--layers": ",".join(map(str, LAYERS)),
        "--rollouts": 8,
        "--documents": 6,
        "--optimized": 1,
        "--output": directory / "out",
    }
    result = CliRunner().invoke(app, ["reproduce", *(str(part) for option in options.items() for part in option)])
    assert result.exit_code == 0, result.output
    return directory / "out"


def test_every_plan_of_the_paper_is_measured_where_it_has_an_sae(output):
    rows = [row for row in load_rows(output) if row.status == "ok"]
    measured = {(row.method, row.layer) for row in rows if row.metric == "rollout_probability"}
    assert measured >= {
        *(("mean_difference", layer) for layer in LAYERS),
        *(("feature_delta", layer) for layer in LAYERS),
        ("hand_crafted", 8),
    }
    [ids] = load_profile("paper").plan("hand_crafted").parameters["ids"].values()
    crafted = next(row for row in rows if row.method == "hand_crafted")
    assert {feature.feature for feature in crafted.features} <= set(ids)
    assert len(crafted.features) > 1  # those of the seven that fire on the texts


def test_figures_and_tables_of_the_paper_are_there_beside_its_values(output):
    names = {path.stem for path in (output / "figures").iterdir()}
    for figure in ("success_by_layer", "loss_change_by_layer", "one_word", "similarity", "pareto"):
        assert any(name.startswith(figure) for name in names), figure
    [drawn] = [path for path in (output / "figures").glob("success_by_layer*.csv") if "paper" in path.read_text()]
    assert "paper: mean_difference" in drawn.read_text(encoding="utf-8")
    tables = (output / "tables.md").read_text(encoding="utf-8")
    assert "### Words before and after steering by mean_difference × 3 at layer" in tables
    assert "### Sparse autoencoders" in tables
