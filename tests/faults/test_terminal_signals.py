"""Ctrl-C, a closed terminal and SIGTERM while a model is silent, on a real terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from aethr.engine import checkpoint
from tests.live import TASK, TWO_STEPS, serving
from tests.model_server import ModelServer, Reply, error, text
from tests.support import Repo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs a pty"),
]


@dataclass(frozen=True)
class Way:
    """How a run is stopped, at what moment, and its exit code."""

    name: str
    reply: Reply
    stop: Literal["Ctrl-C", "TERM", "close"]
    code: int


WAYS = (
    Way("Ctrl-C before the first byte", Reply(fault="never"), "Ctrl-C", 130),
    Way("Ctrl-C in the middle of an answer", Reply(("Hm", "…"), fault="stall"), "Ctrl-C", 130),
    Way("Ctrl-C between two attempts", error(429, Retry_After="30"), "Ctrl-C", 130),
    Way("Ctrl-C in a drip", Reply(fault="drip", delay_s=0.01), "Ctrl-C", 130),
    Way("SIGTERM before the first byte", Reply(fault="never"), "TERM", 143),
    Way("a terminal that is closed", Reply(fault="never"), "close", 143),
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_run_on_a_terminal_that_is_stopped(
    project: Repo, temp: Path, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    project.write(".aethr.yaml", TWO_STEPS)
    with serving(monkeypatch, text("An idea."), way.reply) as server:
        code, seen, seconds = stopped(way, server)
    assert code == way.code, seen
    assert seconds < 2
    assert "Traceback" not in seen
    if way.stop != "close":
        assert seen.rfind("\x1b[?25h") >= seen.rfind("\x1b[?25l")
        assert "--resume-checkpoint" in seen
    assert [step.id for step in checkpoint.load(f"@{next(temp.iterdir())}").steps] == ["think"]


def stopped(way: Way, server: ModelServer) -> tuple[int, str, float]:
    """The exit code, what was on the terminal, and how long the end took."""
    child, leader = on_a_terminal("run", TASK)
    try:
        server.wait_for(2)
        seen = _read(leader, 0.3)
        began = time.monotonic()
        if way.stop == "close":
            os.close(leader)  # the kernel sends SIGHUP
        else:
            child.send_signal(signal.SIGTERM) if way.stop == "TERM" else os.write(leader, b"\x03")
            seen += _read(leader, 5)
            os.close(leader)
        return child.wait(5), seen, time.monotonic() - began
    finally:
        child.kill()
        child.wait()


def on_a_terminal(*words: str) -> tuple[subprocess.Popen[bytes], int]:
    """``aethr`` with a terminal of its own, and the other side of that terminal."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "aethr", *words],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one system call
    )
    os.close(follower)
    return child, leader


def _read(leader: int, seconds: float) -> str:
    """What comes within this time, or until the other side is closed."""
    seen, ends_at = b"", time.monotonic() + seconds
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while (left := ends_at - time.monotonic()) > 0:
            if select.select([leader], [], [], left)[0]:
                seen += os.read(leader, 65536)
    return seen.decode("utf-8", "replace")
