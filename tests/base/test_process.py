"""Starting other programs: whatever comes in between, none is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys
from pathlib import Path
from aethr.base import process
from aethr.agents import process_tree

def terminated(*_):
    raise KeyboardInterrupt

start, number = sys.argv[1:]
argv = ["sh", "-c", f"echo $$ >> pids; kill -{number} $PPID; exec sleep 60"]
where = {"cwd": Path.cwd(), "env": dict(os.environ)}
signal.signal(signal.SIGTERM, terminated)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # so the child often comes first
def begin():  # in a frame of its own: Python ignores an interrupt in the finalizer of the child before
    if start == "run":
        process.run(argv, timeout_s=30, **where)
    elif start == "stream":
        with process.stream(argv, timeout_s=30, **where) as running:
            list(running.chunks())
    else:
        with open(os.devnull, "rb") as stdin, process_tree.running(argv, stdin=stdin, **where) as tree:
            tree.child.wait()

for _ in range(10):
    try:
        begin()
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs the scheduler and the /proc of Linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
@pytest.mark.parametrize("start", ["run", "stream", "agent"])
def test_a_signal_during_a_start_ends_the_program(tmp_path: Path, start: str, number: signal.Signals) -> None:
    words = [sys.executable, "-c", PROGRAM, start, str(int(number))]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("interrupted\n" * 10, "")
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 10
    assert [pid for pid in pids if Path("/proc", pid).exists()] == []
