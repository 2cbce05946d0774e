"""Training sparse autoencoders by SAELens's trainer, on activations that are read from the model once for all layers.

A killed run goes on where it was: complete shards of activations and the last checkpoint of each layer are kept in the
work directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file

from steering.errors import DataError
from steering.models.language_model import LanguageModel
from steering.progress import SILENT, Reporter
from steering.sae.activation_store import ActivationStore, writing
from steering.sae.autoencoder import damaged_checkpoint, new_trainer
from steering.sae.config_file import CONFIG_FILE, WEIGHTS_FILE
from steering.sae.corpus import Source, TokenRows
from steering.sae.recipe import TrainerSettings, TrainingRecipe

_SCALE_BATCHES = 16
_CHECKPOINT_STEPS = 250
_RECIPE_FILE = "recipe.json"
_LOCK = "training.lock"
_NEW, _OLD = ".new", ".old"


@dataclass(frozen=True)
class TrainingRun:
    """One training of SAEs for some layers of a model.

    Attributes:
        model: The model to read.
        sources: The corpus; its names and hashes go into the metadata.
        rows: Its tokens.
        layers: Blocks whose outputs to train on.
        recipe: How.
        work: Directory of activations and checkpoints; `only_training` keeps other runs out of it.
        progress: Where to report.
    """

    model: LanguageModel
    sources: Sequence[Source]
    rows: TokenRows
    layers: tuple[int, ...]
    recipe: TrainingRecipe
    work: Path
    progress: Reporter = SILENT

    def __post_init__(self) -> None:
        """Refuse a recipe by which more features would be active than there are."""
        d_sae = self.recipe.expansion * self.model.d_model
        if self.recipe.k > d_sae:
            raise DataError(f"SAE recipe: k is {self.recipe.k}; an SAE of model {self.model.name} has {d_sae} features")

    @property
    def identity(self) -> dict[str, Any]:
        """What the activations depend on, and with the recipe, a checkpoint."""
        return {
            "model": self.model.name,
            "model_hash": self.model.hash,
            "model_settings_hash": self.model.settings_hash,
            "dtype": self.model.dtype_name,
            "corpus": [[source.name, source.hash] for source in self.sources],
            "context_tokens": self.recipe.context_tokens,
            "tokens": self.recipe.tokens,
            "seed": self.recipe.seed,
            "layers": list(self.layers),
        }

    def capture(self) -> ActivationStore:
        """Read the activations of all layers in one pass, or what is missing of them."""
        store = ActivationStore(self.work / "activations")
        chosen = self.rows.sample(self.recipe.tokens, self.recipe.seed)
        if (found := sum(map(len, chosen))) < self.recipe.tokens:
            self.progress.note(f"the corpus has {found:,} training tokens; {self.recipe.tokens:,} were asked for")
        store.fill(self.model, chosen, self.layers, self.identity, self.progress)
        return store

    def train(self, store: ActivationStore, layer: int, target: Path) -> None:
        """Train the SAE of one layer and save it in SAELens's format, in bfloat16, in place of one that is there.

        Raises:
            DataError: There are too few activations for one batch, the disk is full, or the target holds something
                else than an SAE.
        """
        check_target(target)
        recipe = self.recipe
        steps = store.batch_count(layer, recipe.batch_size, recipe.epochs)
        if steps == 0:
            raise DataError(
                f"layer {layer}: {store.token_count(layer)} activations are fewer than one batch of "
                f"{recipe.batch_size}; give more text or a smaller batch"
            )
        checkpoint = self._open_checkpoint(layer)
        trainer = new_trainer(self._settings(store, layer, steps), checkpoint, self.model.device)
        if trainer.n_training_steps == 0:
            _start(trainer, store, layer, recipe)
        self._run(trainer, store, layer, steps, checkpoint)
        trainer.sae.fold_activation_norm_scaling_factor(trainer.activation_scaler.scaling_factor)
        trainer.set_final_sae_metadata()
        _save(trainer, target)

    def _open_checkpoint(self, layer: int) -> Path:
        """The directory of a layer's checkpoint, which need not exist.

        Raises:
            DataError: The checkpoint in it is damaged, or of another model, corpus or recipe.
        """
        directory = self.work / f"layer{layer}-checkpoint"
        replacement = directory.with_suffix(_NEW)
        if not directory.is_dir() and (replacement / _RECIPE_FILE).is_file():
            replacement.rename(directory)  # a run was killed between the two renames of `_checkpoint`
        kept = directory / _RECIPE_FILE
        if not directory.is_dir():
            return directory
        if not kept.is_file():
            raise damaged_checkpoint(directory, f"it has no {_RECIPE_FILE}")
        if kept.read_bytes() != self._identity_text.encode():
            raise DataError(
                f"{directory}: a checkpoint of another model, corpus or recipe; remove it, or give "
                "another work directory"
            )
        return directory

    @property
    def _identity_text(self) -> str:
        return json.dumps(self.identity | {"recipe": dataclasses.asdict(self.recipe)}, sort_keys=True)

    def _run(self, trainer: Any, store: ActivationStore, layer: int, steps: int, checkpoint: Path) -> None:
        recipe, done = self.recipe, trainer.n_training_steps
        batches = store.batches(layer, recipe.batch_size, recipe.epochs, recipe.seed, skip=done)
        with self.progress.work(f"training layer {layer}", steps) as advance:
            advance(done)
            for batch in batches:
                if trainer.n_training_steps >= steps:
                    break
                trainer.maybe_reset_sparsity()
                trainer.step(batch)
                trainer.n_training_steps += 1
                advance()
                if trainer.n_training_steps % _CHECKPOINT_STEPS == 0:
                    _checkpoint(trainer, checkpoint, self._identity_text)

    def _settings(self, store: ActivationStore, layer: int, steps: int) -> TrainerSettings:
        recipe = self.recipe
        metadata = {
            "model_name": self.model.name,
            "hook_name": f"blocks.{layer}.hook_resid_post",
            "context_size": recipe.context_tokens,
            "prepend_bos": False,
            "steering_bench": self.identity
            | {"activations": store.token_count(layer), "recipe": dataclasses.asdict(recipe)},
        }
        return TrainerSettings(
            d_in=self.model.d_model,
            d_sae=recipe.expansion * self.model.d_model,
            k=recipe.k,
            learning_rate=recipe.learning_rate,
            batch_size=recipe.batch_size,
            steps=steps,
            dead_after_steps=max(1, recipe.dead_after_tokens // recipe.batch_size),
            autocast=self.model.dtype == torch.bfloat16,
            seed=recipe.seed,
            metadata=metadata,
        )


def check_target(target: Path) -> None:
    """Refuse to save an SAE in place of something else.

    Raises:
        DataError: The target is a link, a file, or a directory that holds something and no SAE.
    """
    is_other = target.exists() and not (target / CONFIG_FILE).is_file()
    if target.is_symlink() or (is_other and (not target.is_dir() or any(target.iterdir()))):
        what = "a link" if target.is_symlink() else "no SAE"
        raise DataError(
            f"{target}: this is {what}, and would be replaced by an SAE; move it, or name another directory"
        )


@contextlib.contextmanager
def only_training(work: Path) -> Iterator[None]:
    """Make a work directory and keep it for one process at a time: two would replace each other's checkpoints.

    Raises:
        DataError: Another process trains there, or it cannot be made.
    """
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(work / _LOCK).acquire(timeout=0)
        except Timeout:
            raise DataError(
                f"{work}: another process is training in this directory; wait until it has ended, or give another "
                "work directory"
            ) from None
    with held:
        yield


@torch.no_grad()
def _start(trainer: Any, store: ActivationStore, layer: int, recipe: TrainingRecipe) -> None:
    """Scale activations to a mean norm of √d_model, and start the decoder's bias at their mean."""
    batches = store.batches(layer, recipe.batch_size, 1, recipe.seed)
    sample = torch.cat([batch for batch, _ in zip(batches, range(_SCALE_BATCHES), strict=False)])
    trainer.activation_scaler.scaling_factor = float(sample.shape[1] ** 0.5 / sample.norm(dim=1).mean())
    mean = trainer.activation_scaler(sample).mean(dim=0)
    trainer.sae.b_dec.copy_(mean.to(trainer.sae.b_dec.device))


def _checkpoint(trainer: Any, directory: Path, recipe: str) -> None:
    """Replace the last checkpoint; a kill at any moment leaves a complete one."""
    new, old = directory.with_suffix(_NEW), directory.with_suffix(_OLD)
    with writing(directory):
        shutil.rmtree(new, ignore_errors=True)
        trainer.save_checkpoint(new.name, base_path=str(new.parent))
        (new / _RECIPE_FILE).write_text(recipe, encoding="utf-8")  # last: where it is, the checkpoint is complete
        shutil.rmtree(old, ignore_errors=True)
        _put_in_place(new, directory)
        shutil.rmtree(old, ignore_errors=True)


def _save(trainer: Any, target: Path) -> None:
    """Save for inference: decoder rows of norm 1, the scaling of activations folded in, bfloat16."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            new = Path(scratch) / target.name
            trainer.sae.save_inference_model(new)
            weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(new / WEIGHTS_FILE).items()}
            save_file(weights, new / WEIGHTS_FILE)
            config = json.loads((new / CONFIG_FILE).read_text(encoding="utf-8"))
            config |= {"dtype": "bfloat16", "device": "cpu"}
            (new / CONFIG_FILE).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            _put_in_place(new, target)


def _put_in_place(new: Path, target: Path) -> None:
    """Let a directory take the place of one that may be there, which then lies beside where the new one was."""
    old = new.with_suffix(_OLD)
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
