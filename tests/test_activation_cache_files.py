"""Files of the activation cache: what is not as it was written is not used, and the oldest make room."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from scipy.sparse import csr_array

from steering import activation_cache
from steering.activation_cache import ActivationCache, LayerActivations, Unit
from steering.progress import Silent
from steering.sae.contrast_features import TOKEN_RULES
from tests.small_activations import D_MODEL, D_SAE, TEXTS, UNIT, Notes, activations, bits, unit


@pytest.fixture
def cache(tmp_path: Path) -> ActivationCache:
    return ActivationCache(tmp_path / "cache")


@pytest.fixture
def path(cache: ActivationCache) -> Path:
    """The file of the unit, written."""
    cache.write({UNIT: activations()}, Silent())
    [found] = cache.directory.iterdir()
    assert found.name == f"{UNIT.key}.safetensors"
    return found


def test_what_is_written_is_read_to_the_last_bit(cache, path):
    assert bits(cache.read(UNIT)) == bits(activations())


def test_layer_without_an_sae_has_no_features(cache):
    plain = LayerActivations(activations().residuals)
    cache.write({unit(1, None): plain}, Silent())
    assert bits(cache.read(unit(1, None))) == bits(plain)


def test_texts_on_which_no_feature_fires_are_read(cache):
    silent = LayerActivations(
        activations().residuals, {rule: csr_array((TEXTS, D_SAE), dtype=np.float32) for rule in TOKEN_RULES}
    )
    cache.write({UNIT: silent}, Silent())
    assert bits(cache.read(UNIT)) == bits(silent)


def test_file_can_be_read_by_safetensors_and_holds_what_is_documented(path):
    arrays = load(path.read_bytes())
    np.testing.assert_array_equal(arrays["residuals"], activations().residuals.numpy())
    assert set(arrays) == {"residuals", "digest"} | {
        f"{rule}.{part}" for rule in ("mean", "max", "last") for part in ("values", "columns", "ends")
    }


def changed(path: Path, **arrays: np.ndarray | None) -> bytes:
    """The content of a file with other tensors and the digest that belongs to them: what a forger can make."""
    merged = {name: values for name, values in (load(path.read_bytes()) | arrays).items() if values is not None}
    del merged["digest"]
    return save(merged | {"digest": activation_cache._digest(merged, UNIT)})


def with_header(header: dict[str, object], data: bytes = b"") -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def altered(path: Path, name: str, index: int, value: float) -> bytes:
    values = load(path.read_bytes())[name].copy()
    values.flat[index] = value
    return changed(path, **{name: values})


HUGE = {"dtype": "F32", "shape": [10**12, D_MODEL], "data_offsets": [0, 4]}
WITHOUT_ROWS = {"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]}
OVERFLOWING = {"dtype": "F32", "shape": [0, 2**63, 2**63], "data_offsets": [0, 0]}
DAMAGE = {
    "empty": lambda _: b"",
    "truncated": lambda path: path.read_bytes()[:-1],
    "half": lambda path: path.read_bytes()[: path.stat().st_size // 2],
    "longer": lambda path: path.read_bytes() + b"\0",
    "text": lambda _: b"activations\n",
    "pickle": lambda _: b"\x80\x04cposix\nsystem\n",
    "header of all memory": lambda _: struct.pack("<Q", 2**62),
    "deep header": lambda _: struct.pack("<Q", 100_000) + b"[" * 100_000,
    "huge shape": lambda _: with_header({"residuals": HUGE}, b"\0" * 4),
    "no rows of huge width": lambda _: with_header({"residuals": WITHOUT_ROWS, "digest": WITHOUT_ROWS}),
    "overflowing shape": lambda _: with_header({"residuals": OVERFLOWING}),
    "unknown type": lambda _: with_header(
        {"residuals": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"ab"
    ),
    "no tensors": lambda _: with_header({}),
    "no digest": lambda path: save({k: v for k, v in load(path.read_bytes()).items() if k != "digest"}),
    "other unit": lambda _: activation_cache._pack(activations(), unit(1)),
    "other numbers": lambda path: save(load(path.read_bytes()) | {"residuals": activations(1).residuals.numpy()}),
    "NaN": lambda path: altered(path, "residuals", 3, np.nan),
    "infinity": lambda path: altered(path, "residuals", 0, -np.inf),
    "float64": lambda path: changed(path, residuals=activations().residuals.double().numpy()),
    "fewer texts": lambda path: changed(path, residuals=activations().residuals.numpy()[1:]),
    "other width": lambda path: changed(path, residuals=np.zeros((TEXTS, D_MODEL + 1), np.float32)),
    "one axis": lambda path: changed(path, residuals=np.zeros(TEXTS * D_MODEL, np.float32)),
    "no residuals": lambda path: changed(path, residuals=None),
    "no features": lambda path: changed(path, **{"max.columns": None}),
    "NaN feature": lambda path: altered(path, "mean.values", 0, np.nan),
    "float16 features": lambda path: changed(
        path, **{"mean.values": load(path.read_bytes())["mean.values"].astype(np.float16)}
    ),
    "float columns": lambda path: changed(
        path, **{"mean.columns": load(path.read_bytes())["mean.columns"].astype(np.float32)}
    ),
    "column beyond the end": lambda path: altered(path, "max.columns", 0, D_SAE),
    "column far beyond": lambda path: altered(path, "max.columns", 0, 2**31 - 1),
    "negative column": lambda path: altered(path, "max.columns", 0, -1),
    "column twice": lambda path: altered(path, "last.columns", 1, load(path.read_bytes())["last.columns"][0]),
    "row that ends far beyond": lambda path: altered(path, "last.ends", 2, 2**40),
    "row that ends before it begins": lambda path: altered(path, "last.ends", 2, -5),
    "last row beyond the end": lambda path: altered(path, "last.ends", TEXTS, 2**40),
    "fewer rows": lambda path: changed(path, **{"last.ends": load(path.read_bytes())["last.ends"][:-1]}),
    "columns in a square": lambda path: changed(path, **{"last.columns": np.zeros((3, 3), np.int32)}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_file_that_is_not_as_it_should_be_is_captured_again(cache, path, damage):
    sound, content = path.read_bytes(), DAMAGE[damage](path)
    assert content != sound
    path.write_bytes(content)
    assert cache.read(UNIT) is None
    asked = []

    def capture(layers):
        asked.append(list(layers))
        return {layer: activations() for layer in layers}

    notes = Notes()
    found = cache.obtain({7: UNIT}, capture, notes)
    assert (asked, notes.said) == ([[7]], [])
    assert bits(found[7]) == bits(activations())
    assert path.read_bytes() == sound


@given(place=st.integers(0), value=st.integers(0, 255), cut=st.booleans())
def test_no_changed_byte_changes_what_is_read(tmp_path_factory, place, value, cut):
    directory = tmp_path_factory.getbasetemp() / "changed-bytes"
    cache = ActivationCache(directory)
    content = bytearray(activation_cache._pack(activations(), UNIT))
    place %= len(content)
    content[place] = value
    directory.mkdir(exist_ok=True)
    (directory / f"{UNIT.key}.safetensors").write_bytes(content[:place] if cut else content)
    found = cache.read(UNIT)
    assert found is None or bits(found) == bits(activations())


def test_what_is_no_file_is_not_read_and_does_no_harm(cache, path):
    path.unlink()
    path.mkdir()
    notes = Notes()
    assert bits(cache.obtain({0: UNIT}, lambda _: {0: activations()}, notes)[0]) == bits(activations())
    assert len(notes.said) == 1
    path.rmdir()
    os.mkfifo(path)
    assert cache.read(UNIT) is None


def test_file_larger_than_the_whole_cache_is_not_read_into_memory(cache, path, monkeypatch):
    with path.open("r+b") as file:
        file.truncate(cache.limit + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    assert cache.read(UNIT) is None


def ages(cache: ActivationCache, *units: Unit) -> None:
    """Give files the times of use of which the first is the longest ago."""
    for number, each in enumerate(units):
        os.utime(cache._path(each), times=(1_000_000 + number,) * 2)


def test_files_used_longest_ago_make_room(cache):
    size = len(activation_cache._pack(activations(), UNIT))
    first, second, third, fourth = map(unit, range(4))
    cache.write(dict.fromkeys((first, second, third), activations()), Silent())
    ages(cache, first, second, third)
    assert cache.read(first) is not None
    cache.limit = 3 * size
    cache.write({fourth: activations()}, Silent())
    assert [cache.read(each) is not None for each in (first, second, third, fourth)] == [True, False, True, True]
    cache.limit = size
    cache.write({second: activations()}, Silent())
    assert [path.name for path in cache.directory.iterdir()] == [f"{second.key}.safetensors"]


def test_one_write_of_more_than_the_limit_stays_within_it(cache):
    size = len(activation_cache._pack(activations(), UNIT))
    cache.limit = 3 * size
    units = [unit(number) for number in range(9)]
    cache.write(dict.fromkeys(units, activations()), Silent())
    assert sum(path.stat().st_size for path in cache.directory.iterdir()) <= cache.limit
    assert len(list(cache.directory.iterdir())) == 3


def test_what_is_larger_than_the_limit_is_not_written_and_removes_nothing(cache, path):
    large = Unit("b" * 64, TEXTS, 1000, None)
    cache.limit = 2 * path.stat().st_size
    cache.write({large: LayerActivations(torch.zeros(TEXTS, 1000))}, Silent())
    assert list(cache.directory.iterdir()) == [path]


def test_files_of_others_are_left_alone(cache, path):
    other = cache.directory / "notes.txt"
    other.write_bytes(b"x" * 10_000)
    cache.limit = path.stat().st_size
    cache.write({UNIT: activations()}, Silent())
    assert {other, path} == set(cache.directory.iterdir())


def test_files_that_vanish_while_room_is_made_do_no_harm(cache, path, monkeypatch):
    cache.write({unit(1): activations()}, Silent())
    cache.limit = path.stat().st_size
    unlink, stat = Path.unlink, Path.stat

    def already_gone(self, missing_ok=False):
        unlink(self, missing_ok)
        raise FileNotFoundError(2, "No such file or directory")

    def vanished(self, **options):
        if self == path:
            raise FileNotFoundError(2, "No such file or directory")
        return stat(self, **options)

    for name, replacement in (("unlink", already_gone), ("stat", vanished)):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, replacement)
            cache.write({unit(2): activations()}, Silent())
        assert cache._writable
        assert bits(cache.read(unit(2))) == bits(activations())
