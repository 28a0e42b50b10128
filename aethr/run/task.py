"""The task of a run: from the command line, standard input, or an editor, as in ``git commit``."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from aethr.base.errors import UsageError

MAX_BYTES = 1 << 20

_TEMPLATE = """
# What should this run do? Lines that start with # are ignored; an empty text stops the run.
"""


def read(given: str | None, environ: Mapping[str, str], stdin: IO[bytes]) -> str:
    """The task's text. Raises ``UsageError`` if it is missing, empty, too long, or not UTF-8."""
    if given is None:
        text = _edit(environ)
    elif given == "-":
        text = _decode(stdin.read(MAX_BYTES + 1), "standard input")
    else:
        text = given
    if not text.strip():
        raise UsageError("the task is empty", 'Say what to do: aethr run "review my changes".')
    if "\0" in text or len(text) > MAX_BYTES:
        raise UsageError(
            "the task has a NUL character, or is over one megabyte", "Put large material into a file: source."
        )
    return text.encode("utf-8", "replace").decode("utf-8").strip("\n")


def _edit(environ: Mapping[str, str]) -> str:
    """The task as written in the user's editor. It needs the terminal, so it does not run in ``process``."""
    editor = environ.get("VISUAL") or environ.get("EDITOR")
    if not sys.stdin.isatty() or not editor:
        raise UsageError(
            "no task given", 'Say what to do: aethr run "review my changes"; or set EDITOR to write it there.'
        )
    with tempfile.TemporaryDirectory(prefix="aethr-task-") as folder:
        file = Path(folder, "TASK.md")
        file.write_text(_TEMPLATE, encoding="utf-8")
        try:
            code = subprocess.run([*shlex.split(editor), os.fspath(file)], check=False).returncode
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"the editor '{editor}' cannot be started: {reason}", "Set EDITOR.") from error
        if code != 0:
            raise UsageError(f"the editor '{editor}' ended with exit code {code}", "The run was not started.")
        text = _decode(file.read_bytes(), "the edited task")
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text", "Convert it to UTF-8.") from error
