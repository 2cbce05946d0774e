"""What the libraries' processes are asked and what they answer, as files.

Each library runs in a process of its own, some of them in another environment, where this module is imported without
`steering`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_JOB = "job.json"


@dataclass(frozen=True)
class Pair:
    """A prompt with a continuation for each side."""

    prompt: str
    positive: str
    negative: str

    @property
    def texts(self) -> tuple[str, str]:
        """The two whole texts, positive first."""
        return f"{self.prompt} {self.positive}", f"{self.prompt} {self.negative}"


@dataclass(frozen=True)
class Job:
    """What every library is asked to do.

    Attributes:
        model_directory: The model, in a form that transformers 4 reads.
        model: The same model, as steering-bench calls it.
        pairs: To construct vectors from.
        layer_count: Vectors are compared at all of so many layers.
        prompt: What rollouts complete.
        steered_layers: Layers of the timed sweep.
        multipliers: Doses of the timed sweep.
        rollouts: Sampled completions of each configuration.
        new_tokens: Length of a completion.
        top_p: Of sampling; the temperature is 1.
        seed: Of sampling.
        threads: That torch computes with.
    """

    model_directory: str
    model: str
    pairs: tuple[Pair, ...]
    layer_count: int
    prompt: str
    steered_layers: tuple[int, ...]
    multipliers: tuple[float, ...]
    rollouts: int
    new_tokens: int
    top_p: float
    seed: int
    threads: int

    @property
    def configurations(self) -> list[tuple[int, float]]:
        """Layers and multipliers of the timed sweep."""
        return [(layer, multiplier) for layer in self.steered_layers for multiplier in self.multipliers]

    @property
    def texts(self) -> list[str]:
        """The pairs' texts, each positive one followed by its negative one."""
        return [text for pair in self.pairs for text in pair.texts]

    @property
    def every_layer(self) -> list[int]:
        """All layers of the model."""
        return list(range(self.layer_count))


@dataclass(frozen=True, eq=False)
class Findings:
    """What one library found.

    Attributes:
        tensors: "vectors" `[layer, d_model]`; "logits" `[vocab]` after the first text; "steered_losses"
            `[configuration]`, that text's mean loss, nats per token after the first, with the `probe` added at all
            positions. Ours has more.
        token_ids: Of each text.
        construction_seconds: For the vectors of the steered layers, reading the pairs included.
        rollout_seconds: For the rollouts of all configurations.
    """

    tensors: Mapping[str, torch.Tensor]
    token_ids: list[list[int]]
    construction_seconds: float
    rollout_seconds: float


@dataclass(frozen=True, eq=False)
class Report:
    """What one library found, and in which version."""

    library: str
    version: str
    findings: Findings


def probe(d_model: int) -> torch.Tensor:
    """A unit vector `[d_model]` that every library can make, whatever it constructs."""
    direction = torch.arange(1.0, d_model + 1).sin()
    return direction / direction.norm()


def write_job(directory: Path, job: Job) -> None:
    """Put a job where the libraries' processes look for it."""
    (directory / _JOB).write_text(json.dumps(dataclasses.asdict(job)), encoding="utf-8")


def read_job(directory: Path) -> Job:
    """Read what `write_job` wrote."""
    values = json.loads((directory / _JOB).read_text(encoding="utf-8"))
    values["pairs"] = [Pair(**pair) for pair in values["pairs"]]
    return Job(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def serve(library: str, measure: Callable[[Job], Findings]) -> None:
    """Be the process of one library: do the job in the directory that the command line names, and answer there."""
    directory = Path(sys.argv[1])
    job = read_job(directory)
    torch.set_num_threads(job.threads)
    write_report(directory, Report(library, version(library), measure(job)))


def write_report(directory: Path, report: Report) -> None:
    """Write tensors as safetensors, the rest as JSON beside it."""
    findings = report.findings
    save_file(
        {name: tensor.detach().float().contiguous() for name, tensor in findings.tensors.items()},
        str(directory / f"{report.library}.safetensors"),
    )
    values = {field.name: getattr(findings, field.name) for field in dataclasses.fields(findings)}
    values["tensors"] = None
    answer = {"version": report.version, "findings": values}
    (directory / f"{report.library}.json").write_text(json.dumps(answer), encoding="utf-8")


def read_report(directory: Path, library: str) -> Report:
    """Read what `write_report` wrote."""
    answer = json.loads((directory / f"{library}.json").read_text(encoding="utf-8"))
    tensors = load_file(str(directory / f"{library}.safetensors"))
    return Report(library, answer["version"], Findings(**answer["findings"] | {"tensors": tensors}))
