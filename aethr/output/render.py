"""The Protocol that shows a run's events while it runs, and which implementation does it.

``render_rich`` is for an interactive terminal, ``render_plain`` for everything else. Only the first imports
Rich.
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
    """Writes to ``stream``. Characters that its encoding lacks become ASCII look-alikes or escapes.

    It has the methods of a text file that Rich and Aethr call. It never closes the stream, and raises what
    the stream raises (``BrokenPipeError``).
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
        try:
            text.encode(self.encoding)
            encodable = text
        except UnicodeEncodeError:
            encodable = "".join(map(self._replace, text))
        self._stream.write(encodable)
        return len(text)

    def _replace(self, character: str) -> str:
        try:
            character.encode(self.encoding)
        except UnicodeEncodeError:
            plainer = character.translate(_PLAINER)
            return plainer.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return character


class Display(NamedTuple):
    """What the user asked to see.

    ``stream``: True shows text as it arrives, False only complete answers, None what suits the terminal.
    ``quiet``: only the last answer, and warnings about it (mock mode, no review).
    ``verbose``: the size and hash of each prompt, the tokens, cost and time of each step.
    ``json``: the run record goes to standard output, everything else to standard error.
    """

    stream: bool | None = None
    quiet: bool = False
    verbose: bool = False
    json: bool = False


class Renderer(Protocol):
    """Shows a run, in a ``with`` block that yields ``show``.

    ``close`` restores the terminal; calling it again does nothing.
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
            if error is None:  # why the run ended matters more than a terminal that is gone
                raise


def make_renderer(options: Display, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str]) -> Renderer:
    """The renderer for standard output, or for standard error with ``--json``."""
    stream = stderr if options.json else stdout
    if is_interactive(stream, environ):
        from aethr.output.render_rich import RichRenderer

        return RichRenderer(options, Output(stream), environ)
    from aethr.output.render_plain import PlainRenderer

    return PlainRenderer(options, Output(stream), environ)


def is_interactive(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether ``stream`` is a terminal that can redraw, and somebody watches it.

    pre-commit runs its hooks in a terminal, but shows what they print as a log; so do some runners.
    """
    logged = environ.get("PRE_COMMIT") or environ.get("GITHUB_ACTIONS") == "true"
    dumb = environ.get("TERM", "").lower() in ("dumb", "unknown")
    return stream.isatty() and not logged and not dumb
