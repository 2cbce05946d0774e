"""Exported results, read back by the programs that they are for."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pyarrow import parquet

from steering.feature_weights import FeatureWeight
from steering.journal import load_rows
from steering.results import Row
from steering.tables.export import (
    result_tables,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    to_parquet,
)
from steering.tables.markdown import markdown_table
from tests.small_rows import configuration, quality, small_row, unsteered_row

finite = st.floats(allow_nan=False, allow_infinity=False)
marks = st.sampled_from([*'\n",;| \\`*_=@\x1b', "<b>", "&lt;", "[a](b)", "~~"])
awkward = st.lists(st.one_of(marks, st.text(st.characters(codec="utf-8"), max_size=6)), max_size=6).map("".join)
FEATURE = FeatureWeight(7, 2.5, "a | b")
FAILED = unsteered_row(value=None, low=None, high=None, n=0, status="failed", reason="a, b")


def shown(text: str) -> str:
    """What of a text can be seen on one line."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in text)


def rendered(markdown: str) -> list[list[list[str]]]:
    """The tables of a Markdown text as a renderer of GitHub's tables sees them: the text of every cell."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level >= 3:
            kinds = {child.type for child in token.children}
            assert kinds <= {"text", "text_special"}, "nothing in a cell means more than itself"
            tables[-1][-1].append("".join(child.content for child in token.children))
    return tables


@given(value=finite, reason=awkward, parameters=st.dictionaries(awkward, st.one_of(finite, awkward), max_size=3))
def test_csv_holds_each_field_at_full_precision(value, reason, parameters):
    rows = [unsteered_row(reason=reason), small_row(value=value, p_value=value, p_control=value, parameters=parameters)]
    plain, steered = csv.DictReader(io.StringIO(to_csv(rows), newline=""))
    assert set(steered) == set(vars(rows[0])) - {"items", "texts", "features"}
    assert plain["reason"].removeprefix("'") == reason.removeprefix("'")
    assert (plain["layer"], plain["vector_norm"], plain["p_value"], plain["p_control"]) == ("", "", "", "")
    assert float(steered["value"]) == float(steered["p_value"]) == float(steered["p_control"]) == value
    assert (steered["layer"], steered["metric"], steered["n"]) == ("1", "rollout_probability", "8")
    assert json.loads(steered["parameters"]) == parameters
    assert json.loads(steered["measurement"]) == rows[1].measurement


@given(st.lists(finite, min_size=1, max_size=9))
def test_csv_is_read_by_pandas_to_the_last_bit(values):
    rows = [small_row(layer=layer, value=value, items=(1.5,)) for layer, value in enumerate(values)]
    frame = pd.read_csv(io.StringIO(to_csv(rows)))
    assert frame["value"].tolist() == values
    assert frame["layer"].tolist() == list(range(len(values)))


def test_csv_says_what_was_not_measured_and_holds_no_items_or_texts():
    secret = small_row(texts=("secret",), items=(1.5,), features=(dataclasses.replace(FEATURE, description="secret"),))
    text = to_csv([FAILED, secret])
    frame = pd.read_csv(io.StringIO(text))
    assert frame["value"].isna().tolist() == [True, False]
    assert frame["reason"].tolist()[0] == "a, b"
    assert "secret" not in text
    assert next(csv.reader([to_csv([])]))[0] == "run"
    assert len(to_csv([]).splitlines()) == 1


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_text_in_csv_is_a_formula(start):
    [row] = csv.DictReader(io.StringIO(to_csv([small_row(method=f"{start}HYPERLINK(1)", value=-1.5)]), newline=""))
    assert row["method"] == f"'{start}HYPERLINK(1)"
    assert row["value"] == "-1.5", "numbers stay numbers"


@given(st.lists(st.tuples(finite, st.lists(finite, max_size=4), awkward), max_size=4))
def test_parquet_holds_every_field_to_the_last_bit(found):
    rows = [
        small_row(value=value, items=tuple(items), texts=(text,), method=text, parameters={text: value})
        for value, items, text in found
    ]
    frame = pd.read_parquet(io.BytesIO(to_parquet(rows)))
    assert list(frame.columns) == [field.name for field in dataclasses.fields(Row)]
    assert frame["value"].tolist() == [row.value for row in rows]
    assert [tuple(items) for items in frame["items"]] == [row.items for row in rows]
    assert [tuple(texts) for texts in frame["texts"]] == [row.texts for row in rows]
    assert frame["method"].tolist() == [row.method for row in rows]
    assert [json.loads(text) for text in frame["parameters"]] == [row.parameters for row in rows]


def test_parquet_has_the_same_types_whatever_was_measured():
    files = [to_parquet(rows) for rows in ([], [FAILED], [small_row(items=(1.0,), texts=("a",), features=(FEATURE,))])]
    schemas = [parquet.read_schema(io.BytesIO(file)) for file in files]
    assert schemas[0].equals(schemas[1])
    assert schemas[0].equals(schemas[2])
    assert schemas[0].field("layer").type == pa.int64()
    assert schemas[0].field("items").type == pa.list_(pa.float64())
    assert schemas[0].field("is_control").type == pa.bool_()
    [record] = parquet.read_table(io.BytesIO(files[2])).to_pylist()
    assert record["features"] == [{"feature": 7, "weight": 2.5, "description": "a | b"}]
    assert parquet.read_table(io.BytesIO(files[1])).to_pylist()[0]["layer"] is None


@given(finite, awkward)
def test_json_holds_the_rows_of_the_journal(value, text):
    rows = [FAILED, small_row(value=value, method=text, items=(value,), texts=(text,), features=(FEATURE,))]
    found = json.loads(to_json(rows))
    assert found == [json.loads(row.to_json()) for row in rows]
    assert found[1]["items"] == [value]


def test_json_lines_of_the_array_are_a_journal(tmp_path):
    rows = [unsteered_row(), small_row(items=(0.0, 1.0), features=(FEATURE,))]
    lines = [json.dumps(entry) for entry in json.loads(to_json(rows))]
    (tmp_path / "results.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert load_rows(tmp_path) == rows


def test_markdown_shows_every_table_that_has_lines():
    rows = [*quality(), unsteered_row(), *configuration(features=(FEATURE,))]
    tables = result_tables(rows)
    assert list(tables) == ["Cells", "Features", "Sparse autoencoders"]
    assert rendered(to_markdown(rows)) == list(tables.values())
    headings = [line for line in to_markdown(rows).splitlines() if line.startswith("#")]
    assert headings == [f"### {title}" for title in tables]
    assert to_markdown([]) == ""


def test_markdown_makes_no_formulas_of_prices():
    """GitHub typesets what stands between two dollar signs."""
    assert markdown_table([["cost"], ["$5 to US$9"]]).splitlines()[2] == "| \\$5 to US\\$9 |"
    assert rendered(markdown_table([["cost"], ["$5 to US$9"]])) == [[["cost"], ["$5 to US$9"]]]


def test_markdown_aligns_words_to_the_left_and_numbers_to_the_right():
    html = MarkdownIt("commonmark").enable("table").render(to_markdown([unsteered_row(), *configuration()]))
    assert "<th>method</th>" in html
    assert '<th style="text-align:right">layer</th>' in html


@given(st.lists(st.lists(awkward, min_size=2, max_size=2), min_size=1, max_size=3))
def test_markdown_shows_names_as_they_are(lines):
    [table] = rendered(markdown_table([["method", "layer"], *lines]))
    assert table[1:] == [[shown(cell).strip() for cell in line] for line in lines]


def test_markdown_of_ordinary_names_is_not_cluttered():
    [*_, line] = markdown_table(result_tables([*configuration(p_value=1e-9)])["Cells"]).splitlines()
    assert line.startswith("| mean_difference | 1 | 1 | 2.5 | 0.500 [0.250, 0.750] | < 0.0001 |")


def test_development_split_has_a_table_of_its_own():
    there = {"rollouts": 8, "top_p": 0.95, "split": "development"}
    rows = [small_row(p_value=0.01), small_row(p_value=0.02, measurement=there)]
    tables = result_tables(rows)
    assert [len(tables[title]) for title in ("Cells", "Cells on the development split")] == [2, 2]
    assert tables["Cells"][0] == tables["Cells on the development split"][0]
    assert tables["Cells"][1][5] == "0.0100"
    assert "Selection" in tables


def test_every_table_says_whose_rows_it_holds_where_another_tells_runs_apart():
    """Of runs in two dtypes, the second alone has SAEs and features."""
    rows = [unsteered_row(), *configuration()]
    rows += [unsteered_row(dtype="bfloat16"), *configuration(dtype="bfloat16", features=(FEATURE,))]
    rows += quality(dtype="bfloat16")
    tables = result_tables(rows)
    assert set(tables) >= {"Cells", "Features", "Sparse autoencoders"}
    for table in tables.values():
        assert table[0][0] == "run"
        assert all(line[0].startswith("dtype ") for line in table[1:])


def test_quality_of_saes_on_the_development_split_is_shown():
    development = {"measurement": {"split": "development"}}
    assert "Sparse autoencoders" in result_tables(quality(**development))
    assert "run" not in result_tables(quality(**development))["Sparse autoencoders"][0]


def test_selected_cells_are_held_against_all_that_was_measured():
    noise = {"method": "noise", "is_control": True, "parameters": {"construction": "random"}, "items": (0.0,)}
    cells = [small_row(layer=layer, control="noise", p_value=0.01, p_control=1.0, items=(0.0,)) for layer in (8, 9)]
    rows = [*cells, *(small_row(**noise, layer=layer, value=0.1) for layer in (8, 9, 10))]
    chosen, everything = result_tables(rows[:1], rows), result_tables(rows)
    assert chosen["Cells"][1] == everything["Cells"][1]
    assert chosen["Controls"][1] == everything["Controls"][1]
    assert "0.2500" in chosen["Controls"][1], "(1 + 0) / (1 + 3)"


def test_latex_holds_every_table():
    text = to_latex(result_tables([*quality(), unsteered_row(), *configuration(features=(FEATURE,))]))
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 3
    assert r"\usepackage{booktabs}" in text.splitlines()[0]
