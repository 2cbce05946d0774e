"""Registries find their plug-ins by themselves and help with names that do not exist."""

from __future__ import annotations

import sys

import pytest

from steering.errors import SteeringError, UnknownNameError
from steering.methods import create_method, methods
from steering.metrics import metrics
from steering.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two plug-ins, `second` and `first`, on the import path."""
    name = f"plugins_of_{tmp_path.name}"
    root = tmp_path / name
    root.mkdir()
    (root / "__init__.py").write_text(
        f"from steering.registry import Registry\nentries = Registry('colour', '{name}')\n", encoding="utf-8"
    )
    for module, value in (("second", 2), ("first", 1)):
        source = f"from {name} import entries\nentries.register('{module}')({value})\n"
        (root / f"{module}.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def entries_of(name: str) -> Registry[int]:
    __import__(name)
    return sys.modules[name].entries


def test_plugins_are_found_when_they_are_needed(package):
    entries = entries_of(package)
    assert f"{package}.first" not in sys.modules
    assert entries["first"] == 1
    assert list(entries) == ["first", "second"]
    assert entries["second"] == 2


def test_a_module_put_in_the_package_is_found_without_being_listed(package, tmp_path):
    third = tmp_path / package / "third.py"
    third.write_text(f"from {package} import entries\nentries.register('renamed')(3)\n", encoding="utf-8")
    assert list(entries_of(package)) == ["first", "renamed", "second"]


def test_an_unknown_name_is_met_with_the_nearest_and_all_others(package):
    entries = entries_of(package)
    with pytest.raises(UnknownNameError, match=r"unknown colour 'secnd'. Did you mean 'second'\? Known: first, second"):
        entries["secnd"]
    with pytest.raises(UnknownNameError, match=r"unknown colour 'zebra'. Known: first, second"):
        entries["zebra"]


def test_a_name_is_registered_once_only(package):
    entries = entries_of(package)
    assert entries["first"] == 1
    with pytest.raises(SteeringError, match=rf"'first' in {package}"):
        entries.register("first")(3)
    assert entries["first"] == 1


def test_two_modules_that_use_one_name_are_reported(package, tmp_path):
    copy = tmp_path / package / "copy.py"
    copy.write_text(f"from {package} import entries\nentries.register('second')(3)\n", encoding="utf-8")
    with pytest.raises(SteeringError, match=rf"'second' in {package}"):
        list(entries_of(package))


def test_a_decorated_plugin_stays_what_it_is(package):
    def plugin() -> str:
        return "itself"

    entries = entries_of(package)
    assert entries.register("function")(plugin) is plugin
    assert entries["function"] is plugin


def test_what_is_defined_again_takes_its_own_place(package):
    """As in a notebook whose cell is run a second time."""
    entries = entries_of(package)
    cell = "@entries.register('own')\nclass Own:\n    pass"
    names = {"entries": entries, "__name__": "notebook"}
    exec(cell, names)
    first = names["Own"]
    exec(cell, names)
    assert entries["own"] is names["Own"] is not first
    with pytest.raises(SteeringError, match=rf"'own' in {package}"):
        exec(cell.replace("Own", "Other"), names)


def test_the_methods_and_metrics_of_the_package_are_registered():
    assert set(methods) >= {"mean_difference", "random_direction"}
    assert set(metrics) >= {"rollouts", "loss_positive", "loss_negative", "loss_neutral", "one_word"}
    assert list(metrics) == sorted(metrics)


def test_a_misspelt_method_metric_or_parameter_is_named_with_what_was_meant():
    with pytest.raises(UnknownNameError, match=r"unknown method 'mean_diference'. Did you mean 'mean_difference'\?"):
        create_method("mean_diference", {})
    with pytest.raises(UnknownNameError, match=r"unknown metric 'rollout'. Did you mean 'rollouts'\?"):
        metrics["rollout"]
    with pytest.raises(UnknownNameError, match=r"parameter of method random_direction 'sed'. Did you mean 'seed'\?"):
        create_method("random_direction", {"sed": 1})


def test_a_name_of_the_package_is_taken_before_anything_has_asked_for_it(package):
    entries = entries_of(package)
    cell = "@entries.register('first')\nclass First:\n    pass"
    with pytest.raises(SteeringError, match=f"there is a colour 'first' in {package} already: choose another name"):
        exec(cell, {"entries": entries, "__name__": "notebook"})
    assert entries["first"] == 1
