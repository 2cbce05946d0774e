"""Figures of what was measured, those of the paper among them, with the intervals that they lack there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steering.profiles import Profile
from steering.report.figures.by_layer import loss_change_by_layer, success_by_layer, vector_norms
from steering.report.figures.figure import Figure, write
from steering.report.figures.heat_maps import success_by_dose
from steering.report.figures.one_word import one_word_matrices
from steering.report.figures.series import groups_of
from steering.report.figures.similarity import similarity_figure
from steering.report.figures.trade_offs import equal_damage, pareto
from steering.report.paper import PaperValues
from steering.results import Row

__all__ = ["Figure", "figures_of", "similarity_figure", "write"]


def figures_of(
    rows: Sequence[Row], paper_values: PaperValues | None = None, level: float = Profile.alpha
) -> list[Figure]:
    """The figures for which some rows hold something; what was measured under other circumstances has its own.

    Args:
        rows: Of one or several runs.
        paper_values: Shown beside rows of the paper's model and concept, and only there.
        level: That adjusted p values are held against; by default the one that profiles have by default.
    """
    figures = []
    for group in groups_of(rows):
        paper = paper_values if paper_values and paper_values.fit(group.row) else None
        figures += [
            *success_by_layer(group, paper),
            *success_by_dose(group, paper, level),
            *equal_damage(group),
            *loss_change_by_layer(group, paper),
            *pareto(group),
            *vector_norms(group, paper),
            *one_word_matrices(group),
        ]
    return _named(figures)


def _named(figures: Sequence[Figure]) -> list[Figure]:
    """The same, each of another name, also where capital letters do not count."""
    taken: set[str] = set()
    named = []
    for figure in figures:
        name, number = figure.name, 2
        while name.casefold() in taken:
            name, number = f"{figure.name}-{number}", number + 1
        taken.add(name.casefold())
        named.append(replace(figure, name=name))
    return named
