"""Characters that are not seen, or that turn the direction of reading, spelled out."""

from __future__ import annotations

from markupsafe import Markup


def spelled_out(text: str) -> str:
    """Text that shows what it holds: what is not printed stands as its number, other white space as spaces.

    Line breaks stay. Bidirectional controls are among what is not printed.
    """
    return "".join(
        character if character.isprintable() or character == "\n" else _shown(character) for character in text
    )


def breakable(name: str) -> Markup:
    """A name that may be broken into lines after its underscores."""
    return Markup("_<wbr>").join(spelled_out(part) for part in name.split("_"))


def _shown(character: str) -> str:
    if character == "\t" or (character.isspace() and ord(character) > 0x9F):
        return " "
    return f"⟨U+{ord(character):04X}⟩"
