"""Events to the person, or the log, in front of the run.

Two implementations of one Protocol: ``render_rich`` for a person's terminal, ``render_plain`` for
everything else. Only the first imports Rich.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Protocol, TextIO

from aethr.base.records import Event

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


class Display(NamedTuple):
    """What the user asked to see.

    ``stream``: True shows text as it arrives, False only whole answers, None as fits the terminal.
    ``quiet``: only the last answer, and what must be said about it (mock mode, no review).
    ``verbose``: the size and hash of each prompt, and what each step took.
    ``json``: standard output is the run record's, so everything goes to standard error.
    """

    stream: bool | None = None
    quiet: bool = False
    verbose: bool = False
    json: bool = False


class Renderer(Protocol):
    """Shows a run, in a ``with`` block that gives ``show``.

    ``close`` gives the terminal back as it was, whatever happened; twice does no harm.
    """

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Callable[[Event], None]:
        return self.show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError:
            if error is None:  # what ended the run matters more than a terminal that is gone
                raise


def make_renderer(options: Display, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]) -> Renderer:
    """The renderer that fits the stream which ``options`` leave to people."""
    stream = stderr if options.json else stdout
    if for_a_person(stream, environ):
        from aethr.output.render_rich import RichRenderer

        return RichRenderer(options, Output(stream), environ)
    from aethr.output.render_plain import PlainRenderer

    return PlainRenderer(options, Output(stream), environ)


def for_a_person(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether ``stream`` is a terminal that can redraw, with a person before it.

    pre-commit gives its hooks a terminal to write to and shows the result as a log; so do some runners.
    """
    logged = environ.get("PRE_COMMIT") or environ.get("GITHUB_ACTIONS") == "true"
    dumb = environ.get("TERM", "").lower() in ("dumb", "unknown")
    return stream.isatty() and not logged and not dumb
