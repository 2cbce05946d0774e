"""The canonical record: one row for each metric value of a cell, with everything that the value depends on."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from steering.concepts import TEST
from steering.feature_weights import FeatureWeight

SCHEMA_VERSION = 1
UNSTEERED = "unsteered"
SAE = "sae"

#: The metrics that say whether a vector steers, the share of successful rollouts; what that costs neutral text; and how
#: much less, or more, the model expects the two sides of the test pairs.
SUCCESS = "rollout_probability"
NEUTRAL_CHANGE = "loss_change_neutral"
POSITIVE_CHANGE, NEGATIVE_CHANGE = "loss_change_positive", "loss_change_negative"

#: Parameter of cells whose dose was looked for: what neutral text was to bear, nats per token.
NEUTRAL_BUDGET = "neutral_budget"
#: Parameters of cells whose vector is scaled to the norm of another plan's: that plan's method and parameters, and the
#: multiplier that was asked for, from which the row's own follows.
NORM_OF, SCALED_MULTIPLIER = "norm_of", "scaled_multiplier"
#: The change of the neutral loss on development documents at the dose that was chosen by it.
DEVELOPMENT_CHANGE = "development_loss_change"
#: The construction method, which a plan may call something else.
CONSTRUCTION = "construction"
#: Parameters that are no settings but what a measurement came to; another machine rounds them otherwise.
OUTCOMES = frozenset({DEVELOPMENT_CHANGE})
#: Parameters that say which SAE was read: the same plan has others at other layers.
OF_SAE = frozenset({"sae", "sae_hash", "hook_name", "descriptions_hash"})
_NUMERIC = OUTCOMES | {NEUTRAL_BUDGET, SCALED_MULTIPLIER}
#: Of numbers in results: squares and sums of numbers up to this are finite.
LARGEST = 1e100
_TOO_MANY = 1 << 63
_MOST_ITEMS = 10_000_000

Status = Literal["ok", "skipped", "failed"]


@dataclass(frozen=True)
class Row:
    """One metric value of one cell, with everything that decides whether two of them can be compared.

    Attributes:
        run: Identifies the run that wrote the row.
        model: Name of the model.
        model_hash: SHA-256 of its weights as loaded.
        dtype: Of the weights, for instance "bfloat16".
        device: "cpu", "cuda" or "mps".
        concept: Name of the concept.
        toward: Side of the concept that is steered towards.
        neutral: Name of the neutral set.
        data_hash: Of concept and neutral documents.
        method: The profile's name of the method, by default the construction method's; "unsteered"; or "sae".
        parameters: Of the method.
        layer: Block whose output is steered, from 0; None for the unsteered run.
        multiplier: Of the vector; 0 for the unsteered run.
        vector_hash: Of the vector; empty for the unsteered run.
        vector_norm: Euclidean norm of the vector before the multiplier.
        seed: Of sampling.
        measurement: Settings that decide what the value means.
        metric: Name of the metric.
        value: Mean of the items; None unless `status` is "ok".
        n: Number of items.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p_value: Of the one-sided paired test against the unsteered run, where the metric has one.
        p_control: Of the one-sided paired test against the plan's control, where it has one.
        control: The profile's name of that control.
        is_control: Whether the method is there for comparison only.
        items: Per-item values.
        texts: Completions behind the items.
        features: The heaviest SAE features of the vector, where it is a sum of features.
        status: Whether the value was measured.
        reason: Why not, where it was not.
        model_settings_hash: Of the model's configuration, tokenizer and end-of-text tokens; empty in older rows.
        versions: Package -> version, and that of Python, of the environment that measured; empty in older rows.
        schema_version: Of this record.
    """

    run: str
    model: str
    model_hash: str
    dtype: str
    device: str
    concept: str
    toward: str
    neutral: str
    data_hash: str
    method: str
    parameters: dict[str, Any]
    layer: int | None
    multiplier: float
    vector_hash: str
    vector_norm: float | None
    seed: int
    measurement: dict[str, Any]
    metric: str
    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_control: float | None = None
    control: str = ""
    is_control: bool = False
    items: tuple[float, ...] = ()
    texts: tuple[str, ...] = field(default=(), repr=False)
    features: tuple[FeatureWeight, ...] = field(default=(), repr=False)
    status: Status = "ok"
    reason: str = ""
    model_settings_hash: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    # Rows that are read back are checked: no unknown key, no string for a number, no NaN.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def to_json(self) -> str:
        """One line of strict JSON: NaN is refused."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False, ensure_ascii=False)

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two rows measurements of the same thing."""
        return (*self.configuration, self.metric)

    @property
    def configuration(self) -> tuple[Any, ...]:
        """What makes two rows measurements of the same vector at the same dose."""
        return (*self.cell, self.multiplier, self.vector_hash)

    @property
    def cell(self) -> tuple[Any, ...]:
        """What was asked for, whatever vector and dose came of it."""
        parameters = {name: value for name, value in self.parameters.items() if name not in OUTCOMES}
        details = json.dumps([parameters, self.measurement], sort_keys=True)
        return (*self._identity, self.set_multiplier, details)

    @property
    def set_multiplier(self) -> float | None:
        """The multiplier, where it was asked for; None where it follows from a budget or norm in the parameters."""
        follows = NEUTRAL_BUDGET in self.parameters or SCALED_MULTIPLIER in self.parameters
        return None if follows else self.multiplier

    @property
    def asked_multiplier(self) -> float:
        """The multiplier that was asked for, of which a norm may have made another."""
        return float(self.parameters.get(SCALED_MULTIPLIER, self.multiplier))

    @property
    def added_norm(self) -> float | None:
        """Length of what is added: the vector's times the multiplier; None where there is no vector."""
        return None if self.vector_norm is None else abs(self.multiplier) * self.vector_norm

    @property
    def split(self) -> str:
        """What it was measured on: "test", where it does not say."""
        return str(self.measurement.get("split", TEST))

    @property
    def is_steered(self) -> bool:
        """Whether something was added, or should have been."""
        return self.method not in (UNSTEERED, SAE)

    @property
    def lacks_vector(self) -> bool:
        """Whether there was no vector to measure, though there should have been one."""
        return self.status != "ok" and self.is_steered and not self.vector_hash

    @property
    def place(self) -> tuple[Any, ...]:
        """What two measurements share even where only one of them had a vector."""
        details = json.dumps([self.parameters.get(NEUTRAL_BUDGET), self.measurement], sort_keys=True)
        return (*self._identity, details, self.metric)

    def contradictions(self) -> Iterator[str]:
        """Say what is wrong with a row that no run would have written, though each field is of its type."""
        yield from self._contradictions_of_settings()
        for name, probability in (("p_value", self.p_value), ("p_control", self.p_control)):
            if probability is not None and not 0 <= probability <= 1:
                yield f"{name}: {probability:g} is not a probability"
        numbers = {"value": self.value, "low": self.low, "high": self.high, "multiplier": self.multiplier}
        numbers |= {"vector_norm": self.vector_norm, "items": max(map(abs, self.items), default=0)}
        for name, number in numbers.items():
            if abs(number or 0) > LARGEST:
                yield f"{name}: larger than {LARGEST:g}"
        for entry in self.features:
            if not (0 <= entry.feature < _TOO_MANY and abs(entry.weight) <= LARGEST):
                yield f"features: {entry.feature} with the weight {entry.weight:g} is no feature of an SAE"
        yield from self._contradictions_of_value()

    def _contradictions_of_value(self) -> Iterator[str]:
        if self.items and len(self.items) != self.n:
            yield f"n: {self.n}, but there are {len(self.items)} items"
        if self.status != "ok":
            if (self.value, self.low, self.high) != (None, None, None):
                yield f"value, low, high: given, though the status is {self.status!r}"
        elif self.value is None or self.low is None or self.high is None:
            yield "value, low, high: each is needed where the status is 'ok'"
        elif not self.low <= self.value <= self.high:
            yield f"value: {self.value:g} is not between low, {self.low:g}, and high, {self.high:g}"
        elif self.items and not math.isclose(self.value, mean := fmean(self.items), rel_tol=1e-6, abs_tol=1e-9):
            yield f"value: {self.value:g}, but the mean of the items is {mean:g}"
        if self.metric == SUCCESS and set(self.items) - {0, 1}:
            yield "items: each is 0 or 1 where they are rollouts"

    def _contradictions_of_settings(self) -> Iterator[str]:
        try:
            json.dumps([self.parameters, self.measurement], allow_nan=False)
        except ValueError:
            yield "parameters or measurement hold NaN or infinity"
        for name, number in (("layer", self.layer), ("seed", self.seed), ("n", self.n)):
            if number is not None and not 0 <= number < _TOO_MANY:
                yield f"{name}: {number} is not a number from 0 to {_TOO_MANY - 1}"
        for name in _NUMERIC & self.parameters.keys():
            found = self.parameters[name]
            if type(found) not in (int, float) or abs(found) > LARGEST:
                yield f"parameters.{name}: not a number of at most {LARGEST:g}"
        if type(rollouts := self.measurement.get("rollouts", 0)) is not int:
            yield f"measurement.rollouts: {rollouts!r} is not a whole number"
        if self.n > _MOST_ITEMS:
            yield f"n: {self.n}, and at most {_MOST_ITEMS} items are read"

    @property
    def _identity(self) -> tuple[Any, ...]:
        # The names, too: tables tell studies apart by them.
        model = (self.model, self.model_hash, self.model_settings_hash, self.dtype, self.device)
        return (*model, self.neutral, self.data_hash, self.method, self.layer, self.seed)


@dataclass(frozen=True, eq=False)
class Configuration:
    """All that was measured of one vector at one dose, or of the unsteered model.

    Attributes:
        rows: Metric -> row; at least one.
    """

    rows: Mapping[str, Row]

    @property
    def row(self) -> Row:
        """One of the rows, for what they share."""
        return next(iter(self.rows.values()))

    def get(self, metric: str) -> Row | None:
        """The row of a metric, if it was measured or tried."""
        return self.rows.get(metric)

    def measured(self, metric: str) -> Row | None:
        """The row of a metric that has a value."""
        row = self.rows.get(metric)
        return None if row is None or row.value is None else row


def without(parameters: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Parameters but some, also of the plan to whose vector's norm the vector is scaled."""
    found = {key: value for key, value in parameters.items() if key not in names}
    if isinstance(scaled_to := found.get(NORM_OF), dict):
        found[NORM_OF] = without(scaled_to, names)
    return found


def cell_id(method: str, layer: int | None) -> str:
    """How a cell is called: as the benchmark's test, whose layer comes last, so that `-k layer8` selects by it."""
    return method if layer is None else f"{method}-layer{layer}"


def new_run_name() -> str:
    """A name for a run that begins now, which no other run has: the time (UTC) and the process."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}"  # one process may run twice within a second
