"""What stops a training of SAEs: a full disk, another process in its directory; and what a checkpoint is no use for."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from steering.errors import DataError, SaeError
from steering.sae import training
from steering.sae.autoencoder import new_trainer
from steering.sae.corpus import Source, TokenRows
from steering.sae.library import open_library
from steering.sae.recipe import TrainerSettings
from steering.sae.training import TrainingRecipe, TrainingRun, only_training
from tests.small_models import small_model
from tests.small_saes import D_MODEL

CPU = torch.device("cpu")
SETTINGS = TrainerSettings(
    d_in=D_MODEL,
    d_sae=2 * D_MODEL,
    k=8,
    learning_rate=5e-3,
    batch_size=32,
    steps=90,
    dead_after_steps=10,
    autocast=False,
    seed=0,
    metadata={"hook_name": "blocks.1.hook_resid_post"},
)
FULL = [
    OSError(28, "No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device"),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 28224 vs 28112"),  # torch's own words
]


def raises(error: Exception):
    def fail(*_arguments, **_options):
        raise error

    return fail


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_full_disk_names_the_checkpoint_or_the_sae_that_was_written(tmp_path, error):
    full = SimpleNamespace(
        save_checkpoint=raises(error), sae=SimpleNamespace(save_inference_model=raises(error)), n_training_steps=3
    )
    with pytest.raises(
        DataError, match=r"layer1-checkpoint: writing failed: .*(?:No space left on device|disk full\?)$"
    ):
        training._checkpoint(full, tmp_path / "layer1-checkpoint", "{}")
    with pytest.raises(DataError, match=r"out/layer1: writing failed: .*(?:No space left on device|disk full\?)$"):
        training._save(full, tmp_path / "out" / "layer1")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_no_sae_is_not_replaced_by_one(tmp_path):
    run = TrainingRun(small_model("llama"), [], TokenRows((), ()), (1,), TrainingRecipe(k=8), tmp_path)
    target = tmp_path / "layer1"
    target.mkdir()
    (target / "results.jsonl").write_text("of weeks", encoding="utf-8")
    for place in (target, target / "results.jsonl"):
        with pytest.raises(DataError, match=rf"^{place}: this is no SAE, and would be replaced by an SAE; move it, or"):
            run.train(None, 1, place)
    assert (target / "results.jsonl").read_text(encoding="utf-8") == "of weeks"


def test_link_to_an_sae_is_not_replaced(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "cfg.json").write_text("{}", encoding="utf-8")
    (tmp_path / "layer1").symlink_to(tmp_path / "kept")
    with pytest.raises(DataError, match="layer1: this is a link, and would be replaced by an SAE"):
        training.check_target(tmp_path / "layer1")


def test_sae_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    new, target = tmp_path / "scratch" / "layer1", tmp_path / "layer1"
    for directory in (new, target):
        directory.mkdir(parents=True)
        (directory / "cfg.json").write_text(str(directory.parent == tmp_path), encoding="utf-8")
    rename = Path.rename

    def refused(path, aim):
        if path == new:
            raise OSError(28, "No space left on device")
        return rename(path, aim)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refused)
        with pytest.raises(OSError, match="No space left"):
            training._put_in_place(new, target)
    assert (target / "cfg.json").read_text(encoding="utf-8") == "True"
    training._put_in_place(new, target)
    assert (target / "cfg.json").read_text(encoding="utf-8") == "False"


def test_nothing_and_an_empty_directory_are_a_place_for_an_sae(tmp_path):
    training.check_target(tmp_path / "new")
    training.check_target(tmp_path)


def test_a_checkpoint_is_no_sae_to_be_used(tmp_path):
    trainer = new_trainer(SETTINGS, tmp_path / "none", CPU)
    training._checkpoint(trainer, tmp_path / "layer1-checkpoint", "{}")
    library = open_library(str(tmp_path))
    assert library.layers == (1,)
    with pytest.raises(SaeError, match="/layer1-checkpoint: its scaling is not folded into its weights"):
        library.load(1, CPU)


@pytest.mark.parametrize("damage", ["remove", "cut", "empty"])
@pytest.mark.parametrize(
    "name", ["recipe.json", "trainer_state.pt", "sae_weights.safetensors", "activation_scaler.json"]
)
def test_damaged_checkpoint_is_one_message(tmp_path, name, damage):
    run = TrainingRun(small_model("llama"), [], TokenRows((), ()), (1,), TrainingRecipe(k=8), tmp_path)
    checkpoint = tmp_path / "layer1-checkpoint"
    training._checkpoint(new_trainer(SETTINGS, tmp_path / "none", CPU), checkpoint, run._identity_text)
    new_trainer(SETTINGS, run._open_checkpoint(1), CPU)
    whole = (checkpoint / name).read_bytes()
    (checkpoint / name).unlink()
    if damage != "remove":
        (checkpoint / name).write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    with pytest.raises(DataError, match="layer1-checkpoint: a (?:damaged checkpoint: .|checkpoint of another)"):
        new_trainer(SETTINGS, run._open_checkpoint(1), CPU)


def test_the_rate_that_the_trainer_is_told_to_end_with_is_the_one_it_decays_from(tmp_path):
    trainer = new_trainer(SETTINGS, tmp_path / "none", CPU)
    rates = []
    for _ in range(90):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates[9:60] == pytest.approx([SETTINGS.learning_rate] * 51)
    assert rates[-1] == pytest.approx(SETTINGS.learning_rate / 30)
    assert trainer.cfg.lr_end == rates[59]


def test_only_one_process_trains_in_a_work_directory_and_a_killed_one_leaves_it_free(tmp_path):
    work = tmp_path / "new" / "work"
    code = "import sys, os, pathlib; from steering.sae.training import only_training\n"
    code += f"with only_training(pathlib.Path({str(work)!r})): print('in', flush=True); sys.stdin.read(1); os._exit(9)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"in\n"
        message = "work: another process is training in this directory; wait until it has ended"
        with pytest.raises(DataError, match=message), only_training(work):
            pytest.fail("two at once")
        other.communicate(b"x")
    assert other.returncode == 9
    with only_training(work):
        assert work.is_dir()


def test_work_below_a_file_is_one_message(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    work = tmp_path / "file" / "work"
    with pytest.raises(DataError, match="file/work: writing failed: Not a directory"), only_training(work):
        pytest.fail("there is no such directory")


def test_more_active_features_than_there_are_is_refused_before_anything_is_read():
    model = small_model("llama")
    with pytest.raises(DataError, match=rf"k is 600; an SAE of model small-llama has {model.d_model} features"):
        TrainingRun(model, [], TokenRows((), ()), (1,), TrainingRecipe(expansion=1, k=600), Path("work"))


def test_sources_of_one_name_and_their_order_are_part_of_what_a_run_is():
    first, second = Source("a.txt", ("one",)), Source("a.txt", ("two",))
    run = TrainingRun(small_model("llama"), [first, second], TokenRows((), ()), (1,), TrainingRecipe(k=8), Path("work"))
    assert run.identity["corpus"] == [["a.txt", first.hash], ["a.txt", second.hash]]
    assert run.identity["model_settings_hash"] == run.model.settings_hash
    for other in ([second, first], [second]):
        assert dataclasses.replace(run, sources=other).identity != run.identity
