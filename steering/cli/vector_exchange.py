"""`steering vector import` and `export`: directions from other programs, and for them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steering.cli.options import require_text
from steering.errors import DataError, VectorError
from steering.files import write_file
from steering.positions import Positions
from steering.tables.wording import visible

if TYPE_CHECKING:
    from steering.vectors import Intervention

Multiplier = Annotated[float | None, typer.Option(help="Dose; by default the one that the file recommends.")]


class ExportFormat(StrEnum):
    """Formats of `steering vector export`."""

    gguf = "gguf"
    lm_eval = "lm-eval"


@dataclass(frozen=True)
class _Export:
    """What another program reads, and how it is told to."""

    program: str
    suffix: str
    usage: str


_EXPORTS = {
    ExportFormat.gguf: _Export("llama.cpp", ".gguf", "llama-cli -m MODEL.gguf --control-vector {file}"),
    ExportFormat.lm_eval: _Export(
        "lm_eval", ".pt", "lm_eval --model steered --model_args pretrained=MODEL,steer_path={file}"
    ),
}


def import_vector(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .safetensors file, or a control vector (.gguf).")],
    layer: Annotated[int, typer.Option(min=0, help="Block whose output it is added to, from 0.")],
    output: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    tensor: Annotated[str, typer.Option(help="Name of the tensor, if a .safetensors file holds several.")] = "",
    multiplier: Annotated[
        float,
        typer.Option(help="Dose to recommend, written into the file: 1 is the vector as the other program has it."),
    ] = 1.0,
    name: Annotated[str, typer.Option(help="How it was constructed, for tables.")] = "imported",
    concept: Annotated[str, typer.Option(help="Name of the concept that it is about.")] = "",
    model: Annotated[str, typer.Option(help="Name of the model that it is for, as results call it.")] = "",
) -> None:
    """Import a direction that another program wrote, so that it can be measured, shown, tried and exported."""
    from steering.sweeps.stored_vectors import require_plan_name
    from steering.vector_import import read_direction, read_model_type
    from steering.vectors import Origin, SteeringVector

    if file.exists() and output.exists() and output.samefile(file):
        raise DataError(f"--output {output}: that is the file to import; name another")
    require_output(output, ".safetensors")
    require_plan_name(output, "--output")
    direction = read_direction(file, layer, tensor)
    origin = Origin(model_type=read_model_type(file))
    vector = SteeringVector(direction, layer, name, concept, model, recommended_multiplier=multiplier, origin=origin)
    vector.save(output)
    typer.echo(f"{output}: {visible(name)} at layer {layer}, norm {vector.norm:.3g}, × {multiplier:g}")
    if vector.norm == 0:
        typer.echo(f"note: {output}: its norm is 0, so that it changes nothing", err=True)
    named = shlex.quote(str(output))
    typer.echo(f"Measure it and its control, in a checkout: pytest bench --vector {named} -k {output.stem}")


def export(
    vectors: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Vectors' safetensors files.")],
    form: Annotated[
        ExportFormat, typer.Option("--format", help="gguf (llama.cpp, repeng) or lm-eval (lm-evaluation-harness).")
    ],
    output: Annotated[Path, typer.Option(help="The file to write: .gguf, or .pt for lm-eval.")],
    multiplier: Multiplier = None,
    model_type: Annotated[str, typer.Option(help="model_type of the model's config.json, for files without it.")] = "",
) -> None:
    """Write vectors times their multipliers for another program; scale 1 is then the dose."""
    from steering.vector_export import to_gguf, to_lm_eval

    target = _EXPORTS[form]
    content = {ExportFormat.gguf: to_gguf, ExportFormat.lm_eval: to_lm_eval}[form]
    require_output(output, target.suffix)
    require_text("--model-type", model_type)
    interventions = [intervention_of(path, multiplier) for path in vectors]
    write_file(output, content(interventions, model_type))
    for intervention in interventions:
        vector = intervention.vector
        typer.echo(f"{output}: {visible(vector.method)} at layer {vector.layer}, × {intervention.multiplier:g}")
    typer.echo(f"Use it with: {target.usage.format(file=shlex.quote(str(output)))}")
    typer.echo(
        f"{target.program} adds it at all positions, generated ones too. So does `pytest bench --steered-positions "
        "all`; what was measured without that is not what it does there."
    )


def intervention_of(path: Path, multiplier: float | None, positions: Positions = "prompt") -> Intervention:
    """A file's vector with a dose: the given one, or the file's own."""
    from steering.vectors import Intervention, load_vector

    vector = load_vector(path)
    dose = vector.recommended_multiplier if multiplier is None else multiplier
    if dose is None:
        raise VectorError(f"{path}: it recommends no multiplier; give --multiplier")
    return Intervention(vector, dose, positions)


def require_output(output: Path, suffix: str) -> None:
    """Refuse a name that its reader would refuse, and a place that cannot be written, before there is work to lose.

    Of files that hold something, only vectors are replaced: a model's weights have the same endings.
    """
    from steering.vector_import import is_vector_file

    if output.suffix != suffix:
        raise DataError(f"--output {output}: a file whose name ends in {suffix} is required")
    if output.is_dir() or not output.parent.is_dir():
        raise DataError(f"--output {output}: {'a directory' if output.is_dir() else 'its directory does not exist'}")
    if output.is_file() and output.stat().st_size and not is_vector_file(output):
        raise DataError(f"--output {output}: a file is there that is not known to be a vector; name another")
