"""What the paper's figures and tables need, measured in turn: cells with their own doses and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from steering.activation_cache import ActivationCache
from steering.activations import ContrastActivations, capture_pairs
from steering.errors import DataError
from steering.journal import Journal, load_rows
from steering.methods import construct, needs_sae
from steering.models.language_model import LanguageModel
from steering.profiles import MethodPlan, Profile
from steering.progress import Reporter
from steering.sae.library import SaeLibrary
from steering.sae.similarity import FeatureSimilarity, similarity
from steering.settings import Setting
from steering.sweeps.cells import Cell, measurable
from steering.sweeps.earlier import Earlier
from steering.sweeps.plans import mean_plan
from steering.sweeps.sae_quality import SaeQuality
from steering.sweeps.sweep import Sweep

#: Doses of Fig. 6, and of Fig. 8 and 9, as parts of a plan's own multiplier.
_LOSS_FACTORS = (-1.0, 0.5, 1.0)
_FEATURE_FACTORS = (0.5, 1.0, 1.5)
#: Further doses of the mean difference that others are to improve on, and the weights around which others are drawn.
_PARETO_FACTORS = (0.25, 0.5, 0.75, 1.25, 1.5)
_WEIGHTS = {
    "positive_added": 1.0,
    "negative_added": 1.0,
    "negative_subtracted": 1.0,
    "positive_subtracted": 1.0,
    "neutral_added": 10.0,
}
_LOSSES = ("loss_negative", "loss_neutral", "loss_positive")


@dataclass(frozen=True)
class FigureCells:
    """Cells that are measured for some of the paper's figures.

    Attributes:
        shows: Which.
        plans: What is constructed, with the metrics that the plan needs.
        cells: What is measured.
    """

    shows: str
    plans: tuple[MethodPlan, ...]
    cells: tuple[Cell, ...]

    @classmethod
    def of(
        cls,
        shows: str,
        plans: tuple[MethodPlan, ...],
        measured: Sequence[MethodPlan],
        layers: Sequence[int],
        factors: Sequence[float],
    ) -> FigureCells:
        """Some of the plans at some layers, at doses that are parts of each plan's multiplier."""
        cells = [
            Cell(plan.name, layer, factor * plan.multiplier)
            for layer in layers
            for plan in measured
            if plan.layers is None or layer in plan.layers
            for factor in factors
        ]
        return cls(shows, plans, tuple(cells))


def figure_cells(
    profile: Profile, layers: Sequence[int], sae_layers: Sequence[int], *, optimized: int = 6
) -> list[FigureCells]:
    """What is measured for the figures of a profile, in the order in which they are measured.

    Args:
        profile: Its plans of `mean_difference` and of the methods that read SAEs are what the paper is about.
        layers: Blocks to steer at.
        sae_layers: Those that have an SAE.
        optimized: How many vectors gradient descent looks for, each with other weights of the losses.

    Raises:
        DataError: The profile has no plan of `mean_difference`.
    """
    mean = mean_plan(profile)
    steering = [plan for plan in profile.methods if plan.name not in profile.controls]
    means = [plan for plan in steering if plan.method == mean.method]
    features = [plan for plan in steering if needs_sae(plan.method)]
    rollouts, doses = ("one_word", "rollouts"), ("rollouts", "loss_neutral", "one_word")
    controlled = sae_layers or layers  # a control at each layer would take a fifth of the whole time
    others = [layer for layer in layers if layer not in controlled]
    found = [
        FigureCells.of("Fig. 5, 11, 12, Table I", _with_controls(profile, means, rollouts), means, controlled, (1.0,)),
        FigureCells.of("Fig. 5, other layers", _alone(means, rollouts), means, others, (1.0,)),
        FigureCells.of("Fig. 6", _alone(means, _LOSSES), means, layers, _LOSS_FACTORS),
        FigureCells.of("Fig. 8, 9, Tables II, III", _alone(features, doses), features, sae_layers, _FEATURE_FACTORS),
    ]
    if optimized:
        found.append(_search(profile, mean, example_layer(profile, layers, sae_layers), optimized))
    possible = [_measurable(profile, figures, sae_layers) for figures in found if figures.cells]
    return [figures for figures in possible if figures.cells]


def _measurable(profile: Profile, figures: FigureCells, sae_layers: Sequence[int]) -> FigureCells:
    """The same without the cells that need an SAE where there is none, if only for the norm that they take."""
    known = replace(profile, methods=_with_referenced(profile, figures.plans))
    return replace(figures, cells=tuple(measurable(known, figures.cells, sae_layers)))


def _search(profile: Profile, mean: MethodPlan, layer: int, count: int) -> FigureCells:
    """The mean difference at several doses, and vectors optimised for its own: a random search over weights.

    The first has the weights around which those of the others are drawn, up to ten times as large or small.
    """
    generator = np.random.default_rng(profile.seed)
    plans = [mean]
    for number in range(1, count + 1):
        spread = 0.0 if number == 1 else 1.0
        drawn = {name: weight * 10 ** generator.uniform(-spread, spread) for name, weight in _WEIGHTS.items()}
        weights = {name: float(f"{weight:.3g}") for name, weight in drawn.items()}
        parameters = {"dose": mean.multiplier, "seed": number, **weights}
        plans.append(MethodPlan(f"optimized_{number}", mean.multiplier, "optimized", parameters))
    cells = [Cell(mean.name, layer, factor * mean.multiplier) for factor in _PARETO_FACTORS]
    cells += [Cell(plan.name, layer, plan.multiplier) for plan in plans[1:]]
    return FigureCells("optimisation and its Pareto front", _alone(plans, ("rollouts", "loss_neutral")), tuple(cells))


def example_layer(profile: Profile, layers: Sequence[int], sae_layers: Sequence[int]) -> int:
    """A layer where the mean difference is claimed to steer, and one with an SAE, so far as there are such.

    Raises:
        DataError: The profile's plan of the mean difference is for none of the layers.
    """
    mean = mean_plan(profile)
    own = [layer for layer in layers if mean.layers is None or layer in mean.layers]
    if not own:
        raise DataError(f"profile {profile.name!r}: {mean.name} is for none of these layers: {list(layers)}")
    claimed = [layer for layer in own if layer in mean.claimed_layers] or own
    found = [layer for layer in claimed if layer in sae_layers] or claimed
    return found[(len(found) - 1) // 2]


def _alone(plans: Sequence[MethodPlan], metrics: tuple[str, ...]) -> tuple[MethodPlan, ...]:
    """Plans that are measured by some metrics, without controls."""
    return tuple(replace(plan, metrics=metrics, claimed_layers=(), control="") for plan in plans)


def _with_controls(profile: Profile, plans: Sequence[MethodPlan], metrics: tuple[str, ...]) -> tuple[MethodPlan, ...]:
    """Plans that are measured by some metrics, with the controls that they name."""
    named = {plan.control for plan in plans if plan.control}
    chosen = [*(profile.plan(name) for name in sorted(named)), *plans]
    return tuple(replace(plan, metrics=metrics, claimed_layers=()) for plan in chosen)


def _with_referenced(profile: Profile, plans: Sequence[MethodPlan]) -> tuple[MethodPlan, ...]:
    """Plans, and those of a profile that they refer to, so that these are known though no cell is theirs."""
    known = {plan.name: plan for plan in plans}
    waiting = list(plans)
    while waiting:
        plan = waiting.pop()
        for name in (plan.control, plan.norm_of):
            if name and name not in known:
                known[name] = profile.plan(name)
                waiting.append(known[name])
    return tuple(known.values())


@dataclass(frozen=True, eq=False)
class DescribedSimilarity:
    """How alike a vector is to the features of an SAE, and what those at either end are about.

    Attributes:
        found: The similarity.
        descriptions: Feature -> description, of the features at either end.
    """

    found: FeatureSimilarity
    descriptions: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Reproduction:
    """Measures what the figures of a setting need.

    Attributes:
        setting: What is measured.
        model: The model to steer.
        journal: Where rows go; what it holds already is not measured again.
        saes: Where SAEs are read; None where there are none.
        run: Identifies the run in the rows.
        progress: Where to report.
        cache: Where captured activations are kept.
    """

    setting: Setting
    model: LanguageModel
    journal: Journal
    saes: SaeLibrary | None
    run: str
    progress: Reporter
    cache: ActivationCache

    def _earlier(self) -> Earlier:
        """What the journal holds by now: all share the unsteered run."""
        return Earlier(load_rows(self.journal.path))

    def measure(self, figures: FigureCells) -> Sweep:
        """Measure the cells of some figures; what the journal holds already is kept.

        Raises:
            SteeringError: The activations cannot be captured, or the journal cannot be written.
        """
        profile = self.setting.profile
        setting = replace(self.setting, profile=replace(profile, methods=_with_referenced(profile, figures.plans)))
        sweep = Sweep(
            setting,
            self.model,
            self.journal,
            figures.cells,
            run=self.run,
            saes=self.saes,
            progress=self.progress,
            cache=self.cache,
            earlier=self._earlier(),
        )
        self.progress.note(f"{figures.shows}: {len(figures.cells)} cells …")
        for cell in figures.cells:
            sweep.measure(cell)
        return sweep

    def measure_saes(self, layers: Sequence[int]) -> None:
        """Measure the quality of the SAEs of some layers."""
        if self.saes is not None:
            quality = SaeQuality(
                self.setting,
                self.model,
                self.saes,
                self.journal,
                run=self.run,
                progress=self.progress,
                earlier=self._earlier(),
            )
            for layer in layers:
                quality.measure(layer)

    def similarities(self, layers: Sequence[int]) -> list[DescribedSimilarity]:
        """How alike the mean difference is to the features of the SAEs of some layers (the paper's Fig. 7)."""
        if self.saes is None or not layers:
            return []
        concept = self.setting.concept
        activations = capture_pairs(
            self.model, concept.generation, layers, concept.name, progress=self.progress, cache=self.cache
        )
        return [self._similarity(self.saes, activations, layer) for layer in layers]

    def _similarity(self, saes: SaeLibrary, activations: ContrastActivations, layer: int) -> DescribedSimilarity:
        sae = saes.load(layer, self.model.device)
        found = similarity(sae, construct("mean_difference", activations, layer))
        known = saes.describe(sae)
        return DescribedSimilarity(found, {feature: known[feature] for feature in (*found.top, *found.bottom)})
