"""A terminal to look at: a program on a real pty, and what a person then sees, scrollback and all."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.warm import start_aethr

_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07|[\r\n\x08]|[^\x1b]")


def on_terminal(
    words: Sequence[str], cwd: Path, env: Mapping[str, str], columns: int = 80, rows: int = 24
) -> tuple[int, str]:
    """Run ``aethr`` on a terminal of this size; its exit code and every byte that it wrote."""
    import pty
    import termios

    leader, follower = pty.openpty()
    if sys.version_info >= (3, 11):  # before, COLUMNS and LINES must do
        termios.tcsetwinsize(follower, (rows, columns))
    size = {"COLUMNS": str(columns), "LINES": str(rows)}
    environ = {**os.environ, "TERM": "xterm-256color", **size, **env}
    child = start_aethr(words, cwd, environ, (follower, follower, follower), new_session=True)
    os.close(follower)
    chunks = []
    while chunk := _read(leader):
        chunks.append(chunk)
    os.close(leader)
    return child.wait(), b"".join(chunks).decode("utf-8", "replace")


def _read(leader: int) -> bytes:
    ready, _, _ = select.select([leader], [], [], 60)
    assert ready, "nothing more came"
    try:
        return os.read(leader, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


class Screen:
    """What Aethr's output leaves on a terminal. It knows just the sequences that Rich uses to redraw.

    ``lines`` are the scrollback and the screen; a cursor cannot go back above the screen.
    """

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._columns, self._rows = columns, rows
        self._row = self._column = 0
        self._style = ""
        self._cells: list[list[tuple[str, str]]] = [[]]

    def feed(self, text: str) -> Screen:
        for token in _TOKEN.finditer(text):
            if token[2]:
                self._control(token[1], token[2])
            elif token[0] == "\n":
                self._to(self._row + 1, self._column)
            elif token[0] == "\r":
                self._column = 0
            elif not token[0].startswith("\x1b"):
                self._put(token[0])
        return self

    @property
    def lines(self) -> list[str]:
        """The text of each line."""
        return ["".join(char for char, _ in row).rstrip() for row in self._cells]

    def ansi(self) -> str:
        """The same with its colours."""
        return "\n".join("".join(f"{style}{char}\x1b[0m" for char, style in row) for row in self._cells)

    def _put(self, char: str) -> None:
        if self._column == self._columns:
            self._to(self._row + 1, 0)
        row = self._cells[self._row]
        row += [(" ", "")] * (self._column + 1 - len(row))
        row[self._column] = (char, self._style)
        self._column += 1

    def _to(self, row: int, column: int) -> None:
        top = max(0, len(self._cells) - self._rows)
        self._row, self._column = max(row, top), column
        while len(self._cells) <= self._row:
            self._cells.append([])

    def _control(self, arguments: str, name: str) -> None:
        if name == "m":
            self._style = "" if arguments in ("", "0") else f"{self._style}\x1b[{arguments}m"
        elif name == "A":
            self._to(self._row - int(arguments or 1), self._column)
        elif name == "K":
            assert arguments == "2", "erases more than Rich does"
            self._cells[self._row] = []
        else:
            assert (arguments, name) in (("?25", "l"), ("?25", "h")), (
                f"an unexpected sequence {arguments}{name}"
            )
