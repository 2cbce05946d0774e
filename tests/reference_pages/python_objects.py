"""Classes and functions as Markdown, from what griffe reads of the source.

Nothing is imported for it: types and defaults are shown as they are written, whatever libraries are installed.
"""

from __future__ import annotations

from dataclasses import dataclass

import griffe

from tests.documents import ROOT
from tests.reference_pages.markdown import Linker, block, code, joined, one_line, table

_WIDTH = 100
_SPECIAL = ("__call__", "__getitem__", "__iter__")
#: What is made by users and passed on: its methods are for the package itself.
PASSED_ON = ("steering.activation_cache.ActivationCache", "steering.sweeps.earlier.Earlier")
PACKAGE = griffe.load("steering", search_paths=[ROOT], docstring_parser="google")

Sections = dict[griffe.DocstringSectionKind, griffe.DocstringSection]
_KIND = griffe.DocstringSectionKind


@dataclass(frozen=True)
class Entry:
    """A class or a function of the reference.

    Attributes:
        module: What it is imported from.
        name: How it is called there.
        source: What griffe knows about it.
    """

    module: str
    name: str
    source: griffe.Class | griffe.Function

    @property
    def functions(self) -> list[griffe.Function]:
        """The public methods of a class, in the order of the source; none where callers have no use for them."""
        if self.source.path in PASSED_ON or not isinstance(self.source, griffe.Class):
            return []
        members = [member for member in self.source.members.values() if isinstance(member, griffe.Function)]
        return [each for each in members if each.name in _SPECIAL or not each.name.startswith("_")]


def find(path: str) -> griffe.Object:
    """What stands at a dotted path, where it is defined."""
    found = PACKAGE[path.removeprefix("steering.")]
    return found.final_target if found.is_alias else found


def entry(path: str) -> Entry:
    """The entry of a class or function by the path that it is imported by."""
    module, _, name = path.rpartition(".")
    source = find(path)
    if isinstance(source, griffe.Attribute):  # `register`, which is bound to a registry
        source = find(f"steering.registry.Registry.{source.value.last.name}")
    return Entry(module, name, source)


def public_names(module: str) -> list[str]:
    """Paths of the classes and functions that a module defines, in the order of the source."""
    members = find(module).members.values()
    kinds = (griffe.Class, griffe.Function)
    return [each.path for each in members if isinstance(each, kinds) and not each.name.startswith("_")]


def sections_of(source: griffe.Object) -> Sections:
    docstring = source.docstring
    parsed = docstring.parse("google", returns_multiple_items=False, warnings=False) if docstring else []
    return {section.kind: section for section in parsed}


def text_of(source: griffe.Object) -> str:
    """The docstring without its sections."""
    section = sections_of(source).get(_KIND.text)
    return section.value if section else ""


def spelled(written: str | griffe.Expr | None) -> str:
    """A type or a default as it is written, with what they stand for in place of the package's own constants."""
    if isinstance(written, griffe.ExprAttribute) and written.canonical_path.startswith("steering."):
        meant = find(written.canonical_path)
        return spelled(meant.value) if isinstance(meant, griffe.Attribute) else str(written)
    parts = written.iterate(flat=True) if isinstance(written, griffe.Expr) else [written or ""]
    text = "".join(map(_part, parts))
    return text if '"' in text else text.replace("'", '"')


def _part(part: str | griffe.Expr) -> str:
    if isinstance(part, griffe.ExprName) and part.canonical_path.startswith("steering."):
        meant = find(part.canonical_path)
        if isinstance(meant, griffe.Attribute):
            return spelled(meant.value)
    return str(part)


def parameters_of(source: griffe.Class | griffe.Function) -> list[griffe.Parameter]:
    return [parameter for parameter in source.parameters if parameter.name not in ("self", "cls")]


def signature(source: griffe.Class | griffe.Function) -> str:
    """The call with types and defaults, on one line where that is not too long."""
    shown, starred = [], False
    for parameter in parameters_of(source):
        if parameter.kind is griffe.ParameterKind.keyword_only and not starred:
            shown.append("*")
            starred = True
        default = f" = {spelled(parameter.default)}" if parameter.default is not None else ""
        shown.append(f"{parameter.name}: {spelled(parameter.annotation)}{default}")
    returned = f" -> {spelled(source.returns)}" if isinstance(source, griffe.Function) else ""
    line = f"{source.name}({', '.join(shown)}){returned}"
    if len(line) > _WIDTH:
        line = "\n".join([f"{source.name}(", *(f"    {each}," for each in shown), f"){returned}"])
    return "\n".join([f"@{label}" for label in ("classmethod", "staticmethod") if label in source.labels] + [line])


def markdown_of(shown: Entry, link: Linker) -> str:
    """An object under its heading, with its methods under theirs."""
    imported = code(f"from {shown.module} import {shown.name}")
    head = f"## {code(shown.name)}\n\n{imported}"
    if isinstance(shown.source, griffe.Function):
        return joined(head, _function(shown.source, link))
    functions = [
        joined(f"### {code(f'{shown.name}.{function.name}')}", _function(function, link))
        for function in shown.functions
    ]
    return joined(head, _class(shown.source, link), *functions)


def _function(source: griffe.Function, link: Linker) -> str:
    return joined(block(signature(source), "py"), link(text_of(source)), *_tables(source, link))


def _class(source: griffe.Class, link: Linker) -> str:
    arguments = parameters_of(source)
    is_made_by_users = arguments and not any(each.name.startswith("_") for each in arguments)
    properties = [
        [code(each.name), code(spelled(each.annotation)), link(text_of(each))]
        for each in source.members.values()
        if isinstance(each, griffe.Attribute) and "property" in each.labels and not each.name.startswith("_")
    ]
    return joined(
        block(signature(source), "py") if is_made_by_users else "",
        link(text_of(source)),
        _bases(source, link),
        *_tables(source, link),
        table(("property", "type", "meaning"), properties),
    )


def _bases(source: griffe.Class, link: Linker) -> str:
    names = [str(base) for base in source.bases]
    if "Protocol" in names:
        return "A protocol: any object with these members will do."
    ancestors = [name for name in names if not name.startswith("Generic")]
    return f"A subclass of {link(', '.join(map(code, ancestors)))}." if ancestors else ""


def _tables(source: griffe.Object, link: Linker) -> list[str]:
    """Arguments, attributes, what comes back and what is raised, as the docstring has them."""
    sections = sections_of(source)
    found = []
    for kind, heading in ((_KIND.parameters, "argument"), (_KIND.attributes, "attribute")):
        if section := sections.get(kind):
            lines = [[code(item.name), link(item.description)] for item in section.value]
            found.append(table((heading, "meaning"), lines))
    for kind, heading in ((_KIND.returns, "Returns"), (_KIND.yields, "Yields")):
        if section := sections.get(kind):
            [item] = section.value
            found.append(f"{heading}: {f'{item.name}: ' if item.name else ''}{link(item.description)}")
    if section := sections.get(_KIND.raises):
        lines = [f"- {link(code(str(item.annotation)))}: {one_line(link(item.description))}" for item in section.value]
        found.append("\n".join(["Raises:", "", *lines]))
    return found
