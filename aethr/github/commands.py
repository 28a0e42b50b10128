"""What the runner reads: outputs and summary after the step, workflow commands in the log.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from aethr.base import disk
from aethr.base.sanitize import one_line
from aethr.output.report import command_property, command_text

_VALUE = re.compile(r"[^\r\n]{0,4000}")
_NAME = re.compile(r"[a-z][a-z-]*")


def write_outputs(file: Path | None, values: Mapping[str, str]) -> None:
    """Set outputs of the step, short and of one line each; a name may be set again. Raises ``DiskError``."""
    for name, value in values.items():
        assert _NAME.fullmatch(name), name
        assert _VALUE.fullmatch(value), name
    _append(file, "".join(f"{name}={value}\n" for name, value in values.items()))


def write_summary(file: Path | None, text: str) -> None:
    """Add Markdown to the summary of the job. Raises ``DiskError``."""
    _append(file, text)


def annotation(level: str, title: str, text: str) -> str:
    """A line that the runner shows as an ``error``, ``warning`` or ``notice`` on the page of the run."""
    return f"::{level} title={command_property(one_line(title))}::{command_text(one_line(text, 2000))}"


@contextmanager
def stop_commands(log: TextIO) -> Iterator[None]:
    """Make the runner print every line that is logged within, and obey none as a command."""
    token = secrets.token_hex(16)
    _say(log, f"::stop-commands::{token}\n")
    try:
        yield
    except BaseException:
        with suppress(OSError):  # report what ended the block rather than a closed log
            _say(log, f"\n::{token}::\n")
        raise
    _say(log, f"\n::{token}::\n")


def _say(log: TextIO, text: str) -> None:
    log.write(text)
    log.flush()


def _append(file: Path | None, text: str) -> None:
    if file is None:
        return
    with (
        disk.failing_as(f"{file}: cannot be written"),
        file.open("a", encoding="utf-8", errors="replace", newline="\n") as stream,
    ):
        stream.write(text)
