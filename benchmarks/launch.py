"""Run a command and say what it took: ``python -I -S launch.py FD PROGRAM [ARGUMENT]…``.

A program of its own because the kernel counts the memory of whoever starts a process into that process's
peak: this one is smaller than anything it measures. To FD goes one line: when it began (of the clock
``time.monotonic``), wall seconds, CPU seconds, peak memory, bytes written, write calls. CPU, memory and
writes include the children that the command has waited for; the writes are -1 where /proc does not tell them.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> int:
    report, argv = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(report, False)
    began = time.monotonic()
    child = os.posix_spawnp(argv[0], argv, os.environ)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    wall = time.monotonic() - began
    written, writes = _writes(child)
    _, status, used = os.wait4(child, 0)
    cpu = used.ru_utime + used.ru_stime
    os.write(report, f"{began} {wall} {cpu} {used.ru_maxrss} {written} {writes}\n".encode())
    return os.waitstatus_to_exitcode(status) & 0xFF


def _writes(child: int) -> tuple[int, int]:
    try:
        with open(f"/proc/{child}/io", encoding="ascii") as file:  # noqa: PTH123 - pathlib is too large
            told = dict(line.split(": ") for line in file.read().splitlines())
    except OSError:
        return -1, -1
    return int(told["wchar"]), int(told["syscw"])


if __name__ == "__main__":
    sys.exit(main())
