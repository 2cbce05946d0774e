"""Files of figures: PNG, SVG and CSV, the same each time; and text in them that does nothing and covers nothing."""

from __future__ import annotations

import csv
import warnings
from dataclasses import replace
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from steering.errors import ResultsError
from steering.report.drawings import embed
from steering.report.figures import figures_of, similarity_figure, write
from steering.report.paper import PAPER
from steering.sae.similarity import FeatureSimilarity
from tests.figure_rows import WORDS, budget_rows, cell, dosed_rows, named, plain_rows, texts_of, unsteered

SVG = "{http://www.w3.org/2000/svg}"
PRODUCTS = np.random.default_rng(1).standard_t(4, 2000)
AWKWARD = "$x^2$ \\alpha_{1} <script>&amp;\x1b[31m\u202e\n%s"


def of_each_kind():
    """A small figure of each kind."""
    rows = [*plain_rows(), *(row for row in dosed_rows("hand_crafted") if row.layer is not None)]
    figures = [figure for figure in figures_of(rows) if not figure.name.startswith("one_word")]
    words = named(figures_of(plain_rows()), "one_word-feature_delta")
    return [*figures, *figures_of(budget_rows())[:1], words, similarity_figure(FeatureSimilarity(3, PRODUCTS))]


def test_files_can_be_opened_and_hold_the_title_and_the_data(tmp_path):
    kinds = of_each_kind()
    assert {figure.name.split("-")[0] for figure in kinds} == {
        *("success_by_layer", "success_by_dose", "loss_change_by_layer", "pareto", "vector_norm_by_layer"),
        *("equal_damage", "one_word", "similarity"),
    }
    for figure in kinds:
        png, svg, table = write(figure, tmp_path / "new")
        assert [path.suffix for path in (png, svg, table)] == [".png", ".svg", ".csv"]
        image = Image.open(png)
        assert image.width == 1875
        assert (np.asarray(image.convert("L")) < 200).mean() > 0.003, "it is not blank"
        assert np.asarray(image.convert("L"))[[0, -1]].min() == 255, "it is light, and nothing is cut off"
        root = ET.fromstring(svg.read_text(encoding="utf-8"))  # noqa: S314
        texts = ["".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")]
        assert figure.title in texts
        assert figure.title in [node.text for node in root.iter("{http://purl.org/dc/elements/1.1/}title")]
        with table.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
        assert lines == [["" if value is None else str(value) for value in line] for line in figure.data]
    assert len(list((tmp_path / "new").iterdir())) == 3 * len(kinds)


def test_files_are_the_same_each_time_whatever_the_user_has_set(tmp_path):
    rows = plain_rows()
    for name in ("success_by_layer", "one_word-feature_delta"):
        first = write(named(figures_of(rows), name), tmp_path / "first")
        with mpl.rc_context(
            {"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": None, "text.parse_math": True}
        ):
            second = write(named(figures_of(rows), name), tmp_path / "second")
            assert mpl.rcParams["font.size"] == 20
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
        assert b"20" + b"26" not in first[1].read_bytes()[:3000]  # no date


def test_figures_on_a_page_come_out_the_same_whatever_a_user_has_set():
    figure = named(figures_of(plain_rows()), "success_by_layer")
    first = embed(figure, "figure-1")
    with mpl.rc_context({"savefig.facecolor": "red", "savefig.bbox": "tight", "svg.fonttype": "path"}):
        assert embed(figure, "figure-1") == first


def test_drawing_leaves_pyplot_alone():
    before = dict(mpl.rcParams)
    named(figures_of(plain_rows()), "success_by_layer").draw()
    assert dict(mpl.rcParams) == before
    assert mpl._pylab_helpers.Gcf.get_all_fig_managers() == []


def test_a_directory_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    figure = named(figures_of(plain_rows()), "vector_norm_by_layer")
    with pytest.raises(ResultsError, match="cannot be written"):
        write(figure, tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def awkward_figures():
    """Figures of rows in which every name and word is somebody's text."""
    names = [AWKWARD % name for name in ("a", "b")] + ["日本語 🎎", "=1+1"]
    rows = [*unsteered(words=(AWKWARD % "w", "", "日本"))]
    for number, name in enumerate(names):
        for layer in (1, 2):
            rows += cell(name, layer, words=("$\\frac{1}{0}$", " ", "$"), is_control=number == 1)
    rows = [replace(row, model=AWKWARD % "m", concept="c" * 300) for row in rows]
    figures = figures_of(rows)
    words = next(figure for figure in figures if figure.name.startswith("one_word"))
    descriptions = {int(np.argmax(PRODUCTS)): AWKWARD % "d"}
    kept = [figure for figure in figures if not figure.name.startswith("one_word")]
    return [*kept, words, similarity_figure(FeatureSimilarity(3, PRODUCTS), descriptions)]


def check_text(name, drawn):
    """All text of a figure is large enough, within the figure, and covers no other text."""
    texts = texts_of(drawn)
    assert min(text.get_fontsize() for text in texts) >= 8
    boxes = np.array([Text.get_window_extent(text).extents for text in texts])  # an annotation's own has its arrow
    assert boxes[:, :2].min() >= -1, name
    assert (boxes[:, 2:] <= drawn.bbox.size + 1).all(), name
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.prod(np.clip(high - low - 1, 0, None), axis=-1)
    np.fill_diagonal(shared, 0)
    assert [(texts[i].get_text(), texts[j].get_text()) for i, j in np.argwhere(shared)] == [], name
    for axes in drawn.axes:
        legend = axes.get_legend()
        if legend is not None and axes.axison:
            assert legend.get_window_extent().y0 >= axes.get_window_extent().y1 - 1, name


@pytest.mark.filterwarnings("ignore:Glyph")
def test_text_of_others_does_nothing(tmp_path):
    harmless = "$x^2$ \\alpha_{1} <script>&amp;\ufffd[31m\ufffd"
    for figure in awkward_figures():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = figure.draw()
        texts = texts_of(drawn)
        assert not any(text.get_parse_math() for text in texts)
        shown = "".join(text.get_text() for text in texts)
        assert all(letter.isprintable() or letter == "\n" for letter in shown)
        assert harmless in shown
        check_text(figure.name, drawn)
        if figure.name.startswith(("success_by_layer", "one_word")):
            root = ET.fromstring(write(figure, tmp_path)[1].read_text(encoding="utf-8"))  # noqa: S314
            assert not list(root.iter(f"{SVG}script"))
            assert harmless in "".join(root.itertext())
    assert '"\'=1+1"' in (tmp_path / "success_by_layer.csv").read_text(encoding="utf-8")


def long_rows():
    """Thirty layers, nine controls and names that are too long for any legend."""
    rows = unsteered(words=("WWWWWWWWWWWWWWWW", *WORDS[1:]))
    for layer in range(30):
        rows += cell(layer=layer, success=0.9 - layer / 40, losses=(3.0 / (layer + 1), -0.1, 0.002 * layer))
    for number in range(9):
        for layer in (8, 20):
            rows += cell(f"control_{number}_" + "W" * 60, layer, is_control=True)
    return rows + cell("m" * 90, 29, words=("extraordinarily", "mmmmmmmmmmmmmm", ""))


def gpt2_rows():
    return [replace(row, model="gpt2", concept="gender") for row in plain_rows()]


@pytest.mark.parametrize(
    "figures",
    [
        pytest.param(lambda: [entry for entry in figures_of(long_rows()) if "control_" not in entry.name], id="long"),
        pytest.param(lambda: figures_of(dosed_rows(doses=[-40.5, *np.arange(1, 21).tolist()]))[:3], id="doses"),
        pytest.param(lambda: [figures_of(gpt2_rows(), PAPER)[0], figures_of(budget_rows())[0]], id="paper, budget"),
    ],
)
def test_text_is_large_enough_and_covers_no_other(figures):
    for figure in figures():
        check_text(figure.name, figure.draw())
