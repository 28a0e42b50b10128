"""A text stream that takes any text, whatever its encoding can hold."""

from __future__ import annotations

from typing import TextIO

_PLAINER = str.maketrans(
    {
        "·": "-",
        "…": "...",
        "—": "-",
        "–": "-",
        "•": "*",
        "→": "->",
        "▌": "|",
        "━": "=",
        "─": "-",
        "│": "|",
        "╭": "+",
        "╰": "+",
        "▸": ">",
        "↻": "@",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
    }
)


class Output:
    """Writes to ``stream``; what its encoding lacks is written plainer, or else as an escape.

    It has what Rich and we use of a text file, and never closes the stream, which is its owner's.
    Errors of the stream itself (``BrokenPipeError``) are its caller's to handle.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def flush(self) -> None:
        self._stream.flush()

    def write(self, text: str) -> int:
        self._stream.write(self._fitting(text))
        return len(text)

    def _fitting(self, text: str) -> str:
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return "".join(map(self._character, text))
        return text

    def _character(self, character: str) -> str:
        try:
            character.encode(self.encoding)
        except UnicodeEncodeError:
            plainer = character.translate(_PLAINER)
            return plainer.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return character
