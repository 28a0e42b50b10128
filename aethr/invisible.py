"""Characters that a person does not see, but a model reads: shown by their code.

Bidi controls reorder what a reviewer sees, tag characters carry hidden sentences, zero-width characters split
words, a bare carriage return lets one line overwrite another. In everything Aethr sends they appear as
``\\u{202e}``.
"""

from __future__ import annotations

import re

HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 but tab, newline, return; DEL; C1
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, marks, fillers
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, separators, bidi, invisible operators
    "\u2800\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"  # blanks, rare variation selectors, BOM, annotation
    "\U00013430-\U0001343f\U00016fe4"  # of hieroglyphs and the Khitan script: joiners, a filler
    "\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"  # of shorthand and of music
    "\U000e0000-\U000e0fff"  # tags and the variation selectors beyond the sixteenth
    "\ud800-\udfff"  # lone surrogates: no text at all, and nothing could encode them
)
"""The inside of a class of a regular expression: what shows nothing, and still is in a text.

By Unicode's properties: controls, formats and separators of lines, without the few formats that are seen
(Prepended_Concatenation_Mark); all that is Default_Ignorable_Code_Point (https://www.unicode.org/reports/tr44/),
assigned or not, without the text and emoji selectors (U+FE0E, U+FE0F); and symbols that are blank.
"""

_ASCII_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if chr(code) not in "\t\n\r")
_SELECTOR = "[\ufe0e\ufe0f]"
_LIKE_EMOJI = "\xa9\xae\u203c-\u3299\U0001f000-\U0001faff"
"""Where every emoji that takes a selector is, beside the keycaps: digit, selector, U+20E3."""

_INVISIBLE = re.compile(
    f"[{HIDDEN}]|\r(?!\n)|(?<![{_LIKE_EMOJI}])(?:(?<![#*0-9]){_SELECTOR}|{_SELECTOR}(?!\u20e3))"
)

_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def escape(character: str) -> str:
    r"""A character by its code, the same wherever Aethr shows one: ``\n``, ``\x1b``, ``\u{202e}``."""
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0xA0 else f"\\u{{{code:x}}}")


def reveal(text: str) -> tuple[str, int]:
    """``text`` with each invisible character by its code, and how many there were.

    Tab and newline stay, and so do a carriage return before a newline, the selectors behind an emoji, and a
    byte order mark at the very beginning.
    """
    if _is_plain(text):
        return text, 0
    mark, body = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
    shown, count = _INVISIBLE.subn(lambda match: escape(match[0]), body)
    return mark + shown, count


def reveal_name(name: bytes | str) -> str:
    """A file name as one printable line, whatever is in it: escaped where it is not plain text."""
    text = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
    if text.isascii() and text.isprintable():
        return text
    return "".join(escape(each) if each in _NAMED or each == "\ufeff" else each for each in reveal(text)[0])


def _is_plain(text: str) -> bool:
    """Quick to say of most text, and that it has nothing to reveal."""
    return (
        text.isascii()
        and len(text.encode().translate(None, _ASCII_CONTROLS)) == len(text)
        and text.count("\r") == text.count("\r\n")
    )
