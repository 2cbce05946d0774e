"""What is done to the residual stream during a forward pass: an addition at some positions, or a replacement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from steering.vectors import Intervention

Change = Callable[[torch.Tensor], torch.Tensor]
#: A layer, and what becomes of its output `[row, pos, d_model]`.
Edit = tuple[int, Change]


def additions(
    interventions: Sequence[Intervention | None], d_model: int, dtype: torch.dtype, device: torch.device
) -> dict[int, torch.Tensor]:
    """Each row's vector times multiplier.

    Args:
        interventions: One for each row.
        d_model: Width of the residual stream.
        dtype: Of the residual stream.
        device: Of the residual stream.

    Returns:
        Layer in use, lowest first -> what is added to its output, `[row, d_model]`; zero for rows that it is not for.
    """
    layers = sorted({intervention.vector.layer for intervention in interventions if intervention is not None})
    totals = {layer: torch.zeros(len(interventions), d_model, dtype=dtype, device=device) for layer in layers}
    for row, intervention in enumerate(interventions):
        if intervention is not None:
            totals[intervention.vector.layer][row] = intervention.addition.to(device, dtype)
    return totals


def adding(totals: Mapping[int, torch.Tensor], steered: torch.Tensor) -> list[Edit]:
    """Add to each row what is its own, at its steered positions.

    Where nothing is to be added, zero is: rows and positions that are not steered stay as they are, to the last bit.

    Args:
        totals: Layer -> `[row, d_model]`, see `additions`.
        steered: `[row, pos]`, true where to add.
    """
    positions = steered.unsqueeze(2)
    return [(layer, _adding(total.unsqueeze(1), positions)) for layer, total in totals.items()]


def _adding(total: torch.Tensor, positions: torch.Tensor) -> Change:
    return lambda residual: residual + total * positions


def at_positions(changed: torch.Tensor, change: Change) -> Change:
    """Apply a change to some positions alone.

    Args:
        changed: `[pos]`, true at these positions.
        change: What becomes of them; it is not asked where there are none.
    """

    def apply(residual: torch.Tensor) -> torch.Tensor:
        if not bool(changed.any()):
            return residual
        result = residual.clone()
        result[:, changed] = change(residual[:, changed])
        return result

    return apply
