"""Options of the benchmark, registered here so that every invocation of pytest in this checkout knows them."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options of `pytest bench`."""
    group = parser.getgroup("steering-bench", "steering-bench: what `pytest bench` runs")
    option = group.addoption
    option("--profile", default="embedded", help="built-in profile or TOML file (default: embedded)")
    option("--model", help="'embedded', a directory, a GGUF file or a hub id, instead of the profile's")
    option("--concept", help="built-in concept or a directory with concept.toml, instead of the profile's")
    option("--toward", choices=["positive", "negative"], help="side of the concept to steer towards")
    option("--neutral", help="'embedded', 'openwebtext' or a JSON Lines file with a 'text' in each object")
    option("--saes", help="'embedded', a directory of SAEs in SAELens's format or a SAELens release")
    option(
        "--descriptions",
        metavar="FILE",
        help="JSON Lines file that describes the features; Neuronpedia's format works, too",
    )
    option(
        "--layers",
        metavar="N,N",
        help="exactly these layers, for instance 8,20 or 8-12; -k layer1 would also run layer10",
    )
    option("--rollouts", type=int, metavar="N", help="sampled completions of each configuration")
    option(
        "--multiplier",
        type=float,
        metavar="X",
        help="dose of every method, instead of the profile's; not with --budget",
    )
    option(
        "--vector",
        action="append",
        metavar="FILE",
        help="also measure this vector, named after its file, at its layer, with a random direction; repeatable",
    )
    option(
        "--equal-norm", action="store_true", help="scale each vector to the norm of the mean difference at its layer"
    )
    option(
        "--budget",
        type=float,
        metavar="X",
        help="give each cell the largest dose whose neutral loss change stays within X nats per token",
    )
    option("--steered-positions", choices=["prompt", "all"], help="where to steer; all: also what follows the prompt")
    option(
        "--split",
        choices=["test", "development"],
        help="development: other prompts, documents and random numbers, to choose layers by",
    )
    option("--seed", type=int, metavar="N", help="seed of sampling")
    option("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"], help="dtype of the weights")
    option("--device", default="auto", help="for instance cpu, cuda or mps (default: the best available)")
    option("--fresh", action="store_true", help="capture activations anew instead of reading them from the cache")
    option("--resume", action="store_true", help="measure nothing that the directory of --results holds already")
    option("--shard", metavar="I/N", help="run one of N parts of the selected tests, for instance 2/4")
    option(
        "--gate",
        metavar="FILE",
        help="compare with a file of `steering baseline promote`; exit status 1: a cell got worse, 6: not comparable",
    )
    option("--results", default="results", metavar="DIR", help="append to results.jsonl here (default: results)")
