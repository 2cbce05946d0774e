"""What the comparison prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.peers.agreement import Agreement
from bench.peers.exchange import Job, Report


def agreement_table(compared: Iterable[Agreement]) -> str:
    """One line for each library that was compared."""
    lines = [["library", "compared with", "layers", "lowest cosine", "at layer", "ratio of norms"]]
    for agreement in compared:
        low, high = min(agreement.norm_ratios), max(agreement.norm_ratios)
        lines.append(
            [
                agreement.library,
                agreement.reference,
                str(len(agreement.cosines)),
                f"{agreement.lowest_cosine:.8f}",
                str(agreement.lowest_layer),
                f"{low:.6f} to {high:.6f}",
            ]
        )
    return aligned(lines)


def time_table(reports: Sequence[Report]) -> str:
    """Seconds of each library, and how often the first one's sweep fits into the others'."""
    lines = [["library", "version", "vectors, s", "rollouts, s", "total, s", "ratio"]]
    totals = [report.findings.construction_seconds + report.findings.rollout_seconds for report in reports]
    for report, total in zip(reports, totals, strict=True):
        seconds = (report.findings.construction_seconds, report.findings.rollout_seconds, total)
        lines.append(
            [report.library, report.version, *(f"{value:.1f}" for value in seconds), f"{total / totals[0]:.2f}"]
        )
    return aligned(lines)


def caption(job: Job) -> str:
    """What the times are of."""
    return (
        f"Vectors of {len(job.pairs)} pairs at layers {', '.join(map(str, job.steered_layers))}; then "
        f"{job.rollouts} rollouts of {job.new_tokens} tokens (top-p {job.top_p}) of one prompt at each of these layers "
        f"with {len(job.multipliers)} multipliers, by steering-bench in one call, by the others in one for each "
        f"configuration. float32, {job.threads} threads, one process after another; loading the model is not timed. "
        "repeng's vectors are pca_center, the others' mean differences. All positions are steered, generated ones too; "
        "each library draws its own random numbers, so that the texts are not the same."
    )


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Align the columns of a table whose first line holds the headings: the first to the left, the others right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = widths
    return "\n".join(
        "  ".join([line[0].ljust(first), *(cell.rjust(width) for cell, width in zip(line[1:], others, strict=True))])
        for line in lines
    )
