"""Running a command of the project for its output: a context source, and a condition of a loop.

No shell runs: the words are split as a shell would split them, nothing more. The command gets the user's
environment without keys, a closed standard input, and a deadline.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from aethr.base import process, secrecy
from aethr.base.errors import ProcessError, UsageError
from aethr.base.records import (
    CommandCheck,
    Entry,
    Fragment,
    Piece,
    Remark,
    View,
)
from aethr.base.sanitize import reveal

TIMEOUT_S = 600.0
NOT_RUN = "not run without a model"
HEAD_BYTES, TAIL_BYTES = 20_000, 40_000
"""Kept of a long output: the beginning and, longer, the end with the summary of a test runner."""


class Evidence(NamedTuple):
    """What a command printed on both outputs, in order, and how it ended.

    ``ended`` is one line (``exit status 1``); ``omitted`` counts the bytes cut from the middle.
    """

    ended: str
    passed: bool
    output: str
    size: int = 0
    omitted: int = 0


def gather(words: str, root: Path, environ: Mapping[str, str]) -> Evidence:
    """Run a command in the project's root. Its failure is evidence too, not an error."""
    kept, passed = _Kept(), False
    # The user's own environment, for their own command, but without keys and our switches.
    env = {
        name: value
        for name, value in environ.items()
        if not secrecy.holds_key(name) and not name.startswith("AETHR_")
    }
    env |= {"NO_COLOR": "1", "TERM": "dumb"}
    try:
        with process.stream(
            shlex.split(words), cwd=root, env=env, timeout_s=TIMEOUT_S, merged=True
        ) as running:
            for chunk in running.chunks():
                kept.add(chunk)
            code = running.finish().code
        ended = f"exit status {code}" if code >= 0 else f"killed by signal {-code}"
        passed = code == 0
    except (ProcessError, ValueError) as error:
        ended = f"did not finish: {error}"
    return Evidence(ended, passed, kept.text(), kept.size, kept.omitted)


def check(words: str, root: Path) -> CommandCheck:
    """Whether the command passes now: the condition ``until_command_passes``."""
    found = gather(words, root, os.environ)
    return CommandCheck(words, found.passed, found.ended)


def not_run(words: str) -> CommandCheck:
    """The condition without a model: no command runs, and a mock's loop ends after its first pass."""
    return CommandCheck(words, True, NOT_RUN)


def require(words: str, root: Path) -> None:
    """Raise ``UsageError`` for a command whose program is missing, before the first paid call."""
    program = shlex.split(words)[0]
    found = shutil.which(program) or (shutil.which(str(root / program)) if os.sep in program else None)
    if found is None:
        raise UsageError(f"the command '{words}': '{program}' is not found", "Install it, or fix its name.")


def source(argument: str, view: View, _budget_chars: int, /) -> Iterator[Fragment]:
    """The context source ``command:<words>``; runs each time the context is collected."""
    if not view.run_commands:
        instead = "its output will stand here" if view.preview else NOT_RUN
        yield Remark(f"$ {argument}: {instead}")
        return
    found = gather(argument, view.root, os.environ)
    text, revealed = reveal(found.output)
    note = f"{found.omitted:,} bytes left out of the middle" if found.omitted else None
    yield Entry(argument, 1, label=f"[$ {argument}: {found.ended}]\n", note=note)
    yield Piece(text, found.size - found.omitted, revealed=revealed)


class _Kept:
    """The first and the last bytes of a stream, in bounded memory."""

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        room = HEAD_BYTES - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:] if room > 0 else chunk
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    @property
    def omitted(self) -> int:
        return max(0, self.size - HEAD_BYTES - TAIL_BYTES)

    def text(self) -> str:
        if not self.omitted:
            return (bytes(self._head) + bytes(self._tail)).decode("utf-8", "replace")
        head = bytes(self._head).decode("utf-8", "replace")
        tail = bytes(self._tail[-TAIL_BYTES:]).decode("utf-8", "replace")
        return f"{head}\n[… {self.omitted:,} bytes left out …]\n{tail}"
