"""Which page holds what. Everything else about an object is read from its docstring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.reference_pages.markdown import Linker
from tests.reference_pages.plugins import method_sections, metric_sections
from tests.reference_pages.python_objects import public_names


@dataclass(frozen=True)
class Page:
    """A page about Python.

    Attributes:
        file: Its name.
        title: Its heading.
        introduction: What to know first.
        paths: Classes and functions by the path to import them by; `module.*` stands for all that a module defines.
        more: Writes what comes after them, for a page that is not about Python alone.
    """

    file: str
    title: str
    introduction: str
    paths: tuple[str, ...]
    more: Callable[[Linker], str] | None = None

    @property
    def names(self) -> list[str]:
        """The paths, with those of whole modules in their place."""
        expanded = [public_names(path.removesuffix(".*")) if path.endswith(".*") else [path] for path in self.paths]
        return [path for paths in expanded for path in paths]


def _of(module: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{module}.{name}" for name in names)


VECTORS = Page(
    "vectors.md",
    "Steering vectors",
    "Constructing a vector, keeping it, applying it, and writing it for other programs. "
    "[Vectors to keep](../vectors.md) shows the same on the command line.",
    (
        *_of("steering", "construct", "SteeringVector", "Intervention", "load_vector"),
        "steering.feature_weights.FeatureWeight",
        "steering.vectors.Origin",
        *_of("steering.vector_building", "Recipe", "build_vectors"),
        *_of("steering.vector_export", "to_gguf", "to_lm_eval"),
        "steering.vector_import.read_direction",
    ),
)
MODELS = Page(
    "models.md",
    "Models and activations",
    "A model that can be read and steered, how it chooses tokens, and what construction methods see of it. Layer k is "
    "the output of block k, counted from 0.",
    (
        *_of("steering", "LanguageModel", "tokenize_prompt", "complete"),
        "steering.models.completions.Completed",
        *_of("steering", "capture_pairs", "ContrastActivations", "FeatureReader"),
        "steering.activations.LossFunction",
        "steering.activation_cache.ActivationCache",
        *_of("steering.models.outputs", "CapturedBatch", "StoredOutput"),
        "steering.models.batching.TokenBatch",
        "steering.models.packing.PackedTexts",
        "steering.models.loading.load_model",
        *_of("steering", "Greedy", "NucleusSampler"),
        *_of("steering.models.sampling", "Sampler", "uniform_streams", "sample_nucleus"),
    ),
)
AUTOENCODERS = Page(
    "autoencoders.md",
    "Sparse autoencoders",
    "Where they are, and what they do to a residual stream. [Steering with features](../features.md) says what for.",
    (
        *_of("steering", "open_library", "SaeLibrary", "SparseAutoencoder"),
        *_of("steering.sae.features", "Descriptions", "load_descriptions"),
        "steering.sae.contrast_features.ContrastFeatures",
    ),
)
DATA = Page(
    "data.md",
    "Concepts, documents and profiles",
    "What to steer towards, the text that shows damage, and what a run does. The keys of a profile's TOML file are the "
    "attributes of `Profile`, and those of each of its methods the attributes of `MethodPlan`: "
    "[Profiles](../profiles.md) explains them. [Your own concept](../concepts.md) describes a concept's files.",
    (
        *_of("steering", "load_concept", "Concept", "ContrastPair", "Keywords", "load_neutral", "NeutralSet"),
        *_of("steering", "load_profile", "Profile"),
        *_of("steering.profiles", "MethodPlan", "SaeBounds"),
        "steering.Setting",
    ),
)
MEASURING = Page(
    "measuring.md",
    "Measuring, and what was measured",
    "From cells to rows. [Results files](../results.md) describes the file.",
    (
        *_of("steering", "Sweep", "Cell", "Outcome"),
        "steering.sweeps.earlier.Earlier",
        *_of("steering", "Journal", "Row", "load_rows"),
        *_of("steering.progress", "Reporter", "Advance", "Silent", "for_terminal", "for_log"),
    ),
)
METHODS = Page(
    "methods.md",
    "Construction methods",
    "First what a method is and how one is registered, then every registered method with its parameters, which a "
    "profile gives as `parameters` of its plan, and Python as the last argument of `construct`. "
    "`steering.methods.methods` is the `Registry` of them. "
    "[Add a construction method](../add-a-method.md) shows how to write one.",
    (*_of("steering.methods", "Method", "SumOfFeatures", "register", "create_method"), "steering.registry.Registry"),
    method_sections,
)
METRICS = Page(
    "metrics.md",
    "Metrics",
    "First what a metric is and how one is registered, then every registered metric with the names of its scores. "
    "`steering.metrics.metrics` is the registry of them. [What the metrics mean](../metrics.md) says what to conclude "
    "from them.",
    _of("steering.metrics", "Metric", "Observation", "Score", "register"),
    metric_sections,
)
STATISTICS = Page(
    "statistics.md",
    "Intervals and tests",
    "Thin over scipy and statsmodels. [Statistics and the gate](../statistics.md) says which is used where, and why.",
    ("steering.stats.*", "steering.power.*"),
)
GATE = Page(
    "gate.md",
    "Baselines and the gate",
    "Holding a run against an earlier one. [Statistics and the gate](../statistics.md) has the rules.",
    (
        *_of("steering.verdicts.gate", "compare", "GateReport", "CellVerdict", "Comparison"),
        "steering.verdicts.promotion.promote",
        *_of("steering.verdicts.baselines", "read_baseline", "write_baseline"),
        *_of("steering.verdicts.baselines", "Baseline", "BaselineCell", "BaselineScore", "GatedMetric"),
    ),
)
REPORTING = Page(
    "reporting.md",
    "Tables, figures and reports",
    "What people and other programs read of results.",
    (
        "steering.tables.export.*",
        *_of("steering.report.figures", "figures_of", "write", "Figure"),
        "steering.report.paper.PaperValues",
        "steering.report.html.render",
    ),
)
ERRORS = Page(
    "errors.md",
    "Errors",
    "All that a user can cause, as one tree under `SteeringError`. Each message says what was wrong, where, and what "
    "would be right.",
    (
        "steering.SteeringError",
        *_of("steering.errors", "UnknownNameError", "DataError", "ModelError", "FetchError", "EndpointError"),
        *_of("steering.errors", "SaeError", "VectorError", "NonFiniteError", "ResultsError", "SchemaError"),
    ),
)
PAGES = (VECTORS, MODELS, AUTOENCODERS, DATA, MEASURING, METHODS, METRICS, STATISTICS, GATE, REPORTING, ERRORS)
