"""The corpus: files of every kind, and how they are cut into rows of tokens."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering.errors import DataError
from steering.sae.corpus import SEPARATOR, Source, TokenRows, read_corpus, token_rows
from tests.small_models import small_tokenizer

TEXTS = ("One story\nof two lines.", "Königin 👑", "The end.")
JOINED = f"\n{SEPARATOR}\n".join(TEXTS)

lines = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=12).filter(
    str.strip
)


def write(path: Path, text: str = JOINED) -> Path:
    """Write a text as its file name asks for."""
    content = text.encode()
    packed = {".xz": lzma.compress, ".gz": gzip.compress}.get(path.suffix, bytes)(content)
    path.write_bytes(packed)
    return path


def write_jsonl(path: Path) -> Path:
    path.write_text("".join(json.dumps({"text": text, "id": 3}) + "\n" for text in TEXTS), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.xz", "a.txt.gz"])
def test_text_files_hold_documents_divided_by_a_line(tmp_path, name):
    [source] = read_corpus([str(write(tmp_path / name))])
    assert source == Source(name, TEXTS)


def test_json_lines_hold_one_document_each(tmp_path):
    assert read_corpus([str(write_jsonl(tmp_path / "a.jsonl"))]) == [Source("a.jsonl", TEXTS)]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.xz"])
@given(documents=st.lists(lines, min_size=1, max_size=5), breaks=st.sampled_from(["\n", "\r\n"]))
def test_documents_are_read_back_whatever_ends_their_lines(tmp_path_factory, name, documents, breaks):
    path = tmp_path_factory.getbasetemp() / name
    write(path, f"{breaks}{SEPARATOR}{breaks}".join(documents) + breaks)
    assert read_corpus([str(path)])[0].documents == tuple(document.strip() for document in documents)


def test_a_separator_inside_a_line_divides_nothing(tmp_path):
    text = f"say {SEPARATOR} twice\n{SEPARATOR} at the start\nat the end {SEPARATOR}"
    assert read_corpus([str(write(tmp_path / "a.txt", text))])[0].documents == (text,)


def test_separators_at_the_ends_hold_no_document(tmp_path):
    path = write(tmp_path / "a.txt", f"{SEPARATOR}\none\n{SEPARATOR}\n\n \n{SEPARATOR}\ntwo\n{SEPARATOR}\n")
    assert read_corpus([str(path)])[0].documents == ("one", "two")


def test_nothing_between_two_separators_is_no_document(tmp_path):
    path = write(tmp_path / "a.txt", f"one\n{SEPARATOR}\n{SEPARATOR}\ntwo")
    assert read_corpus([str(path)])[0].documents == ("one", "two")


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "a.txt.gz",
    ],
)
def test_a_byte_order_mark_is_no_text(tmp_path, name):
    assert read_corpus([str(write(tmp_path / name, "\ufeffone"))])[0].documents == ("one",)


def test_a_directory_stands_for_its_readable_files_by_name(tmp_path):
    for name in ("b.txt.gz", "c.txt.xz", "a.txt"):
        write(tmp_path / name)
    write_jsonl(tmp_path / "d.jsonl")
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    (tmp_path / "data.xz").write_bytes(b"?")
    found = read_corpus([str(tmp_path), str(tmp_path / "a.txt")])
    assert [source.name for source in found] == ["a.txt", "b.txt.gz", "c.txt.xz", "d.jsonl", "a.txt"]
    assert {source.documents for source in found} == {TEXTS}


def test_the_hash_is_of_the_documents_in_their_order():
    first, other = Source("a", TEXTS), Source("b", TEXTS[::-1])
    assert first.hash == hashlib.sha256(json.dumps(list(TEXTS)).encode()).hexdigest()
    assert first.hash == Source("elsewhere", TEXTS).hash
    assert len({first.hash, other.hash, Source("c", ("".join(TEXTS),)).hash}) == 3


@pytest.mark.parametrize("name", ["none.txt", "none.txt.xz", "none.gz", "none.jsonl", "sub/none"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: no such file$"):
        read_corpus([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe", "not UTF-8 text"),
        ("a.txt.xz", lzma.compress(b"\xff\xfe"), "not UTF-8 text"),
        ("a.txt.gz", gzip.compress(b"\xff\xfe", mtime=0), "not UTF-8 text"),
        ("a.txt.xz", b"plain text", "cannot be decompressed"),
        ("a.txt.gz", b"plain text", "cannot be decompressed"),
        ("a.txt.xz", lzma.compress(b"x" * 99)[:-9], "cannot be decompressed"),
        ("a.txt.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], "cannot be decompressed"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', "'text' is 3"),
        ("a.jsonl", b"", "empty"),
        ("a.pdf", b"%PDF", r"a \.txt, \.txt\.xz, \.txt\.gz or \.jsonl file is required"),
        ("a.txt", b" \n", "has no text"),
        ("a.txt.gz", gzip.compress(f"{SEPARATOR}\n".encode(), mtime=0), "has no text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        read_corpus([str(tmp_path / name)])


@pytest.mark.parametrize("position", [10, 12, 20])
def test_a_damaged_byte_in_a_gzip_file_is_named(tmp_path, position):
    content = bytearray(gzip.compress(b"hello world " * 1000, mtime=0))
    content[position] ^= 0xFF
    (tmp_path / "a.txt.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.txt\.gz: cannot be decompressed"):
        read_corpus([str(tmp_path / "a.txt.gz")])


def test_a_directory_without_any_text_and_no_reference_at_all_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no \.txt, \.txt\.xz, \.txt\.gz or \.jsonl file in this directory"):
        read_corpus([str(tmp_path)])
    with pytest.raises(DataError, match="no corpus was given"):
        read_corpus([])


def hub(monkeypatch, column: str) -> list[tuple[object, ...]]:
    """Put a hub client in place whose data sets hold the texts in a column; return where it writes what is asked."""
    asked: list[tuple[object, ...]] = []

    def load_dataset(name, **options):
        asked.append((name, options))
        return ({column: text, "url": "x"} for text in TEXTS)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_a_hub_data_set_is_read_by_its_text_column(monkeypatch):
    asked = hub(monkeypatch, "text")
    assert read_corpus(["some/corpus"]) == [Source("some/corpus", TEXTS)]
    assert asked == [("some/corpus", {"split": "train", "streaming": True})]


def test_a_data_set_without_texts_says_so(monkeypatch):
    hub(monkeypatch, "title")
    with pytest.raises(DataError, match="corpus 'some/corpus': neither a file nor a data set that can be read: 'text'"):
        read_corpus(["some/corpus"])


def ids_of(text: str) -> list[int]:
    return small_tokenizer()(text)["input_ids"]


@given(st.lists(st.integers(1, 130), min_size=6, max_size=20), st.sampled_from([8, 16, 40]))
def test_rows_are_the_documents_cut_in_their_order(lengths, length):
    """Each document has tokens of its own, so that every row tells where it comes from."""
    documents = [chr(65 + number) * count for number, count in enumerate(lengths)]
    expected = []
    for document in documents:
        ids = ids_of(document)
        assert len(ids) == len(document)
        expected += [ids[start : start + length] for start in range(0, len(ids), length)]
    expected = [row for row in expected if len(row) >= min(length, 16)]
    held_out = int(len(expected) / 10 + 0.5)
    if not held_out:
        with pytest.raises(DataError, match=rf"has {len(expected)} rows of tokens; at least"):
            token_rows(small_tokenizer(), [Source("a", tuple(documents))], length)
        return
    found = token_rows(small_tokenizer(), [Source("a", tuple(documents))], length)
    assert [row.tolist() for row in found.training] == expected[:-held_out]
    assert [row.tolist() for row in found.held_out] == expected[-held_out:]


def test_the_last_tenth_of_each_source_is_held_out():
    sources = [Source(letter, tuple(letter * 16 for _ in range(count))) for letter, count in (("a", 20), ("b", 40))]
    found = token_rows(small_tokenizer(), sources, 16)
    a, b = (ids_of(letter)[0] for letter in "ab")
    assert [set(row.tolist()) for row in found.training] == [{a}] * 18 + [{b}] * 36
    assert [set(row.tolist()) for row in found.held_out] == [{a}] * 2 + [{b}] * 4


@given(st.lists(st.integers(1, 24), min_size=1, max_size=30))
def test_small_sources_are_held_out_of_together_and_large_ones_each(counts):
    sources = [Source(str(number), ("x" * 16,) * count) for number, count in enumerate(counts)]
    small, large = ([count for count in counts if (count < 5) == wanted] for wanted in (True, False))
    expected = int(sum(small) / 10 + 0.5) + sum(int(count / 10 + 0.5) for count in large)
    if sum(counts) < 5:
        with pytest.raises(DataError, match=f"the corpus has {sum(counts)} rows of tokens; at least 5 are needed"):
            token_rows(small_tokenizer(), sources, 16)
        return
    assert expected
    found = token_rows(small_tokenizer(), sources, 16)
    assert (len(found.held_out), len(found.training)) == (expected, sum(counts) - expected)


def test_a_corpus_of_many_small_files_is_divided():
    letters = [chr(65 + number) for number in range(50)]
    found = token_rows(small_tokenizer(), [Source(letter, (letter * 16,) * 2) for letter in letters], 16)
    assert (len(found.training), len(found.held_out)) == (90, 10)
    assert len({int(row[0]) for row in found.held_out}) == 10, "not all of them from the same few sources"


def test_a_corpus_of_too_few_rows_is_refused():
    with pytest.raises(DataError, match="the corpus has 4 rows of tokens; at least"):
        token_rows(small_tokenizer(), [Source("a", ("x" * 16,) * 4)], 16)


def test_the_message_says_how_many_rows_are_enough():
    found = token_rows(small_tokenizer(), [Source("a", ("x" * 16,) * 5)], 16)
    assert (len(found.training), len(found.held_out)) == (4, 1)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 600), st.integers(0, 99))
def test_a_sample_has_as_many_rows_as_the_tokens_need_each_once(lengths, tokens, seed):
    rows = tuple(np.full(length, number, dtype=np.int32) for number, length in enumerate(lengths))
    both = TokenRows(rows, rows[::-1])
    chosen = both.sample(tokens, seed)
    assert chosen == both.sample(tokens, seed)
    count = sum(map(len, chosen))
    assert count >= min(tokens, sum(lengths))
    assert count - len(chosen[-1]) < tokens, "the last row was needed"
    assert len({row[0] for row in chosen}) == len(chosen)
    assert all(row == [row[0]] * lengths[row[0]] for row in chosen)
    assert type(chosen[0][0]) is int


def test_another_seed_samples_in_another_order():
    rows = TokenRows(tuple(np.array([number]) for number in range(50)), (np.array([0]),))
    assert rows.sample(50, 0) != rows.sample(50, 1)
    assert sorted(rows.sample(50, 0)) == sorted(rows.sample(50, 1)) == [[number] for number in range(50)]
    assert rows.sample_held_out(10) == [[0]]
