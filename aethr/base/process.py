"""The only place where Aethr starts another program.

Always with an argument list (never a shell), its standard input closed or given as bytes, its own process
group, a deadline in seconds, and the environment that the caller states. Output is bytes.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from aethr.base.errors import ProcessError

GRACE_S = 2.0
"""Seconds between asking a process group to end and killing it."""

PIPE_BYTES = 1 << 20
"""The most that a pipe can hold, by Linux's default limit: ``/proc/sys/fs/pipe-max-size``."""


_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_POLL_S = 0.1


class Finished(NamedTuple):
    """A child that ended by itself. ``code`` is negative for a signal, as in ``subprocess``."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float,
    stdin: bytes | None = None,
) -> Finished:
    """Run ``argv`` to its end. Raises ``ProcessError`` if it cannot start or passes its deadline.

    A non-zero exit code does not raise: the caller knows what it means.
    """
    with defer_signals() as deliver:
        child = start(argv, cwd, env, subprocess.PIPE if stdin is not None else subprocess.DEVNULL)
        try:
            deliver()
            stdout, stderr = child.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{argv[0]}: no end after {timeout_s:g} s: {_shorten(argv)}") from None
        finally:
            end_group(child)
    return Finished(tuple(argv), child.returncode, stdout, stderr)


@contextmanager
def stream(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float, merged: bool = False
) -> Iterator[Streaming]:
    """Run ``argv`` and read its standard output as it arrives, so that the reader limits the memory.

    The pipe holds a megabyte if the system allows it, so that child and reader seldom wait for each other.
    Standard error goes to an unnamed file, so that a child with much of it cannot block, or with ``merged``
    to standard output. Leaving the block early ends the child. After reading to the end, call
    ``Streaming.finish`` for the exit code.
    """
    with tempfile.TemporaryFile() as stderr, defer_signals() as deliver:
        child = start(argv, cwd, env, subprocess.DEVNULL, subprocess.STDOUT if merged else stderr)
        late = threading.Event()
        deadline = threading.Timer(timeout_s, _kill, (child, late))
        deadline.daemon = True
        try:
            deadline.start()
            deliver()
            if child.stdout is not None and sys.platform == "linux":  # only Linux can enlarge a pipe
                with suppress(ImportError, OSError):  # and not for a user whose pipes hold too much already
                    import fcntl

                    fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            yield Streaming(tuple(argv), child, stderr, late, timeout_s)
        finally:
            deadline.cancel()
            end_group(child)


class Streaming(NamedTuple):
    """A running child of ``stream``; ``late`` is set if it was killed at its deadline."""

    argv: tuple[str, ...]
    child: subprocess.Popen[bytes]
    stderr: IO[bytes]
    late: threading.Event
    timeout_s: float

    def chunks(self, size: int = 1 << 18) -> Iterator[bytes]:
        """Standard output in pieces of at most ``size`` bytes.

        A process that the child started may hold the pipe open forever. So once the child has ended, only
        what is in the pipe by then is read.
        """
        assert self.child.stdout is not None
        pipe, left = self.child.stdout.fileno(), PIPE_BYTES
        while left > 0:
            ended = self.child.poll() is not None
            wait_s = 0 if ended else _POLL_S
            # Elsewhere than on POSIX, select does not take pipes; a read waits there.
            if os.name != "posix" or select.select([pipe], [], [], wait_s)[0]:
                if not (chunk := os.read(pipe, size)):
                    return
                yield chunk
                left -= len(chunk) * ended
            elif ended:
                return

    def finish(self) -> Finished:
        """Wait for the end and return the exit code. ``stdout`` is empty: ``chunks`` has read it."""
        self.child.wait()
        if self.late.is_set():
            raise ProcessError(f"{self.argv[0]}: no end after {self.timeout_s:g} s: {_shorten(self.argv)}")
        self.stderr.seek(0)
        return Finished(self.argv, self.child.returncode, b"", self.stderr.read(1 << 16))


@contextmanager
def defer_signals() -> Iterator[Callable[[], None]]:
    """Signals that end this process wait until the block calls the function that it gets, or ends.

    Until the caller holds the new child, an interruption would leave that child running.
    """
    waiting: list[int] = []
    # Handlers run only in the main thread; ignored and default signals are not Aethr's to defer.
    numbers = _ENDING if threading.current_thread() is threading.main_thread() else ()
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}

    def deliver() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()
        while waiting:
            signal.raise_signal(waiting.pop())

    try:
        for number in before:
            signal.signal(number, lambda came, _: waiting.append(came))
        yield deliver
    finally:
        deliver()


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End a child that still runs together with its process group, reap it and close its pipes."""
    if child.poll() is None:
        _signal_group(child, signal.SIGTERM)
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            _signal_group(child, getattr(signal, "SIGKILL", signal.SIGTERM))
            child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def start(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    stdin: IO[bytes] | int,
    stderr: IO[bytes] | int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in its own session, with a pipe for its standard output. The caller must end it.

    Call it within ``defer_signals``, until a ``finally`` holds the child. ``stdin`` and ``stderr`` are open
    files or ``subprocess`` constants. Raises ``ProcessError``.
    """
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=hasattr(os, "setsid"),
        )
    except FileNotFoundError as error:
        if not cwd.is_dir():
            raise ProcessError(f"{cwd}: no such folder", "Run aethr in a folder that exists.") from error
        raise ProcessError(f"{argv[0]}: not found", f"Install {argv[0]} or put it on PATH.") from error
    except OSError as error:
        raise ProcessError(f"{argv[0]}: cannot start: {error.strerror or error}") from error


def _kill(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    if child.poll() is None:
        late.set()
        _signal_group(child, getattr(signal, "SIGKILL", signal.SIGTERM))


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(child.pid, number)
        else:
            child.terminate()
    except ProcessLookupError:
        pass


def _shorten(argv: Sequence[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 200 else text[:200] + "…"
