"""Plain lines, for pipes, logs, hooks and dumb terminals. Nothing is redrawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aethr.base import sanitize
from aethr.base.records import (
    Event,
    RunFinished,
    RunStarted,
    StepFinished,
    StepResult,
    StepStarted,
    TextDelta,
)
from aethr.output import wording
from aethr.output.render import Display, Output, Renderer
from aethr.output.wording import Message, Tone

_COLOUR: dict[Tone, str] = {"warning": "33", "good": "32", "bad": "31"}


class PlainRenderer(Renderer):
    """Writes each line as soon as it is known, and flushes it."""

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
        self._mark = ""

    def close(self) -> None:
        self._end_stream()
        self._output.flush()

    def show(self, event: Event) -> None:
        if self._options.quiet:
            self._show_quiet(event)
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
                if not self._streamed:
                    self._write_answer(event.result)
                if self._options.verbose:
                    self._write_lines([Message(wording.step_spent(event.result), "note")])
        # A backend may report the same thing both while it works and in its result.
        lines = wording.narrate(event, verbose=self._options.verbose)
        self._write_lines([line for line in lines if line not in self._said])
        self._said.update(lines)

    def _show_quiet(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._write_lines(wording.unreal(event))
        elif isinstance(event, RunFinished):
            if event.result.steps:
                self._write_answer(event.result.steps[-1])
            self._write_lines(wording.doubts(event.result))

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
            self._write(f"{line.labelled}\n", _COLOUR.get(line.tone))

    def _write(self, text: str, colour: str | None = None) -> None:
        if self._by_line:
            text = sanitize.runner(text)
        self._mid_line = not text.endswith("\n")
        if self._colour and colour:
            text = f"\x1b[{colour}m{text[:-1]}\x1b[0m\n"
        self._output.write(text)
        self._output.flush()
