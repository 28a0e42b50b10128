"""An interactive terminal: a live region while a step runs, then its panel. The only user of Rich.

The region is a line for each call that runs and, if only one does, the end of the text so far. One thread
draws it, at most ``FRAMES`` times a second and only if it changed, however fast the text arrives.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TextIO, cast

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from rich.theme import Theme

from aethr.base import sanitize
from aethr.base.records import (
    Concurrent,
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
    "high": "bold red",
    "medium": "bold yellow",
    "low": "bold blue",
}
_SEVERITY = re.compile(r"\s*(\[(high|medium|low)\])")
"""How the answer that Aethr asks for begins a finding."""


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
            theme=Theme({"markdown.code": "cyan"}),  # Rich's own is on black, also on a light terminal
            _environ=environ,
        )
        self._region: Region | None = None
        self._at_once = False
        self._mark = ""
        self._said: set[Message] = set()
        self._told: set[Receipt] = set()
        self._shown: list[StepResult] = []

    def close(self) -> None:
        if self._region is not None:
            self._region.stop()
            self._region = None  # only now: after a signal in the middle, the renderer closes once more

    def watch(self, event: Event) -> None:
        """Draw a line for each call that runs at once with others."""
        self._at_once = isinstance(event, Concurrent)
        if isinstance(event, Concurrent):
            self._draw(event.event, event.call, tail=False)

    def _draw(self, event: Event, call: int, *, tail: bool) -> None:
        match event:
            case TextDelta() if self._region is not None:
                self._region.feed(call, event.text)
            case Thinking() if self._region is not None:
                self._region.think(call)
            case StepStarted():
                if self._region is None:
                    self._region = Region(self._console, tail=tail)
                self._region.begin(call, event)
            case StepFinished() if self._region is not None:
                self._region.end(call)
                if not self._region.calls:
                    self.close()

    def show(self, event: Event) -> None:
        if not self._at_once:
            self._draw(event, 0, tail=self._options.stream is not False)
        match event:
            case RunStarted():
                self._mark = "" if event.mode == "live" else f"{event.mode} · "
            case StepStarted():
                self._said.clear()
            case StepFinished():
                if event.result.skipped is None and not event.replayed and not self._options.quiet:
                    self._print_panels([event.result])
            case RunFinished() if self._options.quiet:
                self._print_panels(event.result.last_answers)
        quiet, verbose = self._options.quiet, self._options.verbose
        event = wording.without_repeats(event, self._told)
        lines = (
            wording.narrate_quietly(event)
            if quiet
            else wording.narrate(event, verbose=verbose, shown=self._shown)
        )
        for line in lines:
            if line not in self._said:  # a backend may report the same while it works and in its result
                self._said.add(line)
                text = Text(line.labelled, overflow="fold")
                text.stylize(_STYLE.get(line.tone, ""), line.loud.start, line.loud.stop)
                self._console.print(text)

    def _print_panels(self, results: Iterable[StepResult]) -> None:
        from rich.panel import Panel

        for result in results:
            self._shown.append(result)
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


class RunningCall:
    """What is known about a call that runs. ``characters`` counts those of its answer so far."""

    def __init__(self, step: StepStarted) -> None:
        self._step = step
        self._began = time.monotonic()
        self.characters = 0
        self.thinking_since: float | None = None

    def describe(self) -> Text:
        """Its line."""
        parts = [
            f"step {wording.place(self._step)} {sanitize.one_line(self._step.id, 40)}",
            wording.actor(self._step),
            f"{int(time.monotonic() - self._began)} s",
        ]
        if self.thinking_since is not None and not self.characters:
            parts.append(f"thinking, {int(time.monotonic() - self.thinking_since)} s")
        if self.characters:
            parts.append(f"~{wording.tokens(-(-self.characters // CHARACTERS_PER_TOKEN))}")
        return Text(" · ".join(parts), "dim", no_wrap=True, overflow="ellipsis")


class Region:
    """The live region while calls run: a line for each and, with ``tail``, the end of the text so far.

    After ``begin``, only its own thread draws it.
    """

    def __init__(self, console: Console, *, tail: bool) -> None:
        self.calls: dict[int, RunningCall] = {}
        self._console = console
        self._show_tail = tail
        self._stream = sanitize.TerminalStream()
        self._tail = ""
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

    def begin(self, call: int, step: StepStarted) -> None:
        """Add a call's line; the first one shows the region."""
        self.calls = {**self.calls, call: RunningCall(step)}  # a new dict: the thread may read the old one
        if not self._thread.is_alive():
            self._live.start(refresh=True)
            self._thread.start()

    def think(self, call: int) -> None:
        """Note that the model works, but has not sent any text yet."""
        if self.calls[call].thinking_since is None:
            self.calls[call].thinking_since = time.monotonic()

    def feed(self, call: int, text: str) -> None:
        self.calls[call].characters += len(text)
        if self._show_tail:
            self._tail = (self._tail + self._stream.feed(text))[-TAIL:]

    def end(self, call: int) -> None:
        """Remove a call's line."""
        self.calls = {number: each for number, each in self.calls.items() if number != call}

    def stop(self) -> None:
        """Remove the region and show the cursor again."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self._tail = ""
        try:
            self._live.stop()
        except IndexError:  # a signal stopped its start, so Rich removes a hook that it has not added
            pass
        finally:
            self._console.show_cursor(True)

    def _tick(self) -> None:
        while not self._done.wait(1 / FRAMES):
            calls = list(self.calls.values())
            lines = [call.describe().plain for call in calls]
            state = (lines, [call.characters for call in calls], self._console.size)
            if state == self._drawn:
                continue
            self._drawn = state
            try:
                self._live.refresh()
            except (OSError, ValueError):
                return  # the terminal is gone; the main thread gets the same error and reports it

    def _render(self) -> RenderableType:
        lines = [call.describe() for call in self.calls.values()]
        rows = self._console.height - 1 - len(lines)
        if not self._show_tail or not self._tail or rows < 1:
            return Group(*lines)
        return Group(*lines, *last_rows(self._tail, self._console, rows))


class Inert:
    """Draws its content without any control character, and the severity of each finding in its colour.

    The text was made safe before, but a Markdown parser resolves entities and percent signs after that.
    """

    def __init__(self, inner: RenderableType) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self._inner, options):
            if control is not None:
                continue
            safe = sanitize.terminal(text)
            if found := _SEVERITY.match(safe):
                severity = Style.parse(_STYLE[cast("Tone", found[2])])
                yield Segment(safe[: found.start(1)], style)
                yield Segment(found[1], severity if style is None else style + severity)
                safe = safe[found.end() :]
            yield Segment(safe, style)


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
    for token in body.parsed:
        if token.type == "fence" and token.info.strip() == "suggestion":  # else like the evidence above it
            token.info = "diff"
            token.content = "".join(f"+ {line}" for line in token.content.splitlines(keepends=True))
    return body
