"""Characters that a person does not see, but a model reads: shown by their code.

Bidi controls reorder what a reviewer sees, tag characters carry hidden sentences, zero-width
characters split words. In everything Aethr sends they appear as ``\\u{202e}``.
"""

from __future__ import annotations

import re

_ASCII_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if chr(code) not in "\t\n\r")

_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 but tab, newline, return; DEL; C1
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, marks, fillers
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, separators, bidi, invisible operators
    "\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb"  # fillers, rare variation selectors, BOM, annotation
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # shorthand and musical format controls
    "\U000e0000-\U000e0fff"  # tags and the variation selectors beyond the sixteenth
    "\ud800-\udfff"  # lone surrogates: no text at all, and nothing could encode them
    "]"
)
"""The text (U+FE0E) and emoji (U+FE0F) selectors stay: they are part of every other emoji."""

_LINE_CONTROLS = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def reveal(text: str) -> tuple[str, int]:
    """``text`` with each invisible character as ``\\u{code}``, and how many there were.

    Tab, newline and carriage return stay, and so does a byte order mark at the very beginning.
    """
    if text.isascii() and len(text.encode().translate(None, _ASCII_CONTROLS)) == len(text):
        return text, 0
    mark, body = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
    shown, count = _INVISIBLE.subn(_code, body)
    return mark + shown, count


def reveal_name(name: bytes | str) -> str:
    """A file name as one printable line, whatever is in it: escaped where it is not plain text."""
    text = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
    if text.isascii() and text.isprintable():
        return text
    shown, _ = reveal(text)
    for control, escaped in _LINE_CONTROLS.items():
        shown = shown.replace(control, escaped)
    return shown.replace("\ufeff", "\\u{feff}")


def _code(match: re.Match[str]) -> str:
    return f"\\u{{{ord(match[0]):x}}}"
