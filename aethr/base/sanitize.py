r"""The one place that makes untrusted text safe for a terminal, a log or a prompt, and free of keys.

Model answers, file names, tasks and error texts are untrusted. Everything here is a pure function of its
text (and of the keys that this process hides), or a small object that gives for text in pieces exactly what
the function gives for the whole. ``aethr.output.markdown`` makes text safe for Markdown.

Bidi controls reorder what a reviewer sees, tag characters carry hidden sentences, zero-width characters split
words, a bare carriage return lets one line overwrite another. In everything Aethr sends they appear as
``\u{202e}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from aethr.base import secrecy

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


_Value = TypeVar("_Value")
REDACTED = "[redacted]"
SHORTEST_SECRET = 8
"""Values with fewer characters are not treated as keys: replacing them would garble ordinary words."""

_JOINERS = "\u034f\u200c\u200d\u180b-\u180d\u180f"
"""Hidden too, and needed by scripts and emoji; a comparison of words does not mind them."""

_UNSAFE = re.compile(f"\r\n|[\ud800-\udbff][\udc00-\udfff]|[\r{HIDDEN}](?<![{_JOINERS}])")

# What may stand between two characters and still be nothing to a comparison that ignores it.
_IGNORABLE = "[\u034f\u200c\u200d\ufe00-\ufe0f]"
_LINE_COMMAND = re.compile(rf"^((?:[^\S\n]|{_IGNORABLE})*)(?=:{_IGNORABLE}*:)", re.MULTILINE)
_INNER_COMMAND = re.compile(rf"(#{_IGNORABLE}*#{_IGNORABLE}*)(?=\[)")


def terminal(text: str) -> str:
    r"""Make text harmless for a terminal: of all control characters only newline and tab remain.

    Controls show as ``\x1b``, invisible and direction-changing characters as ``\u{202e}``, CRLF
    becomes LF, a surrogate without its partner becomes U+FFFD. Applying it twice changes nothing. The keys of
    this process go first: escaped or cut, they would not be found any more.
    """
    return _UNSAFE.sub(_visible, redact(text))


def one_line(text: str, limit: int = 200) -> str:
    r"""``terminal`` for names and messages: one line of at most ``limit`` characters.

    Newlines and tabs inside show as ``\n`` and ``\t``; what is cut off shows as ``…``.
    """
    # Two characters become one at most (CRLF, a surrogate pair), so this is enough to fill the line.
    line = terminal(redact(text.strip())[: 2 * limit + 2])
    for control in "\n\t":
        line = line.replace(control, escape(control))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def runner(text: str) -> str:
    r"""``terminal`` for the log of a GitHub runner, which executes lines such as ``::error::x``.

    The runner trims Unicode white space, then looks for ``::`` at the start; and for ``##[`` anywhere
    (its source: ``ActionCommand.cs``). A backslash in front breaks either and shows that it did.
    """
    safe = _LINE_COMMAND.sub(r"\1\\", terminal(text))
    return _INNER_COMMAND.sub(r"\1\\", safe)


class TerminalStream:
    """``terminal`` for text that comes in pieces: any split gives what the whole would give."""

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


class Redactor:
    """Replaces the values of keys by ``[redacted]``; the longest value wins where several fit."""

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

    def settled(self, text: str) -> tuple[str, str]:
        """Split ``text`` into what is final (and redacted), and a rest that may be the start of a value."""
        if self._pattern is None:
            return text, ""
        done: list[str] = []
        position = 0
        while True:
            hold = min(_start_of(value, text, position) for value in self.values)
            match = self._pattern.search(text, position)
            if match is None or match.start() >= hold:
                return "".join((*done, text[position:hold])), text[hold:]
            done += (text[position : match.start()], REDACTED)
            position = match.end()


def redact(text: str) -> str:
    """Take out the values of the keys that this process hides."""
    hidden = secrecy.hidden()
    return _redactor(hidden).redact(text) if hidden else text


@lru_cache(maxsize=1)
def _redactor(hidden: tuple[str, ...]) -> Redactor:
    return Redactor(hidden)


def everywhere(value: _Value, redact: Callable[[str], str]) -> _Value:
    """A record with every text in it redacted, at any depth; words of a fixed choice stay as they are."""
    found: Any = value
    if isinstance(value, str):
        found = redact(value)
    elif isinstance(value, tuple) and hasattr(value, "_replace"):
        fields = {name: everywhere(getattr(value, name), redact) for name in _texts(type(value))}
        found = value._replace(**fields)
    elif isinstance(value, (tuple, list)):
        found = type(value)(everywhere(each, redact) for each in value)
    elif isinstance(value, Mapping):
        found = {everywhere(name, redact): everywhere(each, redact) for name, each in value.items()}
    return found  # type: ignore[no-any-return]


@cache
def _texts(record: type) -> tuple[str, ...]:
    """The fields that may hold any text."""
    hints = get_type_hints(record)
    return tuple(name for name, hint in hints.items() if not _is_choice(hint))


def _is_choice(hint: Any) -> bool:
    return get_origin(hint) is Literal or any(get_origin(each) is Literal for each in get_args(hint))


class RedactingStream:
    """``Redactor.redact`` for text in pieces; holds back only what could be the start of a value."""

    __slots__ = ("_held", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""

    def feed(self, text: str) -> str:
        done, self._held = self._redactor.settled(self._held + text)
        return done

    def close(self) -> str:
        held, self._held = self._held, ""
        return self._redactor.redact(held)


def _visible(match: re.Match[str]) -> str:
    found = match.group()
    if found == "\r\n":
        return "\n"
    if len(found) == 2:
        return terminal(found.encode("utf-16", "surrogatepass").decode("utf-16"))
    return "\ufffd" if "\ud800" <= found <= "\udfff" else escape(found)


def _start_of(value: str, text: str, position: int) -> int:
    """Where ``text`` ends within ``value``: the first such index from ``position``, else its length."""
    index = max(position, len(text) - len(value) + 1)
    while (index := text.find(value[0], index)) != -1:
        if value.startswith(text[index:]):
            return index
        index += 1
    return len(text)
