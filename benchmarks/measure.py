"""What one command takes, and many of them in turns."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

LAUNCH = Path(__file__).parent / "launch.py"
MAXRSS_PER_MB = 1e6 if sys.platform == "darwin" else 1e6 / 1024


class Failed(Exception):  # noqa: N818 - it names what happened
    """A command did not do its work, so there is nothing to measure; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program to measure. ``sink`` is what its output goes to; at ``mark`` in it the first token is there.

    ``run`` raises ``Failed`` unless it exits with ``code``.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    sink: Literal["null", "pipe", "terminal"] = "null"
    mark: bytes = b""
    code: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What a command took: seconds, megabytes, bytes. ``first_s`` is from its start to its mark.

    ``written`` and ``writes`` count what it and its children wrote, -1 where the system does not say.
    """

    wall_s: float
    cpu_s: float = 0.0
    rss_mb: float = 0.0
    written: int = -1
    writes: int = -1
    first_s: float = 0.0
    output: bytes = b""


Work = Callable[[], Sample]


def run(command: Command) -> Sample:
    """Run a command to its end, reading what it says as it comes."""
    reader, report = os.pipe()
    ours, theirs = _sink(command)
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", LAUNCH, str(report), *command.argv],
        cwd=command.cwd,
        env=command.env,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs if command.sink == "terminal" else subprocess.PIPE,
        pass_fds=[report],
    )
    os.close(report)
    if theirs != subprocess.DEVNULL:
        os.close(theirs)
    output, marked_at = _drain(ours, command.mark) if ours is not None else (b"", 0.0)
    stderr = child.communicate()[1] or b""
    with os.fdopen(reader, "rb") as told:
        fields = told.read().split()
    if child.returncode != command.code:
        shown = (stderr or output)[-2000:].decode("utf-8", "replace")
        raise Failed(f"{' '.join(command.argv)}: exit code {child.returncode}\n{shown}")
    began, wall, cpu, rss = map(float, fields[:4])
    if command.mark and not marked_at:
        raise Failed(f"{' '.join(command.argv)}: never said {command.mark!r}")
    return Sample(
        wall, cpu, rss / MAXRSS_PER_MB, int(fields[4]), int(fields[5]), max(0.0, marked_at - began), output
    )


def timed(act: Callable[[], object]) -> Sample:
    """What a call in this process takes."""
    began = time.perf_counter()
    act()
    return Sample(time.perf_counter() - began)


def interleaved(work: Mapping[str, Work], runs: int) -> dict[str, list[Sample]]:
    """Everything in turns, ``runs`` times after a first round that does not count.

    Every other round goes backwards, so that none always follows the same one.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in work}
    for number in range(runs + 1):
        for name in list(work)[:: -1 if number % 2 else 1]:
            sample = work[name]()
            if number:
                samples[name].append(sample)
    return samples


def commands(work: Mapping[str, Command], runs: int) -> dict[str, list[Sample]]:
    """``interleaved`` for commands."""
    return interleaved({name: partial(run, command) for name, command in work.items()}, runs)


def take(samples: Sequence[Sample], field: str) -> list[float]:
    """One field of all samples."""
    return [getattr(sample, field) for sample in samples]


def _sink(command: Command) -> tuple[int | None, int]:
    """Our end to read from, and what the command writes to."""
    if command.sink == "null":
        return None, subprocess.DEVNULL
    return pty.openpty() if command.sink == "terminal" else os.pipe()


def _drain(reader: int, mark: bytes) -> tuple[bytes, float]:
    """All that comes, and when the mark was there, 0 for never."""
    output, marked_at = bytearray(), 0.0
    while chunk := _read(reader):
        start = max(0, len(output) - len(mark))
        output += chunk
        if mark and not marked_at and output.find(mark, start) >= 0:
            marked_at = time.monotonic()
    os.close(reader)
    return bytes(output), marked_at


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 16)
    except OSError:  # how Linux says that the other side of a terminal is closed
        return b""
