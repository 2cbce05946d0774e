"""Registries of plug-ins: a plug-in is one module in its package, found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from steering.errors import SteeringError, UnknownNameError

Plugin = TypeVar("Plugin")


class Registry(Generic[Plugin]):
    """Names and what they stand for, filled when the package's modules are first needed.

    Args:
        kind: What an entry is called in messages.
        package: Package whose modules register the entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self._kind = kind
        self._package = package
        self._entries: dict[str, Plugin] = {}

    def register(self, name: str) -> Callable[[Plugin], Plugin]:
        """Return a decorator that enters what it decorates under `name`.

        What is defined again, as by a notebook's cell that runs a second time, takes its own place.

        Raises:
            SteeringError: Something else is called so.
        """

        def enter(plugin: Plugin) -> Plugin:
            module, _ = _definition(plugin)
            if module is not None and not str(module).startswith(f"{self._package}."):
                self._loaded()  # a name of the package's own is not free because nothing has asked for it yet
            if name in self._entries and _definition(self._entries[name]) != _definition(plugin):
                raise SteeringError(f"there is a {self._kind} {name!r} in {self._package} already: choose another name")
            self._entries[name] = plugin
            return plugin

        return enter

    def __getitem__(self, name: str) -> Plugin:
        """Return the entry called `name`, or raise `UnknownNameError` with near matches."""
        entries = self._loaded()
        if name not in entries:
            raise UnknownNameError(self._kind, name, entries)
        return entries[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(sorted(self._loaded()))

    def _loaded(self) -> dict[str, Plugin]:
        for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        return self._entries


def _definition(plugin: object) -> tuple[object, object]:
    """Where a class or a function is defined, by module and name."""
    return getattr(plugin, "__module__", None), getattr(plugin, "__qualname__", plugin)
