"""Tables for LaTeX: parsed by another library, and set by LaTeX itself where that is installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from steering.tables.export import result_tables, to_latex
from steering.tables.latex import escaped, tabular
from tests.small_rows import configuration, small_row, unsteered_row

ASCII = [chr(code) for code in range(32, 127)]
LATIN = [chr(code) for code in range(0xA0, 0x100)]
ODD = [*"Δ×−±–—…漢א😀Ж\x07\u202e\n\t\ufffd", "--", ",,", "?`", "!`", "<<", "''", "[x]", "*", r"\end{tabular}", "^^41"]
names = st.lists(st.sampled_from([*ASCII, *LATIN, *ODD]), max_size=8).map("".join)
ENGINE = shutil.which("pdflatex")


def environment(text: str) -> LatexEnvironmentNode:
    nodes = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()[0]
    [found] = [node for node in nodes if node.isNodeType(LatexEnvironmentNode)]
    assert found.environmentname == "tabular"
    return found


def meanings(nodes: list) -> set[str]:
    """What in parsed LaTeX is more than text and macros: environments, comments, and specials by their characters."""
    found: set[str] = set()
    for node in nodes:
        name = type(node).__name__
        found.add(getattr(node, "specials_chars", name))
        found |= {node.macroname} & {"\\", "begin", "end", "input"} if name == "LatexMacroNode" else set()
        found |= meanings(getattr(node, "nodelist", None) or [])
    return found


@given(names)
def test_escaped_text_has_no_meaning_beyond_itself(text):
    nodes = LatexWalker(escaped(text), tolerant_parsing=False).get_latex_nodes()[0]
    assert meanings(nodes) <= {"LatexCharsNode", "LatexMacroNode", "LatexMathNode", "LatexGroupNode"}


@given(st.text(st.sampled_from(sorted(set(ASCII) - set("\"'`<>|^~")))))
def test_escaped_text_reads_as_the_text(text):
    shown = LatexNodes2Text(strict_latex_spaces=False).latex_to_text(escaped(text))
    assert shown.split() == text.split()


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b", r"a\_b"),
        ("50 %", r"50 \%"),
        ("Δ loss", r"$\Delta$ loss"),
        ("×", r"$\times$"),
        ("[x", "{[}x"),
        ("a[x]", "a[x]"),
        ("a--b", "a-{-}b"),
        (",,", ",{,}"),
        ("a\nb", "a b"),
        ("é", "é"),
        ("漢", r"\texttt{U+6F22}"),
        ("\x07", r"$\diamond$"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
    ],
)
def test_special_characters(text, latex):
    assert escaped(text) == latex


@given(st.lists(st.tuples(names, names), max_size=4))
def test_table_has_its_lines_and_columns_whatever_the_names(lines):
    text = tabular([["method", "value"], *lines])
    found = environment(text)
    separators = [node for node in found.nodelist if getattr(node, "specials_chars", "") == "&"]
    ends = [node for node in found.nodelist if getattr(node, "macroname", "") == "\\"]
    assert len(separators) == len(ends) == len(lines) + 1
    assert text.startswith("\\begin{tabular}{lr}\n\\toprule\n")
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")


def test_negative_numbers_have_minus_signs_and_names_keep_hyphens():
    text = tabular([["method", "value"], ["a-1", "-0.5 [-1.0, +0.5]"], ["b", "-"]])
    assert r"a-1 & $-$0.5 [$-$1.0, +0.5] \\" in text
    assert r"b & - \\" in text


@pytest.mark.skipif(ENGINE is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("preamble", ["", "\\usepackage[T1]{fontenc}\n"])
def test_latex_sets_every_table(tmp_path, preamble):
    names = [*ASCII, *LATIN, *ODD, *(f"a{mark}" for mark in (*ASCII, *ODD))]
    rows = [unsteered_row(), *configuration(), small_row(value=-0.5, method="[a] & b")]
    parts = [names[at : at + 40] for at in range(0, len(names), 40)]
    odd = [tabular([["method", "×"], *([name, f"-1{name}"] for name in part)]) for part in parts]
    body = "\n\\newpage\n".join([to_latex(result_tables(rows)), *odd, tabular([["method"]])])
    before = f"\\documentclass{{article}}\n{preamble}\\usepackage{{booktabs}}\n\\begin{{document}}\n"
    (tmp_path / "table.tex").write_text(f"{before}{body}\\end{{document}}\n", encoding="utf-8")
    command = [ENGINE, "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "table.log").read_text(encoding="utf-8", errors="replace")
