"""What is done to the residual stream during a forward pass: an addition at some positions, or a replacement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from steering.vectors import Intervention

Change = Callable[[torch.Tensor], torch.Tensor]
#: A layer, and what becomes of its output `[row, pos, d_model]`.
Edit = tuple[int, Change]


def additions(
    interventions: Sequence[Intervention | None], steered: torch.Tensor, d_model: int, dtype: torch.dtype
) -> list[Edit]:
    """Add each row's vector times multiplier at its steered positions.

    Rows without an intervention, and positions that are not steered, have zero added: they stay as they are, to the
    last bit.

    Args:
        interventions: One for each row.
        steered: `[row, pos]`, true where to add.
        d_model: Width of the residual stream.
        dtype: Of the residual stream.

    Returns:
        One edit for each layer in use, lowest first.
    """
    totals: dict[int, torch.Tensor] = {}
    for row, intervention in enumerate(interventions):
        if intervention is not None:
            layer = intervention.vector.layer
            if layer not in totals:
                totals[layer] = torch.zeros(len(interventions), 1, d_model, dtype=dtype, device=steered.device)
            totals[layer][row, 0] = intervention.addition.to(steered.device, dtype)
    positions = steered.unsqueeze(2)
    return [(layer, _adding(totals[layer], positions)) for layer in sorted(totals)]


def _adding(total: torch.Tensor, positions: torch.Tensor) -> Change:
    return lambda residual: residual + total * positions


def but_first(change: Change) -> Change:
    """Apply a change to all positions but the first, an attention sink that nothing trained on activations has seen."""
    return lambda residual: torch.cat([residual[:, :1], change(residual[:, 1:])], dim=1)
