"""The tree of errors, the message about an unknown name, and messages of other libraries."""

from __future__ import annotations

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steering import errors
from steering.errors import SteeringError, UnknownNameError, first_line, one_line

ERRORS = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, BaseException) and cls.__module__ == errors.__name__
}


def drawn_tree():
    """Name -> name of the parent, as the module's docstring draws them."""
    parents, path = {}, []
    for line in inspect.getdoc(errors).splitlines():
        if entry := re.match(r"( {4}[ │├└─]*)(\w+Error)\b", line):
            depth = (len(entry[1]) - 4) // 4
            path[depth:] = [entry[2]]
            parents[entry[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_errors_are_drawn_where_they_stand_in_the_tree():
    assert drawn_tree() == {name: cls.__base__.__name__ for name, cls in ERRORS.items()}


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_every_error_is_a_steering_error_and_says_what_it_is_for(name):
    assert issubclass(ERRORS[name], SteeringError)
    assert ERRORS[name].__doc__


def test_errors_are_not_errors_of_python_s_own_kinds():
    """`except ValueError` in a library must not swallow them."""
    assert all(cls.__mro__[-3:] == (Exception, BaseException, object) for cls in ERRORS.values())
    assert not any(issubclass(cls, (ValueError, KeyError, OSError)) for cls in ERRORS.values())


def test_unknown_name_gives_the_whole_message():
    error = UnknownNameError(
        "method", "mean_diference", ["random_direction", "mean_difference"], "See `steering list`."
    )
    assert str(error) == (
        "unknown method 'mean_diference'. Did you mean 'mean_difference'? "
        "Known: mean_difference, random_direction. See `steering list`."
    )


def test_unknown_name_without_a_near_match_suggests_none():
    assert str(UnknownNameError("metric", "xyz", ["losses", "rollouts"])) == (
        "unknown metric 'xyz'. Known: losses, rollouts."
    )


def test_unknown_name_suggests_only_the_nearest_match():
    message = str(UnknownNameError("profile", "papers", ["paper", "papers2", "pap"]))
    assert message.count("Did you mean") == 1
    assert "Did you mean 'papers2'?" in message


def test_unknown_number_stands_among_numbers_in_order_and_suggests_none():
    assert str(UnknownNameError("layer", "99", ["9", "20", "100", "8"])) == (
        "unknown layer '99'. Known: 8, 9, 20, 100."
    )


def test_unknown_name_among_none_says_so():
    assert str(UnknownNameError("concept", "gender", [])) == "unknown concept 'gender'. Known: none."


@given(st.text(), st.lists(st.text("abcdef", min_size=1), max_size=6))
def test_unknown_name_shows_name_and_options_in_order_whatever_they_are(name, options):
    message = str(UnknownNameError("thing", name, iter(options)))
    assert message.startswith(f"unknown thing {name!r}.")
    assert message.endswith(f"Known: {', '.join(sorted(options)) or 'none'}.")


@pytest.mark.parametrize(
    ("message", "line", "first"),
    [
        ("two\n  lines\r\n\there", "two lines here", "two"),
        ("\n\n late ", "late", "late"),
        ("one", "one", "one"),
        ("", "OSError", "OSError"),
        (" \n", "OSError", "OSError"),
    ],
)
def test_messages_of_other_libraries_are_put_on_one_line(message, line, first):
    assert (one_line(OSError(message)), first_line(OSError(message))) == (line, first)
