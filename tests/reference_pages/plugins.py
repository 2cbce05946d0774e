"""The registered methods and metrics as Markdown."""

from __future__ import annotations

import dataclasses
import re

import griffe

from steering.methods import methods, needs_losses, needs_sae
from steering.metrics import metrics
from steering.profile_files import load_profile
from steering.settings import Setting
from tests.reference_pages.markdown import Linker, code, joined, one_line, table
from tests.reference_pages.python_objects import find, parameters_of, sections_of, spelled, text_of
from tests.small_models import small_model

_BOUNDED = re.compile(r"Annotated\[(\w+), Field\(([^)]*)\)\]")
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def method_sections(link: Linker) -> str:
    """Every registered construction method, by name."""
    return joined("## Registered methods", *(_method(name, link) for name in methods))


def _method(name: str, link: Linker) -> str:
    plugin = methods[name]
    source = find(f"{plugin.__module__}.{plugin.__qualname__}")
    needs = [
        "It reads feature activations, and runs at layers that have a sparse autoencoder." if needs_sae(name) else "",
        "It follows the gradient of losses, and needs a model behind the activations." if needs_losses(name) else "",
    ]
    exceptions = [f"- {code(kept)}: {reason}" for kept, reason in getattr(plugin, "exceptions", {}).items()]
    return joined(
        f"### {name}",
        link(text_of(source)),
        f"`fit`: {one_line(link(text_of(source.all_members['fit'])))}",
        *needs,
        _parameters(source, link),
        "Properties of the conformance suite that it cannot keep:" if exceptions else "",
        "\n".join(exceptions),
    )


def _parameters(source: griffe.Class, link: Linker) -> str:
    section = sections_of(source).get(griffe.DocstringSectionKind.attributes)
    meanings = {item.name: item.description for item in section.value} if section else {}
    lines = [
        [
            code(each.name),
            code(_BOUNDED.sub(_bounded, spelled(each.annotation))),
            "required" if each.default is None else code(spelled(each.default)),
            link(meanings.get(each.name, "")),
        ]
        for each in parameters_of(source)
    ]
    return table(("parameter", "type", "default", "meaning"), lines) or "It has no parameters."


def _bounded(found: re.Match[str]) -> str:
    """A type with its bounds, as people write them: "int ≥ 0"."""
    bounds = [bound.split("=") for bound in found[2].split(", ")]
    return " ".join([found[1], *(f"{_SIGNS[name]} {limit}" for name, limit in bounds)])


def metric_sections(link: Linker) -> str:
    """Every registered metric, by name."""
    # Of a metric, its names alone are asked for: one document is enough, and any model.
    profile = dataclasses.replace(load_profile("embedded"), neutral_documents=2)
    setting, model = Setting.load(profile), small_model("llama")
    found = (_metric(name, metrics[name](setting, model).names, link) for name in metrics)
    return joined("## Registered metrics", *found)


def _metric(name: str, scores: tuple[str, ...], link: Linker) -> str:
    """A metric: what its function says, and what the class that it returns says of observing and scoring."""
    builder = find(f"{metrics[name].__module__}.{metrics[name].__qualname__}")
    source = find(f"{builder.module.path}.{builder.returns}")
    steps = [f"- `{step}`: {one_line(link(text_of(source.members[step])))}" for step in ("observe", "score")]
    return joined(
        f"### {name}",
        link(text_of(builder)),
        f"Scores: {', '.join(map(code, scores))}",
        link(text_of(source)),
        "\n".join(steps),
    )
