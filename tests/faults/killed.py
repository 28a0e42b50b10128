"""Run ``aethr`` many times, each time killed at another point; a program of its own.

    python -m tests.faults.killed FOLDER WORD…

For each line on standard input, a number n: run ``aethr WORD…`` in a child that kills itself with SIGKILL
at the n-th event that matters to its checkpoints in FOLDER (0: never), then print ``CODE EVENTS``: the
child's exit status and how many events it passed. httpx is imported once, before the children are forked.

The events are those that Python itself reports: a file in FOLDER is opened, renamed or removed, or a
connection is opened (``sys.addaudithook``); and each write and each flush to the disk that the module
``disk`` asks for (``sys.setprofile``). Nothing of Aethr is touched.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from aethr.base import disk
from aethr.cli import main
from aethr.llm import connection

WATCHED = ("open", "os.rename", "os.remove", "socket.connect")
TO_DISK = ("write", "fsync")


def watch(folder: str, passes: Callable[[], None]) -> None:
    """Call ``passes`` just before each event takes place."""

    def audit(event: str, details: tuple[object, ...]) -> None:
        if event in WATCHED and (event == "socket.connect" or str(details[0]).startswith(folder)):
            passes()

    def profile(frame: FrameType, event: str, called: object) -> None:
        ours = event == "c_call" and frame.f_code.co_filename == disk.__file__
        if ours and getattr(called, "__name__", "") in TO_DISK:
            passes()

    sys.addaudithook(audit)
    sys.setprofile(profile)


def child(folder: str, words: list[str], deadly: int, report: int) -> int:
    """The forked process: silent, watched, gone when it ends."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    count = 0

    def passes() -> None:
        nonlocal count
        count += 1
        os.pwrite(report, b"%8d" % count, 0)
        if count == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(folder, passes)
    return main(words)


def run(folder: str, words: list[str], deadly: int) -> tuple[int, int]:
    """The status of a run that is killed at event ``deadly``, and the number of events up to there."""
    report = os.memfd_create("events")
    process = os.fork()
    if process == 0:
        os._exit(child(folder, words, deadly, report))
    _, status = os.waitpid(process, 0)
    count = int(os.pread(report, 8, 0) or b"0")
    os.close(report)
    return os.waitstatus_to_exitcode(status), count


if __name__ == "__main__":
    connection.load()
    for line in sys.stdin:
        code, count = run(sys.argv[1], sys.argv[2:], int(line))
        sys.stdout.write(f"{code} {count}\n")
        sys.stdout.flush()
