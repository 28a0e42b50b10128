"""An interactive terminal: a live region while a step runs, then its panel. The only user of Rich.

The region is a status line and the end of the text so far. One thread draws it, at most ``FRAMES`` times
a second and only if it changed, however fast the text arrives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import TextIO, cast

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from aethr.base import sanitize
from aethr.base.records import (
    Event,
    Receipt,
    RunFinished,
    RunStarted,
    StepFinished,
    StepResult,
    StepStarted,
    TextDelta,
    Thinking,
)
from aethr.output import wording
from aethr.output.render import Display, Output, Renderer
from aethr.output.wording import Message, Tone

FRAMES = 8
TAIL = 1 << 14
"""How many characters of the streaming text are kept: more than a large screen holds."""
LONGEST_MARKDOWN = 100_000
"""Answers with more characters are shown as plain text, not as Markdown."""
CHARACTERS_PER_TOKEN = 4

_STYLE: dict[Tone, str] = {
    "note": "dim",
    "warning": "yellow",
    "tool": "dim cyan",
    "good": "bold green",
    "bad": "bold red",
}


class RichRenderer(Renderer):
    """Panels above, the live region of the running step below, plain lines for everything else."""

    def __init__(self, options: Display, output: Output, environ: Mapping[str, str]) -> None:
        self._options = options
        self._console = Console(
            file=cast("TextIO", output),
            force_terminal=True,
            markup=False,
            emoji=False,
            highlight=False,
            _environ=environ,
        )
        self._region: Region | None = None
        self._mark = ""
        self._said: set[Message] = set()
        self._told: set[Receipt] = set()

    def close(self) -> None:
        region, self._region = self._region, None
        if region is not None:
            region.stop()

    def show(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._mark = "" if event.mode == "live" else f"{event.mode} · "
            case TextDelta() if self._region is not None:
                self._region.feed(event.text)
            case Thinking() if self._region is not None:
                self._region.think()
            case StepStarted():
                self._said.clear()
                self.close()
                self._region = Region(self._console, event, tail=self._options.stream is not False)
                self._region.start()
            case StepFinished():
                self.close()
                if event.result.skipped is None and not event.replayed and not self._options.quiet:
                    self._print_panels([event.result])
            case RunFinished() if self._options.quiet:
                self._print_panels(event.result.last_answers)
        quiet, verbose = self._options.quiet, self._options.verbose
        event = wording.without_repeats(event, self._told)
        lines = wording.narrate_quietly(event) if quiet else wording.narrate(event, verbose=verbose)
        for line in lines:
            if line not in self._said:  # a backend may report the same while it works and in its result
                self._said.add(line)
                self._console.print(Text(line.labelled, _STYLE.get(line.tone, ""), overflow="fold"))

    def _print_panels(self, results: Iterable[StepResult]) -> None:
        for result in results:
            self._print_panel(result)

    def _print_panel(self, result: StepResult) -> None:
        from rich.panel import Panel

        again = f" · pass {result.iteration}" if result.iteration > 1 else ""
        title = f"{self._mark}{wording.title(result)} · {wording.actor(result)}{again}"
        self._console.print(
            Panel(
                Inert(render_markdown(result.content)),
                title=Text(title),
                title_align="left",
                subtitle=Text(wording.step_spent(result)),
                subtitle_align="right",
                border_style="dim",
            )
        )


class Region:
    """The live region while a step runs. After ``start``, only its own thread draws it."""

    def __init__(self, console: Console, step: StepStarted, *, tail: bool) -> None:
        self._console = console
        self._step = step
        self._show_tail = tail
        self._stream = sanitize.TerminalStream()
        self._tail = ""
        self._characters = 0
        self._thinking_since: float | None = None
        self._began = time.monotonic()
        self._drawn: object = None
        self._done = threading.Event()
        self._live = Live(
            console=console,
            get_renderable=self._render,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._thread = threading.Thread(target=self._tick, name="aethr-status", daemon=True)

    def start(self) -> None:
        self._live.start(refresh=True)
        self._thread.start()

    def think(self) -> None:
        """Note that the model works, but has not sent any text yet."""
        if self._thinking_since is None:
            self._thinking_since = time.monotonic()

    def feed(self, text: str) -> None:
        self._characters += len(text)
        self._tail = (self._tail + self._stream.feed(text))[-TAIL:]

    def stop(self) -> None:
        """Remove the region and show the cursor again."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self._tail = ""
        self._live.stop()

    def _tick(self) -> None:
        while not self._done.wait(1 / FRAMES):
            state = (self._status().plain, self._characters, self._console.size)
            if state == self._drawn:
                continue
            self._drawn = state
            try:
                self._live.refresh()
            except (OSError, ValueError):
                return  # the terminal is gone; the main thread gets the same error and reports it

    def _render(self) -> RenderableType:
        status = self._status()
        rows = self._console.height - 2
        if not self._show_tail or not self._tail or rows < 1:
            return status
        return Group(status, *last_rows(self._tail, self._console, rows))

    def _status(self) -> Text:
        parts = [
            f"step {wording.place(self._step)} {sanitize.one_line(self._step.id, 40)}",
            wording.actor(self._step),
            f"{int(time.monotonic() - self._began)} s",
        ]
        if self._thinking_since is not None and not self._characters:
            parts.append(f"thinking, {int(time.monotonic() - self._thinking_since)} s")
        if self._characters:
            parts.append(f"~{wording.tokens(-(-self._characters // CHARACTERS_PER_TOKEN))}")
        return Text(" · ".join(parts), "dim", no_wrap=True, overflow="ellipsis")


class Inert:
    """Draws its content without any control character.

    The text was made safe before, but a Markdown parser resolves entities and percent signs after that.
    """

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self._inner, options):
            if control is None:
                yield Segment(sanitize.terminal(text), style)


def last_rows(text: str, console: Console, rows: int) -> list[Text]:
    """The end of ``text``, wrapped to the width of the console, in at most ``rows`` rows."""
    lines = text[-rows * console.width :].split("\n")[-rows:]
    wrapped: list[Text] = []
    for line in lines:
        wrapped += Text(line, "dim", tab_size=4).wrap(console, console.width, overflow="fold")
    return wrapped[-rows:]


def render_markdown(content: str) -> RenderableType:
    """An untrusted answer as Rich draws Markdown; plain if it is empty or too long."""
    text = sanitize.terminal(content).strip("\n")
    if len(text) > LONGEST_MARKDOWN or not text.strip():
        return Text(text or "(no answer)", overflow="fold")
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown

    body = Markdown(text, code_theme="ansi_dark", hyperlinks=False)
    # Rich's own parser drops HTML tags and comments, so an answer could hide text in them.
    strict = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    body.parsed = strict.disable(["image", "entity", "autolink"]).parse(text)
    return body
