"""How the modules may depend on each other, and how long they may be."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "steering").rglob("*.py"))
BENCH = sorted((ROOT / "bench").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# A module imports from its own layer and from those above it in this list. A plug-in belongs to its package.
LAYERS = [
    {"errors"},
    {"files", "families", "hooks", "registry", "progress", "phrases"},
    {"chat_endpoints", "story_replies"},
    {"concepts", "neutral", "corpus", "vectors", "results", "stats", "tokens", "pretrained"},
    {"batching", "sampling", "decoding", "attention", "machine"},
    {"embedded", "loading", "profiles", "profile_files", "merging", "checks", "edits", "sae", "vector_export"},
    {"chat", "concept_briefs", "concept_pairs", "concept_assembly", "concept_files"},
    {"wording", "configurations", "latex", "row_filters", "step_summary"},
    {"concept_writing", "concept_checks", "pair_directions"},
    {"tables", "comparisons", "damage", "separation", "pivots", "trackers"},
    {"export"},
    {"model"},
    {"continuation_losses"},
    {"features", "feature_activity", "activation_store"},
    {"sae_library", "sae_description", "sae_training", "contrast_features", "activation_cache"},
    {"activations"},
    {"methods", "metrics"},
    {"vector_building"},
    {"cells", "doses", "plans"},
    {"construction", "records", "earlier", "evaluation"},
    {"sae_quality", "sweep"},
    {"reproduction"},
    {"claims", "baselines", "promotion", "gate", "gate_tables"},
    {"report"},
    {"concept_prediction"},
    {
        "cli",
        "cli_results",
        "cli_export",
        "cli_report",
        "cli_reproduce",
        "cli_gate",
        "cli_sae",
        "cli_features",
        "cli_vectors",
        "cli_concepts",
        "__init__",
        "__main__",
    },
]
LAYER = {module: number for number, modules in enumerate(LAYERS) for module in modules}

CONFINED = {"nnsight": "steering/model.py", "sae_lens": "steering/sae.py"}
# The way to measure that the benchmark of speed compares with.
STRAIGHTFORWARD = "bench/reference.py"
MAX_LINES = 300


def name(path):
    return path.relative_to(ROOT).as_posix()


def module_of(path):
    """The module, or the package of plug-ins, that a file of the package belongs to."""
    return path.relative_to(ROOT / "steering").parts[0].removesuffix(".py")


def imported(nodes, package):
    """Dotted names that import statements among some nodes load; `from a import b` may load a module a.b."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def imports_of(path):
    package = ".".join(path.parent.relative_to(ROOT).parts)
    return imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))), package)


def modules_among(dotted_names):
    """The package's own modules among imported names; a name of `steering` itself comes from its `__init__`."""
    own = [dotted.split(".") for dotted in dotted_names if dotted.split(".")[0] == "steering"]
    return {parts[1] if len(parts) > 1 and parts[1] in LAYER else "__init__" for parts in own}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import steering.model as m, json", {"steering.model", "json"}),
        ("from steering import stats, Row", {"steering.stats", "steering.Row"}),
        ("def f():\n    from steering.loading import load", {"steering.loading.load"}),
        ("from . import register", {"steering.methods.register"}),
        ("from ..model import LanguageModel", {"steering.model.LanguageModel"}),
        ("if TYPE_CHECKING:\n    import nnsight", {"nnsight"}),
        ("'import nnsight'", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(source, found):
    assert imported(ast.walk(ast.parse(source)), "steering.methods") == found


def test_names_are_traced_to_the_modules_they_come_from():
    names = {"steering.stats", "steering.Row", "steering.methods.register", "json.loads", "steering_other.model"}
    assert modules_among(names) == {"stats", "__init__", "methods"}


def test_every_module_has_one_layer():
    assert sum(len(modules) for modules in LAYERS) == len(LAYER)
    assert {module_of(path) for path in PACKAGE} == set(LAYER)


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_modules_import_from_their_own_layer_and_those_before(path):
    module = module_of(path)
    allowed = {other for other in LAYER if LAYER[other] <= LAYER[module]}
    assert modules_among(imports_of(path)) - allowed == set()


@pytest.mark.parametrize("path", [*PACKAGE, *BENCH], ids=name)
def test_confined_libraries_are_imported_in_one_module_only(path):
    roots = {dotted.split(".")[0] for dotted in imports_of(path)}
    homes = {library: (home, STRAIGHTFORWARD) for library, home in CONFINED.items()}
    assert [library for library in homes if library in roots and name(path) not in homes[library]] == []


@pytest.mark.parametrize("library", list(CONFINED))
def test_confined_libraries_are_imported_where_they_belong(library):
    assert any(dotted.startswith(f"{library}.") for dotted in imports_of(ROOT / CONFINED[library]))


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_the_package_knows_neither_pytest_nor_its_own_benchmark_and_tests(path):
    roots = {dotted.split(".")[0] for dotted in imports_of(path)}
    assert roots & {"pytest", "_pytest", "pytest_benchmark", "bench", "tests", "conftest"} == set()


@pytest.mark.parametrize("path", [*PACKAGE, *BENCH, *TESTS], ids=name)
def test_modules_are_at_most_300_lines_long(path):
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= MAX_LINES
