"""Shows a run while it runs: the Protocol, and plain lines for pipes, logs, hooks and dumb terminals.

``render_rich`` does it for an interactive terminal, and only that module imports Rich.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Protocol, TextIO

from aethr.base import sanitize
from aethr.base.records import (
    Concurrent,
    Event,
    Receipt,
    RunFinished,
    RunStarted,
    StepEvent,
    StepFinished,
    StepResult,
    StepStarted,
    TextDelta,
    Thinking,
)
from aethr.output import wording
from aethr.output.wording import Message, Tone

_COLOUR: dict[Tone, str] = {
    "warning": "33",
    "good": "32",
    "bad": "31",
    "high": "1;31",
    "medium": "1;33",
    "low": "1;34",
}
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
    ``verbose``: the size and hash of each prompt, the tokens, cost and time of each step, who saw what.
    ``json``: the run record goes to standard output, everything else to standard error.
    """

    stream: bool | None = None
    quiet: bool = False
    verbose: bool = False
    json: bool = False


class InOrder:
    """Holds the events of calls that run at once until those before them in the plan have been shown.

    The answer of a call that does not run alone is shown only when it is complete.
    """

    def __init__(self) -> None:
        self._held: dict[int, list[StepEvent]] = {}
        self._first = 0

    def take(self, event: Event) -> Iterator[Event]:
        """The events to show now."""
        if not isinstance(event, Concurrent):
            yield from self.release()
            yield event
            return
        if not isinstance(event.event, (TextDelta, Thinking)):
            self._held.setdefault(event.call, []).append(event.event)
        while held := self._held.pop(self._first, None):
            yield from held
            self._first += isinstance(held[-1], StepFinished)
        if self._first == event.of:  # the next event may be of other calls that run at once
            self._first = 0

    def release(self) -> Iterator[Event]:
        """The events that are still held, because a call before them did not finish, or at the end of all."""
        for call in sorted(self._held):
            yield from self._held.pop(call)
        self._first = 0


class Renderer(Protocol):
    """Shows a run, in a ``with`` block that yields a function for its events.

    ``show`` gets them in the order of the plan, ``watch`` those of calls that run at once as they happen.
    ``close`` restores the terminal; calling it again does nothing.
    """

    _order: InOrder

    def show(self, event: Event) -> None: ...

    def watch(self, event: Event) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Callable[[Event], None]:
        self._order = InOrder()
        return self._take

    def _take(self, event: Event) -> None:
        self.watch(event)
        for each in self._order.take(event):
            self.show(each)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for event in self._order.release():
                self.show(event)
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
    return PlainRenderer(options, Output(stream), environ)


def is_interactive(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether ``stream`` is a terminal that can redraw, and somebody watches it.

    pre-commit runs its hooks in a terminal, but shows what they print as a log; so do some runners.
    """
    logged = environ.get("PRE_COMMIT") or environ.get("GITHUB_ACTIONS") == "true"
    dumb = environ.get("TERM", "").lower() in ("dumb", "unknown")
    return stream.isatty() and not logged and not dumb


class PlainRenderer(Renderer):
    """Writes each line as soon as it is known, and flushes it. Nothing is redrawn."""

    def __init__(self, options: Display, output: Output, environ: Mapping[str, str]) -> None:
        self._options = options
        self._output = output
        self._colour = environ.get("FORCE_COLOR", "0") not in ("", "0") and not environ.get("NO_COLOR")
        # A runner executes the commands that it finds in a log, so lines are checked only when complete.
        self._by_line = environ.get("GITHUB_ACTIONS") == "true"
        self._stream = sanitize.TerminalStream()
        self._held = ""
        self._streamed = False
        self._mid_line = False
        self._said: set[Message] = set()
        self._told: set[Receipt] = set()
        self._shown: list[StepResult] = []
        self._mark = ""

    def watch(self, event: Event) -> None:
        """Nothing is redrawn, so there is nothing to show before its turn."""

    def close(self) -> None:
        self._end_stream()
        self._output.flush()

    def show(self, event: Event) -> None:
        if self._options.quiet:
            for last in event.result.last_answers if isinstance(event, RunFinished) else ():
                self._write_answer(last)
            self._write_lines(wording.narrate_quietly(event))
            return
        match event:
            case TextDelta():
                if self._options.stream:
                    self._write_piece(event.text)
                return
            case RunStarted(mode="scripted"):  # a mock's own answer says that it is a mock
                self._mark = "scripted · "
            case StepStarted():
                self._said.clear()
                self._streamed = False
                name = f"{self._mark}{sanitize.one_line(event.id, 60)}"
                title = f"{name} ({wording.place(event)}) {wording.actor(event)}"
                self._write_lines([Message(f"== {title} ==")])
            case StepFinished(replayed=False, result=StepResult(skipped=None)):
                self._end_stream()
                self._shown.append(event.result)
                if not self._streamed:
                    self._write_answer(event.result)
                if self._options.verbose:
                    self._write_lines([Message(wording.step_spent(event.result), "note")])
        # A backend may report the same thing both while it works and in its result.
        event = wording.without_repeats(event, self._told)
        lines = wording.narrate(event, verbose=self._options.verbose, shown=self._shown)
        self._write_lines([line for line in lines if line not in self._said])
        self._said.update(lines)

    def _write_answer(self, result: StepResult) -> None:
        text = sanitize.terminal(result.content).strip("\n")
        self._write((text or "(no answer)") + "\n")

    def _write_piece(self, text: str) -> None:
        text = self._held + self._stream.feed(text)
        cut = text.rfind("\n") + 1 if self._by_line else len(text)
        self._held = text[cut:]
        self._streamed = True
        if text[:cut]:
            self._write(text[:cut])

    def _end_stream(self) -> None:
        """Write what was held back, and end a line that the stream left open."""
        rest = self._held + self._stream.close()
        self._held = ""
        if rest:
            self._write(rest)
        if self._mid_line:
            self._write("\n")

    def _write_lines(self, lines: Iterable[Message]) -> None:
        for line in lines:
            self._end_stream()
            text, loud, colour = line.labelled, line.loud, _COLOUR.get(line.tone)
            if self._colour and colour:
                painted = f"\x1b[{colour}m{text[loud]}\x1b[0m"
                text = f"{text[: loud.start]}{painted}{text[loud.stop :]}"
            self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        if self._by_line:
            text = sanitize.runner(text)
        self._mid_line = not text.endswith("\n")
        self._output.write(text)
        self._output.flush()
