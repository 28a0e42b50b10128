"""Runs ``aethr`` as a system without POSIX would find it: ``python -m tests.elsewhere WORDS…``.

What only POSIX has cannot be imported, and is no name of ``os`` or ``signal`` for anything that is imported
from here on. Those parts of the standard library that choose their way when they are imported keep that of
this system. So this shows which names Aethr and its libraries rest on; it does not show how Windows behaves.
"""

from __future__ import annotations

import asyncio
import importlib.abc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from types import SimpleNamespace

MODULES = frozenset({"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog", "readline"})
NAMES = (
    *("fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getpgid", "getpgrp"),
    *("setsid", "setpgid", "killpg", "chown", "lchown", "fchown", "fchmod", "chroot", "mkfifo", "mknod"),
    *("uname", "getloadavg", "sysconf", "confstr", "wait", "wait3", "wait4", "waitid", "openpty", "ttyname"),
    *("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "O_SYNC", "WNOHANG", "pread", "pwrite", "nice"),
)
SIGNALS = ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGCHLD", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGTSTP", "SIGWINCH")


class Missing(importlib.abc.MetaPathFinder):
    """Refuses the modules that only POSIX has."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: object = None) -> None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def main() -> None:
    whole = SimpleNamespace(**vars(os))
    for module in (subprocess, tempfile, asyncio.base_events):
        module.os = whole
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Missing())
    for holder, names in ((os, NAMES), (signal, SIGNALS)):
        for name in names:
            if hasattr(holder, name):
                delattr(holder, name)
    # LiteLLM asks sys.platform before it uses os.getuid there; this is how else to switch that off.
    os.environ["LITELLM_TOKEN_EXCHANGE_CACHE_DIR"] = ""
    from aethr import cli

    cli.program()


if __name__ == "__main__":
    main()
