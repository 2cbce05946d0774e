"""The header of a GGUF file, walked over before a library reads the file."""

from __future__ import annotations

import mmap
from pathlib import Path

_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
# Type of a value -> its size in bytes, as the format's specification numbers them.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def check_header(path: Path, most: int) -> None:
    """Refuse a GGUF file whose header would keep a reader busy for long, or fill memory.

    gguf's reader, which transformers uses too, takes the counts of a header at their word, keeps several objects for
    each element of an array, and does not notice where the file ends: 49 bytes that announce an array of 2^62 elements
    keep it reading until memory is full. This walk keeps nothing, and gives up at the end of the file.

    What is no GGUF file at all, or of a version that is not read any more, is let through: the reader refuses it at
    once, and says why.

    Args:
        path: The file; nothing in it is trusted.
        most: How many tensors, values and elements of arrays it may announce, all together.

    Raises:
        ValueError: It announces more, or more than it holds, or has an array of arrays, or it is empty.
        OSError: It cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4] == b"GGUF":
            _Walk(content, most).go()


class _Walk:
    """A position in a header, which goes forward over what is there."""

    def __init__(self, content: mmap.mmap, most: int) -> None:
        self._content = content
        self._position = 4
        self._most = self._left = most
        # A version is a small number, so its bytes tell the byte order.
        self._big_endian = content[4:6] == b"\0\0"

    def go(self) -> None:
        """Go over counts, names and values; of the tensors' descriptions, the reader itself sees the end."""
        if self._number(4) not in _VERSIONS:
            return
        tensors, values = self._number(8), self._number(8)
        self._announced(tensors)
        for _ in self._announced(values):
            self._pass_string()
            self._pass_value(self._number(4))

    def _pass_value(self, kind: int) -> None:
        if kind != _ARRAY:
            self._pass_one(kind)
            return
        kind, elements = self._number(4), self._number(8)
        # No program is known that writes any, and the reader would follow them down as deep as they go.
        if kind == _ARRAY:
            raise ValueError("its header has an array of arrays")
        for _ in self._announced(elements):
            self._pass_one(kind)

    def _pass_one(self, kind: int) -> None:
        if kind == _STRING:
            self._pass_string()
        elif kind in _SIZES:
            self._pass_bytes(_SIZES[kind])
        else:
            raise ValueError(f"its header has a value of type {kind}, which is none")

    def _pass_string(self) -> None:
        self._pass_bytes(self._number(8))

    def _pass_bytes(self, size: int) -> None:
        self._position += size
        if self._position > len(self._content):
            raise ValueError("it ends before all that its header announces")

    def _number(self, size: int) -> int:
        start = self._position
        self._pass_bytes(size)
        return int.from_bytes(self._content[start : self._position], "big" if self._big_endian else "little")

    def _announced(self, count: int) -> range:
        self._left -= count
        if self._left < 0:
            raise ValueError(f"its header announces more than {self._most} tensors, values and elements of arrays")
        return range(count)
