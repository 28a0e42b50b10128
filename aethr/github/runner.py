"""What a GitHub runner passes to a step, typed, and what it reads: outputs, summary, commands in the log.

https://docs.github.com/en/actions/reference/workflows-and-actions/variables
https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from aethr.base import disk, network
from aethr.base.errors import UsageError
from aethr.base.outside import json_value
from aethr.base.sanitize import one_line
from aethr.output.report import command_property, command_text

MAX_EVENT_BYTES = 32 << 20
"""GitHub caps an event's payload at 25 MB."""

_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_NUMBER = re.compile("[0-9]{1,18}")
_OUTPUT = re.compile(r"[a-z][a-z-]*=[^\r\n]{0,4000}")


@dataclass(frozen=True, slots=True)
class Runner:
    """One attempt of one run of one job.

    ``run_id`` grows from run to run and stays the same when a run is repeated; ``attempt`` counts from 1.
    ``output`` and ``summary`` are the files that the runner reads after the step.
    """

    repository: str
    event_name: str
    event: Mapping[str, Any] = field(repr=False)
    sha: str
    ref: str
    actor: str
    run_id: int
    attempt: int
    job: str
    workspace: Path
    temp: Path
    server_url: str
    api_url: str
    graphql_url: str
    output: Path | None = None
    summary: Path | None = None

    @property
    def run_url(self) -> str:
        return f"{self.server_url}/{self.repository}/actions/runs/{self.run_id}"


def read(environ: Mapping[str, str]) -> Runner:
    """Read the environment of a runner. Raises ``UsageError`` outside of one."""
    if environ.get("GITHUB_ACTIONS") != "true":
        raise UsageError(
            "`aethr action` runs only inside GitHub Actions",
            "On your machine, use `aethr run --diff BASE...HEAD`.",
        )
    server = _url(environ, "GITHUB_SERVER_URL", "https://github.com", "file")
    api = _url(environ, "GITHUB_API_URL", "https://api.github.com")
    return Runner(
        repository=_given(environ, "GITHUB_REPOSITORY", _REPOSITORY.fullmatch),
        event_name=_given(environ, "GITHUB_EVENT_NAME"),
        event=_read_event(Path(_given(environ, "GITHUB_EVENT_PATH"))),
        sha=environ.get("GITHUB_SHA", ""),
        ref=environ.get("GITHUB_REF", ""),
        actor=environ.get("GITHUB_ACTOR", ""),
        run_id=int(_given(environ, "GITHUB_RUN_ID", _NUMBER.fullmatch)),
        attempt=int(_given(environ, "GITHUB_RUN_ATTEMPT", _NUMBER.fullmatch)),
        job=environ.get("GITHUB_JOB", ""),
        # A path has to fit on the one line of an output.
        workspace=Path(_given(environ, "GITHUB_WORKSPACE", str.isprintable)),
        temp=Path(_given(environ, "RUNNER_TEMP", str.isprintable)),
        server_url=server,
        api_url=api,
        graphql_url=_url(environ, "GITHUB_GRAPHQL_URL", f"{api}/graphql"),
        output=_file(environ, "GITHUB_OUTPUT"),
        summary=_file(environ, "GITHUB_STEP_SUMMARY"),
    )


def _given(environ: Mapping[str, str], name: str, fits: Callable[[str], object] = bool) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise UsageError(f"{name} is not set", "Run this in a GitHub runner, which sets it.")
    if not fits(value):
        raise UsageError(f"{name} has a form that GitHub does not use: {value[:100]!r}")
    return value


def _url(environ: Mapping[str, str], name: str, default: str, *schemes: str) -> str:
    value = environ.get(name, "").strip() or default
    try:
        if "@" in value or not value.isascii():
            raise ValueError("it has a character that is not part of one")
        if not any(value.startswith(f"{scheme}:") and value.isprintable() for scheme in schemes):
            network.address(value)
    except ValueError as error:
        raise UsageError(f"{name} is not an http or https address: {error}") from None
    return value.rstrip("/")


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    return Path(value) if value else None


def _read_event(path: Path) -> Mapping[str, Any]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe could block forever
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            payload = json_value(file.read(MAX_EVENT_BYTES))
        if not isinstance(payload, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"GITHUB_EVENT_PATH: {path} is not an event: {said}") from error
    return payload


def write_outputs(file: Path | None, values: Mapping[str, str]) -> None:
    """Set outputs of the step, short and of one line each; a name may be set again. Raises ``DiskError``."""
    lines = [f"{name}={value}" for name, value in values.items()]
    assert all(map(_OUTPUT.fullmatch, lines)), list(values)
    append(file, "".join(f"{line}\n" for line in lines))


def append(file: Path | None, text: str) -> None:
    """Add text to a file that the runner reads: Markdown to ``Runner.summary``. Raises ``DiskError``."""
    if file is None:
        return
    with (
        disk.failing_as(f"{file}: cannot be written"),
        file.open("a", encoding="utf-8", errors="replace", newline="\n") as stream,
    ):
        stream.write(text)


def annotation(level: str, title: str, text: str) -> str:
    """A line that the runner shows as an ``error``, ``warning`` or ``notice`` on the page of the run."""
    return f"::{level} title={command_property(one_line(title))}::{command_text(one_line(text, 2000))}"


@contextmanager
def stop_commands(log: TextIO) -> Iterator[None]:
    """Make the runner print every line that is logged within, and obey none as a command."""
    token = secrets.token_hex(16)

    def say(text: str) -> None:
        log.write(text)
        log.flush()

    say(f"::stop-commands::{token}\n")
    try:
        yield
    except BaseException:
        with suppress(OSError):  # report what ended the block rather than a closed log
            say(f"\n::{token}::\n")
        raise
    say(f"\n::{token}::\n")
