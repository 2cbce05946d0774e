"""Reading JSON Lines: what is written is read back, and every fault names file and line. Writing whole files."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from hypothesis import example, given
from hypothesis import strategies as st

from steering.errors import DataError, ResultsError
from steering.files import append_lines, read_records, read_text, read_toml, turns_at, write_file

GOOD = '{"text": "a"}'

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.builds(
    lambda further, text: further | {"text": text},
    st.dictionaries(TEXT, VALUES, max_size=3),
    TEXT.filter(str.strip),
)
BLANK = st.sampled_from(["", " ", "\t", "   "])


def refusal(path, content, required=("text",)):
    """Write a file and return the message with which it is refused, the path shortened to the file's name."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        list(read_records(path, required))
    message = str(caught.value)
    assert message.startswith(str(path))
    return message.replace(str(path), path.name)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.jsonl"


@given(
    st.lists(st.tuples(st.lists(BLANK, max_size=2), RECORDS), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
@example([([], {"text": "a\u2028b"})], False, "\n")
@example([([], {"text": "a\x85b"})], False, "\n")
def test_records_that_were_written_are_read_back(tmp_path_factory, blanks_and_records, ascii_only, newline):
    lines, expected = [], []
    for blanks, record in blanks_and_records:
        lines += [*blanks, json.dumps(record, ensure_ascii=ascii_only)]
        expected.append((len(lines), record))
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    path.write_bytes(newline.join(lines).encode())
    assert list(read_records(path, ["text"])) == expected


def test_blank_lines_are_skipped_but_counted(path):
    path.write_text(f"\n{GOOD}\n  \n\t\n{GOOD}\n\n", encoding="utf-8")
    assert [number for number, _ in read_records(path, ["text"])] == [2, 5]
    assert refusal(path, f"\n\n{GOOD}\n\nnonsense\n").startswith("file.jsonl:5: not valid JSON")


def test_records_before_a_fault_are_given(path):
    path.write_text(f"{GOOD}\nnonsense\n", encoding="utf-8")
    records = read_records(path, ["text"])
    assert next(records) == (1, {"text": "a"})
    with pytest.raises(DataError, match=r"file\.jsonl:2: not valid JSON"):
        next(records)


@pytest.mark.parametrize(
    "line", ["nonsense", '{"text": "a"', '{"text": "a"} {}', "{'text': 'a'}", '{"text": "a", "text": "b"}']
)
def test_malformed_json_is_refused_with_file_and_line(path, line):
    assert refusal(path, f"{GOOD}\n{line}\n").startswith("file.jsonl:2: not valid JSON: ")


@pytest.mark.parametrize(("line", "found"), [("[1]", "list"), ('"a"', "str"), ("3", "int"), ("null", "NoneType")])
def test_a_line_that_is_no_object_is_refused(path, line, found):
    assert refusal(path, f"{GOOD}\n{line}\n") == f"file.jsonl:2: a JSON object is required, found {found}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"texts": "a"}', "is missing"),
        ('{"text": ""}', "is ''"),
        ('{"text": " \\t"}', r"is ' \\t'"),
        ('{"text": 5}', "is 5"),
        ('{"text": null}', "is None"),
        ('{"text": ["a"]}', r"is \['a'\]"),
    ],
)
def test_a_required_value_that_is_no_text_is_refused(path, line, found):
    message = refusal(path, f"{GOOD}\n{line}\n")
    assert re.fullmatch(rf"file\.jsonl:2: 'text' {found}; it must be a non-empty string", message)


def test_every_required_key_is_looked_for(path):
    assert "'title' is missing" in refusal(path, GOOD, ("text", "title"))
    assert "'text' is missing" in refusal(path, '{"title": "a"}', ("text", "title"))


def test_further_keys_are_given_as_they_are(path):
    path.write_text('{"text": "a", "rank": 3, "tags": [null]}', encoding="utf-8")
    assert list(read_records(path, ["text"])) == [(1, {"text": "a", "rank": 3, "tags": [None]})]


@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_a_file_without_an_object_is_refused(path, content):
    message = refusal(path, content, ("prompt", "positive"))
    assert message == "file.jsonl: empty; it must hold one JSON object a line with prompt, positive"


def test_bytes_that_are_not_utf_8_are_refused_with_their_place(path):
    assert refusal(path, b'{"text": "caf\xe9"}') == "file.jsonl: not UTF-8 text (byte 13)"


def test_a_missing_file_is_refused(path):
    with pytest.raises(DataError, match=r"file\.jsonl: no such file"):
        list(read_records(path, ["text"]))


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: cannot be read: ")):
        read_text(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("[" * 100_000 + "]" * 100_000, id="nested lists"),
        pytest.param('{"a":' * 100_000 + "1" + "}" * 100_000, id="nested objects"),
        pytest.param("1" * 5_000, id="long integer"),
    ],
)
def test_json_that_the_parser_cannot_hold_is_refused(path, value):
    message = refusal(path, f'{GOOD}\n{{"text": "a", "further": {value}}}\n')
    assert message.startswith("file.jsonl:2: not valid JSON: ")
    assert len(message) < 500


def test_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "bom.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert [record for _, record in read_records(path, ("text",))] == [{"text": "a"}]


@pytest.mark.parametrize("half", ["\\ud800", "\\udfff"])
def test_half_a_surrogate_pair_is_refused(tmp_path, half):
    path = tmp_path / "half.jsonl"
    path.write_text(f'{GOOD}\n{{"text": "{half}"}}\n', encoding="utf-8")
    with pytest.raises(DataError, match="half.jsonl:2: 'text' holds half of a surrogate pair"):
        list(read_records(path, ("text",)))


def test_toml_with_a_number_that_is_too_long_is_refused(tmp_path):
    path = tmp_path / "long.toml"
    path.write_text("a = " + "1" * 5000, encoding="utf-8")
    with pytest.raises(DataError, match="long.toml: not valid TOML"):
        read_toml(path)


@given(before=st.none() | st.binary(), content=st.binary())
def test_written_file_holds_its_content_alone(tmp_path_factory, before, content):
    path = tmp_path_factory.mktemp("written") / "file"
    if before is not None:
        path.write_bytes(before)
    write_file(path, content)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_file_is_kept_where_writing_fails(tmp_path, fill_disk):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    fill_disk()
    with pytest.raises(ResultsError, match="file: cannot be written: No space left on device"):
        write_file(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [".", "nowhere/file"])
def test_place_that_cannot_be_written_is_one_message(tmp_path, name):
    with pytest.raises(ResultsError, match="cannot be written"):
        write_file(tmp_path / name, b"")
    assert list(tmp_path.iterdir()) == []


def test_reader_of_the_file_before_sees_it_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with path.open("rb") as reader:
        write_file(path, b"after")
        assert reader.read() == b"before"
    assert path.read_bytes() == b"after"


def test_link_is_followed_and_kept(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_file(tmp_path / "link", b"a")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"a"


def test_link_that_somebody_laid_for_the_file_beside_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("steering.files.uuid4", lambda: SimpleNamespace(hex="guessed"))
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    (tmp_path / ".file.guessed.part").symlink_to(victim)
    with pytest.raises(ResultsError, match="cannot be written"):
        write_file(tmp_path / "file", b"a")
    assert victim.read_bytes() == b"kept"


def test_pipe_takes_the_content_and_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_file(pipe, b"content")
    reader.join(10)
    assert found == [b"content"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("left", [b"", b"one\n", b"one\ntw", b"tw"])
def test_lines_are_appended_after_the_last_whole_one(path, left):
    path.write_bytes(left)
    append_lines(path, b"")
    assert path.read_bytes() == left[: left.rfind(b"\n") + 1]
    path.write_bytes(left)
    append_lines(path, b"two\nthree\n")
    assert path.read_bytes() == left[: left.rfind(b"\n") + 1] + b"two\nthree\n"


def test_full_disk_leaves_the_lines_that_were_there(path, fill_disk):
    append_lines(path, b"one\n")
    fill_disk()
    with pytest.raises(OSError, match="No space left"):
        append_lines(path, b"two\n")
    assert path.read_bytes() == b"one\n"


def test_replaced_file_keeps_who_may_read_it(path):
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_file(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def test_links_that_point_at_each_other_are_no_traceback(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(ResultsError, match="loop: cannot be written: Too many levels of symbolic links"):
        write_file(loop, b"new")
    assert loop.is_symlink()


def test_processes_that_change_a_file_take_turns(tmp_path):
    path = tmp_path / "new" / "count"

    def count():
        for _ in range(50):
            with turns_at(path):
                write_file(path, str(int(path.read_text()) + 1 if path.exists() else 1).encode())

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == "150"
    assert list(path.parent.iterdir()) == [path]


def test_turn_where_nothing_can_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="file: cannot be written"), turns_at(tmp_path / "file" / "below"):
        pass


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a directory in which no file can be made is needed")
def test_turn_at_a_directory_that_takes_no_file_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(FileLock, "acquire", lambda *_: pytest.fail("a lock that cannot be made is waited for"))
    with pytest.raises(ResultsError, match="cannot be written"), turns_at(Path("/proc/self/baseline.json")):
        pass
