"""Activations on disk: what is kept, what is captured again, and in which order they come back."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from steering.errors import DataError
from steering.sae import activation_store
from steering.sae.activation_store import ActivationStore, without_outliers
from tests.small_models import small_model
from tests.small_saes import D_MODEL

IDENTITY = {"model": "small", "seed": 0}


@pytest.fixture(scope="module")
def model():
    return small_model("llama")


@pytest.fixture(scope="module")
def rows():
    """Ten rows of 6 to 15 tokens, none of which repeats."""
    generator = np.random.default_rng(0)
    return [generator.integers(1, 280, size=6 + number).tolist() for number in range(10)]


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of at least 20 tokens."""
    monkeypatch.setattr(activation_store, "_SHARD_TOKENS", 20)


def filled(directory: Path, model, rows, layers=(0, 1), identity=IDENTITY) -> ActivationStore:
    store = ActivationStore(directory)
    store.fill(model, rows, layers, identity)
    return store


def shards_of(rows: list[list[int]]) -> list[list[list[int]]]:
    """Rows as they fill shards of at least 20 tokens."""
    shards: list[list[list[int]]] = [[]]
    for row in rows:
        if sum(map(len, shards[-1])) >= 20:
            shards.append([])
        shards[-1].append(row)
    return shards


def streams(model, rows, layer) -> np.ndarray:
    """Residual streams of all tokens but each row's first, each row run alone, without outliers."""
    parts = []
    for row in rows:
        [batch] = model.capture([row], [layer])
        parts.append(batch.residuals[layer][0, 1:].float().numpy())
    found = np.concatenate(parts)
    norms = np.linalg.norm(found, axis=1)
    return found[norms <= 5 * np.sort(norms)[(len(norms) - 1) // 2]]


def in_order(found: np.ndarray) -> np.ndarray:
    return found[found[:, 0].argsort()]


def stored(store: ActivationStore, layer: int) -> list[Path]:
    return sorted((store.directory / f"layer{layer}").iterdir())


def by_bytes(batches) -> Counter[bytes]:
    """How often each row occurs."""
    return Counter(row.numpy().tobytes() for batch in batches for row in batch)


@pytest.mark.usefixtures("small_shards")
def test_each_layer_has_all_tokens_but_the_first_of_each_row_shard_by_shard(model, rows, tmp_path):
    store = filled(tmp_path, model, rows)
    shards = shards_of(rows)
    assert len(shards) > 2
    for layer in (0, 1):
        paths = stored(store, layer)
        assert [path.name for path in paths] == [f"{number:05d}.safetensors" for number in range(len(shards))]
        for path, shard in zip(paths, shards, strict=True):
            found = load_file(path)["residuals"]
            assert found.dtype == model.dtype
            np.testing.assert_allclose(
                in_order(found.numpy()), in_order(streams(model, shard, layer)), rtol=1e-3, atol=1e-3
            )
        assert store.token_count(layer) == sum(len(streams(model, shard, layer)) for shard in shards)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 5))
def test_outliers_are_those_above_five_medians(seed, count, outliers):
    generator = np.random.default_rng(seed)
    norms = generator.random(count + outliers) * 2 + 1
    norms[generator.permutation(count + outliers)[: min(outliers, (count - 1) // 2)]] *= 100
    directions = generator.normal(size=(len(norms), 8))
    found = directions / np.linalg.norm(directions, axis=1, keepdims=True) * norms[:, None]
    kept = without_outliers(torch.from_numpy(found).float()).numpy()
    median = np.sort(norms)[(len(norms) - 1) // 2]
    np.testing.assert_allclose(kept, found[norms < 5 * median], rtol=1e-5)


@pytest.mark.usefixtures("small_shards")
def test_a_killed_run_captures_only_what_is_missing(model, rows, tmp_path, monkeypatch):
    store = filled(tmp_path, model, rows)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for layer in (0, 1) for path in stored(store, layer)}
    gone = stored(store, 1)[2]
    gone.unlink()
    asked = []
    capture = type(model).capture

    def recording(self, given, layers, *rest):
        asked.append([list(row) for row in given])
        return capture(self, given, layers, *rest)

    monkeypatch.setattr(type(model), "capture", recording)
    filled(tmp_path, model, rows)
    assert asked == [shards_of(rows)[2]]
    again = {path: path.read_bytes() for layer in (0, 1) for path in stored(store, layer)}
    assert again == {path: content for path, (content, _) in before.items()}
    untouched = [path for path in before if path.name != gone.name]
    assert all(path.stat().st_mtime_ns == before[path][1] for path in untouched)
    filled(tmp_path, model, rows)
    assert len(asked) == 1, "a complete store is not captured again"


@pytest.mark.usefixtures("small_shards")
def test_a_run_killed_while_writing_leaves_no_half_shard(model, rows, tmp_path, monkeypatch):
    def killed(tensors, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(activation_store, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            filled(tmp_path, model, rows)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "store.json"]
    assert filled(tmp_path, model, rows).token_count(0) == filled(tmp_path / "other", model, rows).token_count(0)


def test_a_store_of_another_identity_is_refused_and_kept(model, rows, tmp_path):
    store = filled(tmp_path, model, rows)
    before = stored(store, 0)[0].read_bytes()
    with pytest.raises(
        DataError, match=rf"{tmp_path}: its activations differ from those asked for in seed; give another"
    ):
        filled(tmp_path, model, rows, identity={"seed": 1, "model": "small"})
    assert stored(store, 0)[0].read_bytes() == before
    filled(tmp_path, model, rows, identity=dict(reversed(IDENTITY.items())))
    assert json.loads((tmp_path / "store.json").read_text()) == IDENTITY


def test_a_full_disk_is_told_before_anything_is_captured(model, rows, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(activation_store.shutil, "disk_usage", lambda _path: usage)
    monkeypatch.setattr(type(model), "capture", lambda *_args: pytest.fail("the model was run"))
    with pytest.raises(DataError, match=rf"{tmp_path}: no room for the next 0\.0 GB of activations"):
        filled(tmp_path, model, rows)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")]
)
def test_a_failed_write_names_the_file(model, rows, tmp_path, monkeypatch, error):
    def full(*_args):
        raise error

    monkeypatch.setattr(activation_store, "save_file", full)
    with pytest.raises(DataError, match=r"layer0/00000\.safetensors: writing failed: .*No space left on device"):
        filled(tmp_path, model, rows)


def test_a_store_below_a_file_is_one_message(model, rows, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"file/store: writing failed: Not a directory"):
        filled(tmp_path / "file" / "store", model, rows)


def test_a_layer_is_joined_only_when_the_one_before_is_written(model, rows, tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(activation_store, "without_outliers", lambda given: events.append("joined") or given)
    monkeypatch.setattr(activation_store, "_write", lambda path, _: events.append(path.parent.name))
    filled(tmp_path, model, rows)
    assert events == ["joined", "layer0", "joined", "layer1"]


def test_the_parts_of_a_layer_are_let_go_once_they_are_joined(model, rows):
    captured = activation_store._captured(model, rows, (0, 1))
    assert next(captured)[0] == 0
    assert list(captured.gi_frame.f_locals["parts"]) == [1]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("damage", [b"", b"noise" * 10, None])
def test_a_damaged_shard_is_named_with_a_remedy_that_works(model, rows, tmp_path, damage):
    store = filled(tmp_path, model, rows)
    whole = by_bytes(store.batches(1, 1, 1, 0))
    path = stored(store, 1)[1]
    if damage is None:
        save_file({"other": torch.ones(3)}, path)
    else:
        path.write_bytes(damage)
    for read in (lambda: store.token_count(1), lambda: list(store.batches(1, 2, 1, 0))):
        with pytest.raises(DataError, match=r"layer1/00001\.safetensors: damaged activations: .*remove the file"):
            read()
    assert store.token_count(0) > 0, "the other layer is whole"
    path.unlink()
    assert by_bytes(filled(tmp_path, model, rows).batches(1, 1, 1, 0)) == whole


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A store of 7 shards of 3 to 15 rows; a row holds its own number."""
    directory = tmp_path_factory.mktemp("store")
    (directory / "layer4").mkdir()
    start = 0
    for shard in range(7):
        numbers = torch.arange(start, start + 3 + 2 * shard, dtype=torch.bfloat16)
        save_file({"residuals": numbers[:, None].repeat(1, D_MODEL)}, directory / "layer4" / f"{shard:05d}.safetensors")
        start += len(numbers)
    return ActivationStore(directory)


def numbers_in(batches) -> list[list[int]]:
    return [batch[:, 0].int().tolist() for batch in batches]


@given(st.integers(1, 20), st.integers(1, 3), st.integers(0, 99))
def test_batches_are_full_and_each_row_comes_at_most_once_an_epoch(numbered, size, epochs, seed):
    found = numbers_in(numbered.batches(4, size, epochs, seed))
    assert all(len(batch) == size for batch in found)
    times = Counter(number for batch in found for number in batch)
    assert set(times) <= set(range(63))
    assert max(times.values()) <= epochs
    dropped = 63 * epochs - sum(times.values())
    assert dropped <= 2 * epochs * (size - 1), "a rest of each of two groups of shards"
    assert len(found) >= numbered.batch_count(4, size, epochs) == epochs * sum(n // size for n in range(3, 16, 2))


def test_batches_of_one_row_give_every_row_once_an_epoch(numbered):
    assert numbered.token_count(4) == 63
    found = [number for [number] in numbers_in(numbered.batches(4, 1, 2, 0))]
    for epoch in (found[:63], found[63:]):
        assert sorted(epoch) == list(range(63))
    assert found[:63] != found[63:], "each epoch has an order of its own"


def test_batches_are_float32_of_what_was_stored_and_mix_several_shards(numbered):
    first = next(numbered.batches(4, 16, 1, 0))
    assert (first.dtype, first.shape) == (torch.float32, (16, D_MODEL))
    assert torch.equal(first, first[:, :1].expand(-1, D_MODEL))
    borders = np.cumsum([3 + 2 * shard for shard in range(7)])
    assert len(set(np.searchsorted(borders, first[:, 0].numpy(), side="right"))) > 1


def test_the_seed_and_the_layer_decide_the_order(numbered):
    shutil.copytree(numbered.directory / "layer4", numbered.directory / "layer5", dirs_exist_ok=True)
    first = numbers_in(numbered.batches(4, 5, 2, 0))
    assert first == numbers_in(numbered.batches(4, 5, 2, 0))
    assert first != numbers_in(numbered.batches(4, 5, 2, 1))
    assert first != numbers_in(numbered.batches(5, 5, 2, 0))


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 99))
def test_batches_passed_over_leave_those_that_follow_as_they_are(numbered, size, skip, seed):
    whole = numbers_in(numbered.batches(4, size, 2, seed))
    assert numbers_in(numbered.batches(4, size, 2, seed, skip=skip)) == whole[skip:]


def test_a_layer_that_was_not_stored_has_nothing(numbered):
    assert (numbered.token_count(9), numbered.batch_count(9, 4, 1)) == (0, 0)
    assert list(numbered.batches(9, 4, 2, 0)) == []
