"""How the modules may depend on each other, and how long they may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import steering
from steering import activation_cache

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "steering").rglob("*.py"))
BENCH = sorted((ROOT / "bench").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# A module imports from its own layer and from those above it in this list. A module in a package counts as the package.
LAYERS = [
    {"errors"},
    {
        "feature_weights",
        "files",
        "gguf_header",
        "grouping",
        "hashing",
        "keywords",
        "paths",
        "phrases",
        "positions",
        "progress",
        "registry",
    },
    {"concepts", "journal", "neutral", "power", "results", "stats", "vectors"},
    {"concept_files"},
    {"profiles", "profile_files", "settings", "merging"},
    {"models"},
    {"vector_export", "vector_import"},
    {"sae"},
    {"activation_cache", "activations"},
    {"methods", "metrics"},
    {"vector_building"},
    {"sweeps"},
    {"verdicts"},
    {"tables"},
    {"concept_checks", "concept_writing"},
    {"report"},
    {"cli", "__init__", "__main__"},
]
LAYER = {module: number for number, modules in enumerate(LAYERS) for module in modules}

CONFINED = {"nnsight": "steering/models/language_model.py", "sae_lens": "steering/sae/autoencoder.py"}
# What takes a second and more to import, together: a command waits for it that needs it, and for nothing else.
SLOW = ("matplotlib", "nnsight", "numpy", "pandas", "sae_lens", "scipy", "torch", "transformers")
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
        ("import steering.models.loading as m, json", {"steering.models.loading", "json"}),
        ("from steering import stats, Row", {"steering.stats", "steering.Row"}),
        ("def f():\n    from steering.models.loading import load", {"steering.models.loading.load"}),
        ("from . import register", {"steering.methods.register"}),
        ("from ..vectors import Intervention", {"steering.vectors.Intervention"}),
        ("if TYPE_CHECKING:\n    import nnsight", {"nnsight"}),
        ("'import nnsight'", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(source, found):
    assert imported(ast.walk(ast.parse(source)), "steering.methods") == found


def test_names_are_traced_to_the_modules_they_come_from():
    names = {"steering.stats", "steering.Row", "steering.methods.register", "json.loads", "steering_other.vectors"}
    assert modules_among(names) == {"stats", "__init__", "methods"}


def test_every_module_has_one_layer():
    assert sum(len(modules) for modules in LAYERS) == len(LAYER)
    assert {module_of(path) for path in PACKAGE} == set(LAYER)


@pytest.mark.parametrize("path", PACKAGE, ids=name)
def test_modules_import_from_their_own_layer_and_those_before(path):
    module = module_of(path)
    allowed = {other for other in LAYER if LAYER[other] <= LAYER[module]}
    assert modules_among(imports_of(path)) - allowed == set()


def dotted_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_module_imports_itself_by_way_of_others():
    known = {dotted_name(path) for path in PACKAGE}
    graph = {
        dotted_name(path): {found if found in known else found.rpartition(".")[0] for found in imports_of(path)} & known
        for path in PACKAGE
    }
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(PACKAGE)


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


def loaded_by(statement):
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {module.split(".")[0] for module in done.stdout.split()} & set(SLOW)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import steering.cli.main", set()),
        ("from steering import load_rows", set()),
        ("from steering import SteeringVector", {"numpy", "torch"}),
    ],
)
def test_slow_libraries_are_imported_where_they_are_needed_alone(statement, expected):
    assert loaded_by(statement) == expected


def test_every_public_name_is_there():
    assert sorted(steering.__all__) == sorted(set(steering.__all__))
    assert all(hasattr(steering, public) for public in steering.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = steering.no_such_name


@pytest.mark.parametrize("path", [*PACKAGE, *BENCH, *TESTS], ids=name)
def test_modules_are_at_most_300_lines_long(path):
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= MAX_LINES


# What the modules import whose code is part of the activation cache's key, and what changes no number that is kept.
NOT_KEPT = {
    *("models/checks", "models/decoding", "models/edits", "models/embedded", "models/machine"),
    *("models/outputs", "models/sampling", "models/steered_losses", "models/tokens"),
    *("sae/features", "sae/hooks", "sae/recipe"),
}


def test_code_that_decides_about_kept_activations_is_part_of_their_key():
    kept = set(activation_cache._MODULES)
    files = [ROOT / "steering" / f"{module}.py" for module in kept]
    parts = [dotted.split(".") for file in files for dotted in imports_of(file)]
    used = {"/".join(part[1:3]) for part in parts if part[0] == "steering" and part[1] in {"models", "sae"}}
    assert used - kept == NOT_KEPT
