"""Tables for LaTeX, with the rules of booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from steering.tables.wording import alignment, visible

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "−": "$-$",
    "±": r"$\pm$",
    "µ": r"$\mu$",
    "°": r"$^\circ$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "\ufffd": r"$\diamond$",
}
# What pdflatex knows without a package, under its default font encoding and under T1.
_LETTERS = {chr(code) for code in range(0xC0, 0x100)} - set("×÷ÐÞðþ")

_MINUS = re.compile(r"-(?=\d)")


def escaped(text: str) -> str:
    """Text as LaTeX that shows it, for any engine.

    What pdflatex cannot show is written as its code point. White space becomes spaces, on one line.
    """
    shown = visible(text)
    return "".join(_escaped(character, shown[:place]) for place, character in enumerate(shown))


def _escaped(character: str, before: str) -> str:
    # Braces keep a cell that starts so from being read as an argument of what ends the line before it, and characters
    # from joining to a dash or a quotation mark.
    if (character in "[*" and not before.strip()) or (character in "-," and before.endswith(character)):
        return f"{{{character}}}"
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isascii() or character in _LETTERS:
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"


def tabular(table: Sequence[Sequence[str]]) -> str:
    """A tabular environment of a table whose first line holds the headings; numbers have minus signs."""
    header, *body = table
    left = [alignment(heading) == "left" for heading in header]
    columns = "".join("l" if words else "r" for words in left)
    headings = " & ".join(map(escaped, header))
    lines = [
        " & ".join(escaped(cell) if words else _number(cell) for cell, words in zip(line, left, strict=True))
        for line in body
    ]
    content = "".join(f"{line} \\\\\n" for line in lines)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{headings} \\\\\n\\midrule\n"
        f"{content}\\bottomrule\n\\end{{tabular}}\n"
    )


def _number(cell: str) -> str:
    """A cell of numbers, in which hyphens before digits are minus signs."""
    return escaped(_MINUS.sub("−", cell))
