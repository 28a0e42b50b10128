r"""The one place that makes untrusted text safe for a terminal, a log or a prompt, and free of keys.

Model answers, file names, tasks and error texts are untrusted. Everything here is a pure function of its
text (and of the keys that this process hides), or a small object that gives the same result for text in
pieces. ``aethr.output.markdown`` makes text safe for Markdown.

The file has three parts: ``reveal`` shows invisible characters by their codes, ``redact`` replaces keys, and
``terminal``, ``one_line`` and ``runner`` do both for text that is printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from aethr.base import secrecy

# --- invisible characters ----------------------------------------------------------------------

# Bidi controls reorder what a reviewer sees (https://trojansource.codes/), tag characters carry hidden
# sentences, zero-width characters split words, a bare carriage return lets one line overwrite another.

HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 except tab, newline, return; DEL; C1
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, marks, fillers
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, separators, bidi, invisible operators
    "\u2800\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb"  # blanks, rare variation selectors, BOM, annotation
    "\U00013430-\U0001343f\U00016fe4"  # hieroglyphs and the Khitan script: joiners, a filler
    "\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"  # shorthand and music
    "\U000e0000-\U000e0fff"  # tags and the variation selectors above the sixteenth
    "\ud800-\udfff"  # lone surrogates, which nothing can encode
)
"""Characters of a text that are invisible, as the inside of a character class of a regular expression.

By Unicode's properties: controls, formats and line separators, except for the few visible formats
(Prepended_Concatenation_Mark); every Default_Ignorable_Code_Point (https://www.unicode.org/reports/tr44/),
assigned or not, except for the text and emoji selectors (U+FE0E, U+FE0F); and blank symbols.
"""

_ASCII_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if chr(code) not in "\t\n\r")
_SELECTOR = "[\ufe0e\ufe0f]"
_LIKE_EMOJI = "\xa9\xae\u203c-\u3299\U0001f000-\U0001faff"
"""The ranges of all emoji that take a selector, except for keycaps (digit, selector, U+20E3)."""

_INVISIBLE = re.compile(
    f"[{HIDDEN}]|\r(?!\n)|(?<![{_LIKE_EMOJI}])(?:(?<![#*0-9]){_SELECTOR}|{_SELECTOR}(?!\u20e3))"
)

_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def escape(character: str) -> str:
    r"""The code of a character as Aethr shows it everywhere: ``\n``, ``\x1b``, ``\u{202e}``."""
    code = ord(character)
    return _NAMED.get(character) or (f"\\x{code:02x}" if code < 0xA0 else f"\\u{{{code:x}}}")


def reveal(text: str) -> tuple[str, int]:
    """``text`` with each invisible character replaced by its code, and the number of replacements.

    Not replaced: tab, newline, a carriage return before a newline, selectors after an emoji, and a byte order
    mark at the very beginning.
    """
    has_control = text.isascii() and len(text.encode().translate(None, _ASCII_CONTROLS)) != len(text)
    if text.isascii() and not has_control and text.count("\r") == text.count("\r\n"):
        return text, 0  # most text, and much faster than the expression
    mark, body = ("\ufeff", text[1:]) if text.startswith("\ufeff") else ("", text)
    shown, count = _INVISIBLE.subn(lambda match: escape(match[0]), body)
    return mark + shown, count


def reveal_name(name: bytes | str) -> str:
    """A file name as one printable line, with everything else escaped."""
    text = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
    if text.isascii() and text.isprintable():
        return text
    return "".join(escape(each) if each in _NAMED or each == "\ufeff" else each for each in reveal(text)[0])


# --- keys --------------------------------------------------------------------------------------

_Value = TypeVar("_Value")
REDACTED = "[redacted]"
SHORTEST_SECRET = 8
"""Shorter values, in characters, are not treated as keys: replacing them would garble ordinary words."""


class Redactor:
    """Replaces the values of keys by ``[redacted]``; if several match, the longest one."""

    __slots__ = ("_pattern", "values")

    def __init__(self, secrets: Iterable[str]) -> None:
        kept = {value for secret in secrets if len(value := secret.strip()) >= SHORTEST_SECRET}
        self.values: tuple[str, ...] = tuple(sorted(kept, key=lambda value: (-len(value), value)))
        self._pattern = re.compile("|".join(map(re.escape, self.values))) if self.values else None

    def redact(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def count(self, text: str) -> int:
        """How many values ``redact`` would replace."""
        return 0 if self._pattern is None else sum(1 for _ in self._pattern.finditer(text))

    def stream(self) -> RedactingStream:
        return RedactingStream(self)

    def redact_start(self, text: str) -> tuple[str, str]:
        """The redacted start of ``text``, and the rest, which may be the beginning of a value."""
        if self._pattern is None:
            return text, ""
        done: list[str] = []
        position = 0
        while True:
            hold = min(_find_partial(value, text, position) for value in self.values)
            match = self._pattern.search(text, position)
            if match is None or match.start() >= hold:
                return "".join((*done, text[position:hold])), text[hold:]
            done += (text[position : match.start()], REDACTED)
            position = match.end()


def redact(text: str) -> str:
    """Replace the values of the keys that this process hides."""
    hidden = secrecy.hidden()
    return _redactor(hidden).redact(text) if hidden else text


@lru_cache(maxsize=1)
def _redactor(hidden: tuple[str, ...]) -> Redactor:
    return Redactor(hidden)


def redact_record(value: _Value, redact: Callable[[str], str]) -> _Value:
    """A record with every text in it redacted, at any depth, except words of a fixed choice."""
    found: Any = value
    if isinstance(value, str):
        found = redact(value)
    elif isinstance(value, tuple) and hasattr(value, "_replace"):
        fields = {name: redact_record(getattr(value, name), redact) for name in _free_fields(type(value))}
        found = value._replace(**fields)
    elif isinstance(value, (tuple, list)):
        found = type(value)(redact_record(each, redact) for each in value)
    elif isinstance(value, Mapping):
        found = {redact_record(name, redact): redact_record(each, redact) for name, each in value.items()}
    return found  # type: ignore[no-any-return]


@cache
def _free_fields(record: type) -> tuple[str, ...]:
    """The names of the fields that may hold any text, so not those of a ``Literal``."""
    return tuple(
        name
        for name, hint in get_type_hints(record).items()
        if all(get_origin(each) is not Literal for each in (hint, *get_args(hint)))
    )


class RedactingStream:
    """``Redactor.redact`` for text in pieces. It holds back only what may be the beginning of a value."""

    __slots__ = ("_held", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""

    def feed(self, text: str) -> str:
        done, self._held = self._redactor.redact_start(self._held + text)
        return done

    def close(self) -> str:
        held, self._held = self._held, ""
        return self._redactor.redact(held)


def _find_partial(value: str, text: str, position: int) -> int:
    """Where ``text`` may end in the middle of ``value``: an index from ``position`` on, or its length."""
    index = max(position, len(text) - len(value) + 1)
    while (index := text.find(value[0], index)) != -1:
        if value.startswith(text[index:]):
            return index
        index += 1
    return len(text)


# --- terminals and logs ------------------------------------------------------------------------

_JOINERS = "\u034f\u200c\u200d\u180b-\u180d\u180f"
"""Invisible, but scripts and emoji need them, so ``terminal`` keeps them."""

_UNSAFE = re.compile(f"\r\n|[\ud800-\udbff][\udc00-\udfff]|[\r{HIDDEN}](?<![{_JOINERS}])")

# A comparison that ignores such characters, as .NET's by culture does, finds a command around them.
_IGNORABLE = "[\u034f\u200c\u200d\ufe00-\ufe0f]"
_LINE_COMMAND = re.compile(rf"^((?:[^\S\n]|{_IGNORABLE})*)(?=:{_IGNORABLE}*:)", re.MULTILINE)
_INNER_COMMAND = re.compile(rf"(#{_IGNORABLE}*#{_IGNORABLE}*)(?=\[)")


def terminal(text: str) -> str:
    r"""Text that is harmless for a terminal: newline and tab are the only control characters left.

    Controls show as ``\x1b``, invisible and direction-changing characters as ``\u{202e}``. CRLF becomes
    LF, a surrogate without its partner U+FFFD. Applying it twice changes nothing. Keys are replaced first,
    because an escaped or cut key would not be found.
    """
    return _UNSAFE.sub(_escape_match, redact(text))


def _escape_match(match: re.Match[str]) -> str:
    found = match.group()
    if found == "\r\n":
        return "\n"
    if len(found) == 2:
        return terminal(found.encode("utf-16", "surrogatepass").decode("utf-16"))
    return "\ufffd" if "\ud800" <= found <= "\udfff" else escape(found)


def one_line(text: str, limit: int = 200) -> str:
    r"""``terminal`` for names and messages: one line of at most ``limit`` characters.

    Newlines and tabs show as ``\n`` and ``\t``; a line that was cut ends with ``…``.
    """
    # At most two characters become one (CRLF, a surrogate pair), so this is enough to fill the line.
    line = terminal(redact(text.strip())[: 2 * limit + 2])
    for control in "\n\t":
        line = line.replace(control, escape(control))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def runner(text: str) -> str:
    r"""``terminal`` for the log of a GitHub runner, which executes lines such as ``::error::x``.

    The runner trims Unicode white space and looks for ``::`` at the start, and for ``##[`` anywhere
    (``ActionCommand.cs`` of the runner). A backslash before them prevents that and is visible.
    """
    safe = _LINE_COMMAND.sub(r"\1\\", terminal(text))
    return _INNER_COMMAND.sub(r"\1\\", safe)


class TerminalStream:
    """``terminal`` for text in pieces: the result is that for the whole text."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        text = self._held + text
        # A CR may be half of a line end, a high surrogate half of a character.
        self._held = text[-1:] if text[-1:] == "\r" or "\ud800" <= text[-1:] <= "\udbff" else ""
        return terminal(text[: len(text) - len(self._held)])

    def close(self) -> str:
        held, self._held = self._held, ""
        return terminal(held)
