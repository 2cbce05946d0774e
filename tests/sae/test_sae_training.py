"""Training small SAEs: they learn, they are saved so that they load, and a killed run goes on where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from steering.errors import DataError
from steering.progress import Silent
from steering.sae import training
from steering.sae.activation_store import ActivationStore
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.config_file import CONFIG_FILE
from steering.sae.corpus import Source, TokenRows, token_rows
from steering.sae.quality import reconstruct
from steering.sae.training import TrainingRecipe, TrainingRun
from tests.small_models import small_model, small_tokenizer
from tests.small_saes import D_MODEL, load_small, weights_of

STORIES = tuple(
    f"The {who} of the {place} saw a {what}, and the {other} told the story of {number} {what}s."
    for number, (who, place, what, other) in enumerate(
        (who, place, what, other)
        for who in ("king", "queen", "boy", "woman")
        for place in ("land", "sea", "hills")
        for what in ("man", "ship", "bird")
        for other in ("girl", "king")
    )
)
RECIPE = TrainingRecipe(
    tokens=1200, context_tokens=32, expansion=2, k=8, epochs=4, batch_size=32, learning_rate=5e-3, dead_after_tokens=320
)


class Watching(Silent):
    """A reporter that writes down the steps of training; after some of them, the user presses Ctrl-C."""

    def __init__(self, interrupt_after: float = math.inf) -> None:
        self.works: list[tuple[str, int]] = []
        self.steps: list[int] = []
        self._interrupt_after = interrupt_after

    @contextlib.contextmanager
    def work(self, description: str, total: int) -> Iterator[object]:
        self.works.append((description, total))

        def advance(steps: int = 1) -> None:
            self.steps.append(steps)
            if sum(self.steps) > self._interrupt_after:
                raise KeyboardInterrupt

        yield advance


@pytest.fixture(scope="module")
def model():
    return small_model("llama")


@pytest.fixture(scope="module")
def sources():
    return [Source("stories", STORIES)]


@pytest.fixture(scope="module")
def rows(sources) -> TokenRows:
    return token_rows(small_tokenizer(), sources, RECIPE.context_tokens)


@pytest.fixture(autouse=True)
def frequent_checkpoints(monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_STEPS", 20)


@pytest.fixture(scope="module")
def start(model, sources, rows):
    """Begin a run in a directory; fields given replace its own."""

    def begin(work: Path, **fields: object) -> TrainingRun:
        return dataclasses.replace(TrainingRun(model, sources, rows, (0, 1), RECIPE, work), **fields)

    return begin


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory) -> tuple[TrainingRun, ActivationStore, Path]:
    """An undisturbed run over layer 1, with its store and the directory of the SAE."""
    root = tmp_path_factory.mktemp("trained")
    run = start(root / "work")
    store = run.capture()
    run.train(store, 1, root / "out" / "layer1")
    return run, store, root / "out" / "layer1"


def weights(directory: Path) -> dict[str, np.ndarray]:
    return {name: tensor.view(torch.int16).numpy() for name, tensor in load_file(weights_of(directory)).items()}


def same_weights(first: Path, second: Path) -> bool:
    here, there = weights(first), weights(second)
    assert here.keys() == there.keys() == {"W_enc", "W_dec", "b_enc", "b_dec"}
    return all(np.array_equal(here[name], there[name]) for name in here)


def variance_explained(model, sae: SparseAutoencoder, rows: TokenRows) -> float:
    found = reconstruct(model, [sae], [row.tolist() for row in rows.held_out])[sae.layer]
    return 1 - float(found.squared_error.sum()) / found.variance.sum()


def test_training_explains_most_of_the_variance_of_held_out_text(model, rows, start, trained, tmp_path):
    _, store, directory = trained
    barely = start(tmp_path, recipe=dataclasses.replace(RECIPE, learning_rate=1e-7, k=8))
    barely.train(store, 1, tmp_path / "barely")
    before = variance_explained(model, load_small(tmp_path / "barely"), rows)
    after = variance_explained(model, load_small(directory), rows)
    assert after > 0.6
    assert after > before + 0.2


def test_an_sae_is_saved_in_saelens_format_in_bfloat16(trained):
    _, _, directory = trained
    assert sorted(path.name for path in directory.iterdir()) == [CONFIG_FILE, "sae_weights.safetensors"]
    tensors = load_file(weights_of(directory))
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    found = {key: config[key] for key in ("architecture", "d_in", "d_sae", "k", "dtype", "device")}
    wanted = {
        "architecture": "topk",
        "d_in": D_MODEL,
        "d_sae": 2 * D_MODEL,
        "k": 8,
        "dtype": "bfloat16",
        "device": "cpu",
    }
    assert found == wanted
    assert config["normalize_activations"] == "none", "the scaling is folded into the weights"


def test_a_trained_sae_loads_with_its_place_and_rows_of_norm_1(trained):
    sae = load_small(trained[2])
    assert (sae.layer, sae.hook_name, sae.centred) == (1, "blocks.1.hook_resid_post", False)
    assert (sae.d_model, sae.d_sae) == (D_MODEL, 2 * D_MODEL)
    # The rows are of norm 1 for activations of the size that they have, to the precision of bfloat16.
    np.testing.assert_allclose(sae.decoder.norm(dim=1).numpy(), 1, atol=0.01)
    assert int((sae.encode(torch.randn(20, D_MODEL)) != 0).sum(dim=1).max()) <= 8


def test_the_metadata_say_what_the_sae_was_trained_on(model, sources, trained):
    run, store, directory = trained
    metadata = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))["metadata"]
    assert metadata["model_name"] == model.name
    assert metadata["hook_name"] == "blocks.1.hook_resid_post"
    own = metadata["steering_bench"]
    assert own["model_hash"] == model.hash
    assert own["corpus"] == [["stories", sources[0].hash]]
    assert own["recipe"] == dataclasses.asdict(RECIPE)
    assert own["activations"] == store.token_count(1)
    assert own["layers"] == [0, 1]
    assert own["dtype"] == "float32"
    assert run.identity.items() <= own.items()


def test_the_rows_captured_are_a_sample_of_the_training_rows(model, rows, trained):
    run, store, _ = trained
    chosen = rows.sample(RECIPE.tokens, RECIPE.seed)
    assert RECIPE.tokens <= sum(map(len, chosen)) < RECIPE.tokens + RECIPE.context_tokens
    tokens = sum(len(row) - 1 for row in chosen)
    assert tokens * 0.9 < store.token_count(1) <= tokens
    held_out = {tuple(row.tolist()) for row in rows.held_out}
    assert not held_out & {tuple(row) for row in chosen}
    assert run.identity["tokens"] == RECIPE.tokens


def test_training_again_gives_the_same_weights_and_another_seed_others(start, trained, tmp_path):
    _, store, directory = trained
    start(tmp_path / "again").train(store, 1, tmp_path / "same")
    assert same_weights(directory, tmp_path / "same")
    start(tmp_path / "other", recipe=dataclasses.replace(RECIPE, seed=1)).train(store, 1, tmp_path / "different")
    assert not same_weights(directory, tmp_path / "different")


@pytest.mark.parametrize("after", [5, 20, 50, 79])
def test_an_interrupted_run_goes_on_to_the_same_weights(start, trained, tmp_path, after):
    """Before any checkpoint, right at one, and between two; some batches are then trained on again."""
    _, store, directory = trained
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, progress=Watching(after)).train(store, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "layer1-checkpoint").is_dir() is (after >= 20)
    watching = Watching()
    start(tmp_path, progress=watching).train(store, 1, tmp_path / "out")
    assert same_weights(directory, tmp_path / "out")
    assert watching.steps[0] == after // 20 * 20, "the bar begins where the checkpoint is"
    total = store.batch_count(1, RECIPE.batch_size, RECIPE.epochs)
    assert watching.works == [("training layer 1", total)]
    assert sum(watching.steps) == total


def test_a_run_interrupted_twice_goes_on_to_the_same_weights(start, trained, tmp_path):
    _, store, directory = trained
    for after in (45, 100):
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path, progress=Watching(after)).train(store, 1, tmp_path / "out")
    start(tmp_path).train(store, 1, tmp_path / "out")
    assert same_weights(directory, tmp_path / "out")


def test_an_sae_that_is_there_already_is_replaced(start, trained, tmp_path):
    _, store, directory = trained
    (tmp_path / "out").mkdir()
    for name in ("cfg.json", "descriptions.jsonl"):
        (tmp_path / "out" / name).write_text("of another SAE", encoding="utf-8")
    start(tmp_path / "work").train(store, 1, tmp_path / "out")
    assert same_weights(directory, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "work"]
    assert not (tmp_path / "out" / "descriptions.jsonl").exists()


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": dataclasses.replace(RECIPE, learning_rate=1e-7)},
        {"recipe": dataclasses.replace(RECIPE, k=4)},
        {"recipe": dataclasses.replace(RECIPE, batch_size=16)},
        {"recipe": dataclasses.replace(RECIPE, expansion=4)},
        {"model": small_model("llama", seed=1)},
        {"sources": [Source("stories", (*STORIES, "One more."))]},
    ],
)
def test_a_checkpoint_of_another_run_is_not_continued(start, trained, tmp_path, other):
    """The activations may be removed, as their message says, while the checkpoints beside them are not."""
    _, store, _ = trained
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, progress=Watching(50)).train(store, 1, tmp_path / "out")
    with pytest.raises(DataError, match="layer1-checkpoint: a checkpoint of another model, corpus or recipe; rem"):
        start(tmp_path, **other).train(store, 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_while_a_checkpoint_is_replaced_is_survived(start, trained, tmp_path, monkeypatch, renames):
    """Killed before the renames of the first checkpoint, or between and before those of the second."""
    _, store, directory = trained
    rename, done = Path.rename, []

    def killed(path, target):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(path)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            start(tmp_path).train(store, 1, tmp_path / "out")
    watching = Watching()
    start(tmp_path, progress=watching).train(store, 1, tmp_path / "out")
    assert watching.steps[0] > 0, "a checkpoint was found"
    assert same_weights(directory, tmp_path / "out")


def test_too_few_activations_for_one_batch_are_refused(start, trained, tmp_path):
    _, store, _ = trained
    run = start(tmp_path, recipe=dataclasses.replace(RECIPE, batch_size=4096))
    with pytest.raises(
        DataError, match=rf"layer 1: {store.token_count(1)} activations are fewer than one batch of 4096"
    ):
        run.train(store, 1, tmp_path / "out")


def test_the_work_of_another_run_is_refused(start, trained):
    run, _, _ = trained
    changes = {"seed": {"recipe": dataclasses.replace(RECIPE, seed=3)}, "layers": {"layers": (1,)}}
    for name, change in changes.items():
        with pytest.raises(DataError, match=f"its activations differ from those asked for in {name}; give another"):
            start(run.work, **change).capture()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 0}, "tokens is 0; it must be above 0"),
        ({"k": -1}, "k is -1; it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(DataError, match=f"SAE recipe: {message}"):
        TrainingRecipe(**change)
