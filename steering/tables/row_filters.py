"""Which rows of a results file are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steering.errors import require_known
from steering.results import UNSTEERED, Row

ALL = "all"
LAST = "last"


@dataclass(frozen=True)
class RowFilter:
    """What to keep; an empty tuple keeps everything.

    Attributes:
        methods: Names of methods.
        layers: Blocks. The unsteered run, with which every layer is compared, is kept.
        metrics: Names of metrics.
        run: Name of a run, "last" or "all". Runs are named by the time at which they began, and the last is the last
            in the order of names. What a later run measured again belongs to the later run alone.
    """

    methods: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    metrics: tuple[str, ...] = ()
    run: str = ALL

    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """The wanted rows, in their order.

        Raises:
            UnknownNameError: A method, layer, metric or run that no row has.
        """
        require_known("method", self.methods, (row.method for row in rows))
        require_known("metric", self.metrics, (row.metric for row in rows))
        require_known("layer", self.layers, (row.layer for row in rows if row.layer is not None))
        runs = {row.run for row in rows}
        if self.run not in (ALL, LAST):
            require_known("run", [self.run], runs)
        run = max(runs, default=ALL) if self.run == LAST else self.run
        return [row for row in rows if self._wants(row) and run in (ALL, row.run)]

    def _wants(self, row: Row) -> bool:
        layer = not self.layers or row.layer in self.layers or row.method == UNSTEERED
        return layer and row.method in (self.methods or (row.method,)) and row.metric in (self.metrics or (row.metric,))
