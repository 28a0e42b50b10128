"""Starts ``aethr`` without the start of Python: a warm process, with Aethr imported, forks for each command.

A command is still a process of its own, with the arguments, environment, folder and streams that it is given.
It differs from ``python -m aethr`` in three ways: its modules are imported already, all commands share a
hash seed, and Linux shows the warm process's command line and environment in ``/proc``. Other systems, and
an environment that differs in a variable that Python reads at its start, get ``python -m aethr``.
"""

from __future__ import annotations

import array
import importlib
import io
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import NoReturn, TextIO

_READ_BY_PYTHON = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_")
_LENGTH = 8
_STREAMS = (0, 1, 2)


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_READ_BY_PYTHON)}


@dataclass(frozen=True, slots=True)
class Child:
    """A command that runs; ``wait`` has to be called, once."""

    pid: int
    server: Server

    def wait(self) -> int:
        """Its exit code; below 0 the signal that ended it, as of ``subprocess``."""
        return self.server.code()


class Server:
    """The warm process, from the first command on. It ends when the process of the tests does."""

    def __init__(self) -> None:
        self._environ = dict(os.environ)
        self._busy = Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        words: Sequence[str],
        cwd: Path,
        environ: Mapping[str, str],
        streams: Sequence[int],
        new_session: bool = False,
    ) -> Child | None:
        """Run ``aethr WORDS`` on these three descriptors; None if it must be started in the true way."""
        if sys.platform != "linux" or _read_at_start(environ) != _read_at_start(self._environ):
            return None
        if not self._busy.acquire(blocking=False):
            return None
        order = {"words": list(words), "cwd": str(cwd), "environ": dict(environ), "session": new_session}
        text = json.dumps(order).encode()
        connection = self._connect()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))]
        connection.sendmsg([len(text).to_bytes(_LENGTH, "big")], rights)
        connection.sendall(text)
        return Child(_read_number(connection), self)

    def code(self) -> int:
        try:
            return os.waitstatus_to_exitcode(_read_number(self._connect()))
        finally:
            self._busy.release()

    def close(self) -> None:
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait()

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair()
            with theirs:
                # Its own environment is from before the tests: no test finds it by a setting of its own.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                    cwd=Path(__file__).parents[1],
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
        return self._socket


WARM = Server()


def start_aethr(
    words: Sequence[str],
    cwd: Path,
    environ: Mapping[str, str],
    streams: Sequence[int],
    new_session: bool = False,
) -> Child | subprocess.Popen[bytes]:
    """``subprocess.Popen`` of ``python -m aethr WORDS`` on these three descriptors, warm where possible."""
    return WARM.start(words, cwd, environ, streams, new_session) or subprocess.Popen(
        [sys.executable, "-m", "aethr", *words],
        cwd=cwd,
        env=environ,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        start_new_session=new_session,
    )


def run_aethr(
    words: Sequence[str], cwd: Path, environ: Mapping[str, str], stdin: bytes, timeout: float
) -> subprocess.CompletedProcess[bytes]:
    """``subprocess.run`` of ``python -m aethr WORDS``, warm where that is possible."""
    read, out, err = os.pipe(), os.pipe(), os.pipe()
    child = WARM.start(words, cwd, environ, (read[0], out[1], err[1]))
    for end in (read[0], out[1], err[1]):
        os.close(end)
    with FileIO(read[1], "w") as ours, FileIO(out[0]) as stdout, FileIO(err[0]) as stderr:
        if child is not None:
            shown = _communicate(child, stdin, ours, stdout, stderr, timeout)
            return subprocess.CompletedProcess(words, child.wait(), *shown)
    return subprocess.run(
        [sys.executable, "-m", "aethr", *words],
        cwd=cwd,
        env=environ,
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
    )


def _communicate(
    child: Child, text: bytes, stdin: FileIO, stdout: FileIO, stderr: FileIO, timeout: float
) -> tuple[bytes, bytes]:
    """Write and read until both outputs are closed; a command that takes longer is killed, and so said."""
    parts: dict[FileIO, list[bytes]] = {stdout: [], stderr: []}
    os.set_blocking(stdin.fileno(), False)
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for stream in parts:
            selector.register(stream, selectors.EVENT_READ)
        selector.register(stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(deadline - time.monotonic())
            if not ready:
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
                raise subprocess.TimeoutExpired("aethr", timeout)
            for key, _ in ready:
                stream = key.fileobj
                if stream is stdin:
                    with suppress(BrokenPipeError):
                        text = text[stdin.write(text) or 0 :]
                        if text:
                            continue
                elif part := stream.read(65536):
                    parts[stream].append(part)
                    continue
                selector.unregister(stream)
                stream.close()
    return b"".join(parts[stdout]), b"".join(parts[stderr])


def _read(connection: socket.socket, length: int) -> bytes:
    parts = b""
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise EOFError("the warm process ended")
        parts += part
    return parts


def _read_number(connection: socket.socket) -> int:
    return int.from_bytes(_read(connection, _LENGTH), "big")


# --- in the warm process ----------------------------------------------------------------------------


def _serve(connection: socket.socket) -> None:
    """Fork for each order, tell the id and, at its end, the status."""
    while True:
        head, streams, _, _ = socket.recv_fds(connection, _LENGTH, len(_STREAMS))
        if not head:
            return
        order = json.loads(_read(connection, int.from_bytes(head, "big")))
        child = os.fork()
        if child == 0:
            connection.close()
            _become(order, streams)
        for stream in streams:
            os.close(stream)
        connection.sendall(child.to_bytes(_LENGTH, "big"))
        _, status = os.waitpid(child, 0)
        connection.sendall(status.to_bytes(_LENGTH, "big"))


def _become(order: dict, streams: Sequence[int]) -> NoReturn:
    """Be what ``python -m aethr`` is in that environment."""
    import aethr
    from aethr.cli import program

    if order["session"]:
        os.setsid()
    for given, stream in zip(streams, _STREAMS, strict=True):
        os.dup2(given, stream)
        os.close(given)
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = order["cwd"]
    sys.argv = [str(Path(aethr.__file__).with_name("__main__.py")), *order["words"]]
    sys.stdin, sys.stdout, sys.stderr = (
        _open(stream, old) for stream, old in zip(_STREAMS, (sys.stdin, sys.stdout, sys.stderr), strict=True)
    )
    program()


def _open(stream: int, old: TextIO) -> TextIO:
    """As Python opens it at its start."""
    raw = open(stream, "wb" if stream else "rb", closefd=False)  # noqa: SIM115 - it is open for good
    lines = os.isatty(stream) or stream == 2
    return io.TextIOWrapper(raw, old.encoding, old.errors, newline="\n", line_buffering=lines)


def _import_all() -> None:
    import aethr

    for module in pkgutil.walk_packages(aethr.__path__, "aethr."):
        if not module.name.endswith(("__main__", ".transport_litellm")):
            importlib.import_module(module.name)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    _import_all()
    with socket.socket(fileno=int(sys.argv[1])) as own:
        _serve(own)
