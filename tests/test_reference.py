"""The reference is what the docstrings say now, and nothing of them is missing."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest
import typer
from markdown_it import MarkdownIt

import steering
from steering import errors, progress, stats
from steering.cli import main
from steering.methods import methods
from steering.metrics import metrics
from steering.profile_files import load_profile
from steering.settings import Setting
from steering.tables import export
from tests.documents import DOCUMENTS, ROOT
from tests.reference_pages import command_line
from tests.reference_pages.pages import COMMAND, DIRECTORY, pages, write

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DIRECTORY.glob("*.md"))}
OUTDATED = f"docs/reference/ is not what the docstrings say now; write it again: {COMMAND}"


def sections(text: str) -> dict[str, str]:
    """Heading, without backticks -> what stands between it and the next one."""
    parts = re.split(r"^#{2,3} (.+)$", text, flags=re.MULTILINE)
    return {heading.strip("`"): body for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


SECTIONS = {file: sections(text) for file, text in PAGES.items()}


def documented() -> dict[str, tuple[object, str]]:
    """Path of what a reader is told to import, and of methods -> the object there, and its section.

    What a stale page has and the code has not is left out: the first test says what to do about it.
    """
    found = {}
    for parts in SECTIONS.values():
        for heading, body in parts.items():
            if place := re.match(r"\n+`from (\S+) import (\w+)`\n", body):
                owner, path = located(place[1], place[2]), f"{place[1]}.{place[2]}"
                found[path] = (owner, body)
            elif re.fullmatch(r"\w+\.\w+", heading):
                name = heading.rpartition(".")[2]
                found[f"{path}.{name}"] = (getattr(owner, name, None), body)
    return {path: entry for path, entry in found.items() if entry[0] is not None}


def located(module: str, name: str) -> object:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None


OBJECTS = documented()


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages()


def test_pages_are_what_the_generator_makes_now(made):
    assert set(PAGES) == set(made), OUTDATED
    for file, text in made.items():
        assert PAGES[file] == text, f"{file}: {OUTDATED}"


def test_writing_leaves_no_page_of_before(made, tmp_path, monkeypatch):
    (tmp_path / "removed.md").write_text("", encoding="utf-8")
    monkeypatch.setattr("tests.reference_pages.pages.pages", lambda: made)
    write(tmp_path)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == made


def test_pages_depend_neither_on_the_terminal_nor_on_the_place(monkeypatch):
    for width in ("30", "300"):
        monkeypatch.setenv("COLUMNS", width)
        monkeypatch.setenv("TERMINAL_WIDTH", width)
        assert command_line.page() in PAGES["command-line.md"]
    for text in PAGES.values():
        assert str(ROOT) not in text
        assert str(Path.home()) not in text
        assert not re.search(r"\b0x[0-9a-f]+\b| object at |<function", text)


def test_every_public_name_has_a_section():
    assert {f"steering.{name}" for name in steering.__all__} <= set(OBJECTS)
    for module in (stats, export):
        own = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
        assert {f"{module.__name__}.{name}" for name in own if not name.startswith("_")} <= set(OBJECTS)
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.SteeringError):
            assert f"steering.errors.{name}" in OBJECTS or name in steering.__all__


@pytest.mark.parametrize("path", OBJECTS)
def test_every_word_of_a_docstring_is_in_its_section(path):
    described, body = OBJECTS[path]
    words = set(re.findall(r"\w+", inspect.getdoc(described) or ""))
    assert words
    assert words - {"Args", "Attributes"} <= set(re.findall(r"\w+", body))


@pytest.mark.parametrize("path", [path for path, (_, body) in OBJECTS.items() if "```py\n" in body])
def test_signatures_are_those_of_the_objects(path):
    described, body = OBJECTS[path]
    [written] = re.findall(r"```py\n(?:@\w+\n)?(.*?)\n```", body, re.DOTALL)
    [call] = ast.parse(f"def {written}: ...").body
    actual = [each for each in inspect.signature(described).parameters.values() if each.name != "self"]
    arguments = [*call.args.args, *call.args.kwonlyargs]
    assert [each.arg for each in arguments] == [each.name for each in actual]
    assert [each.arg for each in call.args.kwonlyargs] == [
        each.name for each in actual if each.kind is each.KEYWORD_ONLY
    ]
    defaults = [*[None] * (len(call.args.args) - len(call.args.defaults)), *call.args.defaults, *call.args.kw_defaults]
    for each, default in zip(actual, defaults, strict=True):
        assert (default is None) == (each.default is each.empty)
        if default is not None and repr(each.default) != "<factory>" and not callable(each.default):
            names = vars(progress) | vars(importlib.import_module(described.__module__))
            assert eval(compile(ast.Expression(default), path, "eval"), names) == each.default  # noqa: S307


@pytest.mark.parametrize("path", [path for path, (_, body) in OBJECTS.items() if "| argument |" in body])
def test_no_argument_is_left_out_of_a_table(path):
    described, body = OBJECTS[path]
    table = body.split("| argument |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [
        name for name in inspect.signature(described).parameters if name != "self"
    ]


@pytest.mark.parametrize("path", [path for path, (each, _) in OBJECTS.items() if dataclasses.is_dataclass(each)])
def test_every_field_is_described(path):
    described, body = OBJECTS[path]
    shown = re.findall(r"^\| `(\w+)` \| \S", body, re.MULTILINE)
    fields = [field.name for field in dataclasses.fields(described) if not field.name.startswith("_")]
    assert shown[: len(fields)] == fields or path == "steering.Keywords"  # which says in a sentence what both are


def test_every_method_has_its_parameters_with_their_defaults():
    for name in methods:
        body = SECTIONS["methods.md"][name]
        for field in dataclasses.fields(methods[name]):
            default = f"`{field.default!r}`".replace("'", '"')
            if field.default is dataclasses.MISSING:
                is_made = field.default_factory is not dataclasses.MISSING
                default = f"`{field.default_factory.__name__}()`" if is_made else "required"
            assert re.search(rf"^\| `{field.name}` \| `.+` \| {re.escape(default)} \| \S", body, re.MULTILINE), field


def test_every_metric_has_its_scores(llama):
    setting = Setting.load(dataclasses.replace(load_profile("embedded"), neutral_documents=2))
    for name in metrics:
        for score in metrics[name](setting, llama).names:
            assert f"`{score}`" in SECTIONS["metrics.md"][name]


def commands(command, path: str) -> dict[str, list[str]]:
    """Path of each command -> names of its options, and of its arguments as the usage shows them."""
    if hasattr(command, "commands"):
        parts = (commands(part, f"{path} {name}") for name, part in command.commands.items())
        return {name: options for part in parts for name, options in part.items()}
    names = [[*each.opts, *each.secondary_opts] for each in command.params if each.param_type_name == "option"]
    arguments = [each.metavar or each.name.upper() for each in command.params if each.param_type_name == "argument"]
    return {path: [option for each in names for option in each] + arguments}


def test_every_command_and_option_that_typer_knows_is_described():
    known = commands(typer.main.get_command(main.app), "steering")
    assert len(known) > 20
    found = SECTIONS["command-line.md"]
    assert set(found) == {*known, "pytest bench"}
    for path, names in known.items():
        for name in names:
            assert re.search(rf"^\| .*`{re.escape(name)}…?`.* \| \S", found[path], re.MULTILINE), (path, name)


def test_every_option_of_the_benchmark_is_described(pytestconfig):
    [group] = [each for each in pytestconfig._parser._groups if each.name == "steering-bench"]
    assert len(group.options) > 15
    for option in group.options:
        for name in option.names():
            assert f"| `{name}` |" in SECTIONS["command-line.md"]["pytest bench"]
        assert option.attrs()["help"] in SECTIONS["command-line.md"]["pytest bench"]


@functools.cache
def anchors(path: Path) -> set[str]:
    """What links to the headings of a document may end with, on GitHub."""
    tokens = MarkdownIt().parse(path.read_text(encoding="utf-8"))
    titles = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_headings_lead_to_one(path):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", path.read_text(encoding="utf-8"))
    for target, heading in links:
        place = path.parent / target if target else path
        assert heading in anchors(place), (target, heading)


@pytest.mark.parametrize("file", PAGES)
def test_nothing_in_a_docstring_became_markup_that_nobody_meant(file):
    notice, text = PAGES[file].split("\n", maxsplit=1)
    assert notice.startswith("<!--")
    tokens = MarkdownIt().parse(text)
    found = {child.type for token in tokens for child in [token, *(token.children or [])]}
    assert found & {"em_open", "strong_open", "html_block", "html_inline", "image", "blockquote_open"} == set()
    assert "heading_open" in found
